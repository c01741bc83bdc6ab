"""The ledger, one row for every verdict and release, each with the digest of the row before it; and the review queue.

Row n's digest is sha256 over the digest of row n - 1 and the canonical JSON (RFC 8785) of row n's content, so a row
that was edited, removed or put in breaks the chain from there on. (Rows cut off at the end leave no trace in the chain
itself: compare `tip` with one noted elsewhere.)
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import rfc8785
from sqlalchemy import JSON, Engine, ForeignKey, LargeBinary, String, create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from guardrail.errors import LedgerBroken, MemoryUnwritable
from guardrail.records import GenerationContext, Release, RemedyTried, Verdict

__all__ = ["Case", "Held", "LedgerRow", "Memory"]

_NO_ROW_BEFORE = "0" * 64
_APPEND_TRIES = 20  # two writers that meet on a server without row locks: the later one tries again
_SQLITE_WAIT_S = 30
_ROWS_AT_A_TIME = 1000
_BEFORE_ANY_ROW = -(2**63)


@dataclass(frozen=True, slots=True)
class Held:
    """What is remembered of one judged image: its verdict, and the PNG to review where a person must look."""

    verdict: Verdict
    png: bytes | None = None


class _Base(DeclarativeBase):
    pass


class LedgerRow(_Base):
    """One row of the ledger."""

    __tablename__ = "ledger"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(16))
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    previous_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    row_sha256: Mapped[str] = mapped_column(String(64), unique=True)


class Case(_Base):
    """One flagged image that waits for a person."""

    __tablename__ = "cases"

    case_id: Mapped[int] = mapped_column(primary_key=True)
    verdict_id: Mapped[str] = mapped_column(String(32), unique=True)
    sequence: Mapped[int] = mapped_column(ForeignKey("ledger.sequence"))
    opened_at: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(16), default="open", index=True)
    png: Mapped[bytes] = mapped_column(LargeBinary)
    context: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class Memory:
    """Ledger and queue in one database.

    Args:
        url: an SQLAlchemy URL; a SQLite file and its folder are made when missing, for their owner alone.
        must_exist: whether a missing SQLite file is an error instead: to look at a ledger, none is made.

    Raises:
        MemoryUnwritable: the database cannot be opened or made.
    """

    def __init__(self, url: str, *, must_exist: bool = False) -> None:
        self.url = make_url(url).render_as_string(hide_password=True)
        with self._writable():
            self._engine = _open(url, must_exist=must_exist)
            self._writer = self._engine.execution_options(guardrail_writes=True)
            _Base.metadata.create_all(self._writer)

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            raise MemoryUnwritable(self.url, str(getattr(error, "orig", None) or error)) from error

    def record_verdicts(self, judged: Sequence[Held], context: GenerationContext | None) -> None:
        """Append one row for each verdict, and open a case for each flagged image; all of them or none.

        Prompts are kept with the cases, where a reviewer needs them, never in the ledger.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        run = context.without_prompts().model_dump(mode="json") if context else None
        contents = [{"verdict": held.verdict.model_dump(mode="json"), "context": run} for held in judged]
        cases = [(at, held) for at, held in enumerate(judged) if held.png is not None]
        whole = context.model_dump(mode="json") if context else None

        def also(session: Session, sequences: Sequence[int]) -> None:
            for at, held in cases:
                opened = held.verdict.at.isoformat()
                verdict_id = held.verdict.verdict_id
                case = Case(
                    verdict_id=verdict_id, sequence=sequences[at], opened_at=opened, png=held.png, context=whole
                )
                session.add(case)

        self._append("verdict", contents, also)

    def record_release(self, release: Release) -> None:
        """Append the row of a signed file that is about to leave.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        self._append("release", [{"release": release.model_dump(mode="json")}])

    def record_withdrawal(self, verdict_id: str, reason: str) -> None:
        """Append the row of a release that did not happen after all."""
        at = datetime.now(UTC).isoformat()
        self._append("withdrawal", [{"verdict_id": verdict_id, "reason": reason, "at": at}])

    def record_remedies(self, tried: Sequence[RemedyTried], run_id: str) -> None:
        """Append one row for each remedy that was tried on a run, or did not fit.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        if tried:
            self._append("remedy", [{"run_id": run_id, "remedy": one.model_dump(mode="json")} for one in tried])

    def _append(
        self,
        kind: Literal["verdict", "release", "withdrawal", "remedy"],
        contents: Sequence[dict[str, Any]],
        also: Any = None,
    ) -> None:
        with self._writable():
            for attempt in range(1, _APPEND_TRIES + 1):
                try:
                    with Session(self._writer) as session, session.begin():
                        sequences = _append_rows(session, kind, contents)
                        session.flush()
                        if also is not None:
                            also(session, sequences)
                except IntegrityError:
                    if attempt == _APPEND_TRIES:
                        raise
                else:
                    return

    def rows(self) -> Iterator[LedgerRow]:
        """Every row, oldest first."""
        after = _BEFORE_ANY_ROW
        while rows := self._rows_after(after):
            yield from rows
            after = rows[-1].sequence

    def _rows_after(self, sequence: int) -> list[LedgerRow]:
        """The next rows, read in a transaction of their own, so that no reader holds up a writer."""
        query = (
            select(LedgerRow).where(LedgerRow.sequence > sequence).order_by(LedgerRow.sequence).limit(_ROWS_AT_A_TIME)
        )
        with self._writable(), Session(self._engine) as session:
            rows = list(session.scalars(query))
            session.expunge_all()
        return rows

    def verify(self) -> tuple[int, str]:
        """Check the whole chain.

        Returns:
            The number of rows, and the digest of the last one (the tip).

        Raises:
            LedgerBroken: naming the first row that does not hold.
        """
        previous, count = _NO_ROW_BEFORE, 0
        rows = self.rows()
        while row := _next_row(rows, count):
            count += 1
            if row.sequence != count or row.previous_sha256 != previous:
                raise LedgerBroken(row.sequence, "a row out of order", f"row {count} after {previous[:12]}")
            digest = _digest(previous, row.kind, row.content)
            if digest != row.row_sha256:
                raise LedgerBroken(row.sequence, f"content of digest {digest[:12]}", f"digest {row.row_sha256[:12]}")
            previous = digest
        return count, previous

    def open_cases(self) -> tuple[Case, ...]:
        """Cases that wait for a person, oldest first."""
        with self._writable(), Session(self._engine) as session:
            cases = tuple(session.scalars(select(Case).where(Case.state == "open").order_by(Case.case_id)))
            session.expunge_all()
            return cases

    def close(self) -> None:
        """Give the database connections back."""
        self._engine.dispose()


