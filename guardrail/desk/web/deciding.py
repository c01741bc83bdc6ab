"""What people decide: entered by memory, noted in the audit, told to plugins; the same for pages and the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardrail import plugins as tools

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guardrail.desk.web.desk import Desk
    from guardrail.memory import Batch, Decided
    from guardrail.records import Actor, DecisionAsked, ReviewDecision

__all__ = ["appeal", "decide", "decide_all", "undo"]


def decide(desk: Desk, actor: Actor, case_id: int, asked: DecisionAsked, address: str = "") -> Decided:
    """Decide one case.

    Args:
        desk: with the memory that is decided in.
        actor: who decides.
        case_id: which case.
        asked: what they decide.
        address: where the request came from, for the audit.

    Raises:
        CaseMissing, CaseTaken, DecisionRefused, NotAllowed: nothing was decided.
        MemoryUnwritable: nothing was decided.
    """
    decided = desk.memory.reviews.decide(actor, case_id, asked)
    _tell(desk, actor, (decided.decision,), "case.decided", address)
    return decided


def decide_all(
    desk: Desk,
    actor: Actor,
    case_ids: Sequence[int],
    asked: DecisionAsked,
    address: str = "",
    seen: Mapping[int, int] | None = None,
) -> Batch:
    """Decide several cases alike: all of them or none.

    Args:
        desk: with the memory that is decided in.
        actor: who decides.
        case_ids: which cases.
        asked: what they decide.
        address: where the request came from, for the audit.
        seen: the revision of each as it was shown; one that changed since refuses all.

    Raises:
        CaseMissing, CaseTaken, DecisionRefused, NotAllowed, MemoryUnwritable: nothing was decided.
    """
    batch = desk.memory.reviews.decide_all(actor, case_ids, asked, seen=seen)
    _tell(desk, actor, tuple(one.decision for one in batch.decided), "case.decided", address)
    return batch


def undo(desk: Desk, actor: Actor, wanted: str, address: str = "") -> tuple[Decided, ...]:
    """Take a decision back, or all those of a batch.

    Args:
        desk: with the memory that was decided in.
        actor: who takes it back.
        wanted: id of a decision or a batch.
        address: where the request came from, for the audit.

    Raises:
        CaseMissing, DecisionRefused, NotAllowed, MemoryUnwritable: nothing was taken back.
    """
    undone = desk.memory.reviews.undo(actor, wanted)
    _tell(desk, actor, tuple(one.decision for one in undone), "case.undone", address)
    return undone


def appeal(desk: Desk, actor: Actor, case_id: int, note: str, address: str = "") -> None:
    """Ask for another look at a case that was decided.

    Raises:
        CaseMissing, DecisionRefused, NotAllowed, MemoryUnwritable: nothing was entered.
    """
    desk.memory.reviews.appeal(actor, case_id, note)
    desk.memory.audit.note(actor, "case.appealed", f"case {case_id}", {}, address)


def _tell(desk: Desk, actor: Actor, decisions: Sequence[ReviewDecision], action: str, address: str) -> None:
    hooks = desk.guard_for(actor.organisation).plugins
    for decision in decisions:
        said = {"outcome": decision.outcome, "round": decision.round, "decision_id": decision.decision_id}
        desk.memory.audit.note(actor, action, f"case {decision.case_id}", said, address)
        verdict = desk.memory.reviews.verdict(actor, decision.verdict_id)
        tools.call_observers(hooks, "review_recorded", decision=decision, verdict=verdict)
