"""Local features of a picture: SIFT points and descriptors, and how those of its mirror image follow from them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Features", "features_of"]

_MOST_POINTS = 400  # strongest first: more cost matching time and proved no further copy, see docs/design/proof.md
_CONTRAST = 0.02  # SIFT's contrast threshold, half of OpenCV's default: small previews and flat drawings have little
_CELLS, _DIRECTIONS = 4, 8  # SIFT: 4 x 4 cells of 8 directions


@dataclass(frozen=True, slots=True)
class Features:
    """The local features of one picture.

    Attributes:
        points: float32 (K, 2), x and y in pixels of the picture they were found in, from its upper left corner.
        descriptors: uint8 (K, 128), SIFT as OpenCV gives it: 4 x 4 cells (rows first) of 8 directions.
        width: of that picture, in pixels.
        height: of that picture, in pixels.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.points)

    def mirrored(self) -> Features:
        """The features of the picture flipped left to right, without looking at it again.

        A descriptor is taken along its point's own direction; in the mirror the cells beside that direction change
        sides and every direction changes its sign, which only permutes the 128 numbers.

        Source: Guo et al. 2010, MIFT, section 3; a test compares with features found in the flipped picture.
        """
        points = self.points.copy()
        points[:, 0] = self.width - 1 - points[:, 0]
        cells = self.descriptors.reshape(-1, _CELLS, _CELLS, _DIRECTIONS)
        turned = cells[:, ::-1, :, (-np.arange(_DIRECTIONS)) % _DIRECTIONS]
        return Features(points, np.ascontiguousarray(turned).reshape(self.descriptors.shape), self.width, self.height)

    def unit_rows(self) -> NDArray[np.float32]:
        """The descriptors as unit vectors: float32 (K, 128), square roots of their shares.

        Source: Arandjelović and Zisserman 2012, RootSIFT, section 2: then Euclidean distance compares as Hellinger's.
        """
        rows = self.descriptors.astype(np.float32)
        return np.asarray(np.sqrt(rows / np.maximum(rows.sum(axis=1, keepdims=True), 1.0)), np.float32)


def features_of(pixels: NDArray[np.uint8]) -> Features:
    """Find the local features of a picture.

    Args:
        pixels: uint8 (H, W, 3), RGB. Points at every scale are found, so its size sets the cost: about 6 to 12 ms at
            192 px, 10 to 35 ms at 320 px on one core.

    Returns:
        At most 400 features, the same for the same pixels.

    Source: Lowe 2004, with OpenCV's `SIFT`; we keep points of half its contrast.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    found, rows = cv2.SIFT.create(_MOST_POINTS, contrastThreshold=_CONTRAST).detectAndCompute(grey, None)
    points = np.array([one.pt for one in found], np.float32).reshape(-1, 2)
    descriptors = np.zeros((0, _CELLS * _CELLS * _DIRECTIONS), np.uint8) if rows is None else rows.astype(np.uint8)
    return Features(points, descriptors, grey.shape[1], grey.shape[0])


_threads = [cv2.getNumThreads()]  # of OpenCV, as they were before a fork


def _stop_threads() -> None:
    """OpenCV's threads do not live on in a forked process, which would wait for them for ever."""
    _threads[0] = cv2.getNumThreads()
    cv2.setNumThreads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_stop_threads, after_in_parent=lambda: cv2.setNumThreads(_threads[0]))
