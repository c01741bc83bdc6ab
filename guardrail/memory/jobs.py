"""Work that goes on after a request was answered: kept in the database, so that a restart goes on with it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from guardrail.memory.database import Database
from guardrail.memory.review_tables import Job
from guardrail.memory.webhooks import WebhookEvent
from guardrail.memory.webhooks import enqueue as tell
from guardrail.records import Actor

__all__ = ["JobRow", "Jobs", "enqueue"]

_LEASE = timedelta(seconds=30)  # a job whose worker was killed is taken up again after so long
_FIRST_PAUSE_S = 2.0  # before a job that failed is tried again; doubled each time
_LONGEST_PAUSE_S = 600.0
_MOST_TRIES = 10  # with the pauses above, about an hour
_KEPT = timedelta(days=7)  # how long finished jobs can be asked for

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job.

    Attributes:
        job_id: hex of a UUID.
        organisation: whose.
        account_id: who asked for it; None where a decision led to it.
        kind: check, release, undo, rescan.
        state: waiting, running, done or failed.
        asked: what is to be done.
        answer: what came of it; None before.
        done: how far it is, of `total`.
        total: 0 where that is not known.
        attempts: how often it was taken up.
        due_at: when it is tried, ISO 8601, UTC.
        created_at: when it was asked for, ISO 8601, UTC.
    """

    job_id: str
    organisation: str
    account_id: str | None
    kind: str
    state: str
    asked: dict[str, Any]
    answer: dict[str, Any] | None
    done: int
    total: int
    attempts: int
    due_at: str
    created_at: str


def enqueue(
    session: Session,
    organisation: str,
    kind: str,
    asked: dict[str, Any],
    account_id: str | None = None,
    total: int = 0,
) -> str:
    """Enter a job in a transaction that is open, so that it is there exactly if what led to it is.

    Args:
        session: in which more may be written.
        organisation: whose job.
        kind: which worker does it.
        asked: what is to be done, as JSON.
        account_id: who asked for it.
        total: how much there is to do, where that is known.

    Returns:
        Its id.
    """
    now, job_id = _text(datetime.now(UTC)), uuid4().hex
    session.add(
        Job(
            job_id=job_id,
            organisation=organisation,
            account_id=account_id,
            kind=kind,
            state="waiting",
            asked=asked,
            done=0,
            total=total,
            attempts=0,
            due_at=now,
            created_at=now,
        )
    )
    return job_id


