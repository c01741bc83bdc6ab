"""The database that ledger and queue lie in: one writer at a time, usable in threads and after a fork."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from guardrail.errors import MemoryUnwritable
from guardrail.memory.migration import carry_over, make_tables
from guardrail.memory.tables import FORMAT, STATE_ID, LedgerState

__all__ = ["Database"]

_SQLITE_WAIT_S = 30  # how long a writer waits for another
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
        with self._told():
            if self.file is not None:
                _make_private(self.file, must_exist=must_exist)
            self._engine = _engine(self._parsed, self.file)
            self._pid = os.getpid()
            self._set_up()

    @property
    def engine(self) -> Engine:
        """The engine; in a process that was forked, with connections of its own.

        Raises:
            MemoryUnwritable: it lies in the memory of another process.
        """
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
        with self._told(), self._alone(), Session(self.engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[tuple[Session, LedgerState]]:
        """A transaction that nobody else writes beside; committed at the end, all of it or nothing.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        writer = self.engine.execution_options(guardrail_writes=True)
        with self._told(), self._alone(), Session(writer) as session, session.begin():
            yield session, session.scalars(select(LedgerState).with_for_update()).one()

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose(close=os.getpid() == self._pid)

    def _alone(self) -> Any:
        """In memory there is one connection for all threads."""
        return self._one_at_a_time or nullcontext()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            if isinstance(error, MemoryUnwritable):
                raise
            raise MemoryUnwritable(self.shown, str(getattr(error, "orig", None) or error)) from error

    def _set_up(self) -> None:
        with self._engine.connect() as connection:
            if self._is_current(connection):
                return
        with self._engine.execution_options(guardrail_writes=True).begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SETTING_UP})
            if self._is_current(connection):  # made by another process meanwhile
                return
            older = "ledger" in inspect(connection).get_table_names()
            if older:
                carry_over(connection, self.shown)
            else:
                make_tables(connection)

    def _is_current(self, connection: Connection) -> bool:
        """Whether the tables are there, in the format of today.

        Raises:
            MemoryUnwritable: they are of a later one.
        """
        if "ledger_state" not in inspect(connection).get_table_names():
            return False
        found = connection.scalar(select(LedgerState.format).where(LedgerState.state_id == STATE_ID))
        if found != FORMAT:
            raise MemoryUnwritable(self.shown, f"found a ledger of format {found}, expected 1 or {FORMAT}")
        return True


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


def _make_private(path: Path, *, must_exist: bool) -> None:
    """Make the file and its folder, readable for their owner alone: prompts and held pictures lie there."""
    if must_exist and not path.is_file():
        raise FileNotFoundError(f"there is no ledger at {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        path.touch(mode=0o600)
