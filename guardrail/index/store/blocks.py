"""Files that are read in part: each block of 64 KiB is checked by CRC-32 the first time that any of it is read.

They are read by `pread`, not mapped: a file that is cut while it is open is then an error, not the end of the process.
"""

import os
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import IndexDamaged

__all__ = ["BLOCK_BYTES", "BlockSums", "CheckedFile"]

BLOCK_BYTES = 65_536


class BlockSums:
    """Computes the sums of a file's blocks while it is written."""

    def __init__(self) -> None:
        self._sums: list[int] = []
        self._open_sum, self._open_bytes = 0, 0

    def update(self, content: bytes | memoryview) -> None:
        """More of the file."""
        left = memoryview(content)
        while left:
            some = left[: BLOCK_BYTES - self._open_bytes]
            self._open_sum = zlib.crc32(some, self._open_sum)
            self._open_bytes += len(some)
            left = left[len(some) :]
            if self._open_bytes == BLOCK_BYTES:
                self._sums.append(self._open_sum)
                self._open_sum, self._open_bytes = 0, 0

    def finished(self) -> NDArray[np.uint32]:
        """CRC-32 of each block, the last one as long as it is."""
        return np.array([*self._sums, *([self._open_sum] if self._open_bytes else [])], np.uint32)


class CheckedFile:
    """A file of known size that is read in part, each block checked once.

    Args:
        path: the file.
        sums: uint32, CRC-32 of its blocks; None where all of it was checked when it was opened.
    """

    def __init__(self, path: Path, sums: NDArray[np.uint32] | None) -> None:
        self.path = path
        self._sums = sums
        self._held = np.zeros(0 if sums is None else len(sums), bool)
        self._descriptor = os.open(path, os.O_RDONLY)
        self._lock = threading.Lock()

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    def read(self, start: int, length: int) -> bytes:
        """Some bytes of it.

        Raises:
            IndexDamaged: it was cut or edited since it was written.
        """
        self._require(start, length)
        content = os.pread(self._descriptor, length, start)
        while len(content) < length:  # one call reads at most 2 GiB
            more = os.pread(self._descriptor, length - len(content), start + len(content))
            if not more:
                raise IndexDamaged(str(self.path), f"{start + len(content)} bytes", f"at least {start + length} bytes")
            content += more
        return content

    def number(self, start: int, length: int) -> int:
        """A number, least significant byte first, of a file all of which was checked when it was opened.

        Raises:
            IndexDamaged: the file was cut since.
        """
        content = os.pread(self._descriptor, length, start)
        if len(content) < length:
            raise IndexDamaged(str(self.path), f"{start + len(content)} bytes", f"at least {start + length} bytes")
        return int.from_bytes(content, "little")

    def array(self, start: int, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """Some bytes of it, as an array."""
        length = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return np.frombuffer(self.read(start, length), dtype).reshape(shape)

    def _require(self, start: int, length: int) -> None:
        if self._sums is None or not length:
            return
        blocks = slice(start // BLOCK_BYTES, (start + length - 1) // BLOCK_BYTES + 1)
        if bool(self._held[blocks].all()):
            return
        for block in range(blocks.start, blocks.stop):
            if block >= len(self._sums) or not self._held[block]:
                self._check(block)

    def _check(self, block: int) -> None:
        content = os.pread(self._descriptor, BLOCK_BYTES, block * BLOCK_BYTES)
        assert self._sums is not None, "only a file with sums is checked in part"
        if block >= len(self._sums) or zlib.crc32(content) != int(self._sums[block]):
            found = f"other content at byte {block * BLOCK_BYTES}"
            raise IndexDamaged(str(self.path), found, "what was written; see guardrail index verify")
        with self._lock:
            self._held[block] = True
