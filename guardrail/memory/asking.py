"""A filter in, the conditions on cases out, as one actor may know them; and rows of the queue out of stored ones."""

import base64
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from guardrail.memory.audit import at_of
from guardrail.memory.opening import fact_value
from guardrail.memory.review_tables import CaseFact, StoredDecision
from guardrail.memory.tables import Case
from guardrail.records import Actor, CaseFilter, CaseRow, Decision
from guardrail.review_errors import QueryInvalid

__all__ = ["COLUMNS", "Cursor", "conditions", "group_of", "rows_of"]

_FACTS = ("bank", "holder", "model", "adapter", "rule", "work")
_STATES = ("open", "second", "disputed", "appealed", "decided")  # that say something; erased ones say nothing any more
_LARGEST = 2**31 - 1  # number that PostgreSQL's INTEGER holds

COLUMNS = (
    Case.case_id,
    Case.group_id,
    Case.seen_times,
    Case.verdict_id,
    Case.state,
    Case.opened_at,
    Case.rule,
    Case.judged,
    Case.severity,
    Case.band,
    Case.image,
    Case.nearest_work,
    Case.nearest_title,
    Case.nearest_bank,
    Case.nearest_holder,
    Case.lease_account,
    Case.lease_until,
    Case.outcome,
    Case.settled_by,
    Case.sensitive,
    Case.revision,
)
"""What a row of the queue needs of a case: no picture and no prompts."""


class Cursor(NamedTuple):
    """The last row of a page: its band, when it was opened, its number."""

    band: int
    opened_at: str
    case_id: int

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """A cursor of ours.

        Raises:
            QueryInvalid: it is none.
        """
        wrong = QueryInvalid("page of the queue", f"a cursor of {len(text)} letters", "one that a page gave")
        try:
            band, opened_at, case_id = json.loads(base64.urlsafe_b64decode(text.encode()))
            datetime.fromisoformat(opened_at)
        except (ValueError, TypeError, RecursionError) as error:
            raise wrong from error
        if not all(type(one) is int and 0 <= one <= _LARGEST for one in (band, case_id)):
            raise wrong
        return cls(band, opened_at, case_id)

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(json.dumps(list(self)).encode()).decode()

    def comes_after(self, columns: Any) -> ColumnElement[bool]:
        """The condition for what follows it: less severe, else younger, else of a higher number."""
        same_band = and_(
            columns.band == self.band,
            or_(
                columns.opened_at > self.opened_at,
                and_(columns.opened_at == self.opened_at, columns.case_id > self.case_id),
            ),
        )
        return or_(columns.band < self.band, same_band)


def group_of() -> ColumnElement[int]:
    """The group of a case; one that has none is a group of its own."""
    return func.coalesce(Case.group_id, Case.case_id)


def conditions(actor: Actor, asked: CaseFilter, now: datetime) -> list[ColumnElement[bool]]:
    """What must hold of cases that a filter asks for.

    Raises:
        QueryInvalid: a filter that cannot be followed.
    """
    found: list[ColumnElement[bool]] = [Case.organisation == actor.organisation, _in_states(actor, asked)]
    for name in _FACTS:
        if value := getattr(asked, name):
            having = select(CaseFact.case_id).where(
                CaseFact.organisation == actor.organisation, CaseFact.name == name, CaseFact.value == fact_value(value)
            )
            found.append(Case.case_id.in_(having))
    if asked.older_than_h is not None:
        found.append(Case.opened_at <= at_of(_earlier(now, asked.older_than_h)))
    if asked.mine:
        found.append(or_(_leased_to(actor, now), _decided_by(actor)))
    return found


def _earlier(now: datetime, hours: float) -> datetime:
    try:
        return now - timedelta(hours=hours)
    except OverflowError as error:
        raise QueryInvalid("older_than_h", f"{hours:g} hours", "an age that a calendar reaches") from error


