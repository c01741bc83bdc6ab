"""A segment: a folder of columns, written once in a stream, read by its parts, never changed.

ids.npy       int64 (N,), ascending: the rows' ids      standing.npy  what each row means, and when
pdq.npy       uint8 (N, 32)   phash.npy  uint8 (N, 8)   copy.npy, tiles.npy, clip.npy  float16, unit length
digests.npy   uint8 (N, 2, 32), sha256 of file and of pixels    keys.npy    uint64 (N,), see `columns.key_prefix`
pixels.npy    uint8 (N, 32, 32, 3), RGB                         marks.npy   uint64 (N,), of all that is said of a row
rows.jsonl    one line a row: the work, its file, its digests   previews.bin  JPEG files end to end
row_starts.npy, preview_starts.npy  int64 (N + 1,)              banks.json  the names that standing counts into
find_file, find_pixels, find_key .npy  uint64, the first 8 bytes of each digest, sorted, and `_at.npy` where each is
NAME.sums     CRC-32 of the blocks of those files that are read in part
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import IndexDamaged
from guardrail.index.layout import sync_folder, write_synced
from guardrail.index.store.blocks import BlockSums, CheckedFile
from guardrail.index.store.columns import COMPUTED, STANDING, Packed
from guardrail.index.store.part import FINDS, Part

__all__ = ["READ_IN_PART", "Segment", "segment_files", "write_segment"]

READ_IN_PART = (
    "keys.npy",
    "marks.npy",
    "copy.npy",
    "tiles.npy",
    "clip.npy",
    "pixels.npy",
    "digests.npy",
    "rows.jsonl",
    "previews.bin",
)
_HEADER_BYTES = 256  # of a .npy file we write, whatever its shape
_HASHES = ("pdq", "phash")
_STARTS = {"rows": "row_starts", "previews": "preview_starts"}
_BESIDES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "digests": (np.uint8, (2, 32)),
    "keys": (np.uint64, ()),
    "marks": (np.uint64, ()),
}
_ENDLESS = {"rows": "rows.jsonl", "previews": "previews.bin"}


class _Column:
    """One .npy file, or one of bare bytes, written piece by piece."""

    def __init__(self, path: Path, dtype: np.dtype[Any] | None = None, shape: tuple[int, ...] = ()) -> None:
        self.path, self._dtype, self._shape = path, dtype, shape
        self._file: IO[bytes] = path.open("wb+")
        self._rows = 0
        if dtype is not None:
            self._file.write(b"\0" * _HEADER_BYTES)

    def add(self, values: NDArray[Any]) -> None:
        self._rows += len(values)
        self._file.write(np.ascontiguousarray(values).data.cast("B") if values.size else b"")

    def add_none(self, count: int) -> None:
        """Rows that do not have this column: zeros, as a hole in the file where the file system can."""
        assert self._dtype is not None, "only arrays have rows"
        self._rows += count
        self._file.seek(count * self._dtype.itemsize * int(np.prod(self._shape, dtype=np.int64)), os.SEEK_CUR)

    def finish(self) -> None:
        """Write the header, now that the count is known, and wait until all is on disk."""
        if self._dtype is not None:
            self._file.truncate(self._file.tell())
            self._file.seek(0)
            self._file.write(_npy_header(self._dtype, (self._rows, *self._shape)))
        self._file.flush()
        os.fsync(self._file.fileno())
        if self.path.name in READ_IN_PART:
            self._write_sums()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _write_sums(self) -> None:
        sums = BlockSums()
        self._file.seek(0)
        while some := self._file.read(1 << 22):
            sums.update(some)
        write_synced(self.path.with_name(self.path.name + ".sums"), sums.finished().tobytes())


def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The head of a .npy file, version 1.0, padded to a fixed length."""
    said = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    text = repr(said).encode()
    room = _HEADER_BYTES - 10
    if len(text) >= room:
        raise ValueError(f"a header of {len(text)} bytes; there is room for {room - 1}")
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1) + b"\n"


