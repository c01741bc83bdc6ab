"""What every structure must agree with: the canonical measures, and search by comparing all, in plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.index.scans.base import FARTHEST_BITS, Allowed

__all__ = ["brute_codes", "brute_vectors", "distances_of", "similarities_of", "widened"]

with np.errstate(invalid="ignore"):  # some of the numbers are not numbers
    _EVERY = np.arange(2**16, dtype=np.uint16).view(np.float16)
    _WIDER: dict[Any, NDArray[Any]] = {kind: _EVERY.astype(kind) for kind in (np.dtype("f4"), np.dtype("f8"))}


def similarities_of(
    queries: NDArray[np.float32], vectors: NDArray[np.float16], scratch: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """The similarity of queries and stored vectors, as every structure must report it.

    Args:
        queries: float32 (..., D), unit length.
        vectors: float16 (..., n, D), unit length; the leading axes are those of the queries, or are missing.
        scratch: float64, of the vectors' shape, to be written over; None: made for this.

    Returns:
        float32 (..., n), -1..1: the dot product in float64, where no product of a float32 and a float16 is rounded,
        then rounded to float32. Summed row by row, since a matrix product rounds a row otherwise beside others.
    """
    wide = widened(vectors, np.empty(vectors.shape, np.float64) if scratch is None else scratch)
    exact = np.einsum("...nd,...d->...n", wide, np.asarray(queries, np.float32).astype(np.float64))
    rounded: NDArray[np.float32] = exact.astype(np.float32).clip(-1.0, 1.0)
    return rounded


def widened(vectors: NDArray[np.float16], room: NDArray[Any]) -> NDArray[Any]:
    """Vectors as float32 or float64, in `room`, which has their shape: the same numbers.

    Looked up, since NumPy takes four times as long over numbers below 6e-5, which most of a descriptor's may be.
    """
    bits = np.ascontiguousarray(vectors, np.float16).view(np.uint16)
    np.take(_WIDER[room.dtype], bits, out=room, mode="clip")  # all are within; it only spares the check
    return room


def distances_of(codes: NDArray[np.uint8], stored: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The Hamming distances of codes uint8 (Q, B) and stored ones uint8 (n, B): int32 (Q, n), in bits."""
    bits: NDArray[np.int32] = np.bitwise_count(codes[:, None] ^ stored[None]).sum(2, dtype=np.int32)
    return bits


def brute_vectors(
    ids: NDArray[np.int64],
    vectors: NDArray[np.float16],
    queries: NDArray[np.float32],
    limit: int,
    allowed: Allowed,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`nearest_vectors` by comparing all: for tests, and for reading."""
    kept = np.flatnonzero(allowed.has(ids))
    near = np.full((len(queries), limit), -1.0, np.float32)
    found = np.full((len(queries), limit), -1, np.int64)
    for row, query in enumerate(queries):
        similarities = similarities_of(query, vectors[kept])
        order = np.lexsort((ids[kept], -similarities))[:limit]
        near[row, : len(order)], found[row, : len(order)] = similarities[order], ids[kept][order]
    return near, found


def brute_codes(
    ids: NDArray[np.int64],
    stored: NDArray[np.uint8],
    codes: NDArray[np.uint8],
    limit: int,
    allowed: Allowed,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """`nearest_codes` by comparing all: for tests, and for reading."""
    kept = np.flatnonzero(allowed.has(ids))
    near = np.full((len(codes), limit), FARTHEST_BITS, np.int32)
    found = np.full((len(codes), limit), -1, np.int64)
    for row, bits in enumerate(distances_of(codes, stored[kept])):
        order = np.lexsort((ids[kept], bits))[:limit]
        near[row, : len(order)], found[row, : len(order)] = bits[order], ids[kept][order]
    return near, found
