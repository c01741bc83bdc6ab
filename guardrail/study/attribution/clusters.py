"""Which rows are near-duplicates and stand for one image: by pixels, by what an index found, by their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from guardrail.attribution_errors import AttributionImpossible

__all__ = ["cosine_limit", "cosine_pairs", "digest_groups", "gradient_pairs", "grouped"]

_ROWS_AT_ONCE = 2_048  # cosines of so many rows with all others: 64 MB for 4,000 rows
_LEAST_LENGTH = 1e-30  # of a gradient, below which it has no direction

Array = NDArray[np.float64]
Labels = NDArray[np.intp]


def grouped(count: int, same: Iterable[Sequence[int]] = (), pairs: Iterable[tuple[int, int]] = ()) -> Labels:
    """One label for each row, equal where rows are near-duplicates of one another, or of a third that is of both.

    Args:
        count: M.
        same: groups of rows that are near-duplicates, as an index or `digest_groups` finds them; they may overlap.
        pairs: pairs of such rows.

    Returns:
        intp (M,), 0 and up, in the order in which each group has its first row.

    Raises:
        AttributionImpossible: a row is not one of 0..M-1.
    """
    links = [(group[0], other) for group in same for other in group[1:]]
    joined = np.array([*links, *pairs], np.intp).reshape(-1, 2)
    if joined.size and (joined.min() < 0 or joined.max() >= count):
        found = f"rows {joined.min()} to {joined.max()}"
        raise AttributionImpossible("near-duplicates", found, f"0 to {count - 1}", "group the rows of the index")
    graph = csr_array((np.ones(len(joined), np.int8), (joined[:, 0], joined[:, 1])), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    _, first, numbered = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.intp)
    order[np.argsort(first)] = np.arange(len(first))
    return order[numbered]


def digest_groups(digests: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Rows with equal digests of their pixels, two or more, in the order of their first; an empty one is no digest."""
    rows: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest:
            rows.setdefault(digest, []).append(row)
    return tuple(tuple(group) for group in rows.values() if len(group) > 1)


def gradient_pairs(gradients: Array, decoys: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pairs of rows whose gradients point the same way, less what those of all images have in common.

    The gradients of an image and its copy differ by their draws, so that this road finds some copies and not all, fewer
    with fewer draws. It comes after pixels, hashes and copy descriptors, never in their place.

    Args:
        gradients: float (M, k).
        decoys: bool (M,), which of them the model was not trained on; of one kind with the others.

    Returns:
        Each pair once, the smaller row first, ascending; none where there are not two decoys.
    """
    rows = np.asarray(gradients, np.float64)
    if np.count_nonzero(decoys) < 2:
        return []
    apart = rows - rows[decoys].mean(axis=0)
    return cosine_pairs(apart, cosine_limit(apart, decoys))


def cosine_limit(gradients: Array, decoys: NDArray[np.bool_]) -> float:
    """A cosine of gradients that no two decoys reach: half way between the highest among them and 1.

    Args:
        gradients: float (M, k).
        decoys: bool (M,), two at least.

    Returns:
        -1..1.
    """
    rows = _directions(gradients[decoys])
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1.0)
    return (1.0 + float(cosines.max())) / 2


def cosine_pairs(gradients: Array, above: float) -> list[tuple[int, int]]:
    """Pairs of rows whose gradients point the same way.

    Args:
        gradients: float (M, k).
        above: the cosine that pairs reach, of `cosine_limit`.

    Returns:
        Each pair once, the smaller row first, ascending. Costs M x M x k operations.
    """
    rows = _directions(gradients)
    found: list[tuple[int, int]] = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        cosines = rows[start : start + _ROWS_AT_ONCE] @ rows[start:].T
        first, second = np.nonzero(np.triu(cosines >= above, 1))
        found += zip((first + start).tolist(), (second + start).tolist(), strict=True)
    return sorted(found)


def _directions(gradients: Array) -> Array:
    """Rows of length 1; those without a direction stay 0, and are near nothing."""
    rows = np.asarray(gradients, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > _LEAST_LENGTH, rows / np.maximum(lengths, _LEAST_LENGTH), 0.0))
