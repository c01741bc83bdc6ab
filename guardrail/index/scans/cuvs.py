"""Approximate search of vectors on a GPU by NVIDIA's cuVS, through the build of faiss that has it (extra `cuvs`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import ExtraMissing
from guardrail.extras import need
from guardrail.index.scans.base import VectorBlocks
from guardrail.index.scans.faiss_gpu import GpuScan

__all__ = ["CagraScan", "need_cuvs"]

_GRAPH_DEGREE = 64  # neighbours of each vector in the graph, and half of those it is cut down from: cuVS's defaults
_SEARCHED = 256  # vectors kept in view while the graph is walked, at least (itopk_size); cuVS's default is 64
_PIECE_ROWS = 65_536


def need_cuvs() -> Any:
    """The module faiss, if it is the build with cuVS.

    `faiss-gpu-cuvs` (CUDA 13) and `faiss-gpu` (CUDA 12) install the same module, so only one can be there.

    Raises:
        ExtraMissing: it is another build.
    """
    purpose = "walk a graph of vectors on a GPU"
    faiss = need("faiss", extra="cuvs", purpose=purpose)
    if not hasattr(faiss, "GpuIndexCagra"):
        raise ExtraMissing("faiss-gpu-cuvs", "cuvs", purpose)
    return faiss


class CagraScan(GpuScan):
    """Vectors as float16 with a graph of near ones, on a GPU (CAGRA): for large batches where `TorchScan` is too slow.

    Holds the vectors themselves, so it saves time and no memory. It is built whole: what is added later is a tail.

    Source: Ootomo et al., "CAGRA: highly parallel graph construction and approximate nearest neighbor search for
    GPUs", 2024, as implemented in cuVS.
    """

    _resources: Any

    @classmethod
    def built(cls, vectors: VectorBlocks, device: str) -> CagraScan:
        """The structure over some vectors, more than `2 * 64` of them; all are held in host memory meanwhile.

        Raises:
            ExtraMissing: faiss is not the build with cuVS.
        """
        faiss = need_cuvs()
        how = faiss.GpuIndexCagraConfig()
        how.device = int(device.partition(":")[2] or 0)
        how.graph_degree, how.intermediate_graph_degree = _GRAPH_DEGREE, 2 * _GRAPH_DEGREE
        resources = faiss.StandardGpuResources()
        index = faiss.GpuIndexCagra(resources, vectors.dimensions, faiss.METRIC_INNER_PRODUCT, how)
        ids = np.empty(len(vectors), np.int64)
        held = np.empty((len(vectors), vectors.dimensions), np.float16)
        done = 0
        for some, piece in vectors.blocks(_PIECE_ROWS):
            ids[done : done + len(some)], held[done : done + len(some)] = some, piece
            done += len(some)
        index.train(held, faiss.Float16)
        scan = cls(index, ids, held.nbytes + len(ids) * _GRAPH_DEGREE * 4)
        scan._resources = resources  # faiss only points to them
        return scan

    def _found(self, queries: NDArray[np.float32], asked: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """With float16 queries, as the vectors are; more than what is asked for is kept in view."""
        faiss = need_cuvs()
        how = faiss.SearchParametersCagra()
        how.itopk_size = max(_SEARCHED, 2 * asked)
        with self._lock:
            near, places = self._index.search(
                np.ascontiguousarray(queries, np.float16), asked, params=how, numeric_type=faiss.Float16
            )
        return near, places