class Jobs:
    """The jobs of a database; whoever takes one holds it for a while, and holds it on by saying how far it is.

    Args:
        database: where they lie.
        clock: tells the time.
    """

    def __init__(self, database: Database, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._database, self._clock = database, clock

    def add(
        self, organisation: str, kind: str, asked: dict[str, Any], account_id: str | None = None, total: int = 0
    ) -> str:
        """Enter a job; returns its id. See `enqueue`.

        Raises:
            MemoryUnwritable: nothing was entered.
        """
        with self._database.writing() as (session, _):
            self._forget(session)
            return enqueue(session, organisation, kind, asked, account_id, total)

    def get(self, actor: Actor, job_id: str) -> JobRow | None:
        """A job of the actor's organisation; None where there is none.

        Raises:
            MemoryUnwritable: it cannot be read.
        """
        with self._database.reading() as session:
            found = session.scalar(select(Job).where(Job.job_id == job_id, Job.organisation == actor.organisation))
            return None if found is None else _row(found)

    def take(self, kinds: Collection[str]) -> JobRow | None:
        """Take up the job that is due longest: one that waits, or whose worker is gone; None where there is none.

        Raises:
            MemoryUnwritable: nothing was taken.
        """
        if not kinds:
            return None
        with self._database.reading() as session:  # asked often; a writer's lock is taken only if there is something
            if session.scalar(select(Job.job_id).where(self._due(kinds)).limit(1)) is None:
                return None
        with self._database.writing() as (session, _):
            found = session.scalar(select(Job).where(self._due(kinds)).order_by(Job.due_at, Job.job_id).limit(1))
            if found is None:  # another worker was quicker
                return None
            found.state, found.attempts = "running", found.attempts + 1
            found.leased_until = _text(self._clock() + _LEASE)
            session.flush()
            return _row(found)

    def progress(self, job: JobRow, done: int | None = None, total: int | None = None) -> bool:
        """Hold a job on, and say how far it is; returns whether it is still the caller's.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        said: dict[str, Any] = {"leased_until": _text(self._clock() + _LEASE)}
        said |= {} if done is None else {"done": done}
        said |= {} if total is None else {"total": total}
        return self._change(job, said)

    def finish(self, job: JobRow, answer: dict[str, Any], event: WebhookEvent | None = None) -> bool:
        """Enter what came of a job, and tell webhooks of it; both or neither.

        Args:
            job: as it was taken.
            answer: what came of it.
            event: that webhooks are told of, with what was asked and the answer; None: they are told nothing.

        Returns:
            Whether it was still the caller's; else nothing was entered.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        said = {"state": "done", "answer": answer, "leased_until": None}
        return self._change(job, said, (event, job.asked | answer) if event is not None else None)

    def fail(self, job: JobRow, why: dict[str, Any], *, for_good: bool = False) -> bool:
        """Enter that a job failed: it is tried again after a pause that grows, unless it was tried often enough.

        Args:
            job: as it was taken.
            why: kept as its answer.
            for_good: whether trying again can help nothing.

        Returns:
            Whether it will be tried again.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        again = not for_good and job.attempts < _MOST_TRIES
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** max(0, job.attempts - 1))
        due = _text(self._clock() + timedelta(seconds=pause_s))
        state = {"state": "waiting", "due_at": due} if again else {"state": "failed"}
        return self._change(job, {**state, "answer": why, "leased_until": None}) and again

    def waiting(self) -> dict[tuple[str, str, str], int]:
        """How many jobs there are by organisation, kind and state, those that are done left out.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        query = select(Job.organisation, Job.kind, Job.state, func.count()).where(Job.state != "done")
        with self._database.reading() as session:
            rows = session.execute(query.group_by(Job.organisation, Job.kind, Job.state))
            return {(organisation, kind, state): count for organisation, kind, state, count in rows}

    def require_writable(self) -> None:
        """Require that the database takes a writer now.

        Raises:
            MemoryUnwritable: it does not.
        """
        with self._database.writing():
            return

    def _due(self, kinds: Collection[str]) -> Any:
        now = _text(self._clock())
        waits = and_(Job.state == "waiting", Job.due_at <= now)
        lost = and_(Job.state == "running", Job.leased_until <= now)
        return and_(Job.kind.in_(sorted(kinds)), or_(waits, lost))

    def _change(
        self, job: JobRow, said: dict[str, Any], told: tuple[WebhookEvent, dict[str, Any]] | None = None
    ) -> bool:
        """Change a job if nobody took it up since; the number of attempts tells."""
        mine = and_(Job.job_id == job.job_id, Job.state == "running", Job.attempts == job.attempts)
        with self._database.writing() as (session, _):
            changed: Any = session.execute(update(Job).where(mine).values(**said))
            if changed.rowcount and told is not None:
                tell(session, job.organisation, *told)
            return bool(changed.rowcount)

    def _forget(self, session: Session) -> None:
        """Delete jobs that were finished long ago."""
        past = _text(self._clock() - _KEPT)
        for old in session.scalars(select(Job).where(Job.state == "done", Job.created_at < past)):
            session.delete(old)


def _row(stored: Job) -> JobRow:
    names = JobRow.__dataclass_fields__
    return JobRow(**{name: getattr(stored, name) for name in names})


def _text(at: datetime) -> str:
    """A time as it is kept: it sorts as it was."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
