"""Which works of an index come near one another: pairs that hashes or copy descriptors bring up, and those proved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from guardrail.index.clusters_proof import plain_pictures, same_pictures, turned_codes
from guardrail.index.scans.base import Allowed
from guardrail.index.scans.choose import EXACT_UP_TO
from guardrail.index.scans.nearest import nearest_vectors
from guardrail.index.search import Background
from guardrail.index.store.columns import COMPUTED
from guardrail.index.store.state import State
from guardrail.index.structures import ColumnBlocks, Structures
from guardrail.records import Limits

__all__ = ["Likeness", "new_links"]

_HASHES_TOGETHER = 128  # works, in eight views each
_VECTORS_TOGETHER = 2048  # works asked for
_COMPARED = 16_384  # works that they are compared with at a time: 128 MB of similarities
_PICTURES_TOGETHER = 8192  # small pictures in memory: 25 MB
_PROVED_TOGETHER = 65_536  # pairs whose small pictures are in memory: 400 MB
_ROUNDING = np.float32(1e-5)  # by so much a float32 product of unit vectors may be off
_TILE_SHARE = 2 / 3  # of the index's limit of tiles: beyond lay the cards and flags of a series (docs/dedup.md)
_NEAREST = 64  # works that an approximate structure is asked for; four times as many while all are near enough
_MOST_NEAREST = 4096

_faiss: Any = faiss  # its type stubs know less than it takes
_Rows = NDArray[np.int64]
_Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Likeness:
    """What makes two works near-duplicates.

    Attributes:
        limits: PDQ's and the copy descriptor's flag limit bring a pair up, as they bring a work up for an image; the
            block limit of correlation and two thirds of the limit of tiles prove it. Of works without pixels (from hash
            lists), PDQ at its block limit is all the proof there can be.
        background: takes off what the background has of a similarity, or None.
    """

    limits: Limits
    background: Background | None = None


def new_links(
    state: State,
    structures: Structures,
    likeness: Likeness,
    known: _Rows,
    fresh: _Rows,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> _Pairs:
    """The pairs of near-duplicates that have a fresh row.

    Args:
        state: the index.
        structures: its search structures, asked where there are more vectors than are compared one and all.
        likeness: what counts.
        known: int64, ascending: rows whose pairs among themselves are known.
        fresh: int64, ascending: the others.
        progress: called with (done, total).

    Returns:
        int64 (m, 2), the smaller row first, in ascending order, each pair once. The same whatever was fresh before,
        except among more vectors than are compared exactly (`EXACT_UP_TO`), where the copy descriptor may miss some.

    Cost: measured in docs/dedup.md. Memory: the copy descriptors of all rows as float16, and 16 bytes a pair.
    """
    search = _Search(state, structures, likeness, known, fresh, _column_flags(state))
    found = [np.empty((0, 2), np.int64)]
    found += [search.proved(pairs) for pairs in search.candidates(progress)]
    return np.unique(np.concatenate(found), axis=0)


def _column_flags(state: State) -> NDArray[np.uint8]:
    """By row id, which computed columns a row has, one bit each."""
    flags = np.zeros(len(state.alive), np.uint8)
    for part in state.parts:
        flags[part.ids] = part.standing["columns"]
    return flags


@dataclass(frozen=True, slots=True)
class _Search:
    state: State
    structures: Structures
    likeness: Likeness
    known: _Rows
    fresh: _Rows
    columns: NDArray[np.uint8]

    def _having(self, name: str, rows: _Rows) -> _Rows:
        return rows[(self.columns[rows] >> COMPUTED.index(name)) & 1 > 0]

    def _both_have(self, name: str, pairs: _Pairs) -> NDArray[np.bool_]:
        has: NDArray[np.bool_] = (self.columns[pairs] >> COMPUTED.index(name)) & 1 > 0
        return np.asarray(has.all(axis=1), np.bool_)

    def candidates(self, progress: Callable[[int, int], None]) -> Iterator[_Pairs]:
        """Pairs that a signal brings up, some at a time; a pair may come twice."""
        asked = self._telling(self.fresh)
        by_hash, by_vector = self._having("pdq", asked), self._having("copy", asked)
        total, done = len(by_hash) + len(by_vector), 0
        exact = len(self.known) + len(by_vector) <= EXACT_UP_TO
        for count, pairs in chain(
            self._by_hash(by_hash), self._by_vector(by_vector) if exact else self._by_structure(by_vector)
        ):
            yield np.sort(pairs, axis=1)
            progress(done := done + count, total)

    def _telling(self, rows: _Rows) -> _Rows:
        """Without plain pictures, which are near every other plain one; for speed: `proved` leaves them out, too."""
        plain = np.zeros(len(self.columns), np.bool_)
        pictured = self._having("pixels", rows)
        for start in range(0, len(pictured), _PICTURES_TOGETHER):
            some = pictured[start : start + _PICTURES_TOGETHER]
            plain[some] = plain_pictures(self.state.take("pixels", some))
        return rows[~plain[rows]]

    def _by_hash(self, fresh: _Rows) -> Iterator[tuple[int, _Pairs]]:
        """How many were asked for, and the pairs (m, 2) with one of them: all others in the eight views of its hash."""
        within = self.likeness.limits.pdq.flag_within_bits
        if within is None or not len(fresh):
            return
        known = self._having("pdq", self.known)
        rows = np.concatenate([known, fresh])
        scan = _faiss.IndexBinaryFlat(8 * self.state.take("pdq", fresh[:1]).shape[1])
        if len(known):
            scan.add(self.state.take("pdq", known))
        for start in range(0, len(fresh), _HASHES_TOGETHER):
            codes = self.state.take("pdq", fresh[start : start + _HASHES_TOGETHER])
            scan.add(codes)
            ends, _, places = scan.range_search(turned_codes(codes).reshape(-1, codes.shape[1]), within + 1)
            which = np.repeat(np.arange(8 * len(codes)) // 8, np.diff(ends.astype(np.int64)))
            yield len(codes), _earlier(rows, len(known) + start + which, places)

    def _by_vector(self, fresh: _Rows) -> Iterator[tuple[int, _Pairs]]:
        """The same by the copy descriptor, every one compared with every other."""
        above = self.likeness.limits.copy_.flag_above
        if above is None or not len(fresh):
            return
        rows = np.concatenate([self._having("copy", self.known), fresh])
        known = len(rows) - len(fresh)
        stored = self.state.take("copy", rows)
        common = self._commonness(stored)
        for start in range(known, len(rows), _VECTORS_TOGETHER):
            asked = stored[start : start + _VECTORS_TOGETHER].astype(np.float32)
            for at in range(0, start + len(asked), _COMPARED):
                stop = min(at + _COMPARED, start + len(asked))
                near = asked @ stored[at:stop].astype(np.float32).T
                if common is not None:
                    near -= np.minimum.outer(common[start : start + len(asked)], common[at:stop])
                which, places = np.nonzero(near >= np.float32(above) - _ROUNDING)
                yield len(asked) if at == 0 else 0, _earlier(rows, start + which, at + places)

    def _by_structure(self, fresh: _Rows) -> Iterator[tuple[int, _Pairs]]:
        """The same where there are too many: the nearest that a search structure finds."""
        above = self.likeness.limits.copy_.flag_above
        if above is None:
            return
        flags = np.zeros(len(self.columns), np.bool_)
        flags[self.known], flags[self.fresh] = True, True
        blocks = ColumnBlocks(self.state, "copy", 1, np.zeros(0, np.int64))
        for start in range(0, len(fresh), _VECTORS_TOGETHER):
            some = fresh[start : start + _VECTORS_TOGETHER]
            asked = self.state.take("copy", some).astype(np.float32)
            common = self._commonness(asked)
            limit, left = _NEAREST, np.arange(len(some))
            while len(left):
                near, ids = nearest_vectors(
                    self.structures.scans("copy"), blocks.take, asked[left], limit, Allowed(flags)
                )
                near = near if common is None else near - common[left, None]
                which, places = np.nonzero((near >= np.float32(above) - _ROUNDING) & (ids >= 0))
                pairs = np.stack([some[left[which]], ids[which, places]], axis=1)
                more = near[:, -1] >= np.float32(above)
                yield int(len(some) if limit == _NEAREST else 0), pairs[pairs[:, 0] != pairs[:, 1]]
                left, limit = left[more & (limit < _MOST_NEAREST)], 4 * limit

    def _commonness(self, vectors: NDArray[Any]) -> NDArray[np.float32] | None:
        """What the background has of each vector's similarities; None where nothing is taken off."""
        if self.likeness.background is None:
            return None
        pieces = [
            self.likeness.background.commonness(vectors[start : start + _VECTORS_TOGETHER].astype(np.float32))
            for start in range(0, len(vectors), _VECTORS_TOGETHER)
        ]
        return np.concatenate([np.empty(0, np.float32), *pieces])

    def proved(self, pairs: _Pairs) -> _Pairs:
        """Those of some pairs, the smaller row first, that are near-duplicates."""
        pairs = np.unique(pairs, axis=0)
        pictured = self._both_have("pixels", pairs)
        kept = np.zeros(len(pairs), np.bool_)
        for start in range(0, len(pairs), _PROVED_TOGETHER):
            span = slice(start, start + _PROVED_TOGETHER)
            kept[span][pictured[span]] = self._by_pixels(pairs[span][pictured[span]])
            kept[span][~pictured[span]] = self._by_hash_alone(pairs[span][~pictured[span]])
        return pairs[kept]

    def _by_pixels(self, pairs: _Pairs) -> NDArray[np.bool_]:
        limits = self.likeness.limits
        if limits.correlation.block_above is None or limits.tile_l2_within is None or not len(pairs):
            return np.zeros(len(pairs), np.bool_)
        rows, places = np.unique(pairs, return_inverse=True)
        pixels, places = self.state.take("pixels", rows), places.reshape(pairs.shape)
        within = _TILE_SHARE * limits.tile_l2_within
        return same_pictures(pixels, places[:, 0], places[:, 1], limits.correlation.block_above, within)

    def _by_hash_alone(self, pairs: _Pairs) -> NDArray[np.bool_]:
        """Of works one of which has no pixels: hashes within the block limit, neither that of a flat picture."""
        within = self.likeness.limits.pdq.block_within_bits
        same = self._both_have("pdq", pairs)
        if within is None or not same.any():
            return np.zeros(len(pairs), np.bool_)
        pairs = pairs[same]
        one, other = self.state.take("pdq", pairs[:, 0]), self.state.take("pdq", pairs[:, 1])
        bits = np.bitwise_count(turned_codes(one) ^ other[:, None]).sum(axis=2, dtype=np.int64).min(axis=1)
        plain = np.zeros(len(self.columns), np.bool_)
        rows = np.unique(pairs)
        plain[np.setdiff1d(rows, self._telling(rows))] = True
        same[same] = (bits <= within) & one.any(axis=1) & other.any(axis=1) & ~plain[pairs].any(axis=1)
        return same


def _earlier(rows: _Rows, which: _Rows, places: _Rows) -> _Pairs:
    """Pairs of the rows at places, each pair from that of its two that comes later."""
    kept = places < which
    return np.stack([rows[which[kept]], rows[places[kept]]], axis=1)
