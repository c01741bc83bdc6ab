"""Which row stands at which place of a structure: ids that ascend, kept as one number where they are a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrail.index.scans.base import Allowed

__all__ = ["RowIds"]


@dataclass(frozen=True, slots=True)
class RowIds:
    """The ids of n rows in ascending order.

    Attributes:
        count: n.
        first: the first id, 0 where there is none.
        gapped: int64 (n,), the ids; None where they are first, first + 1, ..., so that nothing is kept of them.
    """

    count: int
    first: int
    gapped: NDArray[np.int64] | None

    @classmethod
    def of(cls, ids: NDArray[np.int64]) -> RowIds:
        """The rows of some ids.

        Raises:
            ValueError: they do not ascend, or the first is negative.
        """
        ids = np.ascontiguousarray(ids, np.int64)
        if len(ids) == 0:
            return cls(0, 0, None)
        if ids[0] < 0 or bool((ids[1:] <= ids[:-1]).any()):
            raise ValueError("ids that do not ascend from 0 or more, expected each once and in order; sort the rows")
        first = int(ids[0])
        is_run = int(ids[-1]) - first == len(ids) - 1
        return cls(len(ids), first, None if is_run else ids.copy())

    def __len__(self) -> int:
        return self.count

    @property
    def nbytes(self) -> int:
        """Memory the ids take."""
        return 0 if self.gapped is None else self.gapped.nbytes

    def at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids at some places, of their shape; place -1 gives id -1."""
        ids = places + self.first if self.gapped is None else self.gapped[places]
        return np.where(places < 0, -1, ids)

    def places_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where some ids stand, of their shape; -1 for those that are not there."""
        if self.gapped is None:
            places = ids - self.first
            return np.where((ids < 0) | (places < 0) | (places >= self.count), -1, places)
        places = np.searchsorted(self.gapped, ids)
        found = self.gapped[np.minimum(places, self.count - 1)] == ids
        return np.where(found, places, -1)

    def flags_of(self, allowed: Allowed) -> NDArray[np.bool_]:
        """Which places are allowed: bool (n,)."""
        if self.gapped is not None:
            return allowed.of(self, self.gapped)
        flags = allowed.flags[self.first : self.first + self.count]
        return flags if len(flags) == self.count else np.pad(flags, (0, self.count - len(flags)))
