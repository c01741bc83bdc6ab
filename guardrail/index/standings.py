"""Which rows of an index count at a moment, and as what: dates pass while it is open."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.index.scans.base import Allowed
from guardrail.index.store.columns import NEVER, micros, standing_at
from guardrail.index.store.part import Part
from guardrail.index.store.state import State
from guardrail.index.structures import HASHES, vector_columns

__all__ = ["Standings"]


class _OfPart(NamedTuple):
    """What the rows of a part mean between two moments, in microseconds since 1970."""

    part: Part
    since: int
    protected: NDArray[np.bool_]
    others: NDArray[np.bool_]
    until: int


class _Answer(NamedTuple):
    """What the rows of a state mean between two moments: the protected ones, and the others, by column."""

    state: State
    since: int
    until: int
    both: tuple[Mapping[str, Allowed], Mapping[str, Allowed]]


class Standings:
    """Remembers what the rows of each part mean until a date passes, and the last answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_part: dict[int, _OfPart] = {}
        self._last: _Answer | None = None

    def allowed(self, state: State, at: datetime) -> tuple[Mapping[str, Allowed], ...]:
        """The rows that are protected at a moment, and the others that count then: by column, which may be searched.

        Either is left out where there are none.
        """
        return tuple(one for one in self._both(state, at) if one["pdq"].count)

    def protected(self, state: State, at: datetime) -> NDArray[np.bool_]:
        """Which rows are protected at a moment: bool (M,), by row id."""
        return self._both(state, at)[0]["pdq"].flags

    def _both(self, state: State, at: datetime) -> tuple[Mapping[str, Allowed], Mapping[str, Allowed]]:
        now = micros(at)
        with self._lock:
            if self._last is None or self._last.state is not state or not self._last.since <= now < self._last.until:
                self._last = self._made(state, at, now)
            return self._last.both

    def _made(self, state: State, at: datetime, now: int) -> _Answer:
        protected, others = np.zeros(len(state.alive), bool), np.zeros(len(state.alive), bool)
        until = int(NEVER)
        known: dict[int, _OfPart] = {}
        for part in state.parts:
            entry = self._of_part.get(id(part))
            if entry is None or entry.part is not part or not entry.since <= now < entry.until:
                entry = _OfPart(part, now, *standing_at(part.standing, at))
            known[id(part)] = entry
            ids = part.ids
            protected[ids], others[ids] = entry.protected, entry.others
            until = min(until, entry.until)
        self._of_part = known
        protected &= state.alive
        others &= state.alive
        return _Answer(state, now, until, (_by_column(state, protected), _by_column(state, others)))


def _by_column(state: State, flags: NDArray[np.bool_]) -> Mapping[str, Allowed]:
    allowed = Allowed(flags)
    columns = vector_columns(state.header)
    each = {name: allowed if count == 1 else allowed.each(count) for name, count in columns.items()}
    return dict.fromkeys(HASHES, allowed) | each
