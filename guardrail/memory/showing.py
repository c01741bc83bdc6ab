"""One case, with all that one actor may know of it; its picture, its verdict, and what was decided on the same work."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from guardrail.errors import LedgerBroken
from guardrail.memory.appending import LedgerRow, row_of
from guardrail.memory.asking import COLUMNS, group_of, rows_of
from guardrail.memory.entering import decisions_on, record_of
from guardrail.memory.finding import labelled
from guardrail.memory.opening import fact_value
from guardrail.memory.pictures import Pictures
from guardrail.memory.review_rights import case_of, decided_first, require_reading
from guardrail.memory.review_shapes import (
    AppealShown,
    CaseDetails,
    DecisionShown,
    HeldCase,
    SightingShown,
    WorkHistory,
)
from guardrail.memory.review_tables import Account, Appeal, StoredDecision
from guardrail.memory.tables import Case, Sighting, StoredRow
from guardrail.records import Actor, CaseRow, GenerationContext, Verdict
from guardrail.review_errors import CaseMissing, PictureMissing

__all__ = [
    "case_of_verdict",
    "details",
    "held_case",
    "history_of_work",
    "let_out_by",
    "picture_of",
    "verdict_at",
    "verdict_of",
]

_ALIKE_AT_MOST = 200  # other cases of a group that a page shows
_ID_LETTERS = 64  # more than any id of ours has


def details(session: Session, actor: Actor, case_id: int, now: datetime) -> CaseDetails:
    """One case; see `Reviews.case`."""
    require_reading(actor)
    case = case_of(session, actor, case_id)
    if case.state == "erased":
        raise CaseMissing(case_id)
    (row,) = _rows(session, actor, now, [case.case_id])
    is_blind = case.state == "second" and not decided_first(session, actor, [case])
    stored = [] if is_blind else decisions_on(session, [case_id])[case_id]
    until = case.lease_until if case.lease_until and datetime.fromisoformat(case.lease_until) > now else None
    return CaseDetails(
        row=row,
        verdict=verdict_at(session, case),
        context=_context(case),
        decisions=_shown(session, stored, case.verdict_id),
        alike=_alike(session, actor, case, now),
        sightings=_sightings(session, case_id),
        appeals=_appeals(session, case_id),
        lease_until=datetime.fromisoformat(until) if until else None,
        released_by=case.released_by,
        has_picture=bool(case.picture_sha256 or case.png),
    )


def picture_of(case: Case, pictures: Pictures) -> bytes:
    """The picture of a case, PNG.

    Raises:
        PictureMissing: it is not kept, or not any more.
    """
    if case.picture_sha256 is not None:
        return pictures.get(case.picture_sha256)
    if case.png:
        return case.png
    why = "it was deleted, as the settings say" if case.purged_at else "it was erased"
    raise PictureMissing(f"case {case.case_id}", why)


def verdict_at(session: Session, case: Case) -> Verdict:
    """The verdict of a case, from its row in the ledger.

    Raises:
        LedgerBroken: the row is not there, or was edited.
    """
    stored = session.get(StoredRow, case.sequence)
    if stored is None:
        raise LedgerBroken(case.sequence, "no row", f"the verdict of case {case.case_id}")
    return _read(row_of(stored))


def verdict_of(session: Session, actor: Actor, verdict_id: str) -> Verdict:
    """A verdict of the actor's organisation; see `Reviews.verdict`."""
    require_reading(actor)
    if len(verdict_id) > _ID_LETTERS or not verdict_id.isalnum():
        raise CaseMissing(verdict_id[:_ID_LETTERS])
    for row in labelled(session, [f"v:{verdict_id}"], ("verdict",)):
        if row.erased or row.content.get("organisation", "default") != actor.organisation:
            continue
        verdict = _read(row)
        if verdict.verdict_id == verdict_id:
            return verdict
    raise CaseMissing(verdict_id)


def held_case(session: Session, pictures: Pictures, organisation: str, case_id: int) -> HeldCase:
    """What a release needs of a case; see `Reviews.held`."""
    case = session.get(Case, case_id)
    if case is None or case.organisation != organisation or case.state == "erased":
        raise CaseMissing(case_id)
    by = session.get(StoredDecision, case.released_by) if case.released_by else None
    decision = record_of(by, case.verdict_id) if by is not None else None
    return HeldCase(picture_of(case, pictures), verdict_at(session, case), _context(case), decision)


