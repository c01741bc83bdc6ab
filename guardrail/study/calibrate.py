"""How near clean pictures come to protected works in, limits for a chosen rate of false alarms out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from guardrail.errors import BackgroundTooSmall
from guardrail.records import FalseAlarms, FittedLimit, Limits, Record, Signal, SignalLimits
from guardrail.study.tails import TAIL_LEAST, Tail
from guardrail.study.units import Unit, unit_of

__all__ = ["Asked", "Fitted", "Unit", "fit_limits", "open_limits", "pictures_needed", "reaching", "unit_of"]

Array = NDArray[np.float64]

_BEYOND_THE_BACKGROUND = (
    10  # times: how far a rate may lie below one picture in the background (docs/design/calibration.md)
)
_FEWEST_PICTURES = 200  # below, a twentieth of the pictures makes no tail
_FOLDS = 5
_RUNGS = 64  # levels tried between an equal share of the rate and the whole of it
_PDQ_BLOCK_BITS = 31  # ThreatExchange's default for a confident match: what lies farther is likeness, not a copy
_MOST_BITS = 256  # of the longest hash
_DECISIONS = ("flag", "block")
# An embedder that ships no limits must not stay silent once it is calibrated; CLIP alone never blocks.
_VECTORS_CLAIM: Mapping[Signal, tuple[str, ...]] = {
    Signal.COPY: _DECISIONS,
    Signal.TILE: _DECISIONS,
    Signal.CLIP: ("flag",),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What limits are fitted to.

    Attributes:
        background: where the pictures are from, for messages.
        flag_rate: false alarms per picture, of all signals together, 0..1.
        block_rate: the same for blocks, at most `flag_rate`.
        shipped: the limits before calibration: a signal that never flags or blocks there never does.
        seed: of bootstrap and folds.
    """

    background: str
    flag_rate: float
    block_rate: float
    shipped: Limits
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Fitted:
    """Limits that were fitted, and what they rest on."""

    limits: Limits
    signals: tuple[SignalLimits, ...]
    false_alarms: tuple[FalseAlarms, ...]
    warnings: tuple[str, ...]


class _Limit(NamedTuple):
    """A limit on nearness, before it is put into its unit."""

    nearness: float
    share: float
    bounded: bool


def open_limits(shipped: Limits) -> Limits:
    """Limits that every likeness reaches, so that all of them are measured; the rest as it was."""
    opened: dict[str, Record] = {}
    for unit in filter(None, map(unit_of, Signal)):
        reached_by_all = -1 if not unit.whole else 1 if unit.sign > 0 else _MOST_BITS
        opened[unit.field] = type(getattr(shipped, unit.field))(**{unit.flag: reached_by_all})
    return shipped.model_copy(update=opened)


def pictures_needed(rate: float) -> int:
    """How large a background must be, at least, to fit limits to this rate of false alarms per picture."""
    return max(_FEWEST_PICTURES, math.ceil(1 / (_BEYOND_THE_BACKGROUND * rate) - 1e-9))


def fit_limits(nearest: Mapping[Signal, Array], asked: Asked) -> Fitted:
    """Fit the limits of every signal, so that all of them together alarm at most at the rates asked for.

    The budget is shared by one level: the loosest level (the share of pictures that one signal alone may reach) at
    which the rates of all signals add up to no more than the rate asked. This holds however signals depend on each
    other (Bonferroni), and what a signal cannot use, because its values are whole or its limit is bounded, goes to
    the others. A block limit is never looser than 31 bits for PDQ, than the shipped flag limit for other signals, or
    than the flag limit that is fitted.

    Args:
        nearest: for each signal float64 (N,), N the same for all: how near each picture comes to a protected work by
            `Unit.nearness`, higher is nearer; NaN where the signal says nothing of it, `-inf` where it can reach none.
        asked: rates and shipped limits.

    Returns:
        Limits with `calibration` as it was, and how each of them was found.

    Raises:
        BackgroundTooSmall: fewer pictures than `pictures_needed` for one of the rates.
    """
    count = len(next(iter(nearest.values()), np.zeros(0)))
    for rate in (asked.flag_rate, asked.block_rate):
        if count < pictures_needed(rate):
            raise BackgroundTooSmall(asked.background, count, f"{rate:g}", pictures_needed(rate))
    tails, warnings = _tails(nearest, asked)
    found = {decision: _levelled(tails, decision, asked) for decision in _DECISIONS}
    found["block"] = _no_looser(found["block"], found["flag"])
    signals = tuple(_described(signal, tail, found) for signal, tail in tails.items())
    limits = _put(asked.shipped, signals)
    held_out = _held_out(nearest, asked)
    alarms = tuple(
        _false_alarms(decision, rate, reaching(nearest, limits, decision), held_out[decision])
        for decision, rate in zip(_DECISIONS, (asked.flag_rate, asked.block_rate), strict=True)
    )
    return Fitted(limits, signals, alarms, (*warnings, *_strict_ones(asked.shipped, signals)))


