"""Who looked at what, and did what: appended in the transaction of what was done, never changed or deleted."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, String, cast, literal, select
from sqlalchemy.orm import Session

from guardrail.memory.database import Database
from guardrail.memory.review_tables import AuditEvent, StoredDecision
from guardrail.memory.tables import Case
from guardrail.records import Actor

__all__ = ["Audit", "AuditFilter", "AuditShown", "add_event", "at_of"]

_TARGET_LETTERS = 256  # as the table holds
_ACTION_LETTERS = 64
_ADDRESS_LETTERS = 64
_ROWS_AT_A_TIME = 500
_DECIDING = ("case.decided", "case.undone")  # actions that tell of decisions
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # cells that spreadsheets would run begin so
_COLUMNS = ("event_id", "at", "account_id", "token_id", "action", "target", "details", "address")


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events of an organisation; what is empty says nothing.

    Attributes:
        account_id: whose.
        action: the whole action, or the part before its point (`case` for `case.seen`).
        target: what it was about, from its beginning.
        since: ISO 8601 day or time; that and later.
        until: ISO 8601 day or time; before that.
    """

    account_id: str = ""
    action: str = ""
    target: str = ""
    since: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class AuditShown:
    """One event. `at` is ISO 8601 in UTC; `details` hold no secret, no prompt and no note."""

    event_id: int
    at: str
    account_id: str | None
    token_id: str | None
    action: str
    target: str
    details: dict[str, Any]
    address: str


def at_of(moment: datetime) -> str:
    """A time as the tables hold it: ISO 8601, UTC, microseconds, so that text sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def add_event(
    session: Session,
    actor: Actor | str,
    action: str,
    target: str = "",
    details: Mapping[str, Any] | None = None,
    address: str = "",
) -> None:
    """Append an event in a transaction that writes.

    Args:
        session: of the transaction.
        actor: who acts; or an organisation, where nobody signed in yet.
        action: `thing.done`, lower case: `case.seen`, `account.invited`.
        target: what it is about: `case 7`, an id.
        details: JSON; no secret, no prompt, no note.
        address: where the request came from.
    """
    known = actor if isinstance(actor, Actor) else None
    session.add(
        AuditEvent(
            at=at_of(datetime.now(UTC)),
            organisation=actor if isinstance(actor, str) else actor.organisation,
            account_id=known.account_id if known else None,
            token_id=known.token_id if known else None,
            action=action[:_ACTION_LETTERS],
            target=target[:_TARGET_LETTERS],
            details=dict(details or {}),
            address=address[:_ADDRESS_LETTERS],
        )
    )


_UNDONE = select(StoredDecision.undoes).where(StoredDecision.undoes.is_not(None))


class Audit:
    """The audit of one memory; every organisation sees its own events alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(
        self,
        actor: Actor | str,
        action: str,
        target: str = "",
        details: Mapping[str, Any] | None = None,
        address: str = "",
    ) -> None:
        """Append an event, in a transaction of its own; arguments as `add_event`.

        Raises:
            MemoryUnwritable: it was not noted; what was asked for must not be shown or done then.
        """
        with self._database.writing() as (session, _):
            add_event(session, actor, action, target, details, address)

    def note_once(
        self,
        actor: Actor,
        action: str,
        target: str,
        details: Mapping[str, Any] | None = None,
        address: str = "",
    ) -> None:
        """Append an event unless the same actor did the same to the same thing before: for what programs ask again.

        Args:
            actor: who acts; the same person by another token, or without one, is noted on their own.
            action: as `add_event`.
            target: as `add_event`, as whole as the table holds it.
            details: as `add_event`.
            address: as `add_event`.

        Raises:
            MemoryUnwritable: it was not noted; what was asked for must not be shown or done then.
        """
        whose = (AuditEvent.organisation == actor.organisation, AuditEvent.account_id == actor.account_id)
        what = (AuditEvent.action == action, AuditEvent.target == target, AuditEvent.token_id == actor.token_id)
        there = select(AuditEvent.event_id).where(*whose, *what).limit(1)  # `== None` is IS NULL: without a token
        with self._database.reading() as session:
            if session.scalar(there) is not None:
                return
        with self._database.writing() as (session, _):
            if session.scalar(there) is None:
                add_event(session, actor, action, target, details, address)

    def page(
        self, actor: Actor, asked: AuditFilter, *, before: int | None = None, limit: int = 100
    ) -> tuple[AuditShown, ...]:
        """Events of the actor's organisation, latest first.

        Args:
            actor: who asks.
            asked: which events.
            before: the last event of the page before; None for the first page.
            limit: at most so many.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        query = _asked(actor, asked).order_by(AuditEvent.event_id.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditEvent.event_id < before)
        with self._database.reading() as session:
            return tuple(_shown(event) for event in session.scalars(query))

    def actions(self, actor: Actor) -> tuple[str, ...]:
        """What was done in the actor's organisation, as far as they may see it, each once, sorted."""
        query = _asked(actor, AuditFilter()).with_only_columns(AuditEvent.action).distinct()
        with self._database.reading() as session:
            return tuple(sorted(session.scalars(query)))

    def csv(self, actor: Actor, asked: AuditFilter, named: Callable[[str], str] = str) -> Iterator[str]:
        """All events that are asked for, oldest first, as lines of CSV with a head.

        Cells that a spreadsheet would run as a formula begin with an apostrophe.

        Args:
            actor: who asks.
            asked: which events.
            named: the name of an account.
        """
        yield _line([*_COLUMNS[:3], "account", *_COLUMNS[3:]])
        after = 0
        while rows := self._after(actor, asked, after):
            for one in rows:
                cells = [getattr(one, name) for name in _COLUMNS]
                yield _line([*cells[:3], named(one.account_id or ""), *cells[3:]])
            after = rows[-1].event_id

    def _after(self, actor: Actor, asked: AuditFilter, after: int) -> list[AuditShown]:
        query = _asked(actor, asked).where(AuditEvent.event_id > after).order_by(AuditEvent.event_id)
        with self._database.reading() as session:
            return [_shown(event) for event in session.scalars(query.limit(_ROWS_AT_A_TIME))]


