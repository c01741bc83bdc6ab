"""Decided cases in, flag limits for single banks out: what each would have spared, what it would have missed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from guardrail.records import BankLimit, Signal
from guardrail.study.agreement import share_interval
from guardrail.study.units import Unit, unit_of

__all__ = ["CASES_LEAST", "SECONDS_LEAST", "Proposal", "Weighed", "propose"]

CASES_LEAST = 30  # decided cases of a bank by one signal: of fewer, nothing is proposed
SECONDS_LEAST = 5  # of those let pass, looked at by a second person: with fewer, nothing may be applied
_STEP = 1000  # limits of similarities are proposed in thousandths


@dataclass(frozen=True, slots=True)
class Weighed:
    """A decided case as one signal of one bank saw it.

    Attributes:
        case_id: which case.
        measured: how near it was, in the signal's own unit.
        confirmed: whether people said that it copies.
        hangs_on_it: whether it would not have been flagged without this signal of this bank.
        seconded: whether the first person let it pass, and a second one decided it without seeing that.
        turned: of a seconded case: whether it was found to copy after all.
    """

    case_id: int
    measured: float
    confirmed: bool
    hangs_on_it: bool
    seconded: bool = False
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """A stricter flag limit for the works of one bank by one signal, and what it would have done to decided cases.

    Attributes:
        bank: of the works.
        signal: which is limited.
        now: the flag limit in force, in the signal's own unit.
        limit: the one proposed: the one nearest to `now` that spares as many cases without missing a confirmed one.
        reviewed: decided cases of this bank that the signal spoke of.
        spared: of them, those that would not have been flagged.
        confirmed: of `reviewed`, those that people said copy.
        missed: of `confirmed`, those that would not have been flagged.
        missed_high: the share of confirmed copies that it may miss, 0..1: 95 % upper bound.
        wrong_high: the share of the spared cases that may be copies, by the decisions alone: 95 % upper bound.
        unchecked: of the spared cases, those that one person alone looked at.
        seconded: of `reviewed`, those that the first person let pass and a second one looked at.
        turned: of `seconded`, those that were found to copy after all.
        turned_high: the share of what one person lets pass that may copy nevertheless: 95 % upper bound.
        curve: for plots: limit, how many cases are spared, how many confirmed ones missed.
        placed: for plots: what was measured of each case, and whether it was confirmed.
    """

    bank: str
    signal: Signal
    now: float
    limit: float
    reviewed: int
    spared: int
    confirmed: int
    missed: int
    missed_high: float
    wrong_high: float
    unchecked: int
    seconded: int
    turned: int
    turned_high: float
    curve: tuple[tuple[float, int, int], ...] = field(repr=False, default=())
    placed: tuple[tuple[float, bool], ...] = field(repr=False, default=())

    @property
    def overlooked(self) -> float:
        """How many copies the first person may have overlooked among `unchecked`, as second looks lead to expect."""
        return self.unchecked * self.turned / self.seconded if self.seconded else float(self.unchecked)

    @property
    def reason_against(self) -> str:
        """Why it may not be applied yet; empty where it may."""
        if self.seconded >= SECONDS_LEAST:
            return ""
        return f"{self.seconded} of the cases that were let pass had a second look, and it takes {SECONDS_LEAST}"

    def bank_limit(self, change_id: str) -> BankLimit:
        """The limit as it is written beside an index."""
        return BankLimit(bank=self.bank, signal=self.signal, limit=self.limit, change_id=change_id)


def propose(bank: str, signal: Signal, now: float, block: float | None, cases: Sequence[Weighed]) -> Proposal | None:
    """The flag limit that would have spared most reviews of a bank and missed no confirmed copy.

    It is never laxer than the one in force: cases exist only beyond that, and say nothing of what lies before it. It
    is never beyond the block limit.

    Args:
        bank: of the works.
        signal: which the limit is on.
        now: the flag limit in force, in its own unit.
        block: the block limit in force; None where there is none.
        cases: all decided cases of this bank that the signal spoke of, each picture once.

    Returns:
        None where there are fewer than `CASES_LEAST` cases, or nothing would be spared.

    The bounds are those of Clopper and Pearson. That on what is missed holds though the limit is chosen after looking
    at the cases: the share of copies that lie before the farthest of n confirmed ones is beta distributed (1, n).
    Source: Wilks, "Determination of sample sizes for setting tolerance limits", 1941, section 2.
    """
    unit = unit_of(signal)
    if unit is None or len(cases) < CASES_LEAST:
        return None
    hanging = [case for case in cases if case.hangs_on_it and unit.nearness(case.measured) >= unit.nearness(now)]
    caught = [unit.nearness(case.measured) for case in hanging if case.confirmed]
    stop = min([*caught, unit.nearest if block is None else unit.nearness(block)])
    sparable = [unit.nearness(case.measured) for case in hanging if unit.nearness(case.measured) < stop]
    if not sparable:
        return None
    limit = unit.measured(_just_beyond(max(sparable), stop, unit))
    spared = [case for case in hanging if unit.nearness(case.measured) < unit.nearness(limit)]
    missed = sum(case.confirmed for case in spared)
    confirmed = sum(case.confirmed for case in cases)
    seconded, turned = sum(case.seconded for case in cases), sum(case.turned for case in cases)
    return Proposal(
        bank=bank,
        signal=signal,
        now=now,
        limit=limit,
        reviewed=len(cases),
        spared=len(spared),
        confirmed=confirmed,
        missed=missed,
        missed_high=share_interval(missed, confirmed)[1],
        wrong_high=share_interval(missed, len(spared))[1],
        unchecked=sum(not case.seconded for case in spared),
        seconded=seconded,
        turned=turned,
        turned_high=share_interval(turned, seconded)[1],
        curve=_curve(hanging, unit, stop),
        placed=tuple(sorted((case.measured, case.confirmed) for case in cases)),
    )


def _just_beyond(nearest: float, stop: float, unit: Unit) -> float:
    """The laxest limit that a nearness does not reach and `stop` does: the next bit or point, or thousandth."""
    if unit.whole:
        return nearest + 1
    rounded = math.floor(nearest * _STEP + 1) / _STEP
    return rounded if nearest < rounded <= stop else (nearest + stop) / 2 if (nearest + stop) / 2 > nearest else stop


def _curve(hanging: Sequence[Weighed], unit: Unit, stop: float) -> tuple[tuple[float, int, int], ...]:
    """What every limit would do that lies at a case, and right at where the proposals stop."""
    near = sorted((unit.nearness(case.measured), case.confirmed) for case in hanging)
    points = sorted({value for value, _ in near} | ({stop} if math.isfinite(stop) else set()))
    return tuple(
        (
            unit.measured(point),
            sum(value < point for value, _ in near),
            sum(confirmed for value, confirmed in near if value < point),
        )
        for point in points
    )