def reaching(nearest: Mapping[Signal, Array], limits: Limits, decision: str) -> NDArray[np.bool_]:
    """Which pictures any signal would flag (or block): bool (N,)."""
    return _any_reached(nearest, {signal: _limit_of(limits, signal, decision) for signal in nearest})


def _any_reached(nearest: Mapping[Signal, Array], bounds: Mapping[Signal, float | None]) -> NDArray[np.bool_]:
    """Which pictures reach the bound of any signal: bool (N,); NaN reaches nothing."""
    reached = np.zeros(len(next(iter(nearest.values()), np.zeros(0))), np.bool_)
    for signal, bound in bounds.items():
        if bound is not None:
            reached |= nearest[signal] >= bound
    return reached


def _limit_of(limits: Limits, signal: Signal, decision: str) -> float | None:
    """A limit as nearness; None where the signal has none."""
    unit = unit_of(signal)
    if unit is None:
        return None
    value = getattr(getattr(limits, unit.field), getattr(unit, decision))
    return None if value is None else unit.nearness(value)


def _is_fitted(signal: Signal, decision: str, asked: Asked) -> bool:
    """Whether a signal gets a limit for a decision: where one is shipped, and always where vectors can claim it."""
    return decision in _VECTORS_CLAIM.get(signal, ()) or _limit_of(asked.shipped, signal, decision) is not None


def _tails(nearest: Mapping[Signal, Array], asked: Asked) -> tuple[dict[Signal, Tail], list[str]]:
    """The tail of each signal that has a limit; those that too few pictures say something of keep the shipped one."""
    tails, warnings = {}, []
    for signal, values in nearest.items():
        unit = unit_of(signal)
        if unit is None or not any(_is_fitted(signal, decision, asked) for decision in _DECISIONS):
            continue
        counted = values[~np.isnan(values)]
        if np.isfinite(counted).sum() <= TAIL_LEAST:
            warnings.append(f"{signal}: too few pictures come near by it, so it keeps its shipped limits")
            continue
        tails[signal] = tail = Tail(counted, whole=unit.whole, seed=asked.seed)
        if tail.is_too_heavy:
            warnings.append(
                f"{signal}: a few pictures are much nearer than the others lead to expect; look whether they are copies"
            )
    return tails, warnings


def _levelled(tails: Mapping[Signal, Tail], decision: str, asked: Asked) -> dict[Signal, _Limit]:
    """The limits at the loosest level whose rates add up to no more than the rate asked."""
    rate = asked.flag_rate if decision == "flag" else asked.block_rate
    asking = {signal: tail for signal, tail in tails.items() if _is_fitted(signal, decision, asked)}
    levels = np.geomspace(rate / max(len(asking), 1), rate, _RUNGS)
    low, high = 0, _RUNGS  # the level `low` always fits: there the shares add up to the rate
    while high - low > 1:
        middle = (low + high) // 2
        spent = sum(
            tail.rate(_bounded(signal, tail, levels[middle], decision, asked).nearness)
            for signal, tail in asking.items()
        )
        low, high = (middle, high) if spent <= rate else (low, middle)
    return {signal: _bounded(signal, tail, float(levels[low]), decision, asked) for signal, tail in asking.items()}


def _bounded(signal: Signal, tail: Tail, level: float, decision: str, asked: Asked) -> _Limit:
    unit = unit_of(signal)
    assert unit is not None, "signals without a limit have no tail"
    fitted = min(tail.limit(level), unit.nearest)
    bound = _limit_of(asked.shipped, signal, "flag") if decision == "block" else None
    if signal is Signal.PDQ and decision == "block":
        bound = unit.nearness(_PDQ_BLOCK_BITS)
    if bound is not None and fitted < bound:
        return _Limit(bound, level, bounded=True)
    return _Limit(fitted, level, bounded=False)