def case_of_verdict(session: Session, organisation: str, verdict_id: str) -> int | None:
    """The case of a verdict; see `Reviews.case_of_verdict`."""
    seen = select(Sighting.case_id).where(Sighting.verdict_id == verdict_id)
    query = select(Case.case_id).where(Case.organisation == organisation)
    return session.scalar(query.where(or_(Case.verdict_id == verdict_id, Case.case_id.in_(seen))))


def let_out_by(session: Session, organisation: str, case_id: int) -> str | None:
    """The decision that lets a case's image out; see `Reviews.let_out_by`."""
    case = session.get(Case, case_id)
    if case is None or case.organisation != organisation or case.state == "erased":
        return None
    return case.released_by


def history_of_work(
    session: Session, actor: Actor, bank: str, work_id: str, now: datetime, limit: int
) -> tuple[WorkHistory, ...]:
    """What was decided on a work; see `Reviews.history_of_work`."""
    require_reading(actor)
    query = (
        select(Case.case_id, Case.verdict_id)
        .where(
            Case.organisation == actor.organisation,
            Case.nearest_work == fact_value(f"{bank}/{work_id}"),
            Case.state == "decided",
        )
        .order_by(Case.decided_at.desc(), Case.case_id.desc())
        .limit(limit)
    )
    found = session.execute(query).all()
    case_ids = [one.case_id for one in found]
    rows = {row.case_id: row for row in _rows(session, actor, now, case_ids)}
    stored = decisions_on(session, case_ids)
    return tuple(WorkHistory(rows[one.case_id], _shown(session, stored[one.case_id], one.verdict_id)) for one in found)


def _rows(session: Session, actor: Actor, now: datetime, case_ids: Iterable[int]) -> tuple[CaseRow, ...]:
    query = select(*COLUMNS).where(Case.case_id.in_(list(case_ids)), Case.organisation == actor.organisation)
    ordered = query.order_by(Case.band.desc(), Case.opened_at, Case.case_id)
    return rows_of(session, actor, session.execute(ordered).all(), now)


def _alike(session: Session, actor: Actor, case: Case, now: datetime) -> tuple[CaseRow, ...]:
    if case.group_id is None:
        return ()
    query = (
        select(*COLUMNS)
        .where(
            Case.organisation == actor.organisation,
            group_of() == case.group_id,
            Case.case_id != case.case_id,
            Case.state != "erased",
        )
        .order_by(Case.band.desc(), Case.opened_at, Case.case_id)
        .limit(_ALIKE_AT_MOST)
    )
    return rows_of(session, actor, session.execute(query).all(), now)


def _shown(session: Session, stored: Sequence[StoredDecision], verdict_id: str) -> tuple[DecisionShown, ...]:
    names = _names(session, [one.account_id for one in stored])
    undone = {one.undoes for one in stored}
    return tuple(
        DecisionShown(record_of(one, verdict_id), names.get(one.account_id, ""), one.note, one.decision_id in undone)
        for one in stored
    )


def _names(session: Session, account_ids: Iterable[str]) -> dict[str, str]:
    query = select(Account.account_id, Account.name).where(Account.account_id.in_(set(account_ids)))
    return dict(session.execute(query).all())


def _sightings(session: Session, case_id: int) -> tuple[SightingShown, ...]:
    query = select(Sighting).where(Sighting.case_id == case_id).order_by(Sighting.sequence)
    return tuple(SightingShown(one.verdict_id, datetime.fromisoformat(one.at)) for one in session.scalars(query))


def _appeals(session: Session, case_id: int) -> tuple[AppealShown, ...]:
    found = list(session.scalars(select(Appeal).where(Appeal.case_id == case_id).order_by(Appeal.at)))
    names = _names(session, [one.account_id for one in found])
    return tuple(
        AppealShown(
            one.account_id, names.get(one.account_id, ""), one.note, datetime.fromisoformat(one.at), one.answered_by
        )
        for one in found
    )


def _context(case: Case) -> GenerationContext | None:
    return GenerationContext.model_validate(case.context) if case.context is not None else None


def _read(row: LedgerRow) -> Verdict:
    """The verdict that a row holds.

    Raises:
        LedgerBroken: it is none, or was erased.
    """
    try:
        return Verdict.model_validate(row.content["verdict"])
    except (KeyError, ValidationError) as error:
        raise LedgerBroken(row.sequence, "no verdict that can be read", "that of a case") from error
