"""Cases that wait, in their order: pages of them, what they can be filtered by, and who has which one."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import get_args

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from guardrail.memory.asking import COLUMNS, Cursor, conditions, group_of, rows_of
from guardrail.memory.audit import at_of
from guardrail.memory.review_rights import UNDECIDED, case_of, decided_first, require_deciding
from guardrail.memory.review_shapes import CasePage, Waiting
from guardrail.memory.review_tables import CaseFact, StoredDecision
from guardrail.memory.tables import Case
from guardrail.records import Actor, CaseFilter, CaseRow, CaseState
from guardrail.review_errors import CaseTaken, QueryInvalid

__all__ = ["counts", "facets", "free_until", "give_back", "lease", "next_case", "page", "waiting"]

_ROWS_AT_MOST = 200  # of one page
_VALUES_AT_MOST = 200  # of one filter's menu, those of most cases
_FACTS = ("bank", "holder", "model", "adapter", "rule", "work")


def page(
    session: Session, actor: Actor, asked: CaseFilter, now: datetime, *, after: str = "", limit: int = 50
) -> CasePage:
    """A page of the queue; see `Reviews.queue`."""
    if not 1 <= limit <= _ROWS_AT_MOST:
        raise QueryInvalid("page of the queue", f"{limit} rows", f"1 to {_ROWS_AT_MOST}")
    where = conditions(actor, asked, now)
    cursor = Cursor.parse(after) if after else None
    total = select(func.count(group_of().distinct()) if asked.grouped else func.count()).select_from(Case).where(*where)
    if asked.grouped:
        order = (Case.band.desc(), Case.opened_at, Case.case_id)
        place = func.row_number().over(partition_by=group_of(), order_by=order).label("place")
        alike = func.count().over(partition_by=group_of()).label("alike")
        columns = (Case.case_id, Case.band, Case.opened_at, place, alike)
        matching = select(*columns).where(*where).subquery()
        query = (
            select(*COLUMNS, matching.c.alike)
            .join(matching, and_(matching.c.case_id == Case.case_id, matching.c.place == 1))
            .order_by(matching.c.band.desc(), matching.c.opened_at, matching.c.case_id)
        )
        if cursor is not None:
            query = query.where(cursor.comes_after(matching.c))
    else:
        query = select(*COLUMNS).where(*where).order_by(Case.band.desc(), Case.opened_at, Case.case_id)
        if cursor is not None:
            query = query.where(cursor.comes_after(Case))
    found = session.execute(query.limit(limit + 1)).all()
    shown = found[:limit]
    rows = rows_of(session, actor, shown, now, [one.alike for one in shown] if asked.grouped else ())
    last = shown[-1] if len(found) > limit else None
    following = str(Cursor(last.band, last.opened_at, last.case_id)) if last is not None else ""
    return CasePage(rows, following, session.scalar(total) or 0)


def facets(session: Session, actor: Actor) -> dict[str, tuple[str, ...]]:
    """What the organisation's cases can be filtered by, sorted; see `Reviews.facets`."""
    found = {}
    for name in _FACTS:
        query = (
            select(CaseFact.value)
            .where(CaseFact.organisation == actor.organisation, CaseFact.name == name)
            .group_by(CaseFact.value)
            .order_by(func.count().desc(), CaseFact.value)
            .limit(_VALUES_AT_MOST)
        )
        found[name] = tuple(sorted(session.scalars(query)))
    return found


def counts(session: Session, actor: Actor) -> dict[CaseState, int]:
    """How many cases are in each state, as the actor sees them."""
    query = select(Case.state, func.count()).where(Case.organisation == actor.organisation).group_by(Case.state)
    found: dict[CaseState, int] = dict.fromkeys(get_args(CaseState), 0)
    found |= dict(session.execute(query).all())  # type: ignore[arg-type]  # the table's own states
    mine = (
        select(func.count())
        .select_from(Case)
        .join(StoredDecision, StoredDecision.decision_id == Case.settled_by)
        .where(
            Case.organisation == actor.organisation,
            Case.state == "second",
            StoredDecision.account_id == actor.account_id,
        )
    )
    first = session.scalar(mine) or 0
    found["open"] += found["second"] - first
    found["second"] = first
    return found