def _no_looser(block: dict[Signal, _Limit], flag: dict[Signal, _Limit]) -> dict[Signal, _Limit]:
    """Block limits, those that are looser than the flag limit put in its place."""
    return {
        signal: flag[signal] if signal in flag and limit.nearness < flag[signal].nearness else limit
        for signal, limit in block.items()
    }


def _described(signal: Signal, tail: Tail, found: Mapping[str, Mapping[Signal, _Limit]]) -> SignalLimits:
    unit = unit_of(signal)
    assert unit is not None, "signals without a limit have no tail"
    said = {
        decision: _fitted_limit(unit, tail, limits[signal]) for decision, limits in found.items() if signal in limits
    }
    return SignalLimits(signal=signal, pictures=len(tail.values), flag=said.get("flag"), block=said.get("block"))


def _fitted_limit(unit: Unit, tail: Tail, limit: _Limit) -> FittedLimit:
    near, far = limit.nearness, limit.nearness
    if not limit.bounded:
        far, near = (min(value, unit.nearest) for value in tail.interval(limit.share))
    low, high = sorted(unit.measured(value) for value in (far, near))
    counted = "empirical" if tail.is_counted(limit.share) else "extrapolated"
    return FittedLimit(
        limit=unit.measured(limit.nearness),
        low=low,
        high=high,
        method="bounded" if limit.bounded else counted,
        share=limit.share,
        reached=tail.reached(limit.nearness),
    )


def _put(shipped: Limits, signals: tuple[SignalLimits, ...]) -> Limits:
    """The shipped limits with those that were fitted in their place."""
    update: dict[str, Record] = {}
    for fitted in signals:
        unit = unit_of(fitted.signal)
        assert unit is not None, "signals without a limit have no tail"
        said = {
            name: int(one.limit) if unit.whole else one.limit
            for name, one in ((unit.flag, fitted.flag), (unit.block, fitted.block))
            if one is not None
        }
        update[unit.field] = getattr(shipped, unit.field).model_copy(update=said)
    return Limits.model_validate(shipped.model_copy(update=update).model_dump())


def _held_out(nearest: Mapping[Signal, Array], asked: Asked) -> dict[str, int]:
    """How many pictures alarm by limits that were fitted without them, fold by fold."""
    count = len(next(iter(nearest.values())))
    fold = np.random.default_rng(asked.seed).permutation(count) % _FOLDS
    alarms = dict.fromkeys(_DECISIONS, 0)
    for number in range(_FOLDS):
        tails, _ = _tails({signal: values[fold != number] for signal, values in nearest.items()}, asked)
        found = {decision: _levelled(tails, decision, asked) for decision in _DECISIONS}
        found["block"] = _no_looser(found["block"], found["flag"])
        for decision, limits in found.items():
            shipped = {signal: _limit_of(asked.shipped, signal, decision) for signal in nearest.keys() - tails.keys()}
            bounds = shipped | {signal: limit.nearness for signal, limit in limits.items()}
            alarms[decision] += int(_any_reached(nearest, bounds)[fold == number].sum())
    return alarms


def _false_alarms(decision: str, rate: float, reached: NDArray[np.bool_], held_out: int) -> FalseAlarms:
    interval = binomtest(held_out, len(reached)).proportion_ci(0.95, method="exact")
    return FalseAlarms.model_validate(
        {
            "decision": decision,
            "asked": rate,
            "pictures": len(reached),
            "reached": int(reached.sum()),
            "held_out": held_out,
            "low": float(interval.low),
            "high": float(interval.high),
        }
    )


def _strict_ones(shipped: Limits, signals: tuple[SignalLimits, ...]) -> tuple[str, ...]:
    """A warning for each signal that now lets pass what the shipped limits block."""
    warnings = []
    for fitted in signals:
        unit, bound = unit_of(fitted.signal), _limit_of(shipped, fitted.signal, "block")
        assert unit is not None, "signals without a limit have no tail"
        if fitted.flag is not None and bound is not None and unit.nearness(fitted.flag.limit) > bound:
            warnings.append(
                f"{fitted.signal}: the flag limit {fitted.flag.limit:g} is stricter than the shipped block limit "
                f"{unit.sign * bound:g}, so copies between the two pass; is there a copy among the background?"
            )
    return tuple(warnings)
