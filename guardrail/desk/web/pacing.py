"""How often somebody may try: waits that grow with wrong sign-ins, and so many requests a minute for a token.

Both are kept in this process: they begin anew with it, and several processes count apart.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Pace", "Tries"]

_FREE_TRIES = 5  # wrong ones before one must wait
_FIRST_WAIT_S = 2.0
_LONGEST_WAIT_S = 900.0
_FORGOTTEN_AFTER_S = 3600.0  # a wrong try counts no longer
_MOST_KEYS = 100_000  # who is remembered; beyond that, who was heard of longest ago is forgotten


class Tries:
    """Wrong tries by key (an address, an email); usable in threads.

    Args:
        free: how many wrong ones need no wait.
        clock: seconds that only go forward; another one in tests.
    """

    def __init__(self, free: int = _FREE_TRIES, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = free
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: OrderedDict[bytes, tuple[int, float]] = OrderedDict()  # how many, until when one waits

    def wait_s(self, *keys: str) -> float:
        """How long the next try must wait, in seconds; 0 where it need not."""
        with self._lock:
            now = self._clock()
            return max((self._until(key, now) - now for key in map(_digest, keys)), default=0.0)

    def _until(self, key: bytes, now: float) -> float:
        return max(self._wrong.get(key, (0, now))[1], now)

    def wrong(self, *keys: str) -> None:
        """Count a wrong try: after five, each doubles the wait, up to 15 minutes."""
        with self._lock:
            now = self._clock()
            for key in map(_digest, keys):
                count, until = self._wrong.pop(key, (0, now))
                count = 1 if now - until > _FORGOTTEN_AFTER_S else count + 1
                over = min(count - self._free, 32)
                wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (over - 1)) if over > 0 else 0.0
                self._wrong[key] = (count, now + wait_s)
            while len(self._wrong) > _MOST_KEYS:
                self._wrong.popitem(last=False)

    def back(self, *keys: str) -> None:
        """Take one wrong try back that was none; those before it still count."""
        with self._lock:
            for key in map(_digest, keys):
                count, until = self._wrong.pop(key, (0, 0.0))
                if count > 1:
                    self._wrong[key] = (count - 1, self._clock() if count <= self._free + 1 else until)

    def right(self, *keys: str) -> None:
        """Forget the wrong tries of somebody who was right."""
        with self._lock:
            for key in map(_digest, keys):
                self._wrong.pop(key, None)


class Pace:
    """So many requests a minute by key, and at once as many as a quarter of them; usable in threads.

    Args:
        per_minute: how many.
        clock: seconds that only go forward; another one in tests.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_minute / 60
        self._most = max(1.0, per_minute / 4)
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests left, as of when

    def wait_s(self, key: str) -> float:
        """Take one request; 0 where it may go on, else how long it must wait, in seconds."""
        with self._lock:
            now = self._clock()
            left, at = self._left.pop(key, (self._most, now))
            left = min(self._most, left + (now - at) * self._per_s)
            goes = left >= 1
            self._left[key] = (left - 1 if goes else left, now)
            while len(self._left) > _MOST_KEYS:
                self._left.popitem(last=False)
            return 0.0 if goes else (1 - left) / self._per_s


def _digest(key: str) -> bytes:
    """Keys are kept as digests: a process that is dumped names nobody."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