def write_segment(
    folder: Path,
    batches: Iterable[tuple[NDArray[np.int64], Packed]],
    shapes: Mapping[str, tuple[type[np.generic], tuple[int, ...]]],
) -> int:
    """Write a segment from batches of (ids, rows), ids ascending throughout; returns the number of rows.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    try:
        return _write(folder, batches, shapes)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(
    folder: Path,
    batches: Iterable[tuple[NDArray[np.int64], Packed]],
    shapes: Mapping[str, tuple[type[np.generic], tuple[int, ...]]],
) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ExitStack() as open_files:
        writing = _Writing(folder, shapes, open_files)
        for ids, packed in batches:
            writing.add(ids, packed)
        writing.finish()
    sync_folder(folder)
    return writing.count


class _Writing:
    """A segment that is being written."""

    def __init__(
        self, folder: Path, shapes: Mapping[str, tuple[type[np.generic], tuple[int, ...]]], open_files: ExitStack
    ) -> None:
        self.folder, self.count = folder, 0
        self._shapes = {name: (np.dtype(dtype), shape) for name, (dtype, shape) in shapes.items()}
        besides = {name: (np.dtype(dtype), shape) for name, (dtype, shape) in _BESIDES.items()}
        kinds = {"ids": (np.dtype("<i8"), ()), "standing": (STANDING, ()), **besides, **self._shapes}
        kinds |= {name: (np.dtype("<i8"), ()) for name in _STARTS.values()}
        self._columns = {
            name: open_files.enter_context(_Column(folder / f"{name}.npy", *kind)) for name, kind in kinds.items()
        }
        self._endless = {name: open_files.enter_context(_Column(folder / file)) for name, file in _ENDLESS.items()}
        self._reached = dict.fromkeys(_STARTS, 0)
        self._banks: dict[str, int] = {}
        self._finds: dict[str, list[NDArray[np.uint64]]] = {name: [] for name in FINDS}

    def add(self, ids: NDArray[np.int64], packed: Packed) -> None:
        self.count += len(ids)
        self._columns["ids"].add(ids)
        self._columns["standing"].add(_recoded(packed, self._banks))
        for name in _BESIDES:
            self._columns[name].add(packed.columns[name])
        for name in self._shapes:
            values = packed.columns.get(name)
            if values is None:
                self._columns[name].add_none(len(ids))
            else:
                self._columns[name].add(values)
        for name, start in _STARTS.items():
            self._endless[name].add(packed.columns[name])
            self._columns[start].add(packed.columns[start][:-1] + self._reached[name])
            self._reached[name] += int(packed.columns[start][-1])
        for name, prefixes in _prefixes(packed).items():
            self._finds[name].append(prefixes)

    def finish(self) -> None:
        for name, start in _STARTS.items():
            self._columns[start].add(np.array([self._reached[name]], np.int64))
        for column in (*self._columns.values(), *self._endless.values()):
            column.finish()
        _write_finds(self.folder, self._finds)
        write_synced(self.folder / "banks.json", json.dumps(list(self._banks), ensure_ascii=False).encode())


def _recoded(packed: Packed, banks: dict[str, int]) -> NDArray[Any]:
    """The standing of a batch, with the segment's numbers for its banks."""
    for bank in packed.banks:
        banks.setdefault(bank, len(banks))
    standing = packed.columns["standing"].copy()
    numbers = np.array([banks[bank] for bank in packed.banks], np.uint32)
    standing["bank"] = numbers[standing["bank"]]
    return standing


def _prefixes(packed: Packed) -> dict[str, NDArray[np.uint64]]:
    digests = packed.columns["digests"]
    return {
        "file": np.ascontiguousarray(digests[:, 0, :8]).view("<u8")[:, 0],
        "pixels": np.ascontiguousarray(digests[:, 1, :8]).view("<u8")[:, 0],
        "key": packed.columns["keys"],
    }


def _write_finds(folder: Path, finds: Mapping[str, list[NDArray[np.uint64]]]) -> None:
    for name, pieces in finds.items():
        prefixes = np.concatenate([np.zeros(0, np.uint64), *pieces])
        order = np.argsort(prefixes, kind="stable")
        for suffix, values in (("", prefixes[order]), ("_at", order.astype(np.uint32))):
            with _Column(folder / f"find_{name}{suffix}.npy", values.dtype) as column:
                column.add(values)
                column.finish()


