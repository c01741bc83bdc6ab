"""The database that ledger and queue lie in: one writer at a time, usable in threads and after a fork."""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from guardrail.errors import GuardrailError, MemoryUnwritable
from guardrail.memory.forking import ForkGate
from guardrail.memory.migration import bring_to_today, is_of_today
from guardrail.memory.tables import LedgerState

__all__ = ["Database"]

log = logging.getLogger("guardrail")

_SQLITE_WAIT_S = 30  # how long a writer waits for another
_AGAIN_S = 0.02  # between two tries to change how a SQLite file is written
_SETTING_UP = 0x67756172  # number of PostgreSQL's advisory lock under which tables are made: "guar"


class Database:
    """One database; every transaction is a `with` block.

    Args:
        url: an SQLAlchemy URL; a SQLite file and its folder are made when missing, for their owner alone.
        must_exist: whether a missing SQLite file is an error instead.

    Raises:
        MemoryUnwritable: it cannot be opened or made, or its tables are of a format that is not known.
        LedgerBroken: its ledger is of format 1 and does not hold.
    """

    def __init__(self, url: str, *, must_exist: bool = False) -> None:
        self._parsed = make_url(url)
        self.shown = self._parsed.render_as_string(hide_password=True)
        self.is_sqlite = self._parsed.get_backend_name() == "sqlite"
        self.is_postgresql = self._parsed.get_backend_name() == "postgresql"
        self.file = _file_of(self._parsed) if self.is_sqlite else None
        self._one_at_a_time = threading.RLock() if self.is_sqlite and self.file is None else None
        self._pid = os.getpid()
        with self._told():
            if self.file is not None:
                _make_private(self.file, must_exist=must_exist)
            self._engine = _engine(self._parsed, self.file)
            self._gate = ForkGate(self._engine.dispose) if self.file is not None else None
            try:
                self._set_up()
            except BaseException:
                self.close()
                raise

    @property
    def engine(self) -> Engine:
        """The engine; in a process that was forked, with connections of its own.

        Raises:
            MemoryUnwritable: it lies in the memory of another process, or was being written when this one was forked.
        """
        if self._gate is not None and self._gate.is_tainted:
            raise MemoryUnwritable(
                self.shown, "this process was forked while a transaction was on; start it another way"
            )
        if os.getpid() != self._pid:
            if self._one_at_a_time is not None:
                raise MemoryUnwritable(self.shown, "it lies in the memory of the process that this one was forked from")
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        return self._engine

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads; it holds up no writer for long if it is short.

        Raises:
            MemoryUnwritable: it cannot be read.
        """
        with self._told(), self._alone(), self._one_transaction(), Session(self.engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[tuple[Session, LedgerState]]:
        """A transaction that nobody else writes beside; committed at the end, all of it or nothing.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        with self._told(), self._alone(), self._one_transaction():
            writer = self.engine.execution_options(guardrail_writes=True)
            with Session(writer) as session, session.begin():
                yield session, session.scalars(select(LedgerState).with_for_update()).one()

    def forget_old_pages(self) -> None:
        """Have SQLite write its log of changes into the file and empty it: what was erased still stands in it.

        It is tried for as long as a writer waits for another; where a reader is in the way all that time, the log is
        emptied later, by whoever writes or closes next.

        Raises:
            MemoryUnwritable: it cannot be written.
        """
        if self.file is None:
            return
        with self._told(), self._one_transaction(), closing(self.engine.raw_connection()) as connection:
            busy, *_ = connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            log.warning("old pages of %s are still being read, and stand in its log until later", self.shown)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose(close=os.getpid() == self._pid)

    def _one_transaction(self) -> Any:
        """No process is forked while one is on."""
        return self._gate.inside() if self._gate is not None else nullcontext()

    def _alone(self) -> Any:
        """In memory there is one connection for all threads."""
        return self._one_at_a_time or nullcontext()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            if isinstance(error, GuardrailError):  # some are OSErrors, too
                raise
            raise MemoryUnwritable(self.shown, str(getattr(error, "orig", None) or error)) from error

    def _set_up(self) -> None:
        with self._one_transaction():
            self._make_tables()
            if self.file is not None:  # once it is known to be ours
                with closing(self._engine.raw_connection()) as connection:
                    _log_ahead(connection.cursor())

    def _make_tables(self) -> None:
        with self._engine.connect() as connection:
            if is_of_today(connection, self.shown):
                return
        with self._engine.execution_options(guardrail_writes=True).begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SETTING_UP})
            if not is_of_today(connection, self.shown):  # made by another process meanwhile
                bring_to_today(connection, self.shown)


def _file_of(url: URL) -> Path | None:
    """The file of a SQLite database; None where it lies in memory."""
    if not url.database or url.database == ":memory:":
        return None
    return Path(url.database)


def _engine(url: URL, file: Path | None) -> Engine:
    """An engine; for SQLite with writers that wait for one another, and what is erased overwritten."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url)
    if file is None:
        engine = create_engine(url, connect_args={"check_same_thread": False}, poolclass=StaticPool)
    else:
        engine = create_engine(url, connect_args={"timeout": _SQLITE_WAIT_S})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA synchronous = EXTRA")

    @event.listens_for(engine, "begin")
    def _take_the_write_lock(connection: Any) -> None:
        writes = connection.get_execution_options().get("guardrail_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _log_ahead(cursor: Any) -> None:
    """Have changes written into a log first (WAL), so that readers and the writer do not wait for each other.

    On a disk where that cannot be done it stays as it is, which is as safe.
    """
    until = time.monotonic() + _SQLITE_WAIT_S
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            if cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                return
        except sqlite3.OperationalError as error:  # others are at it, who are not waited for here
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY:
                return
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_AGAIN_S)


def _make_private(path: Path, *, must_exist: bool) -> None:
    """Make the file and its folder, readable for their owner alone: prompts and held pictures lie there."""
    if must_exist and not path.is_file():
        raise FileNotFoundError(f"there is no ledger at {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):  # never opened and closed once it is there: that would take the locks on it away
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