def _next_row(rows: Iterator[LedgerRow], count: int) -> LedgerRow | None:
    """The next row; one whose content is no JSON any more breaks the chain."""
    try:
        row = next(rows, None)
        if row is not None:
            rfc8785.dumps(row.content)
    except (ValueError, TypeError) as error:
        raise LedgerBroken(count + 1, f"content that cannot be read ({error})", "canonical JSON") from error
    return row


def _append_rows(session: Session, kind: str, contents: Sequence[dict[str, Any]]) -> list[int]:
    last = session.scalar(select(func.max(LedgerRow.sequence))) or 0
    tip = session.get(LedgerRow, last)
    previous = tip.row_sha256 if tip else _NO_ROW_BEFORE
    sequences = []
    for sequence, content in enumerate(contents, start=last + 1):
        digest = _digest(previous, kind, content)
        row = LedgerRow(sequence=sequence, kind=kind, content=content, previous_sha256=previous, row_sha256=digest)
        session.add(row)
        sequences.append(sequence)
        previous = digest
    return sequences


def _digest(previous: str, kind: str, content: dict[str, Any]) -> str:
    stored = json.loads(json.dumps(content))  # as the database gives it back
    return hashlib.sha256(bytes.fromhex(previous) + rfc8785.dumps({"kind": kind, "content": stored})).hexdigest()


def _open(url: str, *, must_exist: bool) -> Engine:
    """An engine; for SQLite with writers that wait for one another, and readers that hold up nobody."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed)
    if parsed.database and parsed.database != ":memory:":
        _make_private(Path(parsed.database), must_exist=must_exist)
    engine = create_engine(parsed, connect_args={"timeout": _SQLITE_WAIT_S})

    @event.listens_for(engine, "connect")
    def _hand_over_transactions(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _take_the_write_lock(connection: Any) -> None:
        writes = connection.get_execution_options().get("guardrail_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _make_private(path: Path, *, must_exist: bool) -> None:
    """Make the file and its folder, readable for their owner alone: prompts and held pictures lie there."""
    if must_exist and not path.is_file():
        raise FileNotFoundError(f"there is no ledger at {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        path.touch(mode=0o600)
