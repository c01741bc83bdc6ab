"""Whether two works show one picture: their small pixels, in the eight views, correlated and then compared by tiles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["plain_pictures", "same_pictures", "turned_codes"]

_SIDE_PX = 32
_NUMBERS = _SIDE_PX * _SIDE_PX * 3
_LEAST_CONTRAST = 2 / 255  # of 1, root mean square: a flatter picture has nothing to correlate
_TILES_A_SIDE = 4  # Carlini et al. 2023, section 4.2
_LEAST_GAIN, _MOST_GAIN = 0.4, 2.5  # of contrast between copies: a fit beyond says that the pictures differ
_TRIMMED = 0.25  # share of the pixels that the second fit leaves out: a caption should not set the tint
_LEAST_SPREAD = 1e-6  # variance of pixels in 0..1: below, there is nothing to fit
_LEAST_COLOUR = 0.02  # mean spread between channels, of 1: JPEG alone makes less of a grey picture
_TOGETHER = 512  # pairs: 20 MB while they are turned and fitted
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as most programs take colours out
_PDQ_SIDE = 16  # frequencies of either axis

_Float = NDArray[np.float32]


def plain_pictures(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pictures have so little contrast that nothing can be told from them.

    Args:
        pixels: uint8 (n, 32, 32, 3), RGB.

    Returns:
        bool (n,).
    """
    return ~_centred(_to_one(_flat(pixels)))[1]


def turned_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """PDQ hashes as the pictures would have in the eight dihedral views, from their bits alone.

    Args:
        codes: uint8 (n, 32), most significant bit first, as `Fingerprints.pdq`.

    Returns:
        uint8 (n, 8, 32); the first are the codes. Mirroring a picture turns the sign of every odd frequency, and so,
        the median being about 0, its bit; a transposed picture has transposed frequencies. Of coefficients near the
        median the bit may be wrong: on 239 drawings hashes of really turned pictures were 12 bits off at the median,
        48 at the 95th percentile. The distance of two codes over all views of one is that over all views of the other.

    Source: ThreatExchange, `pdq/cpp/hashing/pdqhashing.cpp` (dihedral hashes by signs of the DCT). We differ in turning
    bits, since an index keeps no coefficients.
    """
    bits = np.unpackbits(codes, axis=1)[:, ::-1].reshape(-1, _PDQ_SIDE, _PDQ_SIDE).astype(np.bool_)
    odd = np.arange(1, _PDQ_SIDE + 1) % 2 == 1
    rows, columns = bits ^ odd[:, None], bits ^ odd[None, :]
    both = rows ^ odd[None, :]
    swapped = [view.swapaxes(1, 2) for view in (columns, rows, bits, both)]
    views = np.stack([bits, swapped[0], both, swapped[1], columns, rows, swapped[2], swapped[3]], axis=1)
    return np.packbits(views.reshape(len(codes), 8, -1)[..., ::-1], axis=2)


def same_pictures(
    pixels: NDArray[np.uint8],
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    correlation_above: float,
    tile_l2_within: float,
) -> NDArray[np.bool_]:
    """Which pairs show one picture, apart from size, compression, tint, contrast, flips and quarter turns.

    Args:
        pixels: uint8 (P, 32, 32, 3), RGB: pictures.
        one: int64 (n,), below P: the first of each of n pairs.
        other: int64 (n,), the second.
        correlation_above: the correlation of mean-removed pixels, in the best of eight views, that is enough (-1..1).
        tile_l2_within: how far the farthest of 4 x 4 tiles may be apart (0..1), once a gain and an offset for each
            channel are fitted: pictures of one series correlate, and differ in single tiles.

    Returns:
        bool (n,); False for a picture without contrast, which resembles every other such one.

    Source: as the shipped `pixel_proof`: Carlini et al. 2023, "Extracting training data from diffusion models",
    section 4.2. We differ in removing the mean, and in comparing at 32 x 32, which is what an index keeps of a work.
    """
    same = np.zeros(len(one), np.bool_)
    for start in range(0, len(one), _TOGETHER):
        first, second = pixels[one[start : start + _TOGETHER]], pixels[other[start : start + _TOGETHER]]
        best, view = _best_view(first, second)
        enough = np.flatnonzero(best >= np.float32(correlation_above))
        turned = np.take_along_axis(_flat(first[enough]), _VIEWED[view[enough]][..., None], 1)
        farthest = _farthest_tile(_to_one(turned), _to_one(_flat(second[enough])))
        same[start + enough] = farthest <= tile_l2_within
    return same


