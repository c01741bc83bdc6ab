"""One search: fingerprints against a state and its structures, by every signal; rows in, nearness out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints, Look
from guardrail.index.scans.base import Allowed
from guardrail.index.scans.nearest import nearest_codes, nearest_vectors
from guardrail.index.store.state import State
from guardrail.index.structures import ColumnBlocks, Structures, vector_columns
from guardrail.records import VIEWS, Region, Signal, View, tiles_of

__all__ = ["Background", "Near", "Searcher"]

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
class Background:
    """The pictures that similarities are made comparable by.

    Attributes:
        vectors: float32 (B, D), unit length copy descriptors.
        nearest: how many of them are taken.
    """

    vectors: NDArray[np.float32]
    nearest: int

    def commonness(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """How near the background comes: the mean similarity of queries (Q, D) to the nearest of it, (Q,).

        Source: Douze et al., "The 2021 image similarity dataset and challenge", 2021, section 5 (score normalisation).
        We leave the factor at 1. Taking it off is one more dimension (-commonness, and 1 in every work's vector), which
        changes no order for one query, so it is subtracted after the search.
        """
        similarities = queries @ self.vectors.T
        taken = min(self.nearest, similarities.shape[1])
        common: NDArray[np.float32] = np.partition(similarities, -taken, axis=1)[:, -taken:].mean(1)
        return common


@dataclass(frozen=True, slots=True)
class Searcher:
    """Searches the rows of a state that count for something now.

    Attributes:
        state: the index.
        structures: its search structures.
        background: normalises similarities, or None.
    """

    state: State
    structures: Structures
    background: Background | None

    def search(
        self, prints: Fingerprints, sought: Sequence[int], limit: int, allowed: Mapping[str, Allowed]
    ) -> list[list[Near]]:
        """For each image that is sought, at most `limit` rows by each signal, nearest first, each row once.

        Args:
            prints: of a batch.
            sought: which images of it.
            limit: how many rows.
            allowed: the rows that count, by column.
        """
        found: list[list[Near]] = [[] for _ in sought]
        self._by_descriptor(found, prints, sought, limit, allowed)
        if "clip" in vector_columns(self.state.header) and prints.clip is not None:
            for near, one in zip(found, self._nearest("clip", prints.clip[list(sought)], limit, allowed), strict=True):
                near += [Near(row, Signal.CLIP, similarity, None) for similarity, row in one]
        for signal, codes in ((Signal.PDQ, prints.pdq), (Signal.PHASH, prints.phash)):
            self._by_hash(found, signal, codes[list(sought)], limit, allowed[str(signal)])
        return found

    def _nearest(
        self, column: str, queries: NDArray[np.float32], limit: int, allowed: Mapping[str, Allowed]
    ) -> list[list[tuple[float, int]]]:
        """For each query (Q, D), similarity and vector id of the nearest; all queries at once."""
        blocks = ColumnBlocks(self.state, column, vector_columns(self.state.header)[column], np.zeros(0, np.int64))
        near, ids = nearest_vectors(self.structures.scans(column), blocks.take, queries, limit, allowed[column])
        return [
            [(value, at) for value, at in zip(values, some, strict=True) if at >= 0]
            for values, some in zip(near.tolist(), ids.tolist(), strict=True)
        ]

    def _by_descriptor(
        self,
        found: list[list[Near]],
        prints: Fingerprints,
        sought: Sequence[int],
        limit: int,
        allowed: Mapping[str, Allowed],
    ) -> None:
        """All looks of the copy descriptor: wholes against wholes, and tiles of either against wholes.

        Tiles are not compared with tiles: pieces of two pictures are alike too easily.
        """
        looks = (_WHOLE, *prints.looks)
        queries = prints.copy[list(sought), None]
        if prints.copy_looks is not None:
            queries = np.concatenate([queries, prints.copy_looks[list(sought)]], 1)
        flat = queries.reshape(-1, queries.shape[2])
        common = self.background.commonness(flat) if self.background else np.zeros(len(flat), np.float32)
        near = self._nearest("copy", flat, limit, allowed)
        whole_looks = [at for at, look in enumerate(looks) if look.region is None]
        tiles = self._nearest_tiles(queries[:, whole_looks], limit, allowed)
        for at, one in enumerate(found):
            here = range(at * len(looks), (at + 1) * len(looks))
            wholes: list[list[Near]] = []
            pieces: list[list[Near]] = []
            for look, number in zip(looks, here, strict=True):
                signal = Signal.COPY if look.region is None else Signal.TILE
                (wholes if look.region is None else pieces).append(
                    [
                        Near(row, signal, _lessened(value, float(common[number])), None, look.view, look.region)
                        for value, row in near[number]
                    ]
                )
            for place, look_at in enumerate(whole_looks):
                taken = float(common[here[look_at]])
                pieces.append(
                    [
                        Near(row, Signal.TILE, _lessened(value, taken), None, looks[look_at].view, None, region)
                        for value, row, region in tiles[at * len(whole_looks) + place]
                    ]
                )
            one += _best(chain(*wholes), limit) + _best(chain(*pieces), limit)

    def _nearest_tiles(
        self, queries: NDArray[np.float32], limit: int, allowed: Mapping[str, Allowed]
    ) -> list[list[tuple[float, int, Region]]]:
        """For each query, the rows of the nearest tiles: so many tiles that `limit` rows are among them."""
        regions = tiles_of(self.state.header.sampling.tiles)
        flat = queries.reshape(-1, queries.shape[2])
        if not regions:
            return [[] for _ in flat]
        each = len(regions)
        return [
            [(value, at // each, regions[at % each]) for value, at in some]
            for some in self._nearest("tiles", flat, limit * each, allowed)
        ]

    def _by_hash(
        self, found: list[list[Near]], signal: Signal, codes: NDArray[np.uint8], limit: int, allowed: Allowed
    ) -> None:
        """Each image is asked in eight views; a row counts once, in the view where it is nearest."""
        images, views, width = codes.shape
        distances, ids = nearest_codes(
            self.structures.hash_scans(str(signal)), codes.reshape(-1, width), limit, allowed
        )
        for at, near in enumerate(found):
            bits, rows = distances.reshape(images, -1)[at], ids.reshape(images, -1)[at]
            seen: set[int] = set()
            for place in np.lexsort((rows, bits)):
                row = int(rows[place])
                if row >= 0 and row not in seen and len(seen) < limit:
                    seen.add(row)
                    near.append(Near(row, signal, None, int(bits[place]), VIEWS[int(place) * views // len(bits)]))


def _lessened(similarity: float, common: float) -> float:
    """A similarity less what the background has of it, within -1..1."""
    return min(1.0, max(-1.0, similarity - common))


def _best(near: Iterable[Near], limit: int) -> list[Near]:
    """At most `limit` rows, nearest first, each by its nearest look."""
    best: dict[int, Near] = {}
    for one in sorted(near, key=lambda one: -(one.similarity or 0.0)):
        best.setdefault(one.row, one)
    return list(best.values())[:limit]
