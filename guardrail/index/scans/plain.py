"""faiss as one would use it without us, on the same vectors: what a benchmark of search sets ours beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from guardrail.index.scans.base import VectorBlocks
from guardrail.index.scans.flat import FlatScan
from guardrail.index.scans.ivf import IvfScan, turned
from guardrail.index.scans.nearest import candidates_for

__all__ = ["Searching", "plain_flat", "plain_hashes", "plain_structure"]

_faiss: Any = faiss  # its type stubs know less than it takes
_BLOCK_ROWS = 65_536

Searching = Callable[[], object]
"""One search, with all that goes into it bound."""


def plain_structure(scan: FlatScan | IvfScan, vectors: NDArray[np.float16]) -> Callable[..., Searching]:
    """The very faiss index of a scan, asked with nothing around it; inverted lists with a float32 re-rank.

    Args:
        scan: of the rows 0 .. n - 1.
        vectors: float16 (n, D), stored.

    Returns:
        A function of queries float32 (Q, D) and a limit that gives the searching. What a query is turned by is done
        before, so that it is not counted.
    """
    index = scan.faiss_index
    if isinstance(scan, FlatScan):
        return lambda queries, limit: lambda: index.search(queries, limit)

    def prepared(queries: NDArray[np.float32], limit: int) -> Searching:
        asked, how = turned(queries), scan.parameters()
        return lambda: _ranked(index.search(asked, candidates_for(limit), params=how)[1], vectors, queries, limit)

    return prepared


def plain_flat(vectors: VectorBlocks) -> Callable[..., Searching]:
    """The `IndexFlatIP` of faiss: float32, exact, 4 bytes a number. Returns as `plain_structure`."""
    index = _faiss.IndexFlatIP(vectors.dimensions)
    for _, some in vectors.blocks(_BLOCK_ROWS):
        index.add(np.ascontiguousarray(some, np.float32))
    return lambda queries, limit: lambda: index.search(queries, limit)


def plain_hashes(codes: NDArray[np.uint8]) -> Callable[..., Searching]:
    """The `IndexBinaryFlat` of faiss, of codes uint8 (n, B). Returns a function of codes (Q, B) and a limit."""
    index = _faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(np.ascontiguousarray(codes))
    return lambda asked, limit: lambda: index.search(asked, limit)


def _ranked(
    ids: NDArray[np.int64], vectors: NDArray[np.float16], queries: NDArray[np.float32], limit: int
) -> NDArray[np.int64]:
    """The nearest of some candidates by their stored vectors."""
    taken = vectors[np.maximum(ids, 0)].astype(np.float32)
    near = np.where(ids < 0, -1.0, np.matmul(taken, queries[..., None])[..., 0])
    return np.take_along_axis(ids, np.argsort(-near, axis=1)[:, :limit], 1)