def segment_files(shapes: Mapping[str, tuple[type[np.generic], tuple[int, ...]]]) -> set[str]:
    """The names of the files of a segment with these computed columns."""
    arrays = {"ids", "standing", *_BESIDES, *shapes, *_STARTS.values()}
    arrays |= {f"find_{name}{suffix}" for name in FINDS for suffix in ("", "_at")}
    names = {f"{name}.npy" for name in arrays} | set(_ENDLESS.values()) | {"banks.json"}
    return names | {f"{name}.sums" for name in names & set(READ_IN_PART)}


class Segment(Part):
    """A segment opened: small columns are read whole, large ones as they are asked for.

    Args:
        folder: the segment's.
        whole: whether every file was checked before, so that blocks need not be.

    Raises:
        IndexDamaged: a file is not as it should be.
    """

    def __init__(
        self, folder: Path, shapes: Mapping[str, tuple[type[np.generic], tuple[int, ...]]], *, whole: bool
    ) -> None:
        self.folder, self._shapes, self._whole = folder, shapes, whole
        self.place = str(folder / "rows.jsonl")
        ids = self._small("ids", "<i8")
        run = len(ids) and int(ids[-1]) - int(ids[0]) + 1 == len(ids)
        self.first_id, self.last_id = (int(ids[0]), int(ids[-1])) if len(ids) else (0, -1)
        self._ids = None if run else ids
        self.count = len(ids)
        self.standing = self._small("standing", STANDING)
        self.banks = tuple(json.loads((folder / "banks.json").read_bytes()))
        self._files = {name: self._checked(name) for name in READ_IN_PART if (folder / name).is_file()}
        self._files |= {f"{name}.npy": CheckedFile(folder / f"{name}.npy", None) for name in _HASHES}
        self._starts = {name: CheckedFile(folder / f"{start}.npy", None) for name, start in _STARTS.items()}
        self._finds = {
            name: tuple(CheckedFile(folder / f"find_{name}{suffix}.npy", None) for suffix in ("", "_at"))
            for name in FINDS
        }

    @property
    def ids(self) -> NDArray[np.int64]:
        """See `Part.ids`."""
        return np.arange(self.first_id, self.last_id + 1) if self._ids is None else self._ids

    def _small(self, name: str, dtype: Any) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        try:
            array: NDArray[Any] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise IndexDamaged(str(path), str(error), "an array as guardrail writes it") from error
        if array.dtype != np.dtype(dtype):
            raise IndexDamaged(str(path), str(array.dtype), str(np.dtype(dtype)))
        return array

    def _checked(self, name: str) -> CheckedFile:
        path = self.folder / name
        sums = None if self._whole else np.fromfile(path.with_name(f"{name}.sums"), np.uint32)
        return CheckedFile(path, sums)

    def codes(self, name: str) -> NDArray[np.uint8]:
        """See `Part.codes`."""
        return self.span(name, 0, self.count)

    def span(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """See `Part.span`."""
        dtype, shape = _BESIDES.get(name) or self._shapes[name]
        row_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self._files[f"{name}.npy"].array(_HEADER_BYTES + start * row_bytes, dtype, (stop - start, *shape))

    def piece(self, name: str, position: int) -> bytes:
        """See `Part.piece`."""
        start, stop = self._starts[name].array(_HEADER_BYTES + 8 * position, np.int64, (2,)).tolist()
        if not 0 <= start <= stop:
            raise IndexDamaged(str(self._starts[name].path), f"a start {start} and an end {stop}", "ascending numbers")
        return self._files[_ENDLESS[name]].read(start, stop - start)

    def find(self, name: str, prefix: int) -> list[int]:
        """See `Part.find`."""
        sorted_, at = self._finds[name]
        low, high = 0, self.count
        while low < high:  # a binary search that reads one entry at a time: the file stays on disk
            middle = (low + high) // 2
            if sorted_.number(_HEADER_BYTES + 8 * middle, 8) < prefix:
                low = middle + 1
            else:
                high = middle
        found = []
        while low < self.count and sorted_.number(_HEADER_BYTES + 8 * low, 8) == prefix:
            found.append(at.number(_HEADER_BYTES + 4 * low, 4))
            low += 1
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """See `Part.names`."""
        return tuple(name for name in COMPUTED if name in self._shapes)

    @cached_property
    def bytes(self) -> int:
        """What it takes on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir())
