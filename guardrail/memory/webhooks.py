"""Who is told of events, and what is on its way to them; each event is entered with what it is about, or not at all."""

import json
import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args
from uuid import uuid4

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from guardrail.memory.database import Database
from guardrail.memory.review_tables import Delivery, Webhook
from guardrail.records import Actor, Decision, Verdict

__all__ = [
    "EVENTS",
    "DeliveryRow",
    "DueDelivery",
    "DueHook",
    "WebhookEvent",
    "WebhookRow",
    "Webhooks",
    "enqueue",
    "enqueue_verdicts",
]

WebhookEvent = Literal[
    "verdict.flagged", "verdict.blocked", "case.decided", "case.released", "case.reopened", "works.rescanned"
]
EVENTS: tuple[str, ...] = get_args(WebhookEvent)
"""What webhooks are told of."""

_SECRET_BYTES = 32
_LEASE_S = 60.0  # a delivery whose worker was killed goes out again after so long
_FIRST_PAUSE_S = 10.0  # after the first try; three times as long after each further one
_GROWTH = 3.0
_LONGEST_PAUSE_S = 4 * 3600.0
_JITTER = 0.2  # share of a pause, either way, so that many do not come back at once
_GIVEN_UP_AFTER = timedelta(hours=24)
_KEPT = timedelta(days=30)  # deliveries that arrived, or were given up
_LONGEST_ERROR = 300  # letters

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """One webhook, without its secret.

    Attributes:
        webhook_id: hex of a UUID.
        url: where to.
        events: which ones it is told of.
        created_at: ISO 8601, UTC.
    """

    webhook_id: str
    url: str
    events: tuple[str, ...]
    created_at: str


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One event on its way to one webhook.

    Attributes:
        delivery_id: hex of a UUID.
        event: its name.
        state: waiting, delivered or given_up.
        attempts: how often it was sent.
        due_at: when it is sent next, ISO 8601, UTC.
        last_status: HTTP status of the last answer; None where there was none.
        last_error: why there was none; empty where there was.
        created_at: when the event was, ISO 8601, UTC.
    """

    delivery_id: str
    event: str
    state: str
    attempts: int
    due_at: str
    last_status: int | None
    last_error: str
    created_at: str


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that was taken to be sent: where to, and what it is signed with."""

    delivery_id: str
    url: str
    secret: str
    event: str
    body: bytes
    attempts: int


@dataclass(frozen=True, slots=True)
class DueHook:
    """A webhook for which something is due, and since when (ISO 8601, UTC)."""

    organisation: str
    webhook_id: str
    due_at: str


