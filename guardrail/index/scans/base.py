"""What a scan is: an immutable structure over some rows that finds candidates for a query."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["FARTHEST_BITS", "Allowed", "HashScan", "VectorBlocks", "VectorScan"]

FARTHEST_BITS = int(np.iinfo(np.int32).max)
"""The distance beside id -1, where there are no more codes; vectors have similarity -1 there."""


@dataclass(frozen=True)
class Allowed:
    """Which rows count at a moment: not withdrawn, and of the standing that is sought.

    Attributes:
        flags: bool (M,), by row id; an id of M or more does not count. Never written to.
    """

    flags: NDArray[np.bool_]

    @cached_property
    def packed(self) -> NDArray[np.uint8]:
        """The flags as bits, least significant first: uint8 (ceil(M / 8),)."""
        return np.packbits(self.flags, bitorder="little")

    @cached_property
    def count(self) -> int:
        """How many rows count."""
        return int(np.count_nonzero(self.flags))

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """The ids that count, ascending: int64 (count,). Asked for where they are few."""
        return np.flatnonzero(self.flags)

    def has(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some ids count: bool, of their shape. A negative id (none) does not."""
        within = (ids >= 0) & (ids < len(self.flags))
        return within & self.flags[np.where(within, ids, 0)] if len(self.flags) else within

    def of(self, rows: object, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the ids of a structure's rows count, remembered: it is asked for every search.

        Args:
            rows: the rows; the same object has the same ids always.
            ids: their ids, int64 (n,).
        """
        known: dict[int, tuple[object, NDArray[np.bool_]]] = self.__dict__.setdefault("_of", {})
        entry = known.get(id(rows))
        if entry is None or entry[0] is not rows:
            entry = known[id(rows)] = (rows, self.has(ids))
        return entry[1]

    def each(self, times: int) -> Allowed:
        """The same for ids that stand `times` for every row: id * times + 0 .. times - 1."""
        return Allowed(np.repeat(self.flags, times))


class VectorBlocks(Protocol):
    """Stored vectors, read a piece at a time, so that a structure is made without holding all of them in memory."""

    def __len__(self) -> int:
        """How many there are."""

    @property
    def dimensions(self) -> int:
        """D, of every vector."""

    def blocks(self, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """All vectors, in ascending order of their ids: ids int64 (n,) and vectors float16 (n, D), n <= size."""

    def sample(self, count: int, seed: int) -> NDArray[np.float16]:
        """At most `count` different ones, drawn evenly: float16 (count, D). The same seed draws the same."""

    def take(self, ids: NDArray[np.int64]) -> NDArray[np.float16]:
        """The vectors of some ids, each of which is there, in the order asked for: float16 (n, D)."""


class VectorScan(Protocol):
    """Finds the vectors with the largest inner product. Immutable, so that threads may share it."""

    @property
    def exact(self) -> bool:
        """Whether what it finds are the nearest, apart from rounding to float32; else some may be missed."""

    def holds(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some ids it holds, allowed or not: bool (n,)."""

    def __len__(self) -> int:
        """How many vectors it holds, allowed or not."""

    @property
    def resident_bytes(self) -> int:
        """Memory it takes, on the host or its device."""

    def search(
        self, queries: NDArray[np.float32], limit: int, allowed: Allowed
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest allowed vectors.

        Args:
            queries: float32 (Q, D), unit length.
            limit: how many to find for each, >= 1.
            allowed: the ids that count.

        Returns:
            Similarities float32 (Q, limit), nearest first, and ids int64 (Q, limit); id -1 where there are no more.
            They are candidates: an approximate scan may miss some, and its similarities are estimates. Which of
            equally similar ones come, and in which order, is left open: see `nearest_vectors`.
        """


class HashScan(Protocol):
    """Finds the codes at the smallest Hamming distance, exactly. Immutable."""

    def __len__(self) -> int:
        """How many codes it holds, allowed or not."""

    @property
    def resident_bytes(self) -> int:
        """Memory it takes, on the host or its device."""

    def search(
        self, codes: NDArray[np.uint8], limit: int, allowed: Allowed
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The nearest allowed codes, of equally near ones those with the smallest ids.

        Args:
            codes: uint8 (Q, B), B * 8 bits.
            limit: how many to find for each, >= 1.
            allowed: the ids that count.

        Returns:
            Distances int32 (Q, limit) in bits, nearest first and then by id, and ids int64 (Q, limit); id -1 and
            `FARTHEST_BITS` where there are no more.
        """
