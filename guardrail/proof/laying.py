"""How an image lies on a work of which it shows all or most, from the pixels themselves: where features are too few."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["detail_apart", "lay_whole"]

_COARSE_PX = 32  # the work's side while every place is tried
_COARSE_SIDES = (32, 31, 30, 29, 28)  # the image's sides then: crops that take away up to an eighth of a side
_MOST_APART = 3  # of the two sides: a crop may take more of one than of the other
_FINE_PX = 96  # both sides when the place is refined; tints and small crops are told apart well before
_LEAST_CORRELATION = 0.6  # of the best place: below, the pictures differ and no refinement is worth its time
_STEPS, _SETTLED = 40, 1e-4  # of the refinement; it settles after about ten
_BLUR_PX = 3  # OpenCV's own value is 5; these pictures are small
_LEAST_SHOWN = 0.8  # of the image must lie on the work
_CELL_PX, _DETAIL_PX = 16, 192  # of a cell, and of both sides while details are compared: a line of text is 7 px there
_SHIFT_PX = 1  # a cell may lie so far off: what an alignment leaves over
_LEAST_DETAIL, _DETAIL_SHARE = 8.0, 0.3  # spread of grey in a cell, of 255 and of the work: below, nothing to compare
_CELL_AGREES = 0.72  # correlation of two cells at their best shift
_LEAST_SPREAD = 4.0  # standard deviation of grey values, of 255: blank pictures agree with everything


def lay_whole(image: NDArray[np.uint8], work: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Lay an image onto a work as a copy of it that is scaled, squashed or a little cropped, and not turned.

    Args:
        image: uint8 (H, W, 3), RGB.
        work: uint8 (h, w, 3), RGB.

    Returns:
        float64 (3, 3), affine, from pixels of the work to pixels of the image; None where either is blank or nothing
        fits. That it fits does not say that both are the same picture: `compare_aligned` does. About 10 ms on one core.

    Source: normalised cross-correlation over places and sizes, then Evangelidis and Psarakis 2008, "Parametric image
    alignment using enhanced correlation coefficient maximization", in OpenCV.
    """
    if min(_spread(image), _spread(work)) < _LEAST_SPREAD:
        return None
    correlation, side, place = _best_place(image, work)
    if correlation < _LEAST_CORRELATION:
        return None
    scaled = [[side[0], 0, place[0] * _FINE_PX], [0, side[1], place[1] * _FINE_PX]]
    start = np.array(scaled, np.float32) / np.float32(_COARSE_PX)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, _SETTLED)
    here, there = _grey(image), _grey(work)
    everywhere = np.full(here.shape, 255, np.uint8)
    try:
        _, laid = cv2.findTransformECC(here, there, start, cv2.MOTION_AFFINE, criteria, everywhere, _BLUR_PX)
    except cv2.error:  # it does not settle
        return None
    onto = np.vstack([np.asarray(laid, np.float64), [0.0, 0.0, 1.0]])  # from the image to the work, both at _FINE_PX
    if not np.isfinite(onto).all() or abs(np.linalg.det(onto)) < 1e-6 or _shown(onto) < _LEAST_SHOWN:
        return None
    return np.asarray(_scaling(image) @ np.linalg.inv(onto) @ np.linalg.inv(_scaling(work)), np.float64)


