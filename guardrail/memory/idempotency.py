"""Answers by the key that a request came with, so that the same request twice is done once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlalchemy import delete, select, update

from guardrail.memory.database import Database
from guardrail.memory.review_tables import Idempotent

__all__ = ["Idempotency", "KnownAnswer"]

_KEPT = timedelta(hours=24)
_RUNNING = timedelta(minutes=10)  # a request whose process was killed may be made again after so long

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """The answer that a request got: HTTP status, and what was kept of it."""

    status: int
    answer: bytes


class Idempotency:
    """The keys of a database.

    Args:
        database: where they lie.
        clock: tells the time.
    """

    def __init__(self, database: Database, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._database, self._clock = database, clock

    def begin(
        self, organisation: str, key: str, request_sha256: str
    ) -> KnownAnswer | Literal["new", "running", "other"]:
        """Claim a key for a request.

        Args:
            organisation: whose key; others may use the same one.
            key: as the client chose it.
            request_sha256: digest of all that the request says.

        Returns:
            `new`: it is the caller's to answer, and to `keep` or `forget`; the answer that was kept; `running` while
            the first is being answered; `other` where the key was used for another request.

        Raises:
            MemoryUnwritable: nothing was claimed.
        """
        now = self._clock()
        with self._database.writing() as (session, _):
            session.execute(delete(Idempotent).where(Idempotent.at < _text(now - _KEPT)))
            found = session.scalar(
                select(Idempotent).where(Idempotent.organisation == organisation, Idempotent.key == key)
            )
            if found is None:
                row = {"organisation": organisation, "key": key, "request_sha256": request_sha256, "at": _text(now)}
                session.add(Idempotent(**row, status=None, answer=None))
                return "new"
            if found.request_sha256 != request_sha256:
                return "other"
            if found.status is not None:
                return KnownAnswer(found.status, found.answer or b"")
            if found.at > _text(now - _RUNNING):
                return "running"
            found.at = _text(now)
            return "new"

    def keep(self, organisation: str, key: str, known: KnownAnswer) -> None:
        """Keep the answer to the request that claimed a key.

        Raises:
            MemoryUnwritable: nothing was kept.
        """
        mine = (Idempotent.organisation == organisation, Idempotent.key == key)
        with self._database.writing() as (session, _):
            session.execute(update(Idempotent).where(*mine).values(status=known.status, answer=known.answer))

    def forget(self, organisation: str, key: str) -> None:
        """Let go of a key whose request did nothing: it may be made again.

        Raises:
            MemoryUnwritable: it is still claimed.
        """
        mine = (Idempotent.organisation == organisation, Idempotent.key == key, Idempotent.status.is_(None))
        with self._database.writing() as (session, _):
            session.execute(delete(Idempotent).where(*mine))


def _text(at: datetime) -> str:
    """A time as it is kept: it sorts as it was."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
