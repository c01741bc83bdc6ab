"""An index at one moment: parts, and which of their rows are alive. Immutable; a newer state shares what stayed."""

from __future__ import annotations

import bisect
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import IndexRows
from guardrail.errors import PictureNotKept
from guardrail.index.store.columns import COMPUTED, key_prefix, prefix_of, unpack
from guardrail.index.store.log import LogEnd
from guardrail.index.store.manifest import Manifest
from guardrail.index.store.part import FINDS, LogPart, Part
from guardrail.records import IndexHeader, Work

__all__ = ["Draft", "State", "Tail", "agrees", "continues", "stamp_of"]

_ROWS_AT_A_TIME = 1024
_LARGE_ROWS = 256  # of one record


class Tail:
    """Finds rows of the log by digest or key; only ever grows, so states of one generation share it."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, list[int]]] = {name: {} for name in FINDS}
        self._large: list[LogPart] = []
        self._next = 0

    def add(self, part: LogPart) -> None:
        """The rows of one more record; those that it knows, because a state of them was given up, it knows."""
        if part.first_id < self._next:
            return
        self._next = part.last_id + 1
        if part.count >= _LARGE_ROWS:  # sorted when it is first asked, not row by row
            self._large.append(part)
            return
        for name in FINDS:
            known = self._rows[name]
            for row, prefix in enumerate(part.prefixes(name).tolist(), start=part.first_id):
                known.setdefault(prefix, []).append(row)

    def find(self, name: str, prefix: int) -> list[int]:
        """The ids of the rows whose digest or key begins so."""
        found = list(self._rows[name].get(prefix, ()))
        for part in tuple(self._large):
            found += [part.first_id + position for position in part.find(name, prefix)]
        return found


@dataclass(frozen=True)
class State:
    """An index at one moment.

    Attributes:
        folder: where it lies.
        manifest: of its generation.
        parts: segments, then records of the log that add rows.
        alive: bool (M,), by row id; M is the id that the next row gets.
        end: how far the log was read.
        tail: finds rows of the log.
        banks: how many works are alive in each.
        stamp: what the manifest's file looked like.
    """

    folder: Path
    manifest: Manifest
    parts: tuple[Part, ...]
    alive: NDArray[np.bool_]
    end: LogEnd
    tail: Tail
    banks: Mapping[str, int]
    stamp: tuple[int, ...] = ()

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / self.manifest.log

    @cached_property
    def works(self) -> int:
        """How many works count."""
        return int(np.count_nonzero(self.alive))

    @cached_property
    def rows(self) -> int:
        """How many rows there are, alive or not."""
        return sum(part.count for part in self.parts)

    @cached_property
    def logged_rows(self) -> int:
        """How many of them are in the log."""
        return sum(part.count for part in self.parts if isinstance(part, LogPart))

    @property
    def snapshot(self) -> str:
        """The name of this state."""
        return self.manifest.snapshot if not self.end.length else self.end.chain.hex()

    @cached_property
    def header(self) -> IndexHeader:
        """What the index says of itself."""
        banks = {bank: count for bank, count in sorted(self.banks.items()) if count}
        return self.manifest.header(self.works, banks, self.rows - self.works, self.snapshot)

    @property
    def marks(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """The ids of all rows, ascending, and a mark of all that is said of each: int64 (n,), uint64 (n,)."""
        ids = np.concatenate([np.zeros(0, np.int64), *(part.ids for part in self.parts)])
        spans = [part.span("marks", 0, part.count) for part in self.parts]
        order = np.argsort(ids, kind="stable")
        return ids[order], np.concatenate([np.zeros(0, np.uint64), *spans])[order]

    @cached_property
    def _firsts(self) -> list[int]:
        return [part.first_id for part in self.parts]

    def place(self, row: int) -> tuple[Part, int]:
        """The part and position of a row.

        Raises:
            PictureNotKept: there is no such row in this state.
        """
        at = bisect.bisect_right(self._firsts, row) - 1
        while at >= 0:  # merged segments may reach over others
            position = self.parts[at].position(row)
            if position is not None:
                return self.parts[at], position
            at -= 1
        raise PictureNotKept(str(self.folder), row)

    def is_alive(self, row: int) -> bool:
        """Whether a row counts."""
        return 0 <= row < len(self.alive) and bool(self.alive[row])

    def work(self, row: int) -> Work:
        """The work of a row."""
        part, position = self.place(row)
        return part.work(position)

    def find_digest(self, which: str, digest: str) -> list[int]:
        """The rows that count whose file (`file`) or pixels (`pixels`) have this sha256, ascending."""
        wanted = np.frombuffer(bytes.fromhex(digest), np.uint8)
        found = []
        for part, position in self._candidates(which, prefix_of(digest)):
            if np.array_equal(part.span("digests", position, position + 1)[0, FINDS.index(which)], wanted):
                found.append(part.row_at(position))
        return sorted(found)

    def find_key(self, bank: str, work_id: str) -> int | None:
        """The row of a work, or None."""
        for part, position in self._candidates("key", key_prefix(bank, work_id)):
            said = part.line(position)["work"]
            if (said["bank"], said["work_id"]) == (bank, work_id):
                return part.row_at(position)
        return None

    def _candidates(self, name: str, prefix: int) -> Iterator[tuple[Part, int]]:
        for part in self.parts:
            if isinstance(part, LogPart):
                break  # the rest is in the tail
            for position in part.find(name, prefix):
                if self.is_alive(part.row_at(position)):
                    yield part, position
        for row in self.tail.find(name, prefix):
            if self.is_alive(row):
                yield self.place(row)

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Some rows of a column, by id."""
        if not len(rows):
            return next(part for part in self.parts if name in part.names).span(name, 0, 0)
        gathered: NDArray[Any] | None = None
        for part, which, positions in self._placed(rows):
            some = part.take(name, positions)
            if gathered is None:
                gathered = np.empty((len(rows), *some.shape[1:]), some.dtype)
            gathered[which] = some
        assert gathered is not None, "there are rows"
        return gathered

    def _placed(self, rows: NDArray[np.int64]) -> Iterator[tuple[Part, NDArray[np.int64], NDArray[np.int64]]]:
        """For each part that has some of the rows: which of them, and their positions in it.

        Raises:
            PictureNotKept: one is not there.
        """
        left = np.arange(len(rows))
        owners = np.searchsorted(np.array(self._firsts), rows, side="right") - 1
        while len(left):
            unplaced = []
            for owner in np.unique(owners[left]).tolist():
                which = left[owners[left] == owner]
                if owner < 0:
                    raise PictureNotKept(str(self.folder), int(rows[which[0]]))
                positions = self.parts[owner].positions(rows[which])
                there = positions >= 0
                if there.any():
                    yield self.parts[owner], which[there], positions[there]
                unplaced.append(which[~there])
            left = np.concatenate(unplaced)
            owners[left] -= 1  # merged segments may reach over others

    def batches(self, rows: Iterable[int] | None = None) -> Iterator[tuple[NDArray[np.int64], IndexRows]]:
        """All that is kept of works, some at a time, with their ids; by default of all that count."""
        wanted = np.flatnonzero(self.alive) if rows is None else np.array(list(rows), np.int64)
        for start in range(0, len(wanted), _ROWS_AT_A_TIME):
            yield from self._index_rows(wanted[start : start + _ROWS_AT_A_TIME])

    def _index_rows(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], IndexRows]]:
        """Rows as records again, those together that have the same columns."""
        placed = [self.place(int(row)) for row in rows]
        kinds = [int(part.standing["columns"][position]) for part, position in placed]
        cuts = [at for at in range(1, len(rows)) if kinds[at] != kinds[at - 1]]
        for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
            if start == stop:
                continue
            names = [name for at, name in enumerate(COMPUTED) if kinds[start] >> at & 1]
            arrays = {name: self.take(name, rows[start:stop]) for name in names}
            lines = [part.piece("rows", position) for part, position in placed[start:stop]]
            previews = [part.piece("previews", position) for part, position in placed[start:stop]]
            yield rows[start:stop], unpack(lines, arrays, previews)


