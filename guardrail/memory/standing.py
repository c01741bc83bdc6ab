"""The decisions on a case in, where it stands out: replayed from the first, so that taking one back needs no more."""

from collections.abc import Sequence
from dataclasses import dataclass

from guardrail.memory.review_tables import StoredDecision

__all__ = ["Standing", "standing_decisions", "standing_of"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a case stands.

    Attributes:
        state: open, second, disputed, appealed or decided.
        outcome: of a case that is decided, or was before an appeal.
        settled_by: the decision that the state rests on.
        decided_at: when it was decided, ISO 8601.
        released_by: the decision that its image is let out by; one that merely confirms it does not take its place.
    """

    state: str = "open"
    outcome: str | None = None
    settled_by: str | None = None
    decided_at: str | None = None
    released_by: str | None = None


def standing_decisions(stored: Sequence[StoredDecision]) -> list[StoredDecision]:
    """Those that were not taken back, in their order, without those that take back."""
    undone = {one.undoes for one in stored if one.undoes is not None}
    return [one for one in stored if one.undoes is None and one.decision_id not in undone]


def standing_of(decisions: Sequence[StoredDecision], *, is_appealed: bool) -> Standing:
    """Where a case stands after decisions.

    Args:
        decisions: those that stand, oldest first.
        is_appealed: whether an appeal waits for an answer.
    """
    now, outcomes = Standing(), dict[str, str]()
    for one in decisions:
        outcomes[one.decision_id] = one.outcome
        now = _after(now, one, outcomes)
    if is_appealed and now.state == "decided":
        return Standing("appealed", now.outcome, now.settled_by, now.decided_at, now.released_by)
    return now


def _after(before: Standing, one: StoredDecision, outcomes: dict[str, str]) -> Standing:
    if one.asks_second:
        return Standing("second", settled_by=one.decision_id)
    if one.round == "second" and before.settled_by is not None and outcomes[before.settled_by] != one.outcome:
        return Standing("disputed", settled_by=one.decision_id)
    if one.outcome == "withhold":
        released_by = None
    elif before.released_by is not None and outcomes[before.released_by] == one.outcome:
        released_by = before.released_by
    else:
        released_by = one.decision_id
    return Standing("decided", one.outcome, one.decision_id, one.at, released_by)
