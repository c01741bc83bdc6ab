"""How far two halves of the draws agree on what is influential."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

__all__ = ["Stability", "jaccard_of_top", "rank_correlation", "stability"]

_SPLITS = 16  # ways to halve the draws that are tried: all there are of 10 parts

Array = NDArray[np.float64]


class Stability(NamedTuple):
    """Agreement of two halves of an image's draws, the mean over ways to halve them.

    Attributes:
        jaccard: 0..1, of the `top` most influential by the one half and by the other: those of both over those of
            either. .33 is half of them.
        rank_agreement: -1..1, Spearman's rank correlation over all.
        top: n, how many the most influential are.
        by_chance: the Jaccard index that two random choices of n among all reach on average, near enough.
    """

    jaccard: float
    rank_agreement: float
    top: int
    by_chance: float


def stability(
    parts: Array, top: int, seed: int = 0, values: Callable[[Array], Array] = lambda influence: influence
) -> Stability | None:
    """Compare halves of the draws.

    Args:
        parts: float64 (H, M), influences by each part of the draws, in the order of their times; of each two that
            follow each other one goes into each half, and where H is odd the last is left out.
        top: n, 1 at least; all where there are fewer.
        seed: of the ways to halve.
        values: what the influences of a half, (M,), are compared by: (C,).

    Returns:
        The agreement; None where there is nothing to compare: fewer than two parts or than two influences.
    """
    if len(parts) < 2:
        return None
    halves = [
        (values(parts[one].mean(axis=0)), values(parts[other].mean(axis=0)))
        for one, other in _halvings(len(parts) // 2, seed)
    ]
    among = len(halves[0][0])
    if among < 2:
        return None
    chosen = min(top, among)
    overlap = chosen * chosen / among
    return Stability(
        jaccard=float(np.mean([jaccard_of_top(one, other, chosen) for one, other in halves])),
        rank_agreement=float(np.mean([rank_correlation(one, other) for one, other in halves])),
        top=chosen,
        by_chance=overlap / (2 * chosen - overlap),
    )


def jaccard_of_top(one: Array, other: Array, top: int) -> float:
    """The Jaccard index, 0..1, of the `top` highest of float64 (C,) and those of another; of ties the first count."""
    first, second = ({*np.argsort(-values, kind="stable")[:top].tolist()} for values in (one, other))
    return len(first & second) / len(first | second)


def rank_correlation(one: Array, other: Array) -> float:
    """Spearman's rank correlation of float64 (C,) and (C,), -1..1; 0 where either is all one value."""
    first, second = (rankdata(values) - (len(values) + 1) / 2 for values in (one, other))
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float(np.clip(first @ second / lengths, -1, 1)) if lengths > 0 else 0.0


def _halvings(pairs: int, seed: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Ways to part neighbours: all where there are few, else the even from the odd ones and others by chance."""
    ways = 2 ** min(pairs - 1, 62)
    if ways <= _SPLITS:
        swaps = (np.arange(ways)[:, None] >> np.arange(pairs)) & 1
    else:
        swaps = np.random.default_rng(seed).integers(0, 2, (_SPLITS, pairs))
        swaps[0] = 0
    first = 2 * np.arange(pairs)
    return [(first + swap, first + 1 - swap) for swap in swaps]
