"""Processes that are forked while a SQLite file is open: who forks waits for transactions, and takes no file along."""

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["ForkGate"]

_WAIT_S = 10.0  # that a fork waits for transactions of other threads


class ForkGate:
    """Transactions go through; a fork waits until none is on, and has all connections closed before it happens.

    SQLite keeps its locks on files by process, in memory that a fork copies, while the locks themselves stay with the
    parent: a child that went on with an open file would believe itself locked out of nothing. Connections that are idle
    hold a lock, too, in WAL mode. So none is left when the process is copied.

    Args:
        close_idle: closes the connections that nobody uses.

    Source: sqlite.org, "How To Corrupt An SQLite Database File", section 2.6.
    """

    def __init__(self, close_idle: Callable[[], None]) -> None:
        self._close_idle = close_idle
        self._changed = threading.Condition()
        self._inside: dict[int, int] = {}  # transactions, one in another, by thread
        self.is_tainted = False
        _gates.add(self)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Around a transaction."""
        thread = threading.get_ident()
        with self._changed:
            self._inside[thread] = self._inside.get(thread, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._inside[thread] -= 1
                if not self._inside[thread]:
                    del self._inside[thread]
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait for transactions, and let none begin until the process is copied."""
        self._changed.acquire()
        own = threading.get_ident()
        self._changed.wait_for(lambda: not self._inside.keys() - {own}, _WAIT_S)
        if not self._inside:
            self._close_idle()

    def after_fork_in_parent(self) -> None:
        """Let transactions begin again."""
        self._changed.release()

    def after_fork_in_child(self) -> None:
        """Threads are gone here; where one was in a transaction, this database is not to be used any more."""
        self.is_tainted = self.is_tainted or bool(self._inside)
        self._changed, self._inside = threading.Condition(), {}


_gates: "weakref.WeakSet[ForkGate]" = weakref.WeakSet()
_forking: list[ForkGate] = []  # those that the fork under way holds
_one_fork_at_a_time = threading.Lock()


def _before() -> None:
    _one_fork_at_a_time.acquire()
    _forking[:] = list(_gates)
    for gate in _forking:
        gate.before_fork()


def _after_in_parent() -> None:
    for gate in _forking:
        gate.after_fork_in_parent()
    _forking.clear()
    _one_fork_at_a_time.release()


def _after_in_child() -> None:
    for gate in _forking:
        gate.after_fork_in_child()
    _forking.clear()
    _one_fork_at_a_time.release()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
