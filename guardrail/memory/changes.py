"""What people changed about the filter itself: limits of banks, works that protect less; each a row in the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from guardrail.memory.appending import append
from guardrail.memory.audit import add_event, at_of
from guardrail.memory.database import Database
from guardrail.memory.review_tables import LimitChange
from guardrail.records import Actor
from guardrail.review_errors import CaseMissing, ChangeRefused, NotAllowed

__all__ = ["ChangeKind", "ChangeShown", "Changes"]

ChangeKind = Literal["generic", "limit", "lowered", "replaced", "withdrawn"]
_OF_WORKS = ("lowered", "replaced", "withdrawn")  # a token that may write works may ask for these
_MAY_CHANGE = ("lead", "admin")
_WHOLE_WORKS = ("before", "after", "former")  # facts that the audit leaves to the ledger


@dataclass(frozen=True, slots=True)
class ChangeShown:
    """One change of the filter.

    Attributes:
        change_id: hex of a UUID.
        account_id: who made it.
        kind: `limit` (of a bank), `generic` (a work or picture called so), `withdrawn` (a work that protects),
            `replaced` (its picture) or `lowered` (what a match with it means, its opt-out or its dates; or a work that
            came in as generic or licensed).
        facts: what was changed, and what that rested on; as JSON.
        undoes: the change that this one took back.
        undone: whether another one that stands took it back.
        at: ISO 8601, UTC.
    """

    change_id: str
    account_id: str
    kind: ChangeKind
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
            actor: a lead or an admin who signed in; for works also a token of theirs with the scope works:write.
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
        _require_changing(actor, kind)
        change_id, at = change_id or uuid4().hex, datetime.now(UTC)
        with self._database.writing() as (session, state):
            if undoes is not None:
                _require_standing(session, actor, undoes)
            said = {"kind": kind, "undoes": undoes, "facts": dict(facts)}
            row = {"change_id": change_id, "organisation": actor.organisation, "account_id": actor.account_id}
            by = {"token_id": actor.token_id} if actor.token_id else {}
            append(session, state, "change", [{"change": row | by | said | {"at": at.isoformat()}}])
            session.add(
                LimitChange(**row, proposal=said, spared_share=float(facts.get("spared_share", 0.0)), at=at_of(at))
            )
            noted = {name: fact for name, fact in facts.items() if name not in _left_out(kind)}
            add_event(session, actor, f"{kind}.{'undone' if undoes else 'changed'}", change_id, noted, address)
        return change_id

    def page(self, actor: Actor, *kinds: ChangeKind) -> tuple[ChangeShown, ...]:
        """The changes of the actor's organisation, of these kinds or of all, newest first.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        shown = self._found(select(LimitChange).where(LimitChange.organisation == actor.organisation))
        return tuple(one for one in shown if not kinds or one.kind in kinds)

    def of_work(
        self, organisation: str, bank: str, work_id: str, pixels_sha256: str | None = None
    ) -> tuple[ChangeShown, ...]:
        """The changes of works that stand and are about one work, or about a picture, newest first.

        Args:
            organisation: whose.
            bank: of the work.
            work_id: which work.
            pixels_sha256: of a picture; those of other works are found too where they had it before.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        facts = LimitChange.proposal["facts"]
        about = (facts["bank"].as_string() == bank) & (facts["work_id"].as_string() == work_id)
        if pixels_sha256 is not None:
            about = or_(about, facts["pixels_before"].as_string() == pixels_sha256)
        found = self._found(select(LimitChange).where(LimitChange.organisation == organisation, about))
        return tuple(one for one in found if one.kind in _OF_WORKS and not one.undone and one.undoes is None)

    def _found(self, query: Select[LimitChange]) -> tuple[ChangeShown, ...]:
        with self._database.reading() as session:
            rows = list(session.scalars(query.order_by(LimitChange.at.desc(), LimitChange.change_id)))
            undone = _undone(session, rows[0].organisation) if rows else set()
            return tuple(_shown(row, undone) for row in rows)


def _require_changing(actor: Actor, kind: ChangeKind) -> None:
    """Require somebody who may change the filter so.

    Raises:
        NotAllowed: they may not.
    """
    by_token = actor.token_id is not None or actor.scopes is not None
    if actor.role in _MAY_CHANGE and not by_token:
        return
    if kind not in _OF_WORKS:
        raise NotAllowed("changing the filter", "a lead who signed in")
    if actor.role not in _MAY_CHANGE or "works:write" not in (actor.scopes or ()):
        raise NotAllowed("changing what is protected", "a lead, or a token of theirs with the scope works:write")


def _left_out(kind: ChangeKind) -> tuple[str, ...]:
    """Facts that the audit leaves to the ledger: it holds no notes."""
    return ("stated_reason", *_WHOLE_WORKS) if kind in _OF_WORKS else ("stated_reason",)


def _undone(session: Session, organisation: str) -> set[str]:
    """The changes that a change which stands took back; one that takes back and was taken back itself counts not."""
    undoes = LimitChange.proposal["undoes"].as_string()
    query = select(LimitChange.change_id, undoes).where(LimitChange.organisation == organisation, undoes.is_not(None))
    undone: set[str] = set()
    for change_id, before in session.execute(query.order_by(LimitChange.at.desc(), LimitChange.change_id)):
        if change_id not in undone:
            undone.add(before)
    return undone


def _require_standing(session: Session, actor: Actor, change_id: str) -> None:
    """Require that a change is there and was not taken back; nobody else writes meanwhile."""
    query = select(LimitChange.change_id).where(
        LimitChange.organisation == actor.organisation, LimitChange.change_id == change_id
    )
    if session.scalar(query) is None:
        raise CaseMissing(f"change {change_id}")
    if change_id in _undone(session, actor.organisation):
        raise ChangeRefused(f"change {change_id[:8]}", "one that was taken back already", "one that stands")


def _shown(row: LimitChange, undone: set[str]) -> ChangeShown:
    return ChangeShown(
        change_id=row.change_id,
        account_id=row.account_id,
        kind=row.proposal["kind"],
        facts=row.proposal["facts"],
        undoes=row.proposal["undoes"],
        undone=row.change_id in undone,
        at=row.at,
    )
