"""A part of an index: some rows, on disk as a segment or in memory as a batch of the log."""

import json
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import IndexDamaged
from guardrail.index.store.columns import COMPUTED, Packed
from guardrail.records import Work

__all__ = ["FINDS", "LogPart", "Part"]

FINDS = ("file", "pixels", "key")


class Part(ABC):
    """Some rows of an index; a position counts them from 0.

    Attributes:
        place: where it lies, for people.
        count: how many rows.
        first_id, last_id: the smallest and the largest row id.
        standing: STANDING (count,), see `columns`.
        banks: the names that `standing["bank"]` counts into.
    """

    place: str
    count: int
    first_id: int
    last_id: int
    standing: NDArray[Any]
    banks: tuple[str, ...]

    @property
    @abstractmethod
    def ids(self) -> NDArray[np.int64]:
        """The rows' ids, int64 (count,), ascending."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The computed columns that it has."""

    @abstractmethod
    def codes(self, name: str) -> NDArray[np.uint8]:
        """All codes of a hash, uint8 (count, B)."""

    @abstractmethod
    def span(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows start .. stop - 1 of a column."""

    @abstractmethod
    def piece(self, name: str, position: int) -> bytes:
        """The line (`rows`) or the JPEG (`previews`) of a row."""

    @abstractmethod
    def find(self, name: str, prefix: int) -> list[int]:
        """The positions whose digest or key begins so; `name` is one of `FINDS`."""

    def having(self, name: str) -> NDArray[np.bool_]:
        """Which rows have a computed column, bool (count,)."""
        return (self.standing["columns"] >> COMPUTED.index(name)) & 1 > 0

    def take(self, name: str, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Some rows of a column; runs of neighbours are read in one go."""
        order = np.argsort(positions, kind="stable")
        wanted = positions[order]
        cuts = np.flatnonzero(np.diff(wanted) > 1) + 1
        runs = [run for run in np.split(wanted, cuts) if len(run)]
        pieces = [self.span(name, int(run[0]), int(run[-1]) + 1)[run - run[0]] for run in runs]
        gathered = np.concatenate(pieces) if pieces else self.span(name, 0, 0)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return gathered[back]

    def line(self, position: int) -> dict[str, Any]:
        """What is written of a row: its work, file and digests."""
        try:
            said: dict[str, Any] = json.loads(self.piece("rows", position))
        except ValueError as error:
            raise IndexDamaged(self.place, f"a line that cannot be read ({error})", "one work a line") from error
        return said

    def work(self, position: int) -> Work:
        """The work of a row."""
        return Work.model_validate(self.line(position)["work"])

    def position(self, row: int) -> int | None:
        """Where a row id is, or None."""
        if not self.first_id <= row <= self.last_id:
            return None
        if self.last_id - self.first_id + 1 == self.count:
            return row - self.first_id
        at = int(np.searchsorted(self.ids, row))
        return at if int(self.ids[at]) == row else None

    def row_at(self, position: int) -> int:
        """The row id at a position."""
        if self.last_id - self.first_id + 1 == self.count:
            return self.first_id + position
        return int(self.ids[position])

    def positions(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where row ids are, int64 of their shape; -1 for those that are not there."""
        if self.last_id - self.first_id + 1 == self.count:
            return np.where((rows >= self.first_id) & (rows <= self.last_id), rows - self.first_id, -1)
        ids = self.ids
        at = np.minimum(np.searchsorted(ids, rows), max(self.count - 1, 0))
        return np.where(ids[at] == rows, at, -1) if self.count else np.full(len(rows), -1, np.int64)

    def packed(self, positions: NDArray[np.int64]) -> Packed:
        """Some of its rows as columns."""
        columns: dict[str, NDArray[Any]] = {"standing": self.standing[positions]}
        columns["digests"] = self.take("digests", positions)
        columns |= {name: self.take(name, positions) for name in ("keys", "marks")}
        columns |= {name: self.take(name, positions) for name in self.names}
        for name, start in (("rows", "row_starts"), ("previews", "preview_starts")):
            pieces = [self.piece(name, int(at)) for at in positions]
            columns[name] = np.frombuffer(b"".join(pieces), np.uint8)
            columns[start] = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        return Packed(self.banks, columns)


class LogPart(Part):
    """The rows of one record of the log, in memory. Digests and keys are found through the state's tail.

    Args:
        first_id: the id of its first row; the others follow.
        packed: its rows.
    """

    def __init__(self, first_id: int, packed: Packed) -> None:
        self.place, self.count = "log", len(packed)
        self.first_id, self.last_id = first_id, first_id + self.count - 1
        self.columns = packed.columns
        self.standing = packed.columns["standing"]
        self.banks = packed.banks
        self._sorted: dict[str, tuple[NDArray[np.uint64], NDArray[np.int64]]] = {}

    @property
    def ids(self) -> NDArray[np.int64]:
        """See `Part.ids`."""
        return np.arange(self.first_id, self.last_id + 1)

    @property
    def names(self) -> tuple[str, ...]:
        """See `Part.names`."""
        return tuple(name for name in COMPUTED if name in self.columns)

    def codes(self, name: str) -> NDArray[np.uint8]:
        """See `Part.codes`."""
        return self.columns[name]

    def span(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """See `Part.span`."""
        return self.columns[name][start:stop]

    def piece(self, name: str, position: int) -> bytes:
        """See `Part.piece`."""
        starts = self.columns["row_starts" if name == "rows" else "preview_starts"]
        return self.columns[name][starts[position] : starts[position + 1]].tobytes()

    def prefixes(self, name: str) -> NDArray[np.uint64]:
        """The first 8 bytes of the digests or keys, uint64 (count,)."""
        if name == "key":
            return self.columns["keys"]
        digests = np.ascontiguousarray(self.columns["digests"][:, FINDS.index(name), :8])
        return digests.view("<u8")[:, 0]

    def find(self, name: str, prefix: int) -> list[int]:
        """See `Part.find`."""
        if name not in self._sorted:
            prefixes = self.prefixes(name)
            order = np.argsort(prefixes, kind="stable")
            self._sorted[name] = (prefixes[order], order)
        prefixes, order = self._sorted[name]
        first, last = (int(np.searchsorted(prefixes, np.uint64(prefix), side)) for side in ("left", "right"))
        return [int(at) for at in order[first:last]]
