"""How alike generations and training pictures are, many with many: tile l2, mean-removed correlation, near neighbours.

Plain NumPy over all pairs, a block at a time; `guardrail.proof` has the same distance for one pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["CopyLimits", "Likeness", "adaptive_l2", "blocks", "compared_side", "likeness", "resized", "tile_l2"]

_TILES_A_SIDE = 4  # Carlini et al. 2023, section 4.2: 16 tiles
_COMPARED_PX = 64  # side at which pictures are compared, at most; guardrail.proof compares at the same
_CORRELATED_PX = 32  # as guardrail's pixel proof: what is finer differs between copies
_LEAST_NORM = 1e-6  # of a mean-removed picture in 0..1: below, it is one flat colour and correlates with nothing
_PAIRS_AT_ONCE = 2_000_000  # float32 cells a block holds: 8 MB for each of a few arrays
_NEIGHBOURS = 50  # Carlini et al. 2023, section 5.1: n
_SHARE = 0.5  # ibid.: alpha

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]


class CopyLimits(NamedTuple):
    """From where on two pictures count as one: by correlation alone, or by tile l2 where the correlation agrees.

    Measured on 1,498 drawings that are none of the demo's 70 training pictures: by correlation at .9 three come out,
    all three near-duplicates in truth; by tile l2 within .15 alone one more, a star on white beside a pig on white,
    and with a correlation of .7 none. See docs/design/audit.md.
    """

    correlation_above: float = 0.9
    tile_l2_within: float = 0.15  # Carlini et al. 2023, section 4.2: delta
    agreeing_above: float = 0.7

    def alike(self, found: Likeness) -> NDArray[np.bool_]:
        """Of each pair, whether it counts as one picture: bool (N, M). Flat colours are never alike."""
        by_l2 = (found.tile_l2 <= self.tile_l2_within) & (found.correlation >= self.agreeing_above)
        return np.asarray(by_l2 | (found.correlation >= self.correlation_above), np.bool_)


class Likeness(NamedTuple):
    """How near each of N pictures comes to each of M others, the others seen as they are and flipped left to right.

    Attributes:
        tile_l2: float32 (N, M), 0..1, lower is nearer.
        correlation: float32 (N, M), -1..1, higher is nearer; 0 where either is one flat colour.
    """

    tile_l2: Values
    correlation: Values


def compared_side(side_px: int) -> int:
    """The side at which square pictures of `side_px` are compared: at most 64 px, a multiple of 4, at least 4."""
    return max(_TILES_A_SIDE, min(_COMPARED_PX, side_px) // _TILES_A_SIDE * _TILES_A_SIDE)


def resized(pixels: Pixels, side_px: int) -> Pixels:
    """Pictures at another side, by Lanczos: uint8 (N, S, S, 3) in, uint8 (N, side_px, side_px, 3) out."""
    if pixels.shape[1:3] == (side_px, side_px):
        return pixels
    found = np.zeros((len(pixels), side_px, side_px, 3), np.uint8)
    for at, picture in enumerate(pixels):
        found[at] = np.asarray(Image.fromarray(picture).resize((side_px, side_px), Image.Resampling.LANCZOS))
    return found


def tile_l2(ones: Pixels, others: Pixels) -> Values:
    """The largest normalised l2 distance of 16 tiles, for all pairs.

    Args:
        ones: uint8 (N, S, S, 3), RGB, S a multiple of 4.
        others: uint8 (M, S, S, 3).

    Returns:
        float32 (N, M), 0..1: the square root of the mean squared difference in the farthest of 4 x 4 tiles. Exact to
        about 1e-3, because squares are taken apart so that they are one matrix product a tile.

    Source: Carlini et al. 2023, "Extracting training data from diffusion models", section 4.2; we differ in comparing
    pictures of at most 64 px a side, because models whose pictures are smaller are audited, too.
    """
    left, right = _tiles(ones), _tiles(others)
    found = np.zeros((len(ones), len(others)), np.float32)
    for one, other in zip(left, right, strict=True):
        squared = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
        np.maximum(found, np.asarray(squared / max(one.shape[1], 1), np.float32), out=found)
    return np.sqrt(found)


def likeness(ones: Pixels, others: Pixels) -> Likeness:
    """Both measures for all pairs; see `tile_l2` for the shapes.

    Models are trained on pictures flipped left to right, too, so of both views of the others the nearer one counts.
    """
    flipped = others[:, :, ::-1]
    small, as_they_are, mirrored = (_centred(pixels) for pixels in (ones, others, flipped))
    return Likeness(
        np.minimum(tile_l2(ones, others), tile_l2(ones, flipped)),
        np.maximum(small @ as_they_are.T, small @ mirrored.T).clip(-1, 1),
    )


def adaptive_l2(distances: Values, neighbours: int = _NEIGHBOURS, share: float = _SHARE) -> Values:
    """Distances relative to how near the training set lies around a picture anyway.

    Args:
        distances: float32 (N, M), of N generations to M training pictures.
        neighbours: to how many nearest the mean is taken, at most M.
        share: of that mean which counts as 1.

    Returns:
        float32 (N, M); below 1 a pair is nearer than `share` of the mean distance to the nearest neighbours.

    Source: Carlini et al. 2023, section 5.1, the adaptive distance with n = 50 and alpha = 0.5; we differ in measuring
    by tile l2, so that one distance is used throughout.
    """
    taken = min(neighbours, distances.shape[1])
    nearest = np.partition(distances, taken - 1, axis=1)[:, :taken]
    around = share * nearest.mean(axis=1, keepdims=True)
    return np.asarray(distances / np.maximum(around, _LEAST_NORM), np.float32)


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Rows in slices small enough that all pairs with `columns` fit into memory."""
    step = max(1, _PAIRS_AT_ONCE // max(columns, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _tiles(pixels: Pixels) -> NDArray[np.float32]:
    """Pictures tile by tile, 0..1: float32 (16, N, values of a tile)."""
    count, side = len(pixels), pixels.shape[1] // _TILES_A_SIDE
    cut = pixels.reshape(count, _TILES_A_SIDE, side, _TILES_A_SIDE, side, 3).transpose(1, 3, 0, 2, 4, 5)
    return np.asarray(cut.reshape(_TILES_A_SIDE**2, count, side * side * 3), np.float32) / np.float32(255)


def _centred(pixels: Pixels) -> Values:
    """Mean-removed rows of unit length, each channel less its mean: float32 (N, D); zeros for one flat colour."""
    small = resized(pixels, min(_CORRELATED_PX, pixels.shape[1])).astype(np.float32) / np.float32(255)
    values = (small - small.mean(axis=(1, 2), keepdims=True)).reshape(len(small), small.shape[1] * small.shape[2] * 3)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    unit: Values = (values / np.maximum(norms, _LEAST_NORM) * (norms > _LEAST_NORM)).astype(np.float32)
    return unit
