"""Numbers of many rows in files of a folder, so many rows a file, mapped into memory when they are read."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.attribution_errors import GradientsDamaged

__all__ = ["Column", "sync_folder"]

_ROWS_A_SHARD = 16_384  # 128 MiB of gradients at 4,096 counters


class Column(NamedTuple):
    """What is kept of each row.

    Attributes:
        folder: where its files are.
        stem: what they are called.
        dtype: of a number, little-endian.
        shape: of a row.
    """

    folder: Path
    stem: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """What a row takes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def write(self, at: int, rows: NDArray[Any]) -> None:
        """Put rows behind the first `at`, durably; what was there behind these is cut off.

        Args:
            at: how many rows count.
            rows: (B, *shape), of the column's dtype.
        """
        while len(rows):
            number, within = divmod(at, _ROWS_A_SHARD)
            some = rows[: _ROWS_A_SHARD - within]
            path = self._path(number)
            with path.open("r+b" if path.exists() else "w+b") as shard:
                shard.seek(within * self.row_bytes)
                shard.write(np.ascontiguousarray(some).tobytes())
                shard.truncate()  # what a kill left behind
                shard.flush()
                os.fsync(shard.fileno())
            rows, at = rows[len(some) :], at + len(some)
        sync_folder(self.folder)

    def read(self, places: NDArray[np.int64], crc32: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """Rows by their places: (n, *shape).

        Args:
            places: int64 (n,).
            crc32: int64 (n,), of their bytes; None: they are not checked.

        Raises:
            GradientsDamaged: a row is not what was written.
        """
        found = np.empty((len(places), *self.shape), self.dtype)
        for number in np.unique(places // _ROWS_A_SHARD).tolist():
            mine = places // _ROWS_A_SHARD == number
            path = self._path(number)
            held = path.stat().st_size // self.row_bytes
            mapped = np.memmap(path, self.dtype, "r", shape=(held, *self.shape))
            found[mine] = mapped[places[mine] % _ROWS_A_SHARD]
        for at in range(len(places) if crc32 is not None else 0):
            if crc32 is not None and zlib.crc32(found[at].tobytes()) != int(crc32[at]):
                path = self._path(int(places[at]) // _ROWS_A_SHARD)
                raise GradientsDamaged(str(path), f"other numbers in row {places[at]}", "those that were written")
        return found

    def require(self, rows: int) -> None:
        """That the numbers of so many rows are there.

        Raises:
            GradientsDamaged: some are not.
        """
        for number in range(-(-rows // _ROWS_A_SHARD)):
            wanted = min(_ROWS_A_SHARD, rows - number * _ROWS_A_SHARD) * self.row_bytes
            path = self._path(number)
            size = path.stat().st_size if path.exists() else 0
            if size < wanted:
                raise GradientsDamaged(str(path), f"{size} bytes", f"{wanted} at least")

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.stem}-{number:05d}.bin"


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
