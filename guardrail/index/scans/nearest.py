"""The nearest rows over several structures: their candidates, compared again by what is stored, and merged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from guardrail.index.scans.base import FARTHEST_BITS, Allowed, HashScan, VectorScan
from guardrail.index.scans.reference import similarities_of

__all__ = ["candidates_for", "nearest_codes", "nearest_vectors"]

_FEW = 1024  # rows that are compared one and all: 2 ms of CPU at 512 dimensions, where they are in memory
_MORE = 16  # candidates beyond the limit of an exact scan, whose rounding may order near ties otherwise
_CANDIDATES = 100  # at least so many of an approximate scan: 20 missed the nearest of 1 copy in 50 (docs/search.md)
_TIMES_LIMIT = 4  # and so many times the limit
_MOST_ASKED = 4096  # candidates, where that many vectors are equally similar: which of them come is then left open
_ROUNDING = np.float32(4e-6)  # by so much a float32 sum of 2048 products of unit vectors may be off
_COMPARED_TOGETHER = 2**18  # numbers: 2 MB as float64
_threads = threading.local()


def nearest_vectors(
    scans: Sequence[VectorScan],
    take: Callable[[NDArray[np.int64]], NDArray[np.float16]],
    queries: NDArray[np.float32],
    limit: int,
    allowed: Allowed,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The nearest vectors of all scans, with the canonical similarity of each, whatever structure found it.

    An exact scan gives what comparing all would give. An approximate one is asked for more, and what it finds is
    compared again: it may miss a row, but never reports one at another similarity or in another order.

    Args:
        scans: no two hold the same id.
        take: the stored vectors float16 (n, D) of n ascending ids that one of the scans holds.
        queries: float32 (Q, D), unit length.
        limit: how many to find for each, >= 1.
        allowed: the ids that count.

    Returns:
        Similarities float32 (Q, limit), -1..1, nearest first and then by id, and ids int64 (Q, limit); id -1 and
        similarity -1 where there are no more.

    Raises:
        ValueError: a query is not finite, so that nothing would be near it.
    """
    if not np.isfinite(queries).all():
        raise ValueError("a query with NaN or infinity, expected unit vectors; judge that picture as not checked")
    queries = np.ascontiguousarray(queries, np.float32)
    if allowed.count <= _FEW:
        few = _held(scans, allowed.ids)
        ids = np.broadcast_to(few, (len(queries), len(few)))
        return _first(_similarities(take, queries, ids), ids, limit)
    found = [_candidates(scan, take, queries, limit, allowed) for scan in scans if len(scan)]
    if not found:
        return _first(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64), limit)
    return _first(np.concatenate([near for near, _ in found], 1), np.concatenate([ids for _, ids in found], 1), limit)


def nearest_codes(
    scans: Sequence[HashScan], codes: NDArray[np.uint8], limit: int, allowed: Allowed
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The nearest codes of all scans.

    Args:
        scans: no two hold the same id.
        codes: uint8 (Q, B), B * 8 bits.
        limit: how many to find for each, >= 1.
        allowed: the ids that count.

    Returns:
        Distances int32 (Q, limit) in bits, nearest first and then by id, and ids int64 (Q, limit); id -1 and
        `FARTHEST_BITS` where there are no more. Exact.
    """
    near = np.full((len(codes), limit), FARTHEST_BITS, np.int32)
    ids = np.full((len(codes), limit), -1, np.int64)
    if allowed.count == 0:
        return near, ids
    for scan in scans:
        if len(scan):
            bits, found = scan.search(codes, limit, allowed)
            near, ids = np.concatenate([near, bits], 1), np.concatenate([ids, found], 1)
    order = np.lexsort((ids, near), axis=1)[:, :limit]
    return np.take_along_axis(near, order, 1), np.take_along_axis(ids, order, 1)


def candidates_for(limit: int) -> int:
    """How many candidates an approximate scan is asked for, of which the nearest `limit` are to be found."""
    return max(_CANDIDATES, _TIMES_LIMIT * limit)


def _held(scans: Sequence[VectorScan], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of some ids that a scan holds."""
    held = np.zeros(len(ids), np.bool_)
    for scan in scans:
        held |= scan.holds(ids)
    return ids[held]


def _candidates(
    scan: VectorScan,
    take: Callable[[NDArray[np.int64]], NDArray[np.float16]],
    queries: NDArray[np.float32],
    limit: int,
    allowed: Allowed,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Canonical similarities and ids (Q, n) among which are the nearest of a scan, -1 for none.

    More are asked for while the last ones tie with the cut: a hundred copies of one picture are equally similar, the
    ones with the smallest ids are to be reported, and a scan promises none.
    """
    asked = min(len(scan), limit + _MORE if scan.exact else candidates_for(limit))
    ids = scan.search(queries, asked, allowed)[1]
    near = _similarities(take, queries, ids)
    rows = np.arange(len(queries))
    while asked < min(len(scan), _MOST_ASKED):
        cut = -np.partition(-near[rows], limit - 1, axis=1)[:, limit - 1]
        rows = rows[(ids[rows, :asked] >= 0).all(1) & (near[rows, :asked].min(1) >= cut - _ROUNDING)]
        if not len(rows):
            break
        asked = min(_TIMES_LIMIT * asked, len(scan), _MOST_ASKED)
        near, ids = _widened(near, ids, asked)
        ids[rows] = scan.search(queries[rows], asked, allowed)[1]
        near[rows] = _similarities(take, queries[rows], ids[rows])
    return near, ids


def _first(
    near: NDArray[np.float32], ids: NDArray[np.int64], limit: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The `limit` nearest of candidates (Q, n), nearest first and then by id."""
    if ids.shape[1] < limit:
        near, ids = _widened(near, ids, limit)
    order = np.lexsort((ids, -near, ids < 0), axis=1)[:, :limit]
    return np.take_along_axis(near, order, 1), np.take_along_axis(ids, order, 1)


def _widened(
    near: NDArray[np.float32], ids: NDArray[np.int64], columns: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Both with more columns, filled up with none."""
    more = ((0, 0), (0, columns - ids.shape[1]))
    return np.pad(near, more, constant_values=-1.0), np.pad(ids, more, constant_values=-1)


def _similarities(
    take: Callable[[NDArray[np.int64]], NDArray[np.float16]], queries: NDArray[np.float32], ids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The canonical similarities of queries (Q, D) and the vectors of ids (Q, n): float32 (Q, n), -1 for id -1."""
    near = np.full(ids.shape, -1.0, np.float32)
    wanted, places = np.unique(ids, return_inverse=True)
    none = int(np.searchsorted(wanted, 0))  # id -1 stands first, where it is
    if none == len(wanted):
        return near
    vectors = take(wanted[none:])
    scratch = _scratch(vectors.shape[1])
    for row, at in enumerate(places.reshape(ids.shape) - none):
        for start in range(0, len(at), len(scratch)):
            some = at[start : start + len(scratch)]
            near[row, start : start + len(scratch)] = similarities_of(queries[row], vectors[some], scratch[: len(some)])
    near[ids < 0] = -1.0
    return near


def _scratch(dimensions: int) -> NDArray[np.float64]:
    """Room for some vectors as float64, kept for each thread: fresh memory costs more than what is computed in it."""
    room: NDArray[np.float64] | None = getattr(_threads, "room", None)
    if room is None or room.size < dimensions:
        room = _threads.room = np.empty(max(_COMPARED_TOGETHER, dimensions), np.float64)
    rows = len(room) // dimensions
    return room[: rows * dimensions].reshape(rows, dimensions)
