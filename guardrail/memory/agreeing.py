"""What the desk's tables say of rows of the ledger in, so that a check of the ledger can compare it with the rows."""

from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from guardrail.memory.entering import record_of
from guardrail.memory.review_tables import StoredDecision
from guardrail.memory.tables import Case
from guardrail.records import ReviewDecision

__all__ = ["Beside", "decisions_beside", "is_as_entered"]


class Beside(NamedTuple):
    """A decision as the desk has it; None where it is none. `is_purged`: its note was deleted after its time."""

    decision: ReviewDecision | None
    is_purged: bool


def decisions_beside(session: Session) -> dict[int, Beside]:
    """Every decision that the desk has, by the number of its row."""
    query = select(StoredDecision, Case.verdict_id, Case.purged_at).outerjoin(
        Case, Case.case_id == StoredDecision.case_id
    )
    return {
        stored.sequence: Beside(_read(stored, verdict_id), purged_at is not None and not stored.note)
        for stored, verdict_id, purged_at in session.execute(query)
    }


def is_as_entered(beside: Beside, content: dict[str, Any]) -> bool:
    """Whether a decision is the one that its row says.

    Args:
        beside: as the desk has it.
        content: of the row, of kind `review`.
    """
    try:
        entered = ReviewDecision.model_validate(content["review"])
    except ValidationError:
        return False
    if beside.is_purged:
        entered = entered.model_copy(update={"note_sha256": None})
    return beside.decision == entered


def _read(stored: StoredDecision, verdict_id: str | None) -> ReviewDecision | None:
    try:
        return record_of(stored, verdict_id or "")
    except (ValidationError, TypeError, ValueError, AttributeError):  # whatever was written in their place
        return None