def continues(before: State, now: State) -> bool:
    """Whether a state is a later one of the same history: no row number means another row than before.

    A row is told by a mark of all that is said of it, so a copy that went another way is seen whatever it is called.
    """
    if before.manifest.built_at != now.manifest.built_at:
        return False
    if before.manifest.snapshot == now.manifest.snapshot and now.parts[: len(before.parts)] == before.parts:
        return True
    ids, marks = before.marks
    return agrees(now, ids, marks)


def agrees(state: State, ids: NDArray[np.int64], marks: NDArray[np.uint64]) -> bool:
    """Whether rows that a state has are those with these marks; ids int64 (n,), ascending, marks uint64 (n,)."""
    theirs, known = state.marks
    if not len(ids) or not len(theirs):
        return True
    at = np.minimum(np.searchsorted(ids, theirs), len(ids) - 1)
    shared = ids[at] == theirs
    return bool(np.array_equal(marks[at[shared]], known[shared]))


@dataclass
class Draft:
    """A state in the making: changed in place, then frozen."""

    folder: Path
    manifest: Manifest
    parts: list[Part]
    end: LogEnd
    tail: Tail
    stamp: tuple[int, ...] = ()
    banks: Counter[str] = field(default_factory=Counter)
    size: int = 0
    _alive: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(1024, bool))

    @classmethod
    def of(cls, state: State) -> Draft:
        """A draft that goes on from a state."""
        draft = cls(state.folder, state.manifest, list(state.parts), state.end, state.tail, state.stamp)
        draft.banks = Counter(state.banks)
        draft._resize(len(state.alive))
        draft._alive[: len(state.alive)] = state.alive
        return draft

    def _resize(self, size: int) -> None:
        if size > len(self._alive):
            larger = np.zeros(max(size, 2 * len(self._alive)), bool)
            larger[: self.size] = self._alive[: self.size]
            self._alive = larger
        self.size = size

    def begin(self, parts: Iterable[Part], withdrawn: NDArray[np.int64]) -> None:
        """The segments, and the rows in them that do not count."""
        self.parts = sorted(parts, key=lambda part: part.first_id)
        self._resize(self.manifest.next_row)
        for part in self.parts:
            self._alive[part.ids] = True
        self._alive[withdrawn] = False
        for part in self.parts:
            counted = part.standing["bank"][self._alive[part.ids]]
            for bank, count in zip(part.banks, np.bincount(counted, minlength=len(part.banks)).tolist(), strict=True):
                self.banks[bank] += count

    def add(self, part: LogPart) -> None:
        """The rows of one record of the log."""
        if part.first_id < self.size:
            raise ValueError(f"rows from {part.first_id} on, but {self.size} is the next")
        self._resize(part.last_id + 1)
        self._alive[part.first_id : part.last_id + 1] = True
        self.parts.append(part)
        self.tail.add(part)
        for bank, count in zip(
            part.banks, np.bincount(part.standing["bank"], minlength=len(part.banks)).tolist(), strict=True
        ):
            self.banks[bank] += count

    def withdraw(self, rows: NDArray[np.int64]) -> None:
        """Rows that count no longer."""
        firsts = [part.first_id for part in self.parts]
        for row in rows.tolist():
            if not (0 <= row < self.size and self._alive[row]):
                continue
            self._alive[row] = False
            at = bisect.bisect_right(firsts, row) - 1
            while (position := self.parts[at].position(row)) is None:
                at -= 1
            part = self.parts[at]
            self.banks[part.banks[int(part.standing["bank"][position])]] -= 1

    def frozen(self) -> State:
        """The state."""
        alive = self._alive[: self.size].copy()
        alive.flags.writeable = False
        banks = {bank: count for bank, count in self.banks.items() if count}
        return State(self.folder, self.manifest, tuple(self.parts), alive, self.end, self.tail, banks, self.stamp)


def stamp_of(path: Path) -> tuple[int, ...]:
    """What tells that a file was put in the place of another."""
    stat = os.stat(path)  # noqa: PTH116 - called for every search
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)
