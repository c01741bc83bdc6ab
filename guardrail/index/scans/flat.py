"""Exact search of vectors on a CPU: faiss over float16, every vector compared."""

from __future__ import annotations

import os
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from guardrail.index.scans.base import Allowed
from guardrail.index.scans.reference import widened
from guardrail.index.scans.rows import RowIds

__all__ = ["FlatScan"]

_faiss: Any = faiss  # its type stubs know less than it takes

_FEW_SHARE = 8  # fewer than one in so many allowed: these alone are compared; a gathered row costs about that much more
_MATRIX_QUERIES = 32  # from so many on, a matrix product beats faiss: 64 of 200,000 x 512 in 294 ms of CPU, not 523
_BLOCK_ROWS = 8192  # of a matrix product: 32 MB as float32 at 1024 dimensions
_MOST_OVERASKED = 512  # faiss keeps a heap of so many before its selector, three times as slow a vector, is cheaper


class FlatScan:
    """Vectors compared one and all. Exact; cost grows with vectors x queries; takes the vectors' bytes in memory.

    Rows that do not count are asked for and left out, which costs nothing a row while they are not near: with a
    selector faiss takes three times as long (22 ms of CPU, not 8, for one query of 200,000 x 512).
    """

    exact = True

    def __init__(self, ids: NDArray[np.int64], vectors: NDArray[np.float16]) -> None:
        """A structure over some vectors, which are copied.

        Args:
            ids: int64 (n,), ascending.
            vectors: float16 (n, D), unit length.
        """
        self._rows = RowIds.of(ids)
        self._dimensions = int(vectors.shape[1])
        self.faiss_index = _faiss.IndexScalarQuantizer(
            self._dimensions, _faiss.ScalarQuantizer.QT_fp16, _faiss.METRIC_INNER_PRODUCT
        )
        if len(vectors):
            self.faiss_index.add_sa_codes(np.ascontiguousarray(vectors, np.float16).view(np.uint8))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def resident_bytes(self) -> int:
        """See `VectorScan.resident_bytes`."""
        return len(self) * self._dimensions * 2 + self._rows.nbytes

    def holds(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See `VectorScan.holds`."""
        return self._rows.places_of(ids) >= 0

    def search(
        self, queries: NDArray[np.float32], limit: int, allowed: Allowed
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `VectorScan.search`."""
        if allowed.count * _FEW_SHARE < len(self):
            places = self._rows.places_of(allowed.ids)
            near, at = self._by_product(queries, limit, places[places >= 0])
            return near, self._rows.at(at)
        kept = self._rows.flags_of(allowed)
        count = int(np.count_nonzero(kept))
        if count == 0:
            return _padded(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64), limit)
        if len(queries) >= _MATRIX_QUERIES:
            near, at = self._by_product(queries, limit, None if count == len(self) else np.flatnonzero(kept))
        elif count == len(self):
            near, at = self._by_faiss(queries, limit)
        else:
            near, at = self._overasked(queries, limit, kept, count)
        return near, self._rows.at(at)

    def _by_faiss(
        self, queries: NDArray[np.float32], limit: int, kept: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest vectors and their places, among those that are kept."""
        queries = np.ascontiguousarray(queries, np.float32)
        if kept is None:
            near, places = self.faiss_index.search(queries, limit)
        else:
            bits = np.packbits(kept, bitorder="little")  # faiss only points to it: it must live until it has searched
            near, places = self.faiss_index.search(
                queries, limit, params=_faiss.SearchParameters(sel=_faiss.IDSelectorBitmap(bits))
            )
        near[places < 0] = -1.0
        return near, places

    def _overasked(
        self, queries: NDArray[np.float32], limit: int, kept: NDArray[np.bool_], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Asks for so many that enough of them are kept, mostly; where they are not, faiss is told which count."""
        asked = min(limit + len(self) - count, 2 * limit * len(self) // count + limit, len(self))
        if asked > _MOST_OVERASKED:
            return self._by_faiss(queries, limit, kept)
        near, places = self._by_faiss(queries, asked)
        counts = (places >= 0) & kept[places]
        order = np.argsort(~counts, axis=1, kind="stable")[:, :limit]
        near, places = np.take_along_axis(near, order, 1), np.take_along_axis(places, order, 1)
        gone = ~np.take_along_axis(counts, order, 1)
        near[gone], places[gone] = -1.0, -1
        if asked < len(self) and (short := np.flatnonzero(counts.sum(1) < min(limit, count))).size:
            near[short], places[short] = _padded(*self._by_faiss(queries[short], limit, kept), near.shape[1])
        return _padded(near, places, limit)

    def _by_product(
        self, queries: NDArray[np.float32], limit: int, places: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest vectors at some places (None: at all), by blocks of a matrix product."""
        stored = self._stored()
        near = np.empty((len(queries), 0), np.float32)
        found = np.empty((len(queries), 0), np.int64)
        room = np.empty((min(_BLOCK_ROWS, len(self) if places is None else len(places)), self._dimensions), np.float32)
        for start in range(0, len(self) if places is None else len(places), _BLOCK_ROWS):
            at = places[start : start + _BLOCK_ROWS] if places is not None else slice(start, start + _BLOCK_ROWS)
            some = stored[at]
            similarities = queries @ widened(some, room[: len(some)]).T
            chosen = _largest(similarities, limit)
            near = np.concatenate([near, np.take_along_axis(similarities, chosen, 1)], 1)
            found = np.concatenate([found, chosen + start if places is None else places[start + chosen]], 1)
            best = _largest(near, limit)
            near, found = np.take_along_axis(near, best, 1), np.take_along_axis(found, best, 1)
        order = np.argsort(-near, axis=1, kind="stable")
        return _padded(np.take_along_axis(near, order, 1), np.take_along_axis(found, order, 1), limit)

    def _stored(self) -> NDArray[np.float16]:
        """The vectors as faiss holds them: a view, float16 (n, D)."""
        if len(self) == 0:
            return np.empty((0, self._dimensions), np.float16)
        codes = _faiss.rev_swig_ptr(self.faiss_index.codes.data(), len(self) * self._dimensions * 2)
        vectors: NDArray[np.float16] = codes.view(np.float16).reshape(len(self), self._dimensions)
        return vectors


def _largest(values: NDArray[np.float32], limit: int) -> NDArray[np.int64]:
    """Where the `limit` largest values of each row are, in no order."""
    if values.shape[1] <= limit:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.argpartition(values, -limit, axis=1)[:, -limit:]


def _padded(
    near: NDArray[np.float32], places: NDArray[np.int64], limit: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Both with `limit` columns, filled up with none."""
    short = ((0, 0), (0, limit - near.shape[1]))
    return np.pad(near, short, constant_values=-1.0), np.pad(places, short, constant_values=-1)


def _compute_alone() -> None:
    """A forked process has none of its parent's threads; OpenMP would wait for them for ever."""
    faiss.omp_set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_alone)
