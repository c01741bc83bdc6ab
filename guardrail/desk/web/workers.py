"""The threads beside the pages: one does jobs, one has events sent, and both go on after a restart; one tidies up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from guardrail.desk.web.problems import problem_of
from guardrail.desk.web.sending import Sending
from guardrail.errors import GuardrailError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guardrail.desk.web.desk import Desk
    from guardrail.memory import JobRow

__all__ = ["Workers"]

log = logging.getLogger("guardrail.desk")

_LOOK_EVERY_S = 0.5  # for jobs and deliveries that other processes entered; own ones are told at once
_HOLD_EVERY_S = 10.0  # a third of a job's lease
_TIDIED_AFTER_S = 60.0  # since the start, when it is busy enough
_TIDIED_EVERY_S = 86_400.0  # a day
_TIDIED_AGAIN_S = 3600.0  # after it failed
_FOR_GOOD_BELOW = 500  # HTTP status of a problem that trying again cannot mend


class Workers:
    """The threads of one desk.

    Args:
        desk: whose jobs and deliveries.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._nudges = {"jobs": threading.Event(), "deliveries": threading.Event()}
        self._sending = Sending(desk, self._nudges["deliveries"].set)

    def start(self) -> None:
        """Begin; a second time changes nothing."""
        if self._threads:
            return
        self._stopping.clear()
        for name, work in (("jobs", self.work_once), ("deliveries", self._sending.begin)):
            thread = threading.Thread(target=self._loop, args=(name, work), name=f"guardrail-{name}", daemon=True)
            self._threads.append(thread)
        self._threads.append(threading.Thread(target=self._tidy_daily, name="guardrail-tidying", daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is at hand, and end; a job that is running is finished first."""
        self._stopping.set()
        self.nudge()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._sending.close()

    @property
    def alive(self) -> bool:
        """Whether all threads that were started still run."""
        return all(thread.is_alive() for thread in self._threads)

    def nudge(self) -> None:
        """Have the threads look at once, because something was entered."""
        for event in self._nudges.values():
            event.set()

    def _loop(self, name: str, work: Callable[[], bool]) -> None:
        nudge = self._nudges[name]
        while not self._stopping.is_set():
            nudge.clear()
            try:
                busy = work()
            except Exception:  # the thread must live on: a store may be back in a moment
                log.exception("the worker for %s stumbled, and goes on", name)
                busy = False
            if not busy:
                nudge.wait(_LOOK_EVERY_S)

    def work_once(self) -> bool:
        """Do one job, if one is due; returns whether there was one.

        Raises:
            MemoryUnwritable: jobs cannot be read or written.
        """
        job = self._desk.memory.jobs.take(self._desk.handlers)
        if job is None:
            return False
        try:
            with self._held(job):
                answer = self._desk.handlers[job.kind](job)
        except Exception as error:  # noqa: BLE001 - whatever a job raises is its answer, and it is tried again
            problem = problem_of(error)
            log.warning("job %s (%s) failed at try %d: %r", job.job_id, job.kind, job.attempts, error)
            said = {"problem": problem.model_dump(exclude_none=True)}
            self._desk.memory.jobs.fail(job, said, for_good=problem.status < _FOR_GOOD_BELOW)
        else:
            released = job.kind == "release" and answer.get("released") is True
            self._desk.memory.jobs.finish(job, answer, "case.released" if released else None)
            self.nudge()
        return True

    @contextmanager
    def _held(self, job: JobRow) -> Iterator[None]:
        """Hold a job on while it is worked on, so that no other worker takes it for lost."""
        done = threading.Event()

        def hold() -> None:
            while not done.wait(_HOLD_EVERY_S):
                try:
                    self._desk.memory.jobs.progress(job)
                except GuardrailError as error:
                    log.warning("job %s could not be held: %s", job.job_id, error)

        holder = threading.Thread(target=hold, name="guardrail-hold", daemon=True)
        holder.start()
        try:
            yield
        finally:
            done.set()
            holder.join()

    def deliver_once(self) -> bool:
        """Send the deliveries that are due, and wait for how they went; returns whether there were any.

        Raises:
            MemoryUnwritable: deliveries cannot be read or written.
        """
        any_were = False
        while self._sending.begin():
            any_were = True
            self._sending.wait()
        return any_were

    def tidy_once(self) -> tuple[int, int]:
        """Delete what is older than it may be kept, and pictures that nothing names.

        Returns:
            How many cases were purged, and how many pictures that nothing named were taken away.

        Raises:
            MemoryUnwritable: some are left.
        """
        purged, swept = self._desk.memory.reviews.purge(), len(self._desk.memory.sweep_pictures())
        log.info("tidied up: %d cases purged, %d pictures that nothing named taken away", purged, swept)
        return purged, swept

    def _tidy_daily(self) -> None:
        pause_s = _TIDIED_AFTER_S
        while not self._stopping.wait(pause_s):
            try:
                self.tidy_once()
            except Exception:  # the thread must live on: a store may be back in an hour
                log.exception("tidying up failed, and is tried again later")
                pause_s = _TIDIED_AGAIN_S
            else:
                pause_s = _TIDIED_EVERY_S
