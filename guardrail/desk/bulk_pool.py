"""Spread reading over processes: answers in order, in bounded memory, and a process that dies costs one picture.

`concurrent.futures` gives up all that is under way when one process dies, and does not say whose fault it was.
"""

import contextlib
import io
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

__all__ = ["Lost", "Spread", "default_workers", "packed"]

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

_AHEAD = 64  # tasks handed out beforehand, so that workers go on while the embedder computes
_AHEAD_EACH = 2  # at least
_HELD_BYTES = 512 * 2**20  # answers that wait for their turn; beyond it no more is handed out
_LONGEST_TASK_S = 300.0  # from a decoder that hangs
_LONGEST_START_S = 120.0  # from a worker that does not come up
_LOOK_AGAIN_S = 1.0
_TRIES = 2  # of a task whose process ends: that may have been another's fault


def default_workers() -> int:
    """One process for each core but one, which the embedder has."""
    return max(0, len(os.sched_getaffinity(0)) - 1) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) - 1


@dataclass(frozen=True, slots=True)
class Lost:
    """A task that has no answer, because its process ended: why."""

    reason: str


class Spread(Generic[Asked, Answered]):
    """Does one thing to many, in worker processes that start afresh (spawn); answers come in the order asked.

    Args:
        work: what to do; can be pickled.
        workers: how many processes; with 0 it is done in this one.
        longest_s: seconds after which a task's process is ended.
    """

    def __init__(self, work: Callable[[Asked], Answered], workers: int, *, longest_s: float = _LONGEST_TASK_S) -> None:
        self._work = work
        self._workers = workers
        self._longest_s = longest_s

    def __call__(self, asked: Iterable[Asked]) -> Iterator[Answered | Lost]:
        """The answers to some tasks, each when its turn has come; a few tasks are taken ahead."""
        if self._workers <= 0:
            yield from (_guarded(self._work, task) for task in asked)
            return
        run: _Run[Asked, Answered] = _Run(pickle.dumps(self._work), self._workers, self._longest_s)
        try:
            yield from run.answers(iter(asked))
        finally:
            run.stop()


@dataclass(slots=True)
class _Worker:
    """A process, the tasks it has in hand, oldest first, and since when it has been at the oldest."""

    process: Any
    pipe: Any
    in_hand: deque[tuple[int, Any]] = field(default_factory=deque)
    since: float = field(default_factory=time.monotonic)
    ready: bool = False
    ended: str = ""
    too_slow: bool = False


