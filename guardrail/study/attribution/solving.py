"""Sketched gradients of N training images in, the influence of each on an image that was generated out.

The influence of training image i on an image z is g_z' (G'G + d I)^-1 g_i. With fewer images than counters the same
comes out of the Gram matrix of the images (the dual): row i of (G G' + d I)^-1 G g_z. One eigendecomposition, of
whichever of the two is smaller, serves every damping d.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Decomposition", "DualSolver", "Solver", "decomposed", "primal_scores"]

_SAFE_SHARE = 0.1  # of the mean eigenvalue: a damping that needs no truth to be chosen
_DUAL, _PRIMAL = "dual", "primal"
Blocks = Callable[[], Iterable[NDArray[np.floating]]]


class Decomposition(NamedTuple):
    """The eigendecomposition of G G' (dual, M = N) or of G'G (primal, M = k).

    Attributes:
        side: `dual` or `primal`.
        values: float64 (M,), eigenvalues, none below 0.
        vectors: float64 (M, M), one eigenvector a column.
    """

    side: str
    values: NDArray[np.float64]
    vectors: NDArray[np.float64]

    @property
    def safe_damping(self) -> float:
        """A tenth of the mean eigenvalue: from the gradients alone, never from a truth."""
        return _SAFE_SHARE * float(self.values.mean()) if len(self.values) else 0.0

    def write(self, path: Path, of: str) -> None:
        """Keep it in a file.

        Args:
            path: of the file; it is there whole or not at all.
            of: digest of the rows it is of.
        """
        written = path.with_suffix(".part.npz")
        np.savez(written, of=np.array(of), side=np.array(self.side), values=self.values, vectors=self.vectors)
        written.replace(path)

    @classmethod
    def read(cls, path: Path, of: str) -> Decomposition | None:
        """What a file keeps; None where it is of other rows, or cannot be read, so that it is made again."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                if str(kept["of"]) != of:
                    return None
                return cls(str(kept["side"]), kept["values"], kept["vectors"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None


def decomposed(blocks: Blocks, images: int, counters: int) -> Decomposition:
    """Decompose the smaller of the two matrices, in float64.

    Args:
        blocks: gives the gradients, float (n, k) at a time, the same every time it is called.
        images: N in all.
        counters: k.
    """
    dual = images <= counters
    matrix = _gram(blocks, images) if dual else sum((_square(one) for one in blocks()), np.zeros((counters,) * 2))
    values, vectors = np.linalg.eigh(matrix)
    return Decomposition(_DUAL if dual else _PRIMAL, np.maximum(values, 0), vectors)


@dataclass(frozen=True, slots=True)
class Solver:
    """Influence from gradients that are read block by block.

    Attributes:
        blocks: gives the gradients, float (n, k) at a time.
        decomposition: of these gradients.
    """

    blocks: Blocks
    decomposition: Decomposition

    @classmethod
    def of(cls, gradients: NDArray[np.floating]) -> Solver:
        """Decompose float (N, k) gradients that fit into memory."""
        rows = np.asarray(gradients)
        return cls(lambda: (rows,), decomposed(lambda: (rows,), *rows.shape))

    @property
    def safe_damping(self) -> float:
        """A tenth of the mean eigenvalue: from the gradients alone, never from a truth."""
        return self.decomposition.safe_damping

    def influences(self, queries: NDArray[np.floating], damping: float | None = None) -> NDArray[np.float64]:
        """The influence of every image on every query.

        Args:
            queries: float (Q, k), sketched gradients of the images that were generated.
            damping: d; default: `safe_damping`.

        Returns:
            float64 (Q, N).

        Raises:
            ValueError: the damping is not above 0.
        """
        chosen = self.safe_damping if damping is None else damping
        if not chosen > 0:
            raise ValueError(f"found the damping {chosen}, expected one above 0; are all gradients zero?")
        side, values, vectors = self.decomposition
        asked = np.asarray(queries, np.float64)
        if side == _DUAL:
            onto = np.concatenate([asked @ one.T for one in self._blocks()], axis=1) @ vectors
            return np.asarray((onto / (values + chosen)) @ vectors.T)
        solved = (asked @ vectors / (values + chosen)) @ vectors.T
        return np.concatenate([solved @ one.T for one in self._blocks()], axis=1)

    def _blocks(self) -> Iterator[NDArray[np.float64]]:
        return (np.asarray(one, np.float64) for one in self.blocks())


class DualSolver(NamedTuple):
    """The eigendecomposition of a Gram matrix of gradients in memory.

    Attributes:
        gradients: float64 (N, k).
        values: float64 (N,), eigenvalues, none below 0.
        vectors: float64 (N, N), one eigenvector a column.
    """

    gradients: NDArray[np.float64]
    values: NDArray[np.float64]
    vectors: NDArray[np.float64]

    @classmethod
    def of(cls, gradients: NDArray[np.floating]) -> DualSolver:
        """Decompose the Gram matrix of float (N, k) gradients, in float64."""
        rows = np.asarray(gradients, np.float64)
        values, vectors = np.linalg.eigh(rows @ rows.T)
        return cls(rows, np.maximum(values, 0), vectors)

    @property
    def safe_damping(self) -> float:
        """A tenth of the mean eigenvalue: from the gradients alone, never from a truth."""
        return _SAFE_SHARE * float(self.values.mean())

    def scores(self, queries: NDArray[np.floating], damping: float | None = None) -> NDArray[np.float64]:
        """The influence of every training image on every query, as `Solver.influences` has it: float64 (Q, N)."""
        decomposition = Decomposition(_DUAL, self.values, self.vectors)
        rows = self.gradients
        return Solver(lambda: (rows,), decomposition).influences(queries, damping)


def primal_scores(
    gradients: NDArray[np.floating], queries: NDArray[np.floating], damping: float
) -> NDArray[np.float64]:
    """The same by solving with the k x k matrix, for comparison: float64 (Q, N)."""
    rows, asked = np.asarray(gradients, np.float64), np.asarray(queries, np.float64)
    kernel = rows.T @ rows + damping * np.eye(rows.shape[1])
    return np.asarray(np.linalg.solve(kernel, asked.T).T @ rows.T)


def _gram(blocks: Blocks, images: int) -> NDArray[np.float64]:
    """G G', two blocks at a time."""
    matrix = np.zeros((images, images))
    down = 0
    for one in blocks():
        mine, across = np.asarray(one, np.float64), 0
        for other in blocks():
            if across >= down:
                inner = mine @ np.asarray(other, np.float64).T
                matrix[down : down + len(one), across : across + len(other)] = inner
                matrix[across : across + len(other), down : down + len(one)] = inner.T
            across += len(other)
        down += len(one)
    return matrix


def _square(block: NDArray[np.floating]) -> NDArray[np.float64]:
    rows = np.asarray(block, np.float64)
    return rows.T @ rows
