"""Decisions in; their rows in the ledger and beside it, the new states, and the jobs that follow: one transaction."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from guardrail.memory import jobs, webhooks
from guardrail.memory.appending import append
from guardrail.memory.audit import at_of
from guardrail.memory.review_tables import Appeal, StoredDecision
from guardrail.memory.standing import standing_decisions, standing_of
from guardrail.memory.tables import Case, LedgerState
from guardrail.records import ReviewAnswers, ReviewDecision

__all__ = ["Draft", "decisions_on", "enter", "new_decision_id", "note_sha256", "record_of", "settle"]

_REOPENED = frozenset({"open", "second", "disputed", "appealed"})


class Draft(NamedTuple):
    """A decision that is about to be entered, its note, and whether a second person is asked before it counts."""

    decision: ReviewDecision
    note: str = ""
    asks_second: bool = False


def new_decision_id() -> str:
    """An id that no decision has."""
    return uuid4().hex


def note_sha256(note: str) -> str | None:
    """The digest of a note, which is all that the ledger has of it; None of none."""
    return hashlib.sha256(note.encode()).hexdigest() if note else None


def enter(session: Session, state: LedgerState, drafts: Sequence[Draft]) -> None:
    """Append decisions to the ledger and to their cases, in the transaction of the only writer; `settle` follows.

    Raises:
        MemoryUnwritable: the ledger has other rows than its tree.
    """
    contents = [{"review": draft.decision.model_dump(mode="json")} for draft in drafts]
    sequences = append(session, state, "review", contents)
    for draft, sequence in zip(drafts, sequences, strict=True):
        one = draft.decision
        session.add(
            StoredDecision(
                decision_id=one.decision_id,
                case_id=one.case_id,
                organisation=one.organisation,
                account_id=one.account_id,
                round=one.round,
                outcome=one.outcome,
                reasons=list(one.reasons),
                answers=one.answers.model_dump(mode="json"),
                note=draft.note,
                asks_second=draft.asks_second,
                undoes=one.undoes,
                repeats=one.repeats,
                batch_id=one.batch_id,
                sequence=sequence,
                at=at_of(one.at),
            )
        )
    session.flush()


def settle(session: Session, cases: Sequence[Case], account_id: str) -> None:
    """Bring cases to where their decisions leave them, with the jobs and events that follow from it.

    Args:
        session: of a transaction that writes, in which the decisions are.
        cases: as they were before.
        account_id: on whose behalf.
    """
    by_case = decisions_on(session, [case.case_id for case in cases])
    waiting = select(Appeal.case_id).where(Appeal.case_id.in_(list(by_case)), Appeal.answered_by.is_(None))
    appealed = set(session.scalars(waiting))
    for case in cases:
        stored = by_case[case.case_id]
        now = standing_of(standing_decisions(stored), is_appealed=case.case_id in appealed)
        let_out_before, was = case.released_by, case.state
        case.state, case.outcome, case.decided_at = now.state, now.outcome, now.decided_at
        case.settled_by, case.released_by = now.settled_by, now.released_by
        case.lease_account, case.lease_until = None, None
        case.revision += 1
        if case.state != "second" and any("sensitive" in one.reasons for one in stored):  # a hidden one tells nothing
            _mark_sensitive(session, case)
        _follow(session, case, let_out_before, account_id)
        _tell(session, case, was)
    session.flush()


def _mark_sensitive(session: Session, case: Case) -> None:
    """Blur the whole group from now on: its pictures are nearly the same."""
    same = Case.case_id == case.case_id if case.group_id is None else Case.group_id == case.group_id
    session.execute(update(Case).where(same, Case.organisation == case.organisation).values(sensitive=True))


def _follow(session: Session, case: Case, let_out_before: str | None, account_id: str) -> None:
    """Enter the jobs that take back what was let out, and let out what is to be."""
    if case.released_by == let_out_before:
        return
    for kind, decision_id in (("undo", let_out_before), ("release", case.released_by)):
        if decision_id is not None:
            asked = {"case_id": case.case_id, "decision_id": decision_id}
            jobs.enqueue(session, case.organisation, kind, asked, account_id=account_id)


def _tell(session: Session, case: Case, was: str) -> None:
    """Enter the events that webhooks are told of; nobody is told that a second person is being asked."""
    told = {"case_id": case.case_id, "verdict_id": case.verdict_id, "state": case.state, "outcome": case.outcome}
    if case.state == "decided":
        webhooks.enqueue(session, case.organisation, "case.decided", told)
    elif was in {"decided", "appealed"} and case.state in _REOPENED:
        told["state"] = "open" if case.state == "second" else case.state
        webhooks.enqueue(session, case.organisation, "case.reopened", told)


def decisions_on(session: Session, case_ids: Iterable[int]) -> dict[int, list[StoredDecision]]:
    """All decisions on cases, taken back or not, oldest first."""
    found: dict[int, list[StoredDecision]] = {one: [] for one in case_ids}
    query = select(StoredDecision).where(StoredDecision.case_id.in_(list(found)))
    for one in session.scalars(query.order_by(StoredDecision.sequence)):
        found[one.case_id].append(one)
    return found


def record_of(stored: StoredDecision, verdict_id: str) -> ReviewDecision:
    """A decision as a record."""
    return ReviewDecision.model_validate(
        {
            "decision_id": stored.decision_id,
            "case_id": stored.case_id,
            "verdict_id": verdict_id,
            "organisation": stored.organisation,
            "account_id": stored.account_id,
            "round": stored.round,
            "outcome": stored.outcome,
            "reasons": tuple(stored.reasons),
            "answers": ReviewAnswers.model_validate(stored.answers),
            "note_sha256": note_sha256(stored.note),
            "undoes": stored.undoes,
            "repeats": stored.repeats,
            "batch_id": stored.batch_id,
            "at": datetime.fromisoformat(stored.at),
        }
    )
