"""What a benchmark of search asks with: vectors to search among, near copies at a known similarity, and growth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Planted", "drawn_vectors", "growth_of", "near_hashes", "planted_copies", "recall_of"]

_SPECTRUM_POWER = 0.5  # of synthetic vectors: the spread along axis j is j to the minus this
_MEAN_LENGTH = 0.35  # of the mean of all synthetic vectors, before they are made unit length
_PIECE_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Planted:
    """Queries that are near copies of known rows.

    Attributes:
        rows: int64 (Q,), which row each is a copy of.
        queries: float32 (Q, D), unit length.
    """

    rows: NDArray[np.int64]
    queries: NDArray[np.float32]


def drawn_vectors(count: int, dimensions: int, seed: int) -> Iterator[NDArray[np.float16]]:
    """Synthetic descriptors, some at a time: float16 (n, D), unit length, in `count` rows altogether.

    Normal along axes whose spread falls off by a power law, around a common mean, as descriptors of pictures do; a
    random turn spreads that over all numbers. They are none of a network: recall of a structure on them says nothing
    of pictures. The same seed draws the same.
    """
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0].astype(np.float32)
    spread = np.arange(1, dimensions + 1, dtype=np.float32) ** -_SPECTRUM_POWER
    spread /= np.linalg.norm(spread)
    mean = rng.standard_normal(dimensions).astype(np.float32)
    mean *= _MEAN_LENGTH / np.linalg.norm(mean)
    for start in range(0, count, _PIECE_ROWS):
        drawn = rng.standard_normal((min(_PIECE_ROWS, count - start), dimensions), dtype=np.float32)
        vectors = (drawn * spread) @ turn + mean
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield vectors.astype(np.float16)


def planted_copies(vectors: NDArray[np.float16], rows: NDArray[np.int64], cosine: float, seed: int) -> Planted:
    """Queries at a cosine of stored vectors, away from each in a direction of its own.

    Args:
        vectors: float16 (Q, D), unit length: those of `rows`.
        rows: int64 (Q,).
        cosine: 0..1.
        seed: of the directions.
    """
    towards = vectors.astype(np.float32)
    away = np.random.default_rng(seed).standard_normal(towards.shape, dtype=np.float32)
    away -= (away * towards).sum(1, keepdims=True) * towards
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    queries = cosine * towards + math.sqrt(1 - cosine**2) * away
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return Planted(rows, queries)


def near_hashes(codes: NDArray[np.uint8], distance_bits: int, seed: int) -> NDArray[np.uint8]:
    """Codes (Q, B) with so many of their bits flipped, others in each."""
    rng = np.random.default_rng(seed)
    bits = np.unpackbits(codes, axis=1)
    flipped = rng.permuted(np.arange(bits.shape[1]) < distance_bits * np.ones((len(codes), 1)), axis=1)
    return np.packbits(bits ^ flipped.astype(np.uint8), axis=1)


def recall_of(found: NDArray[np.float32], planted: NDArray[np.float32]) -> float:
    """The share of planted copies for which something at least as near as their row was found.

    Real pictures stand in an index more than once, so it need not be that row.

    Args:
        found: float32 (Q,), the similarity of the nearest that was found.
        planted: float32 (Q,), the similarity of the row that each is a copy of.
    """
    return float((found >= planted).mean())


def growth_of(spent: Mapping[int, float]) -> float | None:
    """How cost grows with size: the slope of a line through their logarithms, 1 where it doubles with the size.

    Args:
        spent: by size, what it took; what took nothing is left out.

    Returns:
        The slope by least squares; None of fewer than two sizes.
    """
    points = [(math.log(size), math.log(took)) for size, took in spent.items() if took > 0]
    if len(points) < 2:
        return None
    sizes, took = _centred([x for x, _ in points]), _centred([y for _, y in points])
    return sum(x * y for x, y in zip(sizes, took, strict=True)) / sum(x * x for x in sizes)


def _centred(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    return [value - mean for value in values]
