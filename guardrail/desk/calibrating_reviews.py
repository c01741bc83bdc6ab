"""What reviewed cases say of limits that were fitted to a background: no confirmed copy is missed by them unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guardrail.desk.learning import Labelled, rejudged
from guardrail.records import Decision, Limits, ReviewsUsed, Signal
from guardrail.study.calibrate import Unit, unit_of

if TYPE_CHECKING:
    from guardrail.settings import Policy

__all__ = ["Reviewed"]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """Reviewed cases, and the limits by which the next ones would be flagged without a new calibration.

    Cases exist only beyond the flag limits that were in force: they say nothing of what lies before, so they never
    make a flag limit looser than the background does, unless a confirmed copy would be missed.

    Attributes:
        cases: those that say whether the image copies, each picture once.
        in_force: the limits of the index as they are.
        policy: that decides.
    """

    cases: tuple[Labelled, ...]
    in_force: Limits
    policy: Policy

    def held_back(self, fitted: Limits) -> tuple[Limits, ReviewsUsed, tuple[str, ...]]:
        """Fitted limits, held where they were in force by what people confirmed, and by what they let pass.

        A flag limit by whose change a confirmed copy would not be flagged any more stays as it is in force; so does a
        block limit by which an image would be blocked that people let pass.

        Args:
            fitted: limits as the background alone would have them.

        Returns:
            The limits, what they rest on, and a warning for each thing that a person must know.
        """
        confirmed = [one for one in self.cases if one.confirmed]
        passed = [one for one in self.cases if not one.confirmed]
        missed = [one for one in confirmed if self._decision(one, fitted) is Decision.ACCEPT]
        limits, flags = self._held(fitted, missed, "flag")
        blocked = [one for one in passed if self._decision(one, limits) is Decision.BLOCK]
        limits, blocks = self._held(limits, blocked, "block")
        still = [one for one in missed if self._decision(one, limits) is Decision.ACCEPT]
        moments = [one.pair.decided_at for one in self.cases]
        used = ReviewsUsed(
            confirmed=len(confirmed),
            passed=len(passed),
            since=min(moments),
            until=max(moments),
            missed_unheld=len(missed),
            missed=len(still),
            flags_held=flags,
            blocks_held=blocks,
            still_flagged=sum(self._decision(one, limits) is not Decision.ACCEPT for one in passed),
        )
        return limits, used, _warnings(used)

    def _decision(self, one: Labelled, limits: Limits) -> Decision:
        return rejudged(one.pair.verdict, one.pair.verdict.evidence, limits, self.policy)

    def _held(self, fitted: Limits, cases: Sequence[Labelled], decision: str) -> tuple[Limits, tuple[Signal, ...]]:
        """Limits that stay in force where those cases were found by them: the laxer flag, the stricter block."""
        found = {Signal(match.signal) for one in cases for match in one.matches()}
        held = []
        for signal in sorted(found):
            unit = unit_of(signal)
            if unit is None:
                continue
            now, new = (_limit(limits, unit, decision) for limits in (self.in_force, fitted))
            if now is None or new is None or now == new:
                continue
            if (unit.nearness(now) < unit.nearness(new)) == (decision == "flag"):
                fitted = _with(fitted, unit, decision, now)
                held.append(signal)
        return fitted, tuple(held)


def _limit(limits: Limits, unit: Unit, decision: str) -> float | None:
    value: float | None = getattr(getattr(limits, unit.field), getattr(unit, decision))
    return value


def _with(limits: Limits, unit: Unit, decision: str, value: float) -> Limits:
    mine = getattr(limits, unit.field).model_copy(update={getattr(unit, decision): value})
    return limits.model_copy(update={unit.field: mine})


def _warnings(used: ReviewsUsed) -> tuple[str, ...]:
    said = []
    if used.flags_held:
        signals = ", ".join(used.flags_held)
        said.append(
            f"{signals}: the background allows a stricter flag limit, by which {used.missed_unheld} of "
            f"{used.confirmed} confirmed copies would be missed; it stays as it was, and false alarms with it"
        )
    if used.missed:
        said.append(f"{used.missed} of {used.confirmed} confirmed copies are missed by these limits; do not use them")
    if used.blocks_held:
        signals = ", ".join(used.blocks_held)
        said.append(f"{signals}: the block limit stays as it was, because images would be blocked that people let pass")
    return tuple(said)
