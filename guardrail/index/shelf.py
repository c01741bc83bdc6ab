"""Some rows of an index, searched exactly: faiss inner product for vectors, faiss binary for hashes.

Rows that are protected and rows that are not lie on shelves of their own, so that neither crowds out the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints
from guardrail.records import VIEWS, Signal, View

__all__ = ["Near", "Shelf"]


class Near(NamedTuple):
    """A row that is near an image by one signal: a similarity or a distance."""

    row: int
    signal: Signal
    similarity: float | None
    distance_bits: int | None
    view: View


@dataclass(frozen=True, slots=True)
class Shelf:
    """Search structures over some rows.

    Attributes:
        rows: int64 (n,), their numbers in the index.
        hashes: by signal, a faiss binary index of them in that order.
        vectors: by signal, a faiss inner-product index.
    """

    rows: NDArray[np.int64]
    hashes: Mapping[Signal, Any]
    vectors: Mapping[Signal, Any]

    @classmethod
    def of(
        cls,
        rows: Sequence[int],
        codes: Mapping[Signal, NDArray[np.uint8]],
        vectors: Mapping[Signal, NDArray[np.float32]],
    ) -> Shelf:
        """The shelf of some rows of an index's arrays."""
        which = np.asarray(rows, np.int64)
        hashes = {signal: _binary_index(array[which]) for signal, array in codes.items()}
        return cls(which, hashes, {signal: _vector_index(array[which]) for signal, array in vectors.items()})

    def search(self, prints: Fingerprints, sought: Sequence[int], limit: int) -> list[list[Near]]:
        """For each image that is sought, at most `limit` rows by each signal, nearest first, each row once."""
        depth = min(limit, len(self.rows))
        found: list[list[Near]] = [[] for _ in sought]
        for signal, index in self.vectors.items():
            queries = {Signal.COPY: prints.copy, Signal.CLIP: prints.clip}[signal]
            if queries is not None:
                self._by_vector(found, signal, index, queries[list(sought)], depth)
        for signal, codes in ((Signal.PDQ, prints.pdq), (Signal.PHASH, prints.phash)):
            self._by_hash(found, signal, codes[list(sought)], depth)
        return found

    def _by_vector(
        self, found: list[list[Near]], signal: Signal, index: Any, queries: NDArray[np.float32], depth: int
    ) -> None:
        similarities, places = index.search(np.ascontiguousarray(queries), depth)
        for near, values, numbers in zip(found, similarities.clip(-1.0, 1.0), places, strict=True):
            for value, place in zip(values, numbers, strict=True):
                near.append(Near(int(self.rows[place]), signal, float(value), None, "identity"))

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


def _vector_index(vectors: NDArray[np.float32]) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index


def _binary_index(codes: NDArray[np.uint8]) -> Any:
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(np.ascontiguousarray(codes))
    return index