def waiting(session: Session, organisation: str) -> Waiting:
    """How many cases wait in truth, and since when."""
    among = (Case.organisation == organisation, Case.state.in_(UNDECIDED))
    query = select(Case.state, func.count(), func.min(Case.opened_at)).where(*among).group_by(Case.state)
    found = session.execute(query).all()
    undecided = dict.fromkeys(UNDECIDED, 0) | {state: count for state, count, _ in found}
    oldest = min((at for _, _, at in found), default=None)
    return Waiting(undecided, datetime.fromisoformat(oldest) if oldest is not None else None)


# --- leases ----------------------------------------------------------------------------------------------


def free_until(case: Case, actor: Actor, now: datetime) -> str | None:
    """Until when somebody else has a case; None where the actor may take it."""
    if case.lease_account in {None, actor.account_id} or case.lease_until is None or case.lease_until <= at_of(now):
        return None
    return case.lease_until


def lease(session: Session, actor: Actor, case_id: int, now: datetime, minutes: float) -> datetime:
    """Take a case, or keep it for longer; see `Reviews.lease`."""
    require_deciding(actor, "taking a case")
    case = case_of(session, actor, case_id)
    if case.state not in UNDECIDED or decided_first(session, actor, [case]):
        raise CaseTaken(case_id, "it was decided")
    if (until := free_until(case, actor, now)) is not None:
        raise CaseTaken(case_id, f"somebody else has it until {until[:16]} UTC")
    return _take(case, actor, now, minutes)


def give_back(session: Session, actor: Actor, case_id: int) -> None:
    """Let go of a case that the actor has; of another's nothing happens."""
    require_deciding(actor, "giving a case back")
    case = case_of(session, actor, case_id)
    if case.lease_account == actor.account_id:
        case.lease_account, case.lease_until = None, None


def next_case(
    session: Session, actor: Actor, asked: CaseFilter, now: datetime, minutes: float, skip: Collection[int] = ()
) -> CaseRow | None:
    """Take the first case that the actor may decide; see `Reviews.next_case`."""
    require_deciding(actor, "taking a case")
    free = or_(Case.lease_account.is_(None), Case.lease_account == actor.account_id, Case.lease_until <= at_of(now))
    where = [*conditions(actor, asked, now), Case.state.in_(UNDECIDED), free, ~_knows(actor)]
    if actor.role in {"viewer", "reviewer"}:
        where.append(Case.state.in_(("open", "second")))
    if skip:
        where.append(Case.case_id.not_in(list(skip)))
    if asked.grouped:
        where.append(group_of().not_in(_groups_of_others(actor, now)))
    order = (Case.band.desc(), Case.opened_at, Case.case_id)
    case_id = session.scalar(select(Case.case_id).where(*where).order_by(*order).limit(1))
    if case_id is None:
        return None
    _take(case_of(session, actor, case_id), actor, now, minutes)
    session.flush()
    stored = session.execute(select(*COLUMNS).where(Case.case_id == case_id)).all()
    return rows_of(session, actor, stored, now)[0]


def _take(case: Case, actor: Actor, now: datetime, minutes: float) -> datetime:
    until = now + timedelta(minutes=minutes)
    case.lease_account, case.lease_until = actor.account_id, at_of(until)
    return until


def _knows(actor: Actor) -> ColumnElement[bool]:
    """Cases on which the actor took a decision that stands: they are not asked again."""
    back = aliased(StoredDecision)
    undone = select(back.undoes).where(back.case_id == StoredDecision.case_id, back.undoes.is_not(None))
    return Case.case_id.in_(
        select(StoredDecision.case_id).where(
            StoredDecision.organisation == actor.organisation,
            StoredDecision.account_id == actor.account_id,
            StoredDecision.undoes.is_(None),
            StoredDecision.decision_id.not_in(undone),
        )
    )


def _groups_of_others(actor: Actor, now: datetime) -> Select[int]:
    """Groups of which somebody else has a case right now: one decision may serve all of it."""
    return select(group_of()).where(
        Case.organisation == actor.organisation,
        Case.lease_account != actor.account_id,
        Case.lease_until > at_of(now),
    )
