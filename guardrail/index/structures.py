"""The search structures of an index: derived from its rows, kept between states, and in part on disk as a cache."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import IndexDamaged
from guardrail.index.scans.base import HashScan, VectorScan
from guardrail.index.scans.choose import EXACT_UP_TO, choose, make_hash_scan, make_vector_scan
from guardrail.index.scans.ivf import IvfScan, ScanUnusable
from guardrail.index.store.manifest import write_array
from guardrail.index.store.state import State, agrees
from guardrail.records import IndexHeader

__all__ = [
    "CACHE",
    "HASHES",
    "Chunk",
    "ColumnBlocks",
    "Structures",
    "cache_damages",
    "cached_scan",
    "train",
    "vector_columns",
    "write_cache",
]

CACHE = "cache"
HASHES = ("pdq", "phash")
_GROWN_TIMES = 4  # an approximate structure is made anew when there are so many times the vectors it was trained on
log = logging.getLogger("guardrail.index")


def vector_columns(header: IndexHeader) -> dict[str, int]:
    """The columns of vectors that an index has, and how many vectors each row has in it."""
    columns = {"copy": 1}
    if header.sampling.tiles > 1:
        columns["tiles"] = header.sampling.tiles - 1
    if "clip" in header.embedders:
        columns["clip"] = 1
    return columns


@dataclass(frozen=True)
class ColumnBlocks:
    """The vectors of a column, as `VectorBlocks`; the id of a row's vector t is row * each + t.

    Attributes:
        state: the index.
        column: `copy`, `tiles` or `clip`.
        each: how many vectors a row has.
        rows: int64 (n,), ascending: the rows, each of which has this column.
    """

    state: State
    column: str
    each: int
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, state: State, column: str, each: int, first: int = 0) -> ColumnBlocks:
        """Those of all rows that count, from an id on."""
        pieces = [np.zeros(0, np.int64)]
        for part in state.parts:
            if part.last_id >= first:
                ids = part.ids
                pieces.append(ids[part.having(column) & state.alive[ids] & (ids >= first)])
        return cls(state, column, each, np.sort(np.concatenate(pieces)))

    def __len__(self) -> int:
        return len(self.rows) * self.each

    @property
    def dimensions(self) -> int:
        """See `VectorBlocks.dimensions`."""
        return self.state.manifest.embedders["clip" if self.column == "clip" else "copy"].dimensions

    def ids_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids of the vectors of some rows."""
        return (rows[:, None] * self.each + np.arange(self.each)).reshape(-1)

    def _vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        taken: NDArray[np.float16] = self.state.take(self.column, rows)
        return taken.reshape(len(rows) * self.each, self.dimensions)

    def blocks(self, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """See `VectorBlocks.blocks`."""
        step = max(1, size // self.each)
        for start in range(0, len(self.rows), step):
            some = self.rows[start : start + step]
            yield self.ids_of(some), self._vectors(some)

    def sample(self, count: int, seed: int) -> NDArray[np.float16]:
        """See `VectorBlocks.sample`."""
        wanted = min(len(self.rows), max(1, count // self.each))
        chosen = np.random.default_rng(seed).choice(len(self.rows), wanted, replace=False, shuffle=False)
        return self._vectors(self.rows[np.sort(chosen)])

    def take(self, ids: NDArray[np.int64]) -> NDArray[np.float16]:
        """See `VectorBlocks.take`."""
        rows, places = np.unique(ids // self.each, return_inverse=True)
        taken: NDArray[np.float16] = self.state.take(self.column, rows).reshape(len(rows), self.each, -1)
        return taken[places, ids % self.each]


class Chunk(NamedTuple):
    """A structure over the rows from an id on, up to where the next chunk begins."""

    first: int
    scan: VectorScan | HashScan


@dataclass(frozen=True)
class Structures:
    """Search structures over all rows below `covered`. Immutable; rows that were withdrawn since stay in them.

    Rows that are new come into a chunk of their own; a chunk that is as large as the one before is put together with
    it, so that there are few of them and each row is moved a few times at most.

    Attributes:
        hashes: by hash, chunks.
        vectors: by column, chunks of vectors that are all compared.
        approximate: by column, where there is one, a structure for the rows that are in none of its chunks.
        covered: rows from this id on are not in them.
        device: where the vectors are.
    """

    hashes: Mapping[str, tuple[Chunk, ...]]
    vectors: Mapping[str, tuple[Chunk, ...]]
    approximate: Mapping[str, IvfScan]
    covered: int = 0
    device: str = "cpu"

    @classmethod
    def of(cls, state: State, device: str = "cpu") -> Structures:
        """Those of a state; approximate ones from the cache, where it holds."""
        columns = vector_columns(state.header)
        found = {name: scan for name in columns if device == "cpu" and (scan := cached_scan(state, name)) is not None}
        empty = cls(dict.fromkeys(HASHES, ()), dict.fromkeys(columns, ()), found, 0, device)
        return empty.grown(state)

    def grown(self, state: State) -> Structures:
        """The same with the rows that a newer state has more."""
        if len(state.alive) == self.covered:
            return self
        hashes = {
            name: _with_chunk(chunks, self.covered, partial(_codes_from, state, name, self.device))
            for name, chunks in self.hashes.items()
        }
        vectors = {
            name: _with_chunk(chunks, self.covered, partial(self._vectors_from, state, name))
            for name, chunks in self.vectors.items()
        }
        return replace(self, hashes=hashes, vectors=vectors, covered=len(state.alive))

    def _vectors_from(self, state: State, column: str, first: int) -> VectorScan | None:
        """The rows from an id on that no approximate structure holds, in one that compares them all."""
        blocks = ColumnBlocks.of(state, column, vector_columns(state.header)[column], first)
        if column in self.approximate:
            held = self.approximate[column].holds(blocks.rows * blocks.each)
            blocks = replace(blocks, rows=blocks.rows[~held])
        if not len(blocks):
            return None
        name = "flat" if self.device == "cpu" else choose(len(blocks), blocks.dimensions, self.device)
        return make_vector_scan(name, blocks, self.device)

    def scans(self, column: str) -> list[VectorScan]:
        """All structures over the vectors of a column."""
        approximate = [self.approximate[column]] if column in self.approximate else []
        return [*approximate, *(cast("VectorScan", chunk.scan) for chunk in self.vectors[column])]

    def hash_scans(self, name: str) -> list[HashScan]:
        """All structures over a hash."""
        return [cast("HashScan", chunk.scan) for chunk in self.hashes[name]]

    def needs_training(self) -> list[str]:
        """The columns whose vectors are too many to be compared all, or 4 times those of an approximate structure."""
        wanted = []
        for column, chunks in self.vectors.items() if self.device == "cpu" else ():
            compared = sum(len(chunk.scan) for chunk in chunks)
            held = len(self.approximate[column]) if column in self.approximate else 0
            if compared > max(EXACT_UP_TO, (_GROWN_TIMES - 1) * held):
                wanted.append(column)
        return wanted

    def with_approximate(self, state: State, column: str, scan: IvfScan) -> Structures:
        """The same with an approximate structure for a column; vectors that it does not hold are compared all."""
        fresh = replace(self, approximate={**self.approximate, column: scan}, vectors={**self.vectors, column: ()})
        rest = fresh._vectors_from(state, column, 0)
        return replace(fresh, vectors={**self.vectors, column: (Chunk(0, rest),) if rest is not None else ()})

    @property
    def resident_bytes(self) -> int:
        """Memory that they take."""
        chunks = [chunk.scan for every in (self.hashes, self.vectors) for some in every.values() for chunk in some]
        return sum(scan.resident_bytes for scan in (*chunks, *self.approximate.values()))

    def said(self) -> dict[str, str]:
        """For people: by column, what searches how many."""
        said = {name: f"exact over {sum(len(chunk.scan) for chunk in some)}" for name, some in self.hashes.items()}
        for name, some in self.vectors.items():
            compared = sum(len(chunk.scan) for chunk in some)
            said[name] = f"exact over {compared} on {self.device}"
            if (scan := self.approximate.get(name)) is not None:
                said[name] = f"IVF{scan.lists},RaBitQ of {len(scan)}, re-ranked exactly, and {said[name]}"
        return said


def _with_chunk(
    chunks: tuple[Chunk, ...], first: int, make: Callable[[int], VectorScan | HashScan | None]
) -> tuple[Chunk, ...]:
    """The chunks and one more from an id on, put together with those before it that are not larger."""
    fresh = make(first)
    if fresh is None:
        return chunks
    kept = list(chunks)
    while kept and len(kept[-1].scan) <= len(fresh):
        first = kept.pop().first
        fresh = make(first)
        assert fresh is not None, "a chunk is not put together with fewer rows than it has"
    return (*kept, Chunk(first, fresh))


def train(state: State, column: str, progress: Callable[[int, int], None] = lambda done, total: None) -> IvfScan:
    """The approximate structure of a column, and put into the cache where that can be written."""
    trained = IvfScan.trained(ColumnBlocks.of(state, column, vector_columns(state.header)[column]), progress=progress)
    write_cache(state, column, trained)
    return trained


def write_cache(state: State, column: str, scan: IvfScan) -> None:
    """Put an approximate structure into the cache; where that cannot be written, it is made again next time."""
    try:
        path = _cache_path(state, column)
        path.parent.mkdir(exist_ok=True)
        ids, marks = state.marks
        held = scan.holds(ids * vector_columns(state.header)[column])
        rows = np.stack([ids[held].astype(np.uint64), marks[held]])
        making = path.with_name(f"{column}.rows.{os.getpid()}-{threading.get_ident()}.part")
        write_array(making, rows)
        scan.write(path, _specification(state, column, rows))
        making.replace(_rows_path(path))
    except OSError as error:
        log.warning("the search structure of %r cannot be kept: %s", str(state.folder), error)


def cached_scan(state: State, column: str) -> IvfScan | None:
    """The approximate structure of a column in the cache; None where there is none that holds."""
    path: Path = _cache_path(state, column)
    if not path.exists():
        return None
    try:
        found = _read_cache(state, column, path)
    except ScanUnusable as error:
        log.warning("a search structure is made again: %s", error)
        return None
    return found if len(found) else None


def _read_cache(state: State, column: str, path: Path) -> IvfScan:
    """A structure in the cache, of this index and of no other history of it.

    Raises:
        ScanUnusable: it does not hold.
    """
    try:
        rows = np.load(_rows_path(path), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ScanUnusable(f"{_rows_path(path)}: {error}") from error
    found = IvfScan.read(path, _specification(state, column, rows))
    if not agrees(state, rows[0].astype(np.int64), rows[1]):
        raise ScanUnusable(f"{path}: found rows of another history of this index")
    return found


def _rows_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.rows.npy")


def cache_damages(state: State) -> Iterator[IndexDamaged]:
    """Each search structure in the cache that does not hold; it is made again when it is needed."""
    for column in vector_columns(state.header):
        path = _cache_path(state, column)
        try:
            if path.exists() or path.with_name(f"{path.name}.json").exists():
                _read_cache(state, column, path)
        except ScanUnusable as error:
            yield IndexDamaged(str(path), str(error), "a search structure of this index; delete it, it is made again")


def _cache_path(state: State, column: str) -> Path:
    return state.folder / CACHE / f"{column}.ivf"


def _specification(state: State, column: str, rows: NDArray[np.uint64]) -> str:
    spec = state.manifest.embedders["clip" if column == "clip" else "copy"]
    digest = hashlib.sha256(rows.tobytes()).hexdigest()
    return f"{column} of {spec}, built at {state.manifest.built_at.isoformat()}, rows {digest}"


def _codes_from(state: State, name: str, device: str, first: int) -> HashScan | None:
    """The codes of all rows that count, from an id on."""
    ids, codes = [np.zeros(0, np.int64)], []
    for part in state.parts:
        if part.last_id < first or name not in part.names:
            continue
        counted = part.having(name) & state.alive[part.ids] & (part.ids >= first)
        ids.append(part.ids[counted])
        codes.append(part.codes(name)[counted])
    every = np.concatenate(ids)
    if not len(every):
        return None
    order = np.argsort(every, kind="stable")
    return make_hash_scan(every[order], np.concatenate(codes)[order], device)