class _Run(Generic[Asked, Answered]):
    """One pass over some tasks. A thread for each worker takes in what it answers; all else the caller's thread does.

    In memory are at most `_HELD_BYTES` of answers and what `_AHEAD` tasks make of it.
    """

    def __init__(self, work: bytes, workers: int, longest_s: float) -> None:
        self._work, self._longest_s, self._wanted = work, longest_s, workers
        self._changed = threading.Condition()
        self._answers: dict[int, bytes | Lost] = {}
        self._held_bytes = 0
        self._next = 0
        self._tried: Counter[int] = Counter()
        self._workers: list[_Worker] = []

    def answers(self, asked: Iterator[Asked]) -> Iterator[Answered | Lost]:
        """Hand tasks out and answers back."""
        number, left = 0, True
        while left or self._next < number:
            self._mend()
            while left and (worker := self._free()) is not None:
                try:
                    task = next(asked)
                except StopIteration:
                    left = False
                    break
                self._hand(worker, number, task)
                number += 1
            if self._next < number and (found := self._take()) is not None:
                yield pickle.loads(found) if isinstance(found, bytes) else found  # noqa: S301 - from our own worker

    def _free(self) -> _Worker | None:
        """The worker with the least in hand, unless all have enough or too much waits already."""
        most = max(_AHEAD // self._wanted, _AHEAD_EACH)
        with self._changed:
            if self._held_bytes > _HELD_BYTES or len(self._answers) >= _AHEAD:
                return None
            least = min(self._workers, key=lambda worker: len(worker.in_hand))
            return least if len(least.in_hand) < most else None

    def _hand(self, worker: _Worker, number: int, task: Asked) -> None:
        with self._changed:
            if not worker.in_hand:
                worker.since = time.monotonic()
            worker.in_hand.append((number, task))
        with contextlib.suppress(OSError):  # it has died: its listener says so, and its tasks are handed out again
            worker.pipe.send_bytes(pickle.dumps(task, protocol=pickle.HIGHEST_PROTOCOL))

    def _take(self) -> bytes | Lost | None:
        """The answer whose turn it is, or None if a worker ended meanwhile."""
        with self._changed:
            while self._next not in self._answers:
                if any(worker.ended for worker in self._workers):
                    return None
                self._changed.wait(_LOOK_AGAIN_S)
                self._end_the_slow()
            answer = self._answers.pop(self._next)
            self._next += 1
            self._held_bytes -= len(answer) if isinstance(answer, bytes) else 0
        return answer

    def _end_the_slow(self) -> None:
        for worker in self._workers:
            allowed_s = self._longest_s if worker.ready else _LONGEST_START_S
            if worker.in_hand and not worker.ended and time.monotonic() - worker.since > allowed_s:
                worker.too_slow = True
                worker.process.kill()

    def _mend(self) -> None:
        """Start what workers are missing; the tasks of a dead one go to its successor, or are lost.

        Raises:
            RuntimeError: a worker ended before it was ready for work.
        """
        for worker in [worker for worker in self._workers if worker.ended]:
            self._workers.remove(worker)
            worker.pipe.close()
            if not worker.ready:
                found = f"a worker process that ended before it could work ({worker.ended})"
                raise RuntimeError(f"{found}, expected one that starts; run with --workers 0 to see why")
            self._give_up(worker)
            fresh = self._start()
            for number, task in worker.in_hand:
                self._hand(fresh, number, task)
        while len(self._workers) < self._wanted:
            self._start()

    def _give_up(self, worker: _Worker) -> None:
        """Answer for the task that a worker was at when it ended, once it has been tried often enough."""
        if not worker.in_hand:
            return
        number, _ = worker.in_hand[0]
        self._tried[number] += 1
        if self._tried[number] < _TRIES and not worker.too_slow:
            return
        why = f"it took longer than {self._longest_s:g} s" if worker.too_slow else worker.ended
        with self._changed:
            worker.in_hand.popleft()
            self._answers[number] = Lost(f"the process that read it ended ({why})")

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        """Take in what a worker answers, as long as it lives."""
        try:
            worker.pipe.recv_bytes()
            with self._changed:
                worker.ready, worker.since = True, time.monotonic()
            while True:
                answer = worker.pipe.recv_bytes()
                with self._changed:
                    number, _ = worker.in_hand.popleft()
                    worker.since = time.monotonic()
                    self._answers[number] = answer
                    self._held_bytes += len(answer)
                    self._changed.notify_all()
        except (EOFError, OSError):
            worker.process.join()
            with self._changed:
                worker.ended = _why(worker.process.exitcode)
                self._changed.notify_all()

    def stop(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()


def _why(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"{name}; out of memory, perhaps" if name == "SIGKILL" else name
    return f"exit code {exitcode}"


def _guarded(work: Callable[[Asked], Answered], task: Asked) -> Answered | Lost:
    try:
        return work(task)
    except Exception as error:  # noqa: BLE001 - whatever one task does, the others are done
        return Lost(f"{type(error).__name__}: {error}")


class _Pickler(pickle.Pickler):
    """Pickles tensors as plain bytes: torch's own way leaves files or shared memory behind when a process dies."""

    def reducer_override(self, obj: Any) -> Any:
        """Tensors as arrays."""
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(obj, torch.Tensor):
            return torch.from_numpy, (obj.contiguous().numpy(),)
        return NotImplemented


def packed(value: Any) -> bytes:
    """Anything, pictures too, as bytes for `pickle.loads`."""
    whole = io.BytesIO()
    _Pickler(whole, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return whole.getvalue()


def _serve(pipe: Any, work: bytes) -> None:
    """A worker's whole life: do tasks until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks
    function = pickle.loads(work)  # noqa: S301 - from our own parent
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    with contextlib.suppress(EOFError, OSError):
        pipe.send_bytes(b"ready")
        while True:
            task = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from our own parent
            pipe.send_bytes(packed(_guarded(function, task)))
