"""What people changed about the filter itself: limits of banks, works called generic; each with a row in the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from guardrail.memory.appending import append
from guardrail.memory.audit import add_event, at_of
from guardrail.memory.database import Database
from guardrail.memory.review_tables import LimitChange
from guardrail.records import Actor
from guardrail.review_errors import CaseMissing, ChangeRefused, NotAllowed

__all__ = ["ChangeKind", "ChangeShown", "Changes"]

ChangeKind = Literal["limit", "generic"]
_MAY_CHANGE = ("lead", "admin")


@dataclass(frozen=True, slots=True)
class ChangeShown:
    """One change of the filter.

    Attributes:
        change_id: hex of a UUID.
        account_id: who made it.
        kind: `limit` (of a bank) or `generic` (a work that is not protected any more).
        facts: what was changed, and what that rested on; as JSON.
        undoes: the change that this one took back.
        undone: whether another one took it back.
        at: ISO 8601, UTC.
    """

    change_id: str
    account_id: str
    kind: str
    facts: dict[str, Any]
    undoes: str | None
    undone: bool
    at: str


class Changes:
    """The changes of one memory; rows are appended only, and what is taken back is another row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        actor: Actor,
        kind: ChangeKind,
        facts: Mapping[str, Any],
        *,
        undoes: str | None = None,
        change_id: str = "",
        address: str = "",
    ) -> str:
        """Enter a change: its row, its row in the ledger, and the audit; all of them or none.

        Args:
            actor: a lead or an admin who signed in.
            kind: of the change.
            facts: what is changed; JSON. `spared_share` (0..1) is kept in a column of its own.
            undoes: the change that is taken back by it.
            change_id: its id, where that had to be known before; default: a new one.
            address: where the request came from.

        Returns:
            Its id.

        Raises:
            NotAllowed: the actor may not.
            CaseMissing: there is no such change to take back here.
            ChangeRefused: it was taken back already.
            MemoryUnwritable: nothing was entered.
        """
        if actor.role not in _MAY_CHANGE or actor.token_id is not None:
            raise NotAllowed("changing the filter", "a lead who signed in")
        change_id, at = change_id or uuid4().hex, datetime.now(UTC)
        with self._database.writing() as (session, state):
            if undoes is not None:
                _require_standing(session, actor, undoes)
            said = {"kind": kind, "undoes": undoes, "facts": dict(facts)}
            row = {"change_id": change_id, "organisation": actor.organisation, "account_id": actor.account_id}
            append(session, state, "change", [{"change": row | said | {"at": at.isoformat()}}])
            session.add(
                LimitChange(**row, proposal=said, spared_share=float(facts.get("spared_share", 0.0)), at=at_of(at))
            )
            add_event(session, actor, f"{kind}.{'undone' if undoes else 'changed'}", change_id, facts, address)
        return change_id

    def page(self, actor: Actor, kind: ChangeKind | None = None) -> tuple[ChangeShown, ...]:
        """The changes of the actor's organisation, newest first.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        query = select(LimitChange).where(LimitChange.organisation == actor.organisation)
        with self._database.reading() as session:
            rows = list(session.scalars(query.order_by(LimitChange.at.desc(), LimitChange.change_id)))
            undone = {row.proposal["undoes"] for row in rows}
            shown = tuple(_shown(row, undone) for row in rows)
        return tuple(one for one in shown if kind in (None, one.kind))


def _require_standing(session: Session, actor: Actor, change_id: str) -> None:
    """Require that a change is there and was not taken back; nobody else writes meanwhile."""
    query = select(LimitChange).where(LimitChange.organisation == actor.organisation)
    rows = list(session.scalars(query))
    if change_id not in {row.change_id for row in rows}:
        raise CaseMissing(f"change {change_id}")
    if change_id in {row.proposal["undoes"] for row in rows}:
        raise ChangeRefused(f"change {change_id[:8]}", "one that was taken back already", "one that stands")


def _shown(row: LimitChange, undone: set[str | None]) -> ChangeShown:
    return ChangeShown(
        change_id=row.change_id,
        account_id=row.account_id,
        kind=row.proposal["kind"],
        facts=row.proposal["facts"],
        undoes=row.proposal["undoes"],
        undone=row.change_id in undone,
        at=row.at,
    )
