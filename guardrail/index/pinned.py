"""An index in a folder at one moment: what a search sees, and what is remembered of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints, IndexRows
from guardrail.errors import IndexDamaged, PictureNotKept
from guardrail.index.bank_limits import read_bank_limits
from guardrail.index.calibrated import calibrated_limits
from guardrail.index.clusters import Duplicates
from guardrail.index.scans.base import Allowed
from guardrail.index.scans.nearest import nearest_vectors
from guardrail.index.search import Background, Near, Searcher
from guardrail.index.standings import Standings
from guardrail.index.store.manifest import BACKGROUND
from guardrail.index.store.state import State
from guardrail.index.structures import ColumnBlocks, Structures
from guardrail.records import Disposition, IndexHeader, Neighbour, Signal, Work

__all__ = ["Known", "PinnedIndex"]

_REMEMBERED_WORKS = 65_536


class Known:
    """What is remembered of one history of an index: rows never change in it."""

    def __init__(self, state: State) -> None:
        self.background = _read_background(state)
        self.standings = Standings()
        self._works: dict[int, Work] = {}

    def work(self, state: State, row: int) -> Work:
        """The work of a row."""
        work = self._works.get(row)
        if work is None:
            if len(self._works) >= _REMEMBERED_WORKS:
                self._works = {}
            work = self._works[row] = state.work(row)
        return work


def _read_background(state: State) -> Background | None:
    how = state.manifest.normalisation
    if how is None:
        return None
    path, dimensions = state.folder / BACKGROUND, state.manifest.embedders["copy"].dimensions
    vectors: NDArray[np.float32] = np.load(path, allow_pickle=False)
    if vectors.shape != (how.background, dimensions) or vectors.dtype != np.float32:
        raise IndexDamaged(str(path), f"{vectors.dtype} {vectors.shape}", f"float32 {(how.background, dimensions)}")
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):  # NaN is not close to anything
        raise IndexDamaged(str(path), "vectors of another length", "unit vectors")
    return Background(vectors, how.nearest)


class PinnedIndex:
    """An index in a folder as it was at one moment; what is written since does not change it."""

    def __init__(self, known: Known, state: State, structures: Structures) -> None:
        self.known, self.state, self.structures = known, state, structures

    @property
    def background(self) -> Background | None:
        """What similarities are normalised by."""
        return self.known.background

    @property
    def standings(self) -> Standings:
        """Which rows count at a moment."""
        return self.known.standings

    @cached_property
    def header(self) -> IndexHeader:
        """See `IndexBackend.header`; with the limits of the calibration beside the index, and those of single banks."""
        header = self.state.header
        if (limits := calibrated_limits(self.state.folder, header)) is not None:
            header = header.model_copy(update={"limits": limits})
        if banks := read_bank_limits(self.state.folder, header):
            header = header.model_copy(update={"limits": header.limits.model_copy(update={"banks": banks})})
        return header

    def pinned(self) -> PinnedIndex:
        """See `IndexBackend.pinned`: itself."""
        return self

    def search(self, prints: Fingerprints, limit: int) -> tuple[tuple[Neighbour, ...], ...]:
        """See `IndexBackend.search`.

        Raises:
            IndexDamaged: what is stored does not hold any more.
        """
        found: list[list[Neighbour]] = [[] for _ in range(len(prints))]
        sought = [row for row in range(len(prints)) if prints.failures[row] is None]
        for row in sought:
            found[row] += self._same(Signal.BYTES, prints.file_sha256[row])
            found[row] += self._same(Signal.PIXELS, prints.pixels_sha256[row])
        if sought and self.state.works:
            searcher = Searcher(self.state, self.structures, self.known.background)
            for allowed in self.known.standings.allowed(self.state, datetime.now(UTC)):
                near = searcher.search(prints, sought, limit, allowed)
                for row, some in zip(sought, near, strict=True):
                    found[row] += [self._neighbour(one) for one in some]
        return tuple(tuple(near) for near in found)

    def _neighbour(self, near: Near) -> Neighbour:
        return Neighbour(work=self.known.work(self.state, near.row), **near._asdict())

    def _same(self, signal: Signal, digest: str | None) -> list[Neighbour]:
        """Every work with these very bytes or pixels: none may be crowded out by others."""
        rows = self.state.find_digest("file" if signal is Signal.BYTES else "pixels", digest) if digest else []
        works = [(row, self.known.work(self.state, row)) for row in rows]
        return [Neighbour(work=work, row=row, signal=signal, distance_bits=0) for row, work in works]

    def nearest_to(self, role: str, vector: NDArray[np.float32], limit: int) -> tuple[tuple[Work, float], ...]:
        """The works nearest to a vector, with their cosine similarity: for looking a bank through, not for judging.

        Args:
            role: `copy` or `clip`, one that the header lists.
            vector: float32 (D,), unit length, of that embedder.
            limit: how many works, at most; all banks and dispositions count.
        """
        blocks = ColumnBlocks(self.state, role, 1, np.zeros(0, np.int64))
        scans, allowed = self.structures.scans(role), Allowed(self.state.alive)
        near, rows = nearest_vectors(scans, blocks.take, vector[None], limit, allowed)
        both = zip(near[0].tolist(), rows[0].tolist(), strict=True)
        return tuple((self.state.work(row), value) for value, row in both if row >= 0)

    def work(self, row: int) -> Work:
        """The work of a row.

        Raises:
            PictureNotKept: there is no such row.
        """
        return self.known.work(self.state, row)

    def rows(self, at: datetime | None = None, standing: Disposition | None = None) -> NDArray[np.int64]:
        """The ids of the rows that count, or of those whose standing at a moment is this: int64 (n,), ascending."""
        every = np.flatnonzero(self.state.alive)
        if at is None or standing is None:
            return every
        protected = self.known.standings.protected(self.state, at)
        if standing is Disposition.PROTECT:
            return every[protected[every]]
        rest = every[~protected[every]].tolist()
        return np.array([row for row in rest if self.work(row).standing(at) is standing], np.int64)

    @property
    def files(self) -> tuple[str, ...]:
        """The file that each work that counts came from, like `works`."""
        placed = (self.state.place(row) for row in self.rows().tolist())
        return tuple(str(part.line(position)["file"]) for part, position in placed)

    def has_picture(self, row: int) -> bool:
        """Whether a row has a preview."""
        part, position = self.state.place(row)
        return bool(part.piece("previews", position))

    @cached_property
    def duplicates(self) -> Duplicates:
        """Which works show one picture; sought when it is first asked."""
        return Duplicates(self.state, self.structures, self.header.limits, self.known.background)

    @property
    def works(self) -> tuple[Work, ...]:
        """Every work that counts, in the order in which they came: for small indexes."""
        return tuple(self.state.work(row) for row in self.rows().tolist())

    def storage(self) -> dict[str, int]:
        """How it lies on disk: segments, rows in the log, and bytes of all that the manifest names and of the log."""
        files = sum(entry.bytes for entry in self.state.manifest.files.values())
        return {
            "segments": len(self.state.manifest.segments),
            "logged_rows": self.state.logged_rows,
            "bytes": files + self.state.end.length,
        }

    def proof_pixels(self, row: int) -> NDArray[np.uint8]:
        """See `IndexBackend.proof_pixels`."""
        part, position = self.state.place(row)
        if not bool(part.having("pixels")[position]):
            raise PictureNotKept(str(self.state.folder), row)
        pixels: NDArray[np.uint8] = part.span("pixels", position, position + 1)[0]
        return pixels

    def preview(self, row: int) -> bytes:
        """See `IndexBackend.preview`."""
        part, position = self.state.place(row)
        if not (jpeg := part.piece("previews", position)):
            raise PictureNotKept(str(self.state.folder), row)
        return jpeg

    def export_batches(self, rows: Sequence[int] | None = None) -> Iterator[IndexRows]:
        """All that is kept of the works that count, or of some rows, some at a time: what `put` takes."""
        for _, batch in self.state.batches(rows):
            yield batch

    def kept(self, keys: Sequence[tuple[str, str]]) -> IndexRows:
        """See `WritableIndex.kept`. One batch: the columns that all of these rows have."""
        rows = [row for key in keys if (row := self.state.find_key(*key)) is not None]
        batches = [batch for row in rows for _, batch in self.state.batches([row])]
        names = set.intersection(*(set(batch.arrays) for batch in batches)) if batches else set()
        return IndexRows(
            works=tuple(work for batch in batches for work in batch.works),
            files=tuple(file for batch in batches for file in batch.files),
            file_sha256=tuple(digest for batch in batches for digest in batch.file_sha256),
            pixels_sha256=tuple(digest for batch in batches for digest in batch.pixels_sha256),
            arrays={name: np.concatenate([batch.arrays[name] for batch in batches]) for name in sorted(names)},
            previews=tuple(jpeg for batch in batches for jpeg in batch.previews),
        )
