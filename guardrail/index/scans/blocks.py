"""Vectors in an array, read as stored ones are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ArrayBlocks"]


@dataclass(frozen=True, slots=True)
class ArrayBlocks:
    """`VectorBlocks` of two arrays, in memory or memory-mapped.

    Attributes:
        ids: int64 (n,), ascending.
        vectors: float16 (n, D).
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dimensions(self) -> int:
        """See `VectorBlocks.dimensions`."""
        return int(self.vectors.shape[1])

    def blocks(self, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
        """See `VectorBlocks.blocks`."""
        for start in range(0, len(self), size):
            yield self.ids[start : start + size], self.vectors[start : start + size]

    def sample(self, count: int, seed: int) -> NDArray[np.float16]:
        """See `VectorBlocks.sample`."""
        if count >= len(self):
            return np.array(self.vectors)
        places = np.random.default_rng(seed).choice(len(self), count, replace=False, shuffle=False)
        return np.array(self.vectors[np.sort(places)])

    def take(self, ids: NDArray[np.int64]) -> NDArray[np.float16]:
        """See `VectorBlocks.take`."""
        return np.asarray(self.vectors[np.searchsorted(self.ids, ids)])
