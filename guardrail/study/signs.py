"""What a sign measures on runs that are not memorised in, its limits at chosen rates of false alarms out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from guardrail.errors import BackgroundTooSmall
from guardrail.records import FalseAlarms, FittedLimit, SignLimits
from guardrail.study.calibrate import pictures_needed
from guardrail.study.tails import Tail

__all__ = ["SignRuns", "fit_sign"]

_FOLDS = 5
_LEAST_LENGTH = 1e-12  # lengths below are taken for it, since they are fitted on a logarithmic scale
_INTERVAL = 0.95

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SignRuns:
    """What one sign measured on N runs that are known not to be memorised.

    Attributes:
        sign: its name.
        unit: what it is measured in.
        scale: lengths (0 and up) or cosines (-1..1); higher is more suspicious.
        steps: how many first steps were measured; None: all.
        values: float64 (N,), finite.
        prompts: the prompt of each run, by number; runs of one prompt are alike, so they are held out together.
        source: where the prompts are from, for messages.
    """

    sign: str
    unit: str
    scale: Literal["length", "cosine"]
    steps: int | None
    values: Array
    prompts: Sequence[int]
    source: str


def fit_sign(runs: SignRuns, flag_rate: float, block_rate: float, seed: int = 0) -> SignLimits:
    """Fit a sign's limits to rates of false alarms.

    Args:
        runs: at least `pictures_needed(block_rate)` of them.
        flag_rate: false flags per run, 0..1.
        block_rate: the same for blocks, at most `flag_rate`.
        seed: of folds and bootstrap.

    Returns:
        Limits with their 95 % intervals, and what was measured by limits that were fitted without the run's prompt.

    Raises:
        BackgroundTooSmall: too few runs for these rates.

    Source: `Tail`, as for pictures. Lengths are fitted as the hyperbolic tangent of their logarithm over the median, on
    which the tail's own scale is that logarithm.
    """
    for rate in (flag_rate, block_rate):
        if len(runs.values) < pictures_needed(rate):
            raise BackgroundTooSmall(runs.source, len(runs.values), f"{rate:g}", pictures_needed(rate))
    flag, block = (_fitted(runs.values, runs.scale, rate, seed) for rate in (flag_rate, block_rate))
    if block.limit < flag.limit:
        block = flag
    alarms = _alarms(runs, "flag", flag_rate, flag.limit, seed), _alarms(runs, "block", block_rate, block.limit, seed)
    return SignLimits(
        sign=runs.sign,
        unit=runs.unit,
        steps=runs.steps,
        runs=len(runs.values),
        lowest=float(runs.values.min()),
        median=float(np.median(runs.values)),
        highest=float(runs.values.max()),
        flag=flag,
        block=block,
        false_alarms=alarms,
    )


def _fitted(values: Array, scale: str, rate: float, seed: int) -> FittedLimit:
    stretch, back = _scales(values, scale)
    tail = Tail(stretch(values), seed=seed)
    limit = tail.limit(rate)
    low, high = tail.interval(rate)
    limit_there = back(limit)
    return FittedLimit(
        limit=limit_there,
        low=min(back(low), limit_there),
        high=max(back(high), limit_there),
        method="empirical" if tail.is_counted(rate) else "extrapolated",
        share=rate,
        reached=int(np.count_nonzero(values >= limit_there)),
    )


def _scales(values: Array, scale: str) -> tuple[Callable[[Array], Array], Callable[[float], float]]:
    """To the scale that `Tail` takes, -1..1, and back."""
    if scale == "cosine":
        return (lambda lengths: lengths), float
    middle = float(np.log(max(float(np.median(values)), _LEAST_LENGTH)))

    def stretch(lengths: Array) -> Array:
        return np.asarray(np.tanh(np.log(np.maximum(lengths, _LEAST_LENGTH)) - middle), np.float64)

    def back(stretched: float) -> float:
        return float(np.exp(np.arctanh(stretched) + middle))

    return stretch, back


def _alarms(runs: SignRuns, decision: Literal["flag", "block"], rate: float, limit: float, seed: int) -> FalseAlarms:
    """How many runs alarm, and how many do by limits that were fitted without their prompt."""
    prompts, numbers = np.unique(np.asarray(runs.prompts), return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(len(prompts)) % _FOLDS)[numbers]
    held_out = 0
    for number in range(_FOLDS):
        rest = runs.values[fold != number]
        if len(rest) and len(rest) < len(runs.values):
            stretch, back = _scales(rest, runs.scale)
            found = back(Tail(stretch(rest), seed=seed).limit(rate))
            held_out += int(np.count_nonzero(runs.values[fold == number] >= found))
    interval = binomtest(held_out, len(runs.values)).proportion_ci(_INTERVAL, method="exact")
    return FalseAlarms(
        decision=decision,
        asked=rate,
        pictures=len(runs.values),
        reached=int(np.count_nonzero(runs.values >= limit)),
        held_out=held_out,
        low=float(interval.low),
        high=float(interval.high),
    )
