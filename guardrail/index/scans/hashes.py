"""Exact search of hashes on a CPU: faiss counts the differing bits of every code."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from guardrail.index.scans.base import FARTHEST_BITS, Allowed
from guardrail.index.scans.rows import RowIds

__all__ = ["FlatHashScan"]

_faiss: Any = faiss  # its type stubs know less than it takes

_FEW_SHARE = 8  # fewer than one in so many allowed: these alone are compared
_GATHERED_ROWS = 2**20  # codes copied at a time where some are left out: 32 MB of 256 bits
_MOST_OVERASKED = 512  # codes; more are gathered instead
_FOUND_BYTES = 64 * 2**20  # of distances and ids that are held at a time: queries are split to fit


class FlatHashScan:
    """Codes compared one and all. Exact; 0.8 to 1.1 ms of CPU a query and million codes of 256 bits.

    faiss goes through the codes in order and its heap gives way to nearer ones from the largest place on, so of equally
    near codes those with the smallest ids are found (a test holds it to that). The codes are not copied, so they may be
    memory-mapped: then they cost no memory of ours, only the cache of the files.
    """

    def __init__(self, ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        """A structure over some codes, which must not change.

        Args:
            ids: int64 (n,), ascending.
            codes: uint8 (n, B), contiguous, or they are copied.
        """
        self._rows = RowIds.of(ids)
        self._codes = np.ascontiguousarray(codes, np.uint8)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def resident_bytes(self) -> int:
        """See `HashScan.resident_bytes`."""
        return self._codes.nbytes + self._rows.nbytes

    def search(
        self, codes: NDArray[np.uint8], limit: int, allowed: Allowed
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """See `HashScan.search`."""
        codes = np.ascontiguousarray(codes, np.uint8)
        if len(self) == 0 or len(codes) == 0:
            return _padded(np.empty((len(codes), 0), np.int32), np.empty((len(codes), 0), np.int64), limit)
        together = max(1, _FOUND_BYTES // (12 * (2 * limit + _MOST_OVERASKED)))
        parts = [self._search(codes[at : at + together], limit, allowed) for at in range(0, len(codes), together)]
        return np.concatenate([near for near, _ in parts]), np.concatenate([ids for _, ids in parts])

    def _search(
        self, codes: NDArray[np.uint8], limit: int, allowed: Allowed
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        if allowed.count * _FEW_SHARE < len(self):
            places = self._rows.places_of(allowed.ids)
            near, at = self._gathered(codes, limit, places[places >= 0])
            return near, self._rows.at(at)
        kept = self._rows.flags_of(allowed)
        count = int(np.count_nonzero(kept))
        if count == 0:
            return _padded(np.empty((len(codes), 0), np.int32), np.empty((len(codes), 0), np.int64), limit)
        if count == len(self):
            near, at = _padded(*_nearest(codes, self._codes, limit), limit)
        else:
            near, at = self._overasked(codes, limit, kept, count)
        return near, self._rows.at(at)

    def _overasked(
        self, codes: NDArray[np.uint8], limit: int, kept: NDArray[np.bool_], count: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Asks for so many that enough of them are kept, mostly; where they are not, the kept ones are gathered."""
        asked = min(limit + len(self) - count, 2 * limit * len(self) // count + limit)
        if asked > _MOST_OVERASKED:
            return self._gathered(codes, limit, np.flatnonzero(kept))
        near, places = _nearest(codes, self._codes, asked)
        counts = kept[places]
        order = np.argsort(~counts, axis=1, kind="stable")[:, :limit]
        gone = ~np.take_along_axis(counts, order, 1)
        near, places = np.take_along_axis(near, order, 1), np.take_along_axis(places, order, 1)
        near[gone], places[gone] = FARTHEST_BITS, -1
        near, places = _padded(near, places, limit)
        if asked < len(self) and (short := np.flatnonzero(counts.sum(1) < min(limit, count))).size:
            near[short], places[short] = self._gathered(codes[short], limit, np.flatnonzero(kept))
        return near, places

    def _gathered(
        self, codes: NDArray[np.uint8], limit: int, places: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The nearest codes at some places, a copy of which is made bit by bit."""
        near, found = _padded(np.empty((len(codes), 0), np.int32), np.empty((len(codes), 0), np.int64), limit)
        for start in range(0, len(places), _GATHERED_ROWS):
            some = places[start : start + _GATHERED_ROWS]
            bits, at = _nearest(codes, self._codes[some], limit)
            near, found = np.concatenate([near, bits], 1), np.concatenate([found, some[at]], 1)
            order = np.argsort(near, axis=1, kind="stable")[:, :limit]  # earlier rows stand first, and stay so
            near, found = np.take_along_axis(near, order, 1), np.take_along_axis(found, order, 1)
        return near, found


def _nearest(
    codes: NDArray[np.uint8], stored: NDArray[np.uint8], limit: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The nearest stored codes by distance and then place: int32 and int64 (Q, min(limit, n))."""
    near, places = _faiss.knn_hamming(codes, stored, min(limit, len(stored)), variant="hc")
    return near, places


def _padded(
    near: NDArray[np.int32], places: NDArray[np.int64], limit: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Both with `limit` columns, filled up with none."""
    short = ((0, 0), (0, limit - near.shape[1]))
    return np.pad(near, short, constant_values=FARTHEST_BITS), np.pad(places, short, constant_values=-1)
