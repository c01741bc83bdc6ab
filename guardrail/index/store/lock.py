"""One writer at a time: a lock on a file of the index, which says who holds it. Readers never look at it."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from guardrail.errors import IndexLocked

__all__ = ["LOCK", "writer_lock"]

LOCK = "LOCK"
_ASK_AGAIN_S = 0.01


@contextmanager
def writer_lock(folder: Path, wait_s: float, name: str = LOCK) -> Iterator[None]:
    """Hold the lock of an index. It is the kernel's: a process that dies gives it up.

    Args:
        folder: the index.
        wait_s: how long to wait for another writer, in seconds.
        name: of the file that is locked.

    Raises:
        IndexLocked: another writer still holds it.
        OSError: the folder cannot be written.
    """
    descriptor = _taken(folder, name, time.monotonic() + wait_s)
    holding = os.getpid()
    try:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat("T", "seconds"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        if os.getpid() == holding:  # a process that was forked meanwhile gives nothing up
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # even if a child has it open still
        os.close(descriptor)


def _taken(folder: Path, name: str, until: float) -> int:
    """A descriptor that holds the lock of the file that has this name now, not of one that was replaced meanwhile."""
    while True:
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _take(descriptor, folder, until)
            with contextlib.suppress(FileNotFoundError):  # replaced by one that nobody locked yet
                if os.path.samestat(os.fstat(descriptor), os.stat(folder / name)):  # noqa: PTH116
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _take(descriptor: int, folder: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise IndexLocked(str(folder), _holder(descriptor)) from None
            time.sleep(_ASK_AGAIN_S)
        else:
            return


def _holder(descriptor: int) -> str:
    try:
        said = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {said['pid']} on {said['host']} since {said['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