def detail_apart(image: NDArray[np.uint8], work: NDArray[np.uint8], homography: NDArray[np.float64]) -> float:
    """The share of detailed cells in which an image that was laid onto a work shows something else, 0..1.

    Args:
        image: uint8 (H, W, 3), RGB.
        work: uint8 (h, w, 3), RGB.
        homography: float64 (3, 3), from pixels of the work to pixels of the image.

    Returns:
        Of the cells of 16 px, at 192 px, that have detail in either and are in sight, how many do not correlate at
        their best shift by 1 px; 1 where no cell has detail. Tiles do not see this: text is a small part of one.
    """
    scale = np.diag([work.shape[1] / _DETAIL_PX, work.shape[0] / _DETAIL_PX, 1.0])
    onto, size = homography @ scale, (_DETAIL_PX, _DETAIL_PX)
    flags = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
    shown = cv2.warpPerspective(np.full(image.shape[:2], 255, np.uint8), onto, size, flags=flags) > 254
    here = cv2.cvtColor(cv2.warpPerspective(image, onto, size, flags=flags), cv2.COLOR_RGB2GRAY).astype(np.float32)
    there = cv2.cvtColor(cv2.resize(work, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(np.float32)
    least = min(_LEAST_DETAIL, _DETAIL_SHARE * float(there.std()))
    agreed = [
        _cells_correlate(here, there, (top, left), least)
        for top in range(_SHIFT_PX, _DETAIL_PX - _CELL_PX - _SHIFT_PX + 1, _CELL_PX)
        for left in range(_SHIFT_PX, _DETAIL_PX - _CELL_PX - _SHIFT_PX + 1, _CELL_PX)
        if shown[top - _SHIFT_PX : top + _CELL_PX + _SHIFT_PX, left - _SHIFT_PX : left + _CELL_PX + _SHIFT_PX].all()
    ]
    detailed = [one for one in agreed if one is not None]
    return 1.0 - sum(detailed) / len(detailed) if detailed else 1.0


def _cells_correlate(
    here: NDArray[np.float32], there: NDArray[np.float32], place: tuple[int, int], least: float
) -> bool | None:
    """Whether a cell of one is in the other, nearby; None where neither has as much detail as the least."""
    top, left = place
    cell = there[top : top + _CELL_PX, left : left + _CELL_PX]
    own = here[top : top + _CELL_PX, left : left + _CELL_PX]
    if max(float(cell.std()), float(own.std())) < least:
        return None
    if min(float(cell.std()), float(own.std())) < least / 8:
        return False
    rows = slice(top - _SHIFT_PX, top + _CELL_PX + _SHIFT_PX)
    around = here[rows, left - _SHIFT_PX : left + _CELL_PX + _SHIFT_PX]
    return float(cv2.matchTemplate(around, cell, cv2.TM_CCOEFF_NORMED).max()) >= _CELL_AGREES


def _best_place(image: NDArray[np.uint8], work: NDArray[np.uint8]) -> tuple[float, tuple[int, int], tuple[int, int]]:
    """Correlation, width and height, and left and top of the best place of the image in the work, at 32 px."""
    ground = _sized(work, _COARSE_PX, _COARSE_PX)
    best = (-1.0, (_COARSE_PX, _COARSE_PX), (0, 0))
    for width, height in product(_COARSE_SIDES, repeat=2):
        if abs(width - height) > _MOST_APART:
            continue
        correlations = cv2.matchTemplate(ground, _sized(image, width, height), cv2.TM_CCOEFF_NORMED)
        _, highest, _, (left, top) = cv2.minMaxLoc(correlations)
        if highest > best[0]:
            best = (float(highest), (width, height), (int(left), int(top)))
    return best


def _sized(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = cv2.resize(pixels, (_FINE_PX, _FINE_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)


def _spread(pixels: NDArray[np.uint8]) -> float:
    return float(_grey(pixels).std())


def _scaling(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """From pixels of the small square to pixels of a picture."""
    height, width = pixels.shape[:2]
    return np.diag([width / _FINE_PX, height / _FINE_PX, 1.0])


def _shown(onto: NDArray[np.float64]) -> float:
    """The share of the image that lies on the work."""
    grid = (np.mgrid[0:_FINE_PX, 0:_FINE_PX].reshape(2, -1)[::-1] + 0.5).astype(np.float64)
    x, y, _ = onto @ np.vstack([grid, np.ones(grid.shape[1])])
    return float(((x >= 0) & (x <= _FINE_PX) & (y >= 0) & (y <= _FINE_PX)).mean())
