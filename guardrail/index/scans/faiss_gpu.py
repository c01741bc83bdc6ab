"""Search of vectors on a GPU by faiss: float16 compared one and all, or product codes in inverted lists."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from guardrail.index.scans.base import Allowed, VectorBlocks
from guardrail.index.scans.ivf import lists_for
from guardrail.index.scans.rows import RowIds

__all__ = ["GpuFlatScan", "GpuIvfScan", "GpuScan", "ScanShort", "code_bytes"]

_faiss: Any = faiss  # its type stubs know less than it takes
_MOST_ASKED = 2048  # what faiss on a GPU finds for one query at most, and the most lists it looks at
_PROBED = 64  # lists looked at for a query, as on the CPU
_TRAINING_PER_LIST = 40  # vectors for each list
_TRAINING_BYTES = 2**31  # of float32 that training holds in host memory at most
_BLOCK_BYTES = 256 * 2**20  # of float32 that is added at a time
_CODES = (96, 64, 56, 48, 40, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)  # bytes of a code that faiss has kernels for
_CODE_BITS = 8  # of each byte: the one width that all of them take


class ScanShort(RuntimeError):
    """More rows that do not count are near a query than a structure can leave out. Text: what to do."""


def code_bytes(dimensions: int) -> int:
    """How many bytes a product code of a vector takes: the most that faiss on a GPU has, of those that divide it."""
    return next(size for size in _CODES if dimensions % size == 0)


class GpuScan:
    """A faiss structure that takes no selector: rows that do not count are asked for and left out.

    Never exact by itself: what it finds is to be compared again with what is stored, which stays in host memory, so an
    index larger than the GPU's memory is searched by its codes. faiss on a GPU serves one thread at a time.
    """

    exact = False

    def __init__(self, index: Any, ids: NDArray[np.int64], resident_bytes: int) -> None:
        """A structure over a faiss index that is not changed from here on.

        Args:
            index: numbers its vectors 0, 1, ... in the order of `ids`; inner product.
            ids: int64 (n,), ascending.
            resident_bytes: memory it takes on its device.
        """
        self._index, self._rows, self._resident_bytes = index, RowIds.of(ids), resident_bytes
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def resident_bytes(self) -> int:
        """See `VectorScan.resident_bytes`."""
        return self._resident_bytes + self._rows.nbytes

    def holds(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See `VectorScan.holds`."""
        return self._rows.places_of(ids) >= 0

    def search(
        self, queries: NDArray[np.float32], limit: int, allowed: Allowed
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `VectorScan.search`.

        Raises:
            ScanShort: so many withdrawn or otherwise standing rows are near that allowed ones could be beyond them.
        """
        wanted = min(limit, allowed.count)
        most = min(_MOST_ASKED, len(self))
        for asked in sorted({min(2 * limit, most), most}):
            near, places = self._found(queries, asked)
            ids = self._rows.at(places)
            kept = allowed.has(ids)
            short = (kept.sum(1) < wanted) & (places >= 0).all(1)
            if not short.any():
                break
        if most < len(self) and short.any():
            raise ScanShort(
                f"only {kept.sum(1).min()} of the nearest {asked} vectors count, expected {wanted}; "
                "compact the index, or search it on the CPU"
            )
        order = np.argsort(~kept, axis=1, kind="stable")[:, :limit]
        near, ids = np.take_along_axis(near, order, 1), np.take_along_axis(ids, order, 1)
        gone = ~np.take_along_axis(kept, order, 1)
        near[gone], ids[gone] = -1.0, -1
        filled = ((0, 0), (0, limit - near.shape[1]))
        return np.pad(near, filled, constant_values=-1.0), np.pad(ids, filled, constant_values=-1)

    def _found(self, queries: NDArray[np.float32], asked: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if asked == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        with self._lock:
            near, places = self._index.search(np.ascontiguousarray(queries, np.float32), asked)
        return near, places


class GpuFlatScan(GpuScan):
    """Vectors as float16 on a GPU, compared one and all."""

    def __init__(self, vectors: VectorBlocks, device: str) -> None:
        """A structure on a CUDA device, `cuda` or `cuda:1`, over some vectors."""
        how = _faiss.GpuIndexFlatConfig()
        how.device, how.useFloat16 = _device_number(device), True
        self._resources = _faiss.StandardGpuResources()
        index = _faiss.GpuIndexFlatIP(self._resources, vectors.dimensions, how)
        ids = _added(index, vectors, lambda done, total: None)
        super().__init__(index, ids, len(ids) * vectors.dimensions * 2)


class GpuIvfScan(GpuScan):
    """Vectors as product codes in inverted lists on a GPU (IVF-PQ): 64 or 96 bytes each, whatever their dimensions."""

    @classmethod
    def trained(
        cls,
        vectors: VectorBlocks,
        device: str,
        seed: int = 0,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> GpuIvfScan:
        """The structure over some vectors, at least 256 of them.

        Args:
            vectors: read twice: a sample to train with, then all, piece by piece.
            device: `cuda` or `cuda:1`.
            seed: of the sample.
            progress: called with (vectors added, vectors in all).
        """
        dimensions, lists, size = vectors.dimensions, lists_for(len(vectors)), code_bytes(vectors.dimensions)
        how = _faiss.GpuIndexIVFPQConfig()
        how.device, how.useFloat16LookupTables = _device_number(device), True
        resources = _faiss.StandardGpuResources()
        index = _faiss.GpuIndexIVFPQ(resources, dimensions, lists, size, _CODE_BITS, _faiss.METRIC_INNER_PRODUCT, how)
        held = max(1, _TRAINING_BYTES // (4 * dimensions))
        index.train(np.ascontiguousarray(vectors.sample(min(_TRAINING_PER_LIST * lists, held), seed), np.float32))
        index.nprobe = min(_PROBED, lists)
        index.reserveMemory(len(vectors))
        ids = _added(index, vectors, progress)
        scan = cls(index, ids, len(ids) * (size + 8) + lists * dimensions * 4)
        scan._resources = resources  # faiss only points to them
        return scan

    _resources: Any


def _added(index: Any, vectors: VectorBlocks, progress: Callable[[int, int], None]) -> NDArray[np.int64]:
    """Add all vectors to a faiss index: their ids, int64 (n,)."""
    ids = np.empty(len(vectors), np.int64)
    done = 0
    for some, piece in vectors.blocks(max(1, _BLOCK_BYTES // (4 * vectors.dimensions))):
        index.add(np.ascontiguousarray(piece, np.float32))
        ids[done : done + len(some)] = some
        progress(done := done + len(some), len(vectors))
    return ids


def _device_number(device: str) -> int:
    """The number of `cuda:1`; `cuda` is the first."""
    return int(device.partition(":")[2] or 0)
