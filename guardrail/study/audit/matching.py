"""Pictures are held against every training picture, a block at a time: which work each shows, and how near it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrail.study.audit.asks import PictureSet
from guardrail.study.audit.likeness import CopyLimits, Likeness, adaptive_l2, likeness

__all__ = ["ADAPTIVE_FROM", "Nearest", "nearest_works"]

ADAPTIVE_FROM = 500  # training pictures: of fewer, the 50 nearest are no neighbourhood but a tenth of all
_NEIGHBOURS = 50  # Carlini et al. 2023, section 5.1
_WORKS_AT_ONCE = 2048  # read and held at a time: 25 MB at 64 px


@dataclass(frozen=True, slots=True)
class Nearest:
    """What N pictures come nearest to among M works.

    Attributes:
        tile_l2: float32 (N,), 0..1, to the nearest work by tile l2; 1 where there is no work.
        correlation: float32 (N,), -1..1, to the nearest work by correlation; -1 where there is no work.
        copied: int64 (N,), the row of the work it shows, the one of highest correlation among those alike; -1: none.
        copied_l2, copied_correlation: float32 (N,), to that work; 1 and -1 where there is none.
        alike: int64 (N,), how many works it shows: near-duplicates of one another, mostly.
        adaptive: float32 (N,), the least adaptive distance to any work; None where there are fewer than 500 works.
    """

    tile_l2: NDArray[np.float32]
    correlation: NDArray[np.float32]
    copied: NDArray[np.int64]
    copied_l2: NDArray[np.float32]
    copied_correlation: NDArray[np.float32]
    alike: NDArray[np.int64]
    adaptive: NDArray[np.float32] | None


def nearest_works(
    pixels: NDArray[np.uint8],
    works: PictureSet,
    limits: CopyLimits,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Nearest:
    """Hold pictures against all works.

    Args:
        pixels: uint8 (N, S, S, 3), RGB, S a multiple of 4.
        works: M pictures; they are read at S px, about 2,000 at a time.
        limits: what counts as one picture.
        progress: called with (works done, works in all).
    """
    count = len(pixels)
    least, most = np.ones(count, np.float32), np.full(count, -1, np.float32)
    copied = np.full(count, -1)
    copied_l2, copied_correlation = least.copy(), most.copy()
    alike = np.zeros(count, np.int64)
    around = np.zeros((count, 0), np.float32)
    for start in range(0, len(works), _WORKS_AT_ONCE):
        rows = range(start, min(start + _WORKS_AT_ONCE, len(works)))
        found = likeness(pixels, works.pixels(pixels.shape[1], rows))
        least, most = np.minimum(least, found.tile_l2.min(axis=1)), np.maximum(most, found.correlation.max(axis=1))
        around = _lowest(np.concatenate([around, found.tile_l2], axis=1))
        here = limits.alike(found)
        alike += here.sum(axis=1)
        at, value = _best(found, here)
        better = value > copied_correlation
        copied = np.where(better, at + start, copied)
        copied_l2 = np.where(better, found.tile_l2[np.arange(count), at], copied_l2)
        copied_correlation = np.where(better, value, copied_correlation)
        progress(rows.stop, len(works))
    adaptive = adaptive_l2(around).min(axis=1) if len(works) >= ADAPTIVE_FROM and count else None
    return Nearest(least, most, copied, copied_l2, copied_correlation, alike, adaptive)


def _best(found: Likeness, here: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Of each picture the alike work of highest correlation, and that correlation; -2 where none is alike."""
    values = np.where(here, found.correlation, np.float32(-2))
    at = values.argmax(axis=1)
    return at, values[np.arange(len(at)), at]


def _lowest(distances: NDArray[np.float32]) -> NDArray[np.float32]:
    if distances.shape[1] <= _NEIGHBOURS:
        return distances
    return np.partition(distances, _NEIGHBOURS - 1, axis=1)[:, :_NEIGHBOURS]