def _hidden_cases(actor: Actor) -> Select[str]:
    """Cases that wait for a second look which must not know the first: the events of that are shown afterwards."""
    took_part = select(StoredDecision.case_id).where(
        StoredDecision.account_id == actor.account_id, StoredDecision.decision_id.not_in(_UNDONE)
    )
    return select(literal("case ") + cast(Case.case_id, String)).where(
        Case.organisation == actor.organisation, Case.state == "second", Case.case_id.not_in(took_part)
    )


def _asked(actor: Actor, asked: AuditFilter) -> Select[AuditEvent]:
    own = AuditEvent.account_id == actor.account_id
    open_to_all = AuditEvent.action.not_in(_DECIDING) | AuditEvent.target.not_in(_hidden_cases(actor))
    query = select(AuditEvent).where(AuditEvent.organisation == actor.organisation, own | open_to_all)
    if asked.account_id:
        query = query.where(AuditEvent.account_id == asked.account_id)
    if asked.action:
        inside = AuditEvent.action.startswith(asked.action + ".", autoescape=True)
        query = query.where((AuditEvent.action == asked.action) | inside)
    if asked.target:
        query = query.where(AuditEvent.target.startswith(asked.target, autoescape=True))
    if asked.since:
        query = query.where(AuditEvent.at >= asked.since)
    if asked.until:
        query = query.where(AuditEvent.at < asked.until)
    return query


def _shown(event: AuditEvent) -> AuditShown:
    return AuditShown(
        event_id=event.event_id,
        at=event.at,
        account_id=event.account_id,
        token_id=event.token_id,
        action=event.action,
        target=event.target,
        details=event.details,
        address=event.address,
    )


def _line(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([_cell(one) for one in cells])
    return text.getvalue()


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