def enqueue(session: Session, organisation: str, event: WebhookEvent, document: dict[str, Any]) -> int:
    """Enter an event in a transaction that is open, for each webhook of an organisation that wants it.

    Args:
        session: in which more may be written.
        organisation: whose.
        event: its name.
        document: what is told, as JSON; without prompts and notes.

    Returns:
        How many are told.
    """
    hooks = [
        hook
        for hook in session.scalars(
            select(Webhook).where(Webhook.organisation == organisation, Webhook.state == "active")
        )
        if event in hook.events
    ]
    now = _text(datetime.now(UTC))
    said = {"event_id": uuid4().hex, "event": event, "organisation": organisation, "at": now, "about": document}
    body = json.dumps(said, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
    for hook in hooks:
        session.add(
            Delivery(
                delivery_id=uuid4().hex,
                webhook_id=hook.webhook_id,
                event=event,
                body=body,
                state="waiting",
                attempts=0,
                due_at=now,
                last_error="",
                created_at=now,
            )
        )
    return len(hooks)


def enqueue_verdicts(session: Session, judged: Iterable[tuple[str, Verdict]]) -> None:
    """Enter the events of verdicts in the transaction that they are remembered in; of those that accept, none.

    Args:
        session: in which more may be written.
        judged: organisation and verdict of each image.
    """
    for organisation, verdict in judged:
        if verdict.decision is not Decision.ACCEPT:
            event: WebhookEvent = "verdict.flagged" if verdict.decision is Decision.FLAG else "verdict.blocked"
            said = {"verdict_id": verdict.verdict_id, "rule": verdict.rule, "image": verdict.image}
            enqueue(session, organisation, event, said | {"run_id": verdict.run_id})


class Webhooks:
    """The webhooks of a database, and their deliveries.

    Args:
        database: where they lie.
        clock: tells the time.
        jitter: gives a number from -1 to 1 for each pause.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = lambda: random.uniform(-1, 1),  # noqa: S311 - spreads load, hides nothing
    ) -> None:
        self._database, self._clock, self._jitter = database, clock, jitter

    def add(self, actor: Actor, url: str, events: Sequence[str]) -> tuple[WebhookRow, str]:
        """Tell a URL of events from now on; returns the webhook, and its secret, which is told this once.

        Raises:
            MemoryUnwritable: nothing was entered.
        """
        secret = "whsec_" + secrets.token_urlsafe(_SECRET_BYTES)
        hook = Webhook(
            webhook_id=uuid4().hex,
            organisation=actor.organisation,
            url=url,
            secret=secret,
            events=sorted(set(events)),
            state="active",
            created_at=_text(self._clock()),
        )
        with self._database.writing() as (session, _):
            session.add(hook)
            session.flush()
            return _webhook(hook), secret

    def all(self, actor: Actor) -> tuple[WebhookRow, ...]:
        """Those of the actor's organisation, oldest first.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        mine = select(Webhook).where(Webhook.organisation == actor.organisation, Webhook.state == "active")
        with self._database.reading() as session:
            return tuple(map(_webhook, session.scalars(mine.order_by(Webhook.created_at, Webhook.webhook_id))))

    def remove(self, actor: Actor, webhook_id: str) -> bool:
        """Tell a webhook nothing any more; returns whether there was one.

        Raises:
            MemoryUnwritable: nothing was changed.
        """
        with self._database.writing() as (session, _):
            hook = session.scalar(self._one(actor, webhook_id))
            if hook is None:
                return False
            hook.state, hook.secret = "deleted", ""
            waits = (Delivery.webhook_id == webhook_id, Delivery.state == "waiting")
            session.execute(update(Delivery).where(*waits).values(state="given_up", last_error="it was removed"))
            return True

    def deliveries(
        self, actor: Actor, webhook_id: str, *, after: str = "", limit: int = 50
    ) -> tuple[DeliveryRow, ...] | None:
        """What went, and goes, to one webhook, newest first; None where there is no such webhook.

        Args:
            actor: of its organisation.
            webhook_id: which one.
            after: id of the delivery that came last on the page before.
            limit: how many at most.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        with self._database.reading() as session:
            if session.scalar(self._one(actor, webhook_id)) is None:
                return None
            query = select(Delivery).where(Delivery.webhook_id == webhook_id)
            last = session.get(Delivery, after) if after else None
            if last is not None:
                order = (Delivery.created_at, Delivery.delivery_id)
                query = query.where(_before(order, (last.created_at, last.delivery_id)))
            query = query.order_by(Delivery.created_at.desc(), Delivery.delivery_id.desc()).limit(limit)
            return tuple(map(_delivery, session.scalars(query)))

    def tell(self, organisation: str, event: WebhookEvent, document: dict[str, Any]) -> int:
        """Enter an event in a transaction of its own; see `enqueue`.

        Raises:
            MemoryUnwritable: nobody will be told.
        """
        with self._database.writing() as (session, _):
            return enqueue(session, organisation, event, document)

    def due(self) -> tuple[DueHook, ...]:
        """The webhooks for which something is due, of all organisations, longest due first.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        since = func.min(Delivery.due_at)
        query = select(Webhook.organisation, Webhook.webhook_id, since).join(
            Delivery, Delivery.webhook_id == Webhook.webhook_id
        )
        query = query.where(*self._is_due()).group_by(Webhook.organisation, Webhook.webhook_id)
        with self._database.reading() as session:
            return tuple(DueHook(*row) for row in session.execute(query.order_by(since, Webhook.webhook_id)))

    def take(self, webhook_id: str) -> DueDelivery | None:
        """Take what is longest due for a webhook; unless it is settled within a minute it is due again.

        Returns:
            What is to be sent; None where nothing is due any more.

        Raises:
            MemoryUnwritable: nothing was taken.
        """
        again = _text(self._clock() + timedelta(seconds=_LEASE_S))
        query = select(Delivery, Webhook).join(Webhook, Webhook.webhook_id == Delivery.webhook_id)
        query = query.where(*self._is_due(), Delivery.webhook_id == webhook_id)
        with self._database.writing() as (session, _):
            self._forget(session)
            row = session.execute(query.order_by(Delivery.due_at, Delivery.delivery_id).limit(1)).one_or_none()
            if row is None:
                return None
            one, hook = row
            one.attempts, one.due_at = one.attempts + 1, again
            return DueDelivery(one.delivery_id, hook.url, hook.secret, one.event, one.body, one.attempts)

    def _is_due(self) -> tuple[Any, Any]:
        return Delivery.state == "waiting", Delivery.due_at <= _text(self._clock())

    def settle(self, delivery_id: str, status: int | None, error: str = "") -> str:
        """Enter how a delivery went: with a status of 2xx it arrived, else it is sent again until a day has gone by.

        Args:
            delivery_id: which one.
            status: HTTP status of the answer; None where there was none.
            error: why there was none.

        Returns:
            Its state: delivered, waiting or given_up.

        Raises:
            MemoryUnwritable: nothing was entered.
        """
        with self._database.writing() as (session, _):
            one = session.get(Delivery, delivery_id)
            if one is None or one.state != "waiting":
                return "given_up" if one is None else one.state
            one.last_status, one.last_error = status, error[:_LONGEST_ERROR]
            if status is not None and 200 <= status < 300:
                one.state = "delivered"
                return one.state
            pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * _GROWTH ** max(0, one.attempts - 1))
            due = self._clock() + timedelta(seconds=pause_s * (1 + _JITTER * self._jitter()))
            one.due_at = _text(due)
            if due > datetime.fromisoformat(one.created_at) + _GIVEN_UP_AFTER:
                one.state = "given_up"
            return one.state

    def waiting(self) -> dict[tuple[str, str], int]:
        """How many deliveries there are by organisation and state, those that arrived left out.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        query = select(Webhook.organisation, Delivery.state, func.count()).join(
            Webhook, Webhook.webhook_id == Delivery.webhook_id
        )
        with self._database.reading() as session:
            rows = session.execute(
                query.where(Delivery.state != "delivered").group_by(Webhook.organisation, Delivery.state)
            )
            return {(organisation, state): count for organisation, state, count in rows}

    @staticmethod
    def _one(actor: Actor, webhook_id: str) -> Any:
        mine = (Webhook.webhook_id == webhook_id, Webhook.organisation == actor.organisation)
        return select(Webhook).where(*mine, Webhook.state == "active")

    def _forget(self, session: Session) -> None:
        """Delete deliveries that were settled long ago."""
        old = (Delivery.state != "waiting", Delivery.created_at < _text(self._clock() - _KEPT))
        for one in session.scalars(select(Delivery).where(*old).limit(1000)):
            session.delete(one)


def _before(order: tuple[Any, Any], last: tuple[str, str]) -> Any:
    """What comes after a row, newest first."""
    return (order[0] < last[0]) | ((order[0] == last[0]) & (order[1] < last[1]))


def _webhook(stored: Webhook) -> WebhookRow:
    return WebhookRow(stored.webhook_id, stored.url, tuple(stored.events), stored.created_at)


def _delivery(stored: Delivery) -> DeliveryRow:
    return DeliveryRow(**{name: getattr(stored, name) for name in DeliveryRow.__dataclass_fields__})


def _text(at: datetime) -> str:
    """A time as it is kept: it sorts as it was."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
