"""Deliveries under way, a few at once: a receiver that is slow keeps its own organisation waiting, and no other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from guardrail.desk.web.delivering import deliver

if TYPE_CHECKING:
    from guardrail.desk.web.desk import Desk
    from guardrail.memory import DueDelivery, DueHook

__all__ = ["Sending"]

log = logging.getLogger("guardrail.desk")

_PLACES = 4  # deliveries under way at once, in this process
_PLACES_OF_ONE = 2  # of one organisation: the others are always left some


class Sending:
    """What is being sent. To one webhook one thing goes at a time, and whoever was served longest ago is next.

    Args:
        desk: whose deliveries.
        freed: called when a place is free again, in another thread.
    """

    def __init__(self, desk: Desk, freed: Callable[[], None]) -> None:
        self._desk, self._freed = desk, freed
        self._lock = threading.Lock()
        self._under_way: dict[str, tuple[str, Future[None]]] = {}  # by webhook: organisation, and its end
        self._turns: dict[str, int] = {}  # of organisations and webhooks: when they were served last
        self._turn = 0
        self._pool: ThreadPoolExecutor | None = None

    def begin(self) -> bool:
        """Send what is due, as far as places are free; returns whether anything was begun, without waiting for it.

        Raises:
            MemoryUnwritable: deliveries cannot be read or written.
        """
        with self._lock:
            if len(self._under_way) >= _PLACES:
                return False
            waiting, begun = list(self._desk.memory.webhooks.due()), False
            while (hook := self._next(waiting)) is not None:
                waiting.remove(hook)
                due = self._desk.memory.webhooks.take(hook.webhook_id)
                if due is not None:
                    self._send(hook, due)
                    begun = True
            return begun

    def wait(self) -> None:
        """Wait until what is under way has ended."""
        with self._lock:
            ends = [end for _, end in self._under_way.values()]
        wait(ends)

    def close(self) -> None:
        """Wait for what is under way, and give the threads back; more can be begun afterwards."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def _next(self, waiting: list[DueHook]) -> DueHook | None:
        """Whose turn it is; None where no place is free, or nobody waits who may have one."""
        busy = [organisation for organisation, _ in self._under_way.values()]
        if len(busy) >= _PLACES:
            return None
        may = [
            one
            for one in waiting
            if one.webhook_id not in self._under_way and busy.count(one.organisation) < _PLACES_OF_ONE
        ]
        served = self._turns
        return min(
            may,
            key=lambda one: (served.get(one.organisation, 0), served.get(one.webhook_id, 0), one.due_at),
            default=None,
        )

    def _send(self, hook: DueHook, due: DueDelivery) -> None:
        self._turn += 1
        self._turns[hook.organisation] = self._turns[hook.webhook_id] = self._turn
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_PLACES, thread_name_prefix="guardrail-sending")
        end = self._pool.submit(self._sent, hook, due)
        self._under_way[hook.webhook_id] = (hook.organisation, end)

    def _sent(self, hook: DueHook, due: DueDelivery) -> None:
        try:
            sent = deliver(due, private=self._desk.settings.desk.webhook_private)
            state = self._desk.memory.webhooks.settle(due.delivery_id, sent.status, sent.error)
            log.info("delivery %s of %s: %s %s, %s", due.delivery_id, due.event, sent.status, sent.error, state)
        except Exception:  # the place must become free: what was not settled is due again in a minute
            log.exception("delivery %s of %s could not be settled, and goes out again", due.delivery_id, due.event)
        finally:
            with self._lock:
                del self._under_way[hook.webhook_id]
            self._freed()
