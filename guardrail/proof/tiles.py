"""How far an aligned image is from a work, tile by tile: the l2 distance of Carlini et al. 2023."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from guardrail.records import VIEWS, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["compare_aligned", "compare_viewed", "tile_distances"]

_TILES_A_SIDE = 4  # Carlini et al. 2023, section 4.2: 16 tiles of 128 px in pictures of 512 px
_COARSE_PX = 64  # pictures are compared at this side: an alignment that is a pixel off should not count
_LEAST_GAIN, _MOST_GAIN = 0.4, 2.5  # of contrast between copies: a fit beyond says that the pictures differ
_TRIMMED = 0.25  # share of the pixels that the second fit leaves out: a caption should not set the tint
_VISIBLE = 0.75  # of a tile, at least, for it to be compared
_LEAST_SPREAD = 1e-6  # variance of pixels in 0..1: below, there is nothing to fit
_LEAST_COLOUR = 0.02  # mean spread between channels, of 1: JPEG alone makes less of a grey picture
_FEWEST_TILES = 2  # fewer visible ones say nothing


def tile_distances(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The normalised l2 distance of every tile of two pictures.

    Args:
        one: float64 (H, W, C), 0..1, H and W multiples of 4.
        other: the same.

    Returns:
        float64 (4, 4): square root of the mean squared difference in each of 4 x 4 tiles, 0..1.

    Source: Carlini et al. 2023, "Extracting training data from diffusion models", sections 4.1 (l2, normalised so that
    it lies in 0..1) and 4.2 (the largest of 16 tiles of 128 x 128 in pictures of 512 x 512).
    """
    height, width = one.shape[:2]
    squared = ((one - other) ** 2).mean(axis=2)
    tiles = squared.reshape(_TILES_A_SIDE, height // _TILES_A_SIDE, _TILES_A_SIDE, width // _TILES_A_SIDE)
    return np.asarray(np.sqrt(tiles.mean(axis=(1, 3))), np.float64)


def compare_aligned(image: NDArray[np.uint8], work: NDArray[np.uint8], homography: NDArray[np.float64]) -> float | None:
    """Lay the image onto the work by a homography and compare tiles.

    Args:
        image: uint8 (H, W, 3), RGB, as its features were found in.
        work: uint8 (h, w, 3), RGB, likewise.
        homography: float64 (3, 3), from pixels of the work to pixels of the image.

    Returns:
        The l2 distance of the farthest tile that the image shows, 0..1, at 64 x 64 pixels and after a gain and an
        offset for each channel were fitted; None where fewer than two tiles are in sight. About 1 ms.
    """
    height, width = work.shape[:2]
    laid = cv2.warpPerspective(image, homography, (width, height), flags=cv2.INTER_AREA | cv2.WARP_INVERSE_MAP)
    whole = np.full(image.shape[:2], 255, np.uint8)
    shown = cv2.warpPerspective(whole, homography, (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return _compare(_coarse(np.asarray(laid, np.uint8)), _coarse(work), _coarse(np.asarray(shown, np.uint8))[..., 0])


def compare_viewed(image: NDArray[np.uint8], work: NDArray[np.uint8], view: View) -> float | None:
    """Lay the whole of the image, turned by `view`, onto the whole of the work; else as `compare_aligned`."""
    at = VIEWS.index(view)
    if at < _TILES_A_SIDE:
        turned = np.rot90(image, at)
    else:
        swapped = image.transpose(1, 0, 2)
        turned = {"flip_left_right": image[:, ::-1], "flip_top_bottom": image[::-1], "transpose": swapped}.get(
            view, np.rot90(swapped, 2)
        )
    coarse = _coarse(np.ascontiguousarray(turned))
    return _compare(coarse, _coarse(work), np.ones(coarse.shape[:2]))


def _coarse(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """At 64 x 64 by area, 0..1: float64 (64, 64, C)."""
    small = cv2.resize(pixels, (_COARSE_PX, _COARSE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float64).reshape(_COARSE_PX, _COARSE_PX, -1) / 255


def _compare(image: NDArray[np.float64], work: NDArray[np.float64], shown: NDArray[np.float64]) -> float | None:
    side = _COARSE_PX // _TILES_A_SIDE
    seen = shown.reshape(_TILES_A_SIDE, side, _TILES_A_SIDE, side).mean(axis=(1, 3)) >= _VISIBLE
    if seen.sum() < _FEWEST_TILES:
        return None
    inside = shown > 0.99
    if _is_colourless(image, inside):
        image, work = image.mean(axis=2, keepdims=True), work.mean(axis=2, keepdims=True)
    each = tile_distances(_fitted(image, work, inside) * inside[..., None], work * inside[..., None])[seen]
    return float(each.max())


def _is_colourless(image: NDArray[np.float64], inside: NDArray[np.bool_]) -> bool:
    """Whether the colours were taken out of an image: then it says nothing of the work's."""
    shades = image[inside]
    return shades.size > 0 and float(np.ptp(shades, axis=1).mean()) < _LEAST_COLOUR


def _fitted(image: NDArray[np.float64], work: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The image with a gain and an offset for each channel that bring it nearest to the work: copies carry a tint."""
    kept = inside
    fitted = image
    for _ in range(2):
        fitted = np.stack([_line(image[..., at], work[..., at], kept) for at in range(image.shape[2])], axis=2)
        apart = np.where(inside, ((fitted - work) ** 2).sum(axis=2), np.inf)
        kept = inside & (apart <= np.quantile(apart[inside], 1 - _TRIMMED))
    return np.asarray(fitted.clip(0, 1), np.float64)


def _line(image: NDArray[np.float64], work: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    here, there = image[kept], work[kept]
    spread = float(here.var())
    gain = float(((here - here.mean()) * (there - there.mean())).mean()) / spread if spread > _LEAST_SPREAD else 1.0
    gain = float(np.clip(gain, _LEAST_GAIN, _MOST_GAIN))
    return np.asarray(gain * (image - here.mean()) + there.mean(), np.float64)
