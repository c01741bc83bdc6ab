"""How near edited copies and clean pictures come to works in; recalls with their intervals, signal by signal, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from guardrail.errors import BackgroundTooSmall
from guardrail.records import Record
from guardrail.study.ranking import (
    CleanTail,
    limit_for,
    micro_average_precision,
    nearest_wrong,
    pooled_recall,
    recall_at_precision,
    right_nearness,
    shared_limits,
)

__all__ = ["FUSED", "CopyFigures", "EditRecall", "Looks", "SignalRecall", "measure_copies"]

FUSED = "fused"
"""The name under which all signals of the guard together are listed."""

_RESAMPLINGS = 1000  # of the works, for the interval of a recall over several edits of the same works
_CONFIDENCE = 0.95
_DISC_PRECISION = 0.9  # R@P90
_THORN_PRECISION = 0.9999  # of Thorn's table


@dataclass(frozen=True, slots=True)
class Looks:
    """How near Q pictures come to W works by each signal.

    Attributes:
        nearness: by signal, float32 (Q, W), higher is nearer, `-inf` where a work was not brought up.
        right: int64 (Q,), the row of the work each is a copy of; -1 for clean pictures.
        edits: per picture, the edit it went through; empty for clean pictures.
        intensities: per picture, 0..100.
    """

    nearness: Mapping[str, NDArray[np.float32]]
    right: NDArray[np.int64]
    edits: tuple[str, ...]
    intensities: tuple[float, ...]


class EditRecall(Record):
    """How many copies of one edit and intensity one signal found at its limit; 95 % interval by Wilson."""

    edit: str
    intensity: float
    signal: str
    false_alarms: float
    copies: int
    found: int
    recall: float
    low: float
    high: float


class SignalRecall(Record):
    """What one signal found of all copies at one rate of false alarms.

    `limit` is on nearness in the signal's own unit (distances negative), None for the fused one, whose limits are those
    in `limits`. The interval of `recall` is by resampling works, that of `alarms` by Clopper and Pearson.
    """

    signal: str
    false_alarms: float
    limit: float | None
    limits: dict[str, float]
    alarms: int
    alarms_low: float
    alarms_high: float
    recall: float
    low: float
    high: float


class CopyFigures(Record):
    """All figures of one run, by signal: micro-AP and R@P90 as DISC, pooled recall as Thorn, recalls by edit."""

    copies: int
    clean: int
    works: int
    micro_ap: dict[str, float]
    recall_at_p90: dict[str, float]
    pooled_recall: dict[str, float]
    signals: tuple[SignalRecall, ...]
    edits: tuple[EditRecall, ...]


def measure_copies(looks: Looks, own: Sequence[str], rates: Sequence[float], place: str = "the folder") -> CopyFigures:
    """Measure what each signal finds, and what all of the guard's own find together.

    A copy is found when its own work is at or above the limit. The limit of a signal is the loosest that at most
    `rate` of the clean pictures reach by their nearest work; fused limits give each signal the same number of alarms,
    so many that the union of them stays within the rate.

    Args:
        looks: copies and clean pictures, in any order.
        own: the signals that are fused; all others stand alone beside them.
        rates: false alarms per clean picture, each above 0.
        place: where the clean pictures are from, for messages.

    Returns:
        Figures; deterministic.

    Raises:
        BackgroundTooSmall: the clean pictures are too few for one alarm at one of the rates.
        ValueError: there is no copy.
    """
    clean = looks.right < 0
    count = int(clean.sum())
    for rate in rates:
        if int(rate * count + 1e-9) < 1:
            raise BackgroundTooSmall(place, count, f"{rate:g}", int(np.ceil(1 / rate - 1e-9)))
    nearness: dict[str, Any] = dict(looks.nearness)
    fused = [name for name in own if name in nearness]
    tails = {name: CleanTail(_nearest(nearness[name][clean])) for name in fused}
    nearness[FUSED] = np.maximum.reduce([tails[name].surprise(nearness[name]) for name in fused])
    order = [*fused, FUSED, *(name for name in looks.nearness if name not in fused)]
    signals, edits = [], []
    for rate in rates:
        for name in order:
            inputs = fused if name == FUSED else [name]
            signal, reached = _at_rate(looks, name, inputs, rate)
            signals.append(signal)
            edits += _by_edit(looks, name, rate, reached)
    copy = ~clean
    return CopyFigures(
        copies=int(copy.sum()),
        clean=count,
        works=int(next(iter(looks.nearness.values())).shape[1]),
        micro_ap={name: micro_average_precision(nearness[name], looks.right) for name in order},
        recall_at_p90={name: recall_at_precision(nearness[name], looks.right, _DISC_PRECISION) for name in order},
        pooled_recall={name: _pooled(nearness[name][copy], looks.right[copy]) for name in order},
        signals=tuple(signals),
        edits=tuple(edits),
    )


def _nearest(nearness: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(nearness.max(axis=1, initial=-np.inf), np.float64)


def _pooled(nearness: NDArray[np.float32], right: NDArray[np.int64]) -> float:
    return pooled_recall(right_nearness(nearness, right), nearest_wrong(nearness, right), _THORN_PRECISION)


def _at_rate(looks: Looks, name: str, inputs: Sequence[str], rate: float) -> tuple[SignalRecall, NDArray[np.bool_]]:
    """One signal, or several together, at one rate; and which pictures reach a limit by their own work: bool (Q,)."""
    clean = looks.right < 0
    nearest = {one: _nearest(looks.nearness[one][clean]) for one in inputs}
    allowed = int(rate * int(clean.sum()) + 1e-9)
    limits = shared_limits(nearest, allowed)
    if len(inputs) == 1:
        limits = {one: limit_for(values, allowed) for one, values in nearest.items()}
    alarms = int(np.logical_or.reduce([nearest[one] >= limits[one] for one in inputs]).sum())
    reached = np.logical_or.reduce([right_nearness(looks.nearness[one], looks.right) >= limits[one] for one in inputs])
    reached &= np.logical_or.reduce([np.isfinite(right_nearness(looks.nearness[one], looks.right)) for one in inputs])
    interval = binomtest(alarms, int(clean.sum())).proportion_ci(_CONFIDENCE, method="exact")
    low, high = _resampled(reached[~clean], looks.right[~clean])
    finite = {one: _inclusive(limit, looks.nearness[one]) for one, limit in limits.items() if np.isfinite(limit)}
    signal = SignalRecall(
        signal=name,
        false_alarms=rate,
        limit=finite.get(name),
        limits=finite,
        alarms=alarms,
        alarms_low=float(interval.low),
        alarms_high=float(interval.high),
        recall=float(reached[~clean].mean()),
        low=low,
        high=high,
    )
    return signal, reached


def _inclusive(limit: float, nearness: NDArray[np.float32]) -> float:
    """A limit as it would be set: in whole numbers where the signal only has such, and not below all it measured."""
    finite = nearness[np.isfinite(nearness)].astype(np.float64)
    if not len(finite):
        return 0.0  # it says nothing of any picture, so any limit holds
    limit = max(limit, float(finite.min()))
    return float(np.ceil(limit)) if np.all(finite == np.rint(finite)) else float(limit)


def _resampled(found: NDArray[np.bool_], right: NDArray[np.int64]) -> tuple[float, float]:
    """The 95 % interval of a recall over many edits of few works: works are drawn again, not single copies."""
    works, place = np.unique(right, return_inverse=True)
    hits = np.bincount(place, found, len(works))
    copies = np.bincount(place, minlength=len(works))
    drawn = np.random.default_rng(0).integers(0, len(works), (_RESAMPLINGS, len(works)))
    recalls = hits[drawn].sum(axis=1) / copies[drawn].sum(axis=1)
    low, high = np.quantile(recalls, ((1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2))
    return float(low), float(high)


def _by_edit(looks: Looks, name: str, rate: float, reached: NDArray[np.bool_]) -> list[EditRecall]:
    by_edit: dict[tuple[str, float], list[int]] = {}
    for row, made in enumerate(zip(looks.edits, looks.intensities, strict=True)):
        if looks.right[row] >= 0:
            by_edit.setdefault(made, []).append(row)
    recalls = []
    for (edit, intensity), rows in by_edit.items():
        found = int(reached[rows].sum())
        interval = binomtest(found, len(rows)).proportion_ci(_CONFIDENCE, method="wilson")
        recalls.append(
            EditRecall(
                edit=edit,
                intensity=intensity,
                signal=name,
                false_alarms=rate,
                copies=len(rows),
                found=found,
                recall=found / len(rows),
                low=float(interval.low),
                high=float(interval.high),
            )
        )
    return recalls
