"""How well a ranking finds copies: micro-average precision, recall at a precision or at a rate of false alarms.

Nearness is a number that is higher when nearer, whatever it was measured as; `-inf` stands where a work was not brought
up. Q pictures are compared with W works; `right` names the row of the work each picture is a copy of, -1 for none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CleanTail",
    "limit_for",
    "micro_average_precision",
    "nearest_wrong",
    "pooled_recall",
    "recall_at_precision",
    "right_nearness",
    "shared_limits",
]

Values = NDArray[np.floating[Any]]
Rows = NDArray[np.int64]

_TAIL_SHARE = 0.05  # of the clean pictures, that the exponential tail is fitted to
_TAIL_LEAST = 10  # pictures, where a twentieth is fewer
_LEAST_SCALE = 1e-6  # of nearness: a tail that is all one value


def right_nearness(nearness: Values, right: Rows) -> NDArray[np.float64]:
    """How near each copy comes to its own work: (Q, W) and (Q,) in, float64 (Q,) out; `-inf` for what is no copy."""
    found = np.full(len(right), -np.inf)
    copies = np.flatnonzero(right >= 0)
    found[copies] = nearness[copies, right[copies]]
    return found


def nearest_wrong(nearness: Values, right: Rows) -> NDArray[np.float64]:
    """How near each picture comes to any other work: (Q, W) and (Q,) in, float64 (Q,) out."""
    others = np.array(nearness, np.float64)
    copies = np.flatnonzero(right >= 0)
    others[copies, right[copies]] = -np.inf
    return np.asarray(others.max(axis=1, initial=-np.inf), np.float64)


def _ranked(nearness: Values, right: Rows) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """All pairs that were brought up, in one list, nearest first, wrong ones first among equals; which are right."""
    rows, columns = np.nonzero(np.isfinite(nearness))
    is_right = right[rows] == columns
    order = np.lexsort((is_right, -np.asarray(nearness[rows, columns], np.float64)))
    hits = is_right[order]
    return hits, np.cumsum(hits)


def micro_average_precision(nearness: Values, right: Rows) -> float:
    """The area under precision over recall of all pairs ranked in one list.

    Args:
        nearness: float (Q, W), any finite value or `-inf`.
        right: int64 (Q,), -1 for pictures that copy nothing: their pairs are all wrong and stay in the list.

    Returns:
        0..1; a copy whose work was not brought up counts as never found. Equal pairs are ranked wrong ones first.

    Raises:
        ValueError: there is no copy among the pictures.

    Source: Douze et al., "The 2021 image similarity dataset and challenge", 2021, section 4 (micro-AP); we differ in
    saying what happens with ties, where their evaluation leaves it to the order of the list.
    """
    copies = _copies(right)
    hits, found = _ranked(nearness, right)
    precision = found / np.arange(1, len(hits) + 1)
    return float(precision[hits].sum() / copies)


def recall_at_precision(nearness: Values, right: Rows, precision: float) -> float:
    """The largest recall at which the list of all pairs is at least this precise, 0..1; DISC's R@P90 at 0.9.

    A limit stands between two values, never among equals, so only the ends of ties count.

    Raises:
        ValueError: there is no copy among the pictures.
    """
    copies = _copies(right)
    rows, columns = np.nonzero(np.isfinite(nearness))
    if not len(rows):
        return 0.0
    values = np.asarray(nearness[rows, columns], np.float64)
    order = np.argsort(-values, kind="stable")
    values, found = values[order], np.cumsum((right[rows] == columns)[order])
    ends = np.append(values[1:] != values[:-1], True)
    precise = found[ends] >= precision * (np.flatnonzero(ends) + 1)
    return float(found[ends][precise].max(initial=0) / copies)


def _copies(right: Rows) -> int:
    copies = int(np.count_nonzero(right >= 0))
    if not copies:
        raise ValueError("found no copy among the pictures, expected at least one; recall is of copies")
    return copies


def pooled_recall(own: Values, wrong: Values, precision: float) -> float:
    """Recall at the loosest limit down to which precision never falls below the one asked, over all copies pooled.

    Args:
        own: float (P,), how near each copy is to its own work.
        wrong: float (P,), how near it is to the nearest other work: one possible false alarm a copy.
        precision: 0..1.

    Returns:
        0..1. Of fewer than 1 / (1 - precision) copies not one false alarm is let through.

    Source: the Python package `perception` (Thorn), its benchmark's recall at a precision threshold.
    """
    descending = -np.sort(-np.asarray(own, np.float64)[np.isfinite(own)])
    others = np.sort(np.asarray(wrong, np.float64))
    alarms = len(others) - np.searchsorted(others, descending, side="left")
    true = np.arange(1, len(descending) + 1)
    too_loose = np.flatnonzero(true < precision * (true + alarms) - 1e-9 * true)
    kept = int(too_loose[0]) if len(too_loose) else len(descending)
    recovered = int(np.count_nonzero(descending >= descending[kept - 1])) if kept else 0
    return recovered / len(own)


# --- at a rate of false alarms ----------------------------------------------------------------------------------


def limit_for(nearest: Values, allowed: int) -> float:
    """The loosest limit on nearness, inclusive, that at most `allowed` of the clean pictures' nearest works reach.

    Args:
        nearest: float (N,), how near each clean picture comes to any work.
        allowed: pictures that may reach it, >= 0.

    Returns:
        Just above the nearest one that may not; `-inf` where all may.
    """
    if allowed >= len(nearest):
        return -np.inf
    first_refused = -np.partition(-np.asarray(nearest, np.float64), allowed)[allowed]
    return float(np.nextafter(first_refused, np.inf))


def shared_limits(nearest: Mapping[str, Values], allowed: int) -> dict[str, float]:
    """Limits of several signals that together at most `allowed` clean pictures reach, by any of them.

    Each signal is given the same number of alarms, the largest that keeps the union within what is allowed.

    Args:
        nearest: by signal, float (N,), of the same N pictures.
        allowed: pictures that may reach any limit, >= 0.
    """
    chosen = {name: limit_for(values, 0) for name, values in nearest.items()}
    fewest, most = 0, allowed
    while fewest < most:
        each = (fewest + most + 1) // 2
        limits = {name: limit_for(values, each) for name, values in nearest.items()}
        reached = np.logical_or.reduce([values >= limits[name] for name, values in nearest.items()])
        if np.count_nonzero(reached) <= allowed:
            fewest, chosen = each, limits
        else:
            most = each - 1
    return chosen


class CleanTail:
    """How rarely a clean picture comes as near, so that signals of different units stand in one list.

    Counted over the clean pictures; above the highest twentieth of them an exponential tail of their mean excess goes
    on, so that what is nearer than any clean picture still has an order.
    """

    def __init__(self, nearest: Values) -> None:
        """Fit the tail.

        Args:
            nearest: float (N,), N >= 1, how near each clean picture comes to any work; `-inf` where to none.
        """
        self._sorted = np.sort(np.asarray(nearest, np.float64))
        size = min(max(_TAIL_LEAST, int(_TAIL_SHARE * len(self._sorted))), len(self._sorted))
        top = self._sorted[-size:]
        top = top[np.isfinite(top)]
        self._start = float(top[0]) if len(top) else -np.inf
        self._scale = max(float(np.mean(top - self._start)) if len(top) else 0.0, _LEAST_SCALE)
        self._size = size

    def surprise(self, nearness: Values) -> NDArray[np.float64]:
        """Minus the natural logarithm of the share of clean pictures that come as near: float64, of the same shape.

        Not below 0, never falling where nearness rises, and `-inf` where nearness is.
        """
        values = np.asarray(nearness, np.float64)
        count = len(self._sorted)
        as_near = count - np.searchsorted(self._sorted, values, side="left")
        counted = -np.log(np.maximum(as_near, self._size) / count)
        if not np.isfinite(self._start):  # no clean picture was near at all: any nearness is as rare as one in N
            return np.where(np.isfinite(values), np.log(count) + np.arctan(values), -np.inf)
        beyond = np.maximum(values - self._start, 0) / self._scale
        return np.where(np.isfinite(values), counted + np.where(np.isfinite(beyond), beyond, 0), -np.inf)
