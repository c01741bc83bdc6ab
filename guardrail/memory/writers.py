"""Who is still there to finish what it began: every writer holds a lock as long as its process lives."""

import fcntl
import hashlib
import logging
import os
import re
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from sqlalchemy import Connection, text

from guardrail.memory.database import Database

__all__ = ["Writers", "writers_of"]

log = logging.getLogger("guardrail")

_LOCK_FOLDER_ENDING = "-writers"  # put after the name of a SQLite file
_WRITER = re.compile("[0-9a-f]{32}")  # how writers, and the files of their locks, are named
_NOBODY = "0" * 32  # a writer of a database that says of none whether it is gone


class Writers(Protocol):
    """This writer, and whether another one is gone."""

    def me(self) -> str:
        """The id of this writer; its lock is held from the first time on, in each process another."""

    def gone(self, writer: str) -> Any:
        """A context in which it is known whether a writer is gone, and in which nobody else finds it gone."""

    def sweep(self) -> None:
        """Take away what is left of writers that are gone; nothing of theirs may be unfinished any more."""

    def close(self) -> None:
        """Give the lock up; what is unfinished then is for the next start."""


def writers_of(database: Database) -> Writers:
    """The writers of a database: locks of files beside a SQLite file, advisory locks of PostgreSQL."""
    if database.file is not None:
        return _FileLocks(database.file.with_name(database.file.name + _LOCK_FOLDER_ENDING))
    if database.is_sqlite:
        return _Alone()
    return _AdvisoryLocks(database)


class _FileLocks:
    """Locks of the kernel on one file for each writer, which a process that dies gives up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: str | None = None
        self._let_go: Any = None
        _here.add(self)

    def me(self) -> str:
        if self._held is None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            writer, descriptor = self._taken()
            while not self._is_there(writer, descriptor):  # swept away before it was locked
                os.close(descriptor)
                writer, descriptor = self._taken()
            self._held = writer
            self._let_go = weakref.finalize(self, _let_go, self._folder / writer, descriptor, os.getpid())
        return self._held

    def _taken(self) -> tuple[str, int]:
        writer = uuid4().hex
        descriptor = os.open(self._folder / writer, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return writer, descriptor

    def _is_there(self, writer: str, descriptor: int) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), (self._folder / writer).stat())
        return False

    def sweep(self) -> None:
        with suppress(OSError):  # there are none, or they are on a disk that cannot be written
            for path in list(self._folder.iterdir()):
                if _WRITER.fullmatch(path.name):
                    with self.gone(path.name):
                        pass

    @contextmanager
    def gone(self, writer: str) -> Iterator[bool]:
        path = self._folder / str(writer)  # a database may hold anything
        try:
            descriptor = _opened(path) if _WRITER.fullmatch(str(writer)) else None
        except FileNotFoundError:
            yield True  # it took its file away when it closed
            return
        if descriptor is None:
            log.warning("found the writer %r, which has no lock of ours; it is let alone, verify the ledger", writer)
            yield False
            return
        try:
            taken = _taken_at_once(descriptor)
            yield taken
            if taken:
                with suppress(FileNotFoundError):
                    path.unlink()
        finally:
            os.close(descriptor)

    def close(self) -> None:
        if self._held is not None:
            self._held = None
            self._let_go()

    def forget(self) -> None:
        """In a process that was forked: what the other one holds is not ours."""
        self.close()


class _Alone:
    """A database in memory has one process, which does not outlive it."""

    def __init__(self) -> None:
        self._writer = uuid4().hex

    def me(self) -> str:
        return self._writer

    @contextmanager
    def gone(self, writer: str) -> Iterator[bool]:
        yield writer != self._writer

    def sweep(self) -> None:
        """Nothing is left of any."""

    def close(self) -> None:
        """There is nothing to give up."""


class _AdvisoryLocks:
    """Locks of PostgreSQL, each held by a connection of its own, which dies with its process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: tuple[str, Connection] | None = None
        _here.add(self)

    def me(self) -> str:
        if not self._database.is_postgresql:
            return _NOBODY
        if self._held is None:
            writer, connection = uuid4().hex, self._connection()
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _key(writer)})
            self._held = writer, connection
        return self._held[0]

    @contextmanager
    def gone(self, writer: str) -> Iterator[bool]:
        if not self._database.is_postgresql:
            yield False  # it cannot be asked for
            return
        with self._connection() as connection:
            taken = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _key(writer)}))
            try:
                yield taken
            finally:
                if taken:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _key(writer)})

    def sweep(self) -> None:
        """A lock ends with its session."""

    def close(self) -> None:
        if self._held is not None:
            self._held[1].invalidate()  # the lock ends with the session
            self._held[1].close()
            self._held = None

    def forget(self) -> None:
        """In a process that was forked: that connection is the other one's, and closing it would end it there."""
        if self._held is not None:
            _others.append(self._held[1])
            self._held = None

    def _connection(self) -> Connection:
        return self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def _opened(lock: Path) -> int | None:
    """The file of a lock, opened; None where something else lies there, which is not waited for nor followed.

    Raises:
        FileNotFoundError: nothing does.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError:  # a link, a folder, or not ours to open
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def _taken_at_once(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _let_go(path: Path, descriptor: int, pid: int) -> None:
    """Give a lock up; its file is taken away by the process that made it alone."""
    if os.getpid() == pid:
        with suppress(OSError):
            path.unlink()
    os.close(descriptor)


def _key(writer: str) -> int:
    """The number of a writer's advisory lock: a signed integer of 64 bits."""
    return int.from_bytes(hashlib.sha256(writer.encode()).digest()[:8], signed=True)


_here: "weakref.WeakSet[_FileLocks | _AdvisoryLocks]" = weakref.WeakSet()
_others: list[Connection] = []  # kept, so that nothing closes them


def _after_fork() -> None:
    for locks in list(_here):
        locks.forget()


os.register_at_fork(after_in_child=_after_fork)
