"""Some rows of an index, searched exactly: faiss inner product for vectors, faiss binary for hashes.

Rows that are protected and rows that are not lie on shelves of their own, so that neither crowds out the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints, Look
from guardrail.records import VIEWS, Region, Signal, View

__all__ = ["Near", "Shelf", "Vectors"]

_WHOLE = Look("identity", None)


class Near(NamedTuple):
    """A row that is near an image by one signal: a similarity or a distance."""

    row: int
    signal: Signal
    similarity: float | None
    distance_bits: int | None
    view: View = "identity"
    region: Region | None = None
    work_region: Region | None = None


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of an index's rows.

    Attributes:
        wholes: by signal, float32 (N, D), unit length.
        tiles: float32 (N, T, D), copy descriptors of the works' tiles, or None.
        regions: the T tiles.
        background: float32 (B, D), copy descriptors of the background that normalises, or None.
        nearest: how many of the background are taken.
    """

    wholes: Mapping[Signal, NDArray[np.float32]]
    tiles: NDArray[np.float32] | None = None
    regions: tuple[Region, ...] = ()
    background: NDArray[np.float32] | None = None
    nearest: int = 1

    def commonness(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """How near the background comes: the mean similarity of queries (Q, D) to the nearest of it, (Q,); else 0.

        Source: Douze et al., "The 2021 image similarity dataset and challenge", 2021, section 5 (score normalisation).
        We leave the factor at 1. Taking it off is one more dimension (-commonness, and 1 in every work's vector), which
        changes no order for one query, so it is subtracted after the search.
        """
        if self.background is None:
            return np.zeros(len(queries), np.float32)
        similarities = queries @ self.background.T
        taken = min(self.nearest, similarities.shape[1])
        common: NDArray[np.float32] = np.partition(similarities, -taken, axis=1)[:, -taken:].mean(1)
        return common


@dataclass(frozen=True, slots=True)
class Shelf:
    """Search structures over some rows.

    Attributes:
        rows: int64 (n,), their numbers in the index.
        hashes: by signal, a faiss binary index of them in that order.
        wholes: by signal, a faiss inner-product index.
        tiles: a faiss inner-product index of the rows' tiles, those of one row together; or None.
        vectors: what all rows of the index have in common: the tiles' places, and the background.
    """

    rows: NDArray[np.int64]
    hashes: Mapping[Signal, Any]
    wholes: Mapping[Signal, Any]
    tiles: Any
    vectors: Vectors

    @classmethod
    def of(cls, rows: Sequence[int], codes: Mapping[Signal, NDArray[np.uint8]], vectors: Vectors) -> Shelf:
        """The shelf of some rows of an index's arrays."""
        which = np.asarray(rows, np.int64)
        hashes = {signal: _binary_index(array[which]) for signal, array in codes.items()}
        wholes = {signal: _vector_index(array[which]) for signal, array in vectors.wholes.items()}
        pieces = vectors.tiles
        tiles = None if pieces is None else _vector_index(pieces[which].reshape(-1, pieces.shape[2]))
        return cls(which, hashes, wholes, tiles, vectors)

    def search(self, prints: Fingerprints, sought: Sequence[int], limit: int) -> list[list[Near]]:
        """For each image that is sought, at most `limit` rows by each signal, nearest first, each row once."""
        depth = min(limit, len(self.rows))
        found: list[list[Near]] = [[] for _ in sought]
        asked = list(sought)
        for near, row in zip(found, asked, strict=True):
            near += self._by_descriptor(prints, row, depth)
        if Signal.CLIP in self.wholes and prints.clip is not None:
            for near, one in zip(found, self._nearest_wholes(Signal.CLIP, prints.clip[asked], depth), strict=True):
                near += one
        for signal, codes in ((Signal.PDQ, prints.pdq), (Signal.PHASH, prints.phash)):
            self._by_hash(found, signal, codes[asked], depth)
        return found

    def _by_descriptor(self, prints: Fingerprints, row: int, depth: int) -> list[Near]:
        """One image by all looks of its copy descriptor: wholes against wholes, and tiles of either against wholes.

        Tiles are not compared with tiles: pieces of two pictures are alike too easily.
        """
        queries = prints.copy[row : row + 1]
        if prints.copy_looks is not None:
            queries = np.concatenate([queries, prints.copy_looks[row]])
        looks = (_WHOLE, *prints.looks)
        common = self.vectors.commonness(queries)
        near = [
            [
                one._replace(similarity=_lessened(one.similarity, taken), view=look.view, region=look.region)
                for one in some
            ]
            for some, look, taken in zip(
                chain(self._nearest_wholes(Signal.COPY, queries, depth)), looks, common, strict=True
            )
        ]
        wholes = [some for some, look in zip(near, looks, strict=True) if look.region is None]
        pieces = [
            [one._replace(signal=Signal.TILE) for one in some]
            for some, look in zip(near, looks, strict=True)
            if look.region is not None
        ]
        if self.tiles is not None:
            at = [number for number, look in enumerate(looks) if look.region is None]
            pieces += self._nearest_tiles(queries[at], [looks[number] for number in at], common[at], depth)
        return _best(chain(*wholes), depth) + _best(chain(*pieces), depth)

    def _nearest_wholes(self, signal: Signal, queries: NDArray[np.float32], depth: int) -> list[list[Near]]:
        """For each query (Q, D), the nearest rows."""
        similarities, places = self.wholes[signal].search(np.ascontiguousarray(queries), depth)
        return [
            [Near(int(self.rows[place]), signal, float(value), None) for value, place in zip(values, some, strict=True)]
            for values, some in zip(similarities.clip(-1.0, 1.0), places, strict=True)
        ]

    def _nearest_tiles(
        self, queries: NDArray[np.float32], looks: Sequence[Look], common: NDArray[np.float32], depth: int
    ) -> list[list[Near]]:
        """For each query (Q, D), the rows of the nearest tiles: so many tiles that `depth` rows are among them."""
        count = len(self.vectors.regions)
        similarities, places = self.tiles.search(np.ascontiguousarray(queries), depth * count)
        found = []
        for values, some, look, taken in zip(similarities.clip(-1.0, 1.0), places, looks, common, strict=True):
            found.append([
                Near(
                    int(self.rows[place // count]),
                    Signal.TILE,
                    _lessened(float(value), taken),
                    None,
                    look.view,
                    None,
                    self.vectors.regions[place % count],
                )
                for value, place in zip(values, some, strict=True)
            ])  # fmt: skip
        return found

    def _by_hash(self, found: list[list[Near]], signal: Signal, codes: NDArray[np.uint8], depth: int) -> None:
        """Each image is asked in eight views; a row counts once, in the view where it is nearest."""
        images, _, width = codes.shape
        distances, places = self.hashes[signal].search(np.ascontiguousarray(codes.reshape(-1, width)), depth)
        by_image = zip(found, distances.reshape(images, -1), places.reshape(images, -1), strict=True)
        for near, bits, numbers in by_image:
            seen: set[int] = set()
            for at in np.argsort(bits, kind="stable"):
                row = int(self.rows[numbers[at]])
                if row not in seen and len(seen) < depth:
                    seen.add(row)
                    near.append(Near(row, signal, None, int(bits[at]), VIEWS[int(at) // depth]))


def _lessened(similarity: float | None, common: float) -> float:
    """A similarity less what the background has of it, within -1..1."""
    assert similarity is not None, "vectors are compared by similarity"
    return float(np.clip(similarity - common, -1.0, 1.0))


def _best(near: Iterable[Near], depth: int) -> list[Near]:
    """At most `depth` rows, nearest first, each by its nearest look."""
    best: dict[int, Near] = {}
    for one in sorted(near, key=lambda one: -(one.similarity or 0.0)):
        best.setdefault(one.row, one)
    return list(best.values())[:depth]


def _vector_index(vectors: NDArray[np.float32]) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index


def _binary_index(codes: NDArray[np.uint8]) -> Any:
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(np.ascontiguousarray(codes))
    return index