def _views_of_places() -> NDArray[np.int64]:
    """For each of `records.VIEWS`, which place of a 32 x 32 picture comes where: int64 (8, 1024)."""
    places = np.arange(_SIDE_PX * _SIDE_PX).reshape(_SIDE_PX, _SIDE_PX)
    turned = [np.rot90(places, turns) for turns in range(4)]
    return np.stack(
        [view.ravel() for view in (*turned, places[:, ::-1], places[::-1], places.T, np.rot90(places.T, 2))]
    )


_VIEWED = _views_of_places()


def _flat(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels.reshape(len(pixels), _SIDE_PX * _SIDE_PX, 3)


def _to_one(pixels: NDArray[np.uint8]) -> _Float:
    return np.asarray(pixels, np.float32) / np.float32(255)


def _centred(pixels: _Float) -> tuple[_Float, NDArray[np.bool_]]:
    """Pictures 0..1 without their mean in each channel and of unit length, (n, 1024, 3); and which have contrast."""
    values = pixels - pixels.mean(axis=1, keepdims=True)
    length = np.sqrt((values.reshape(len(values), _NUMBERS) ** 2).sum(1))
    clear = length >= _LEAST_CONTRAST * np.sqrt(np.float32(_NUMBERS))
    values /= np.where(length > 0, length, np.float32(1))[:, None, None]
    return values, clear


def _best_view(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[_Float, NDArray[np.int64]]:
    """The correlation of each pair in its best view, float32 (n,), -1 where one has no contrast; and that view.

    Where the colours were taken out of one, they say nothing of the other.
    """
    first, second = _without_colours(_to_one(_flat(one)), _to_one(_flat(other)))
    (left, clear), (right, also) = _centred(first), _centred(second)
    near = np.stack([(left[:, places] * right).reshape(len(left), _NUMBERS).sum(1) for places in _VIEWED], axis=1)
    view = near.argmax(1)
    best = np.where(clear & also, near.max(1, initial=-1.0), np.float32(-1))
    return best, view


def _farthest_tile(one: _Float, other: _Float) -> _Float:
    """The l2 distance of the farthest tile of pictures float32 (n, 1024, 3), 0..1: float32 (n,)."""
    one, other = _without_colours(one, other)
    kept = np.ones(one.shape[:2], np.bool_)
    fitted = one
    for _ in range(2):
        fitted = _fitted(one, other, kept)
        apart = ((fitted - other) ** 2).sum(2)
        if len(apart):
            kept = apart <= np.quantile(apart, 1 - _TRIMMED, axis=1, keepdims=True)
    squared = ((fitted.clip(0, 1) - other) ** 2).mean(2)
    side = _SIDE_PX // _TILES_A_SIDE
    tiles = squared.reshape(len(squared), _TILES_A_SIDE, side, _TILES_A_SIDE, side).mean(axis=(2, 4))
    return np.asarray(np.sqrt(tiles.max(axis=(1, 2), initial=0.0)), np.float32)


def _without_colours(one: _Float, other: _Float) -> tuple[_Float, _Float]:
    """Pairs of pictures, both without colours where one has none."""
    colour = [np.ptp(pixels, axis=2).mean(1) for pixels in (one, other)]
    grey = (np.minimum(*colour) < _LEAST_COLOUR)[:, None, None]
    first, second = (np.where(grey, (pixels @ _LUMA)[..., None], pixels) for pixels in (one, other))
    return first, second


def _fitted(one: _Float, other: _Float, kept: NDArray[np.bool_]) -> _Float:
    """Pictures with a gain and an offset for each channel that bring them nearest to the others, where `kept`."""
    weight = kept[..., None].astype(np.float32)
    weight /= np.maximum(weight.sum(1, keepdims=True), 1)
    here, there = (one * weight).sum(1, keepdims=True), (other * weight).sum(1, keepdims=True)
    spread = ((one - here) ** 2 * weight).sum(1, keepdims=True)
    together = ((one - here) * (other - there) * weight).sum(1, keepdims=True)
    gain = np.where(spread > _LEAST_SPREAD, together / np.maximum(spread, _LEAST_SPREAD), np.float32(1))
    return np.asarray(gain.clip(_LEAST_GAIN, _MOST_GAIN) * (one - here) + there, np.float32)
