"""Decisions taken back: each by a row of its own, and whatever was decided again because of it with it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from guardrail.memory.accounts_shapes import at_least
from guardrail.memory.entering import Draft, decisions_on, enter, new_decision_id, record_of, settle
from guardrail.memory.review_rights import require_deciding
from guardrail.memory.review_shapes import Decided
from guardrail.memory.review_tables import Appeal, StoredDecision
from guardrail.memory.standing import standing_decisions
from guardrail.memory.tables import Case, LedgerState
from guardrail.records import Actor, ReviewDecision
from guardrail.review_errors import CaseMissing, DecisionRefused, NotAllowed

__all__ = ["undo"]

_ID_LETTERS = 32  # of a decision and of a batch


def undo(session: Session, state: LedgerState, actor: Actor, wanted: str, now: datetime) -> tuple[Decided, ...]:
    """Take back a decision or a batch, all of it or nothing; see `Reviews.undo`."""
    require_deciding(actor, "taking a decision back")
    asked = _asked(session, actor, wanted)
    for one in asked:
        if one.account_id != actor.account_id and not at_least(actor.role, "lead"):
            raise NotAllowed("taking back what somebody else decided", "the role 'lead'")
    case_ids = [one.case_id for one in asked]
    cases = {case.case_id: case for case in session.scalars(select(Case).where(Case.case_id.in_(case_ids)))}
    on = decisions_on(session, case_ids)
    for one in asked:
        if one.round == "second" and any(other.account_id == actor.account_id for other in on[one.case_id]):
            raise DecisionRefused(one.case_id, "a second look by or after one's own", "a lead who decided none of it")
        if (found := _built_on(cases[one.case_id], one, on[one.case_id])) is not None:
            raise DecisionRefused(one.case_id, found, "the last decision on it")
    every = [*asked, *_repeats(session, asked)]
    cases |= {
        case.case_id: case for case in session.scalars(select(Case).where(Case.case_id.in_([o.case_id for o in every])))
    }
    batch_id = uuid4().hex if len(every) > 1 else None
    drafts = [Draft(_taken_back(one, cases[one.case_id], actor, now, batch_id)) for one in every]
    enter(session, state, drafts)
    reopened = [one.decision_id for one in every if one.round == "appeal"]
    session.execute(update(Appeal).where(Appeal.answered_by.in_(reopened)).values(answered_by=None))
    settled = [cases[one.case_id] for one in every]
    settle(session, settled, actor.account_id)
    return tuple(
        Decided(draft.decision, case.state, False)  # type: ignore[arg-type]  # the table's own states
        for draft, case in zip(drafts, settled, strict=True)
    )


def _asked(session: Session, actor: Actor, wanted: str) -> list[StoredDecision]:
    """The decisions that an id means, without those of a batch that were taken back already.

    Raises:
        CaseMissing: there are none in the actor's organisation.
        DecisionRefused: they are takings back themselves, or were all taken back already.
    """
    if not wanted.isalnum() or len(wanted) > _ID_LETTERS:
        raise CaseMissing(wanted[:_ID_LETTERS])
    named = or_(StoredDecision.decision_id == wanted, StoredDecision.batch_id == wanted)
    query = select(StoredDecision).where(named, StoredDecision.organisation == actor.organisation)
    found = list(session.scalars(query.order_by(StoredDecision.sequence)))
    if not found:
        raise CaseMissing(wanted)
    if any(one.undoes is not None for one in found):
        raise DecisionRefused(found[0].case_id, "what takes a decision back", "a decision; decide the case anew")
    ids = [one.decision_id for one in found]
    undone = set(session.scalars(select(StoredDecision.undoes).where(StoredDecision.undoes.in_(ids))))
    standing = [one for one in found if one.decision_id not in undone]
    if not standing:
        raise DecisionRefused(found[0].case_id, "a decision that was taken back already", "one that stands")
    return standing


def _built_on(case: Case, one: StoredDecision, stored: Sequence[StoredDecision]) -> str | None:
    """What was built on a decision, so that it cannot be taken back; None where nothing was."""
    if case.state == "erased":
        return "a case that was erased"
    if standing_decisions(stored)[-1].decision_id != one.decision_id:
        return "a later decision that rests on it"
    return "an appeal that waits for an answer" if case.state == "appealed" else None


def _repeats(session: Session, asked: Sequence[StoredDecision]) -> list[StoredDecision]:
    """The decisions on the very pixels that merely followed these, and on which nothing was built."""
    ids = [one.decision_id for one in asked]
    taken = {one.case_id for one in asked}
    query = select(StoredDecision).where(StoredDecision.repeats.in_(ids), StoredDecision.undoes.is_(None))
    found = [one for one in session.scalars(query.order_by(StoredDecision.sequence)) if one.case_id not in taken]
    on = decisions_on(session, [one.case_id for one in found])
    cases = {
        case.case_id: case for case in session.scalars(select(Case).where(Case.case_id.in_([o.case_id for o in found])))
    }
    standing = {case_id: standing_decisions(stored) for case_id, stored in on.items()}
    return [
        one
        for one in found
        if one in standing[one.case_id] and _built_on(cases[one.case_id], one, on[one.case_id]) is None
    ]


def _taken_back(one: StoredDecision, case: Case, actor: Actor, now: datetime, batch_id: str | None) -> ReviewDecision:
    """The row that takes a decision back."""
    said = {
        "decision_id": new_decision_id(),
        "account_id": actor.account_id,
        "undoes": one.decision_id,
        "repeats": None,
        "batch_id": batch_id,
        "note_sha256": None,
        "at": now,
    }
    return record_of(one, case.verdict_id).model_copy(update=said)