def _in_states(actor: Actor, asked: CaseFilter) -> ColumnElement[bool]:
    """Cases in these states as the actor sees them: one that waits for a blind second look is open to all others."""
    wanted = set(asked.states or _STATES)
    plain = wanted - {"open", "second"}
    mine_first = exists().where(
        StoredDecision.decision_id == Case.settled_by, StoredDecision.account_id == actor.account_id
    )
    kinds: list[ColumnElement[bool]] = [Case.state.in_(sorted(plain))] if plain else []
    if wanted >= {"open", "second"}:
        kinds.append(Case.state.in_(("open", "second")))
    elif "open" in wanted:
        kinds += [Case.state == "open", and_(Case.state == "second", ~mine_first)]
    elif "second" in wanted:
        kinds.append(and_(Case.state == "second", mine_first))
    among = {*plain, *({"open", "second"} if wanted & {"open", "second"} else ())}
    return and_(Case.state.in_(sorted(among)), or_(*kinds))


def _leased_to(actor: Actor, now: datetime) -> ColumnElement[bool]:
    return and_(Case.lease_account == actor.account_id, Case.lease_until > at_of(now))


def _decided_by(actor: Actor) -> ColumnElement[bool]:
    return Case.case_id.in_(
        select(StoredDecision.case_id).where(
            StoredDecision.organisation == actor.organisation,
            StoredDecision.account_id == actor.account_id,
            StoredDecision.undoes.is_(None),
        )
    )


# --- rows ------------------------------------------------------------------------------------------------


def rows_of(
    session: Session, actor: Actor, stored: Sequence[Row[*tuple[Any, ...]]], now: datetime, alike: Sequence[int] = ()
) -> tuple[CaseRow, ...]:
    """Rows as the actor may see them.

    Args:
        session: to look up their facts in.
        actor: who asks.
        stored: what was selected by `COLUMNS`.
        now: leases that ended before are none.
        alike: for each, how many cases it stands for; empty: itself alone.
    """
    facts = _run_facts(session, [one.case_id for one in stored])
    mine = _mine_first(session, actor, stored)
    shown = []
    for one, count in zip(stored, alike or [1] * len(stored), strict=True):
        is_hidden = one.state == "second" and one.case_id not in mine
        has_other = one.lease_account not in {None, actor.account_id} and (one.lease_until or "") > at_of(now)
        run = facts.get(one.case_id, {})
        shown.append(
            CaseRow(
                case_id=one.case_id,
                group_id=one.group_id or one.case_id,
                alike=count,
                seen_times=one.seen_times,
                verdict_id=one.verdict_id,
                state="open" if is_hidden else one.state,
                opened_at=datetime.fromisoformat(one.opened_at),
                rule=one.rule,
                decision=Decision(one.judged),
                severity=one.severity,
                image=one.image,
                nearest_work=one.nearest_work,
                nearest_title=one.nearest_title,
                bank=one.nearest_bank,
                holder=one.nearest_holder,
                model=next(iter(run.get("model", ())), ""),
                adapters=tuple(run.get("adapter", ())),
                leased_to=one.lease_account if has_other else None,
                outcome=one.outcome,
                sensitive=one.sensitive,
                revision=one.revision - 1 if is_hidden else one.revision,  # the hidden decision counts for nothing
            )
        )
    return tuple(shown)


def _run_facts(session: Session, case_ids: Iterable[int]) -> dict[int, dict[str, list[str]]]:
    query = (
        select(CaseFact.case_id, CaseFact.name, CaseFact.value)
        .where(CaseFact.case_id.in_(list(case_ids)), CaseFact.name.in_(("model", "adapter")))
        .order_by(CaseFact.value)
    )
    found: dict[int, dict[str, list[str]]] = {}
    for case_id, name, value in session.execute(query):
        found.setdefault(case_id, {}).setdefault(name, []).append(value)
    return found


def _mine_first(session: Session, actor: Actor, stored: Sequence[Row[*tuple[Any, ...]]]) -> set[int]:
    resting = {one.settled_by: one.case_id for one in stored if one.state == "second"}
    if not resting:
        return set()
    query = select(StoredDecision.decision_id).where(
        StoredDecision.decision_id.in_(list(resting)), StoredDecision.account_id == actor.account_id
    )
    return {resting[one] for one in session.scalars(query)}
