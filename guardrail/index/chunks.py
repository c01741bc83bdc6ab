"""Fingerprint a source, shard by shard: an interruption costs a few seconds of work, and nothing counts twice."""

import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from guardrail.carriers import Fingerprints, ImageBatch, SourcePicture
from guardrail.errors import IndexDamaged
from guardrail.index.done import Done, Met
from guardrail.index.layout import write_synced
from guardrail.index.shard_list import ShardList
from guardrail.index.shards import read_columns, require_shard, shard_bytes, shard_table
from guardrail.index.taking import Taken, shard_rows
from guardrail.protocols import Source

__all__ = ["Asked", "Shards", "fingerprint_source", "read_shards"]

_BATCH_PICTURES = 64  # handed to the fingerprinter at once, at most
_BATCH_BYTES = 256 * 2**20  # of their pixels
_SHARD_ROWS_LEAST = 64
_SHARD_ROWS_MOST = 2048
_SHARD_S = 5.0  # from one shard to the next: about what an interruption costs


@dataclass(slots=True)
class Shards:
    """All fingerprints of a source.

    Attributes:
        urls: the shards; a later one takes the place of an earlier one's pictures.
        done: which of their rows count.
        faults: pictures that have no row, and why: shards of the source that cannot be read, names that stand twice.
        resumed: how many were done by an earlier run.
        left_out: how many files are no pictures, or not asked for.
    """

    urls: tuple[str, ...]
    done: Done
    faults: list[tuple[str, str]] = field(default_factory=list)
    resumed: int = 0
    left_out: int = 0

    def rows(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The columns of all rows that count, some hundred at a time; see `read_columns`."""
        self.done.index_shards()
        for number, url in enumerate(self.urls):
            places, start = self.done.places(number), 0
            for columns in read_columns(url, names) if len(places) else ():
                length = len(next(iter(columns.values())))
                kept = places[(places >= start) & (places < start + length)] - start
                start += length
                if len(kept) == length:
                    yield columns
                elif len(kept):
                    yield {
                        name: values[kept] if isinstance(values, np.ndarray) else [values[at] for at in kept]
                        for name, values in columns.items()
                    }

    def clear_up(self) -> None:
        """Forget which rows count."""
        self.done.close()


@dataclass(slots=True)
class Asked:
    """What is to be fingerprinted.

    Attributes:
        source: lists the pictures.
        table: pictures that must be there, by name.
        only_table: whether all others are left out.
        specification: what the fingerprints are made to.
        spread: reads pictures at places, in order; see `Builder.spread`.
        fingerprint: see `Builder.fingerprint`.
        progress: called with how many are done, and about how many there are.
    """

    source: Source
    table: Mapping[str, Any]
    only_table: bool
    specification: Mapping[str, Any]
    spread: Callable[[Iterator[Any]], Iterator[Taken]]
    fingerprint: Callable[[ImageBatch], Fingerprints]
    progress: Callable[[int, int], None]


def fingerprint_source(asked: Asked, partial: Path) -> Shards:
    """Fingerprint what no earlier run of this specification has.

    Args:
        asked: see there.
        partial: folder for the shards; those of an earlier run are taken over where source and specification are the
            same, and removed where not.

    Returns:
        All shards. Every picture that was listed has one row that counts, or is among the faults.

    Raises:
        OSError: the folder cannot be written.
    """
    _take_over(partial, asked)
    done = Done(partial / "done.db")
    numbers = []
    for path in sorted(partial.glob("*.parquet")):
        try:
            _put_all(done, int(path.stem), str(path), wanted=False)
            numbers.append(int(path.stem))
        except IndexDamaged:
            path.unlink()  # cut by a crash: its pictures are fingerprinted again
    shards = Shards((), done)
    run = _Fingerprinting(asked, shards, partial, max(numbers, default=-1) + 1, asked.source.estimate())
    run.all()
    count = max([*numbers, run.number - 1], default=-1) + 1
    shards.urls = tuple(str(partial / f"{number:08d}.parquet") for number in range(count))
    return shards


def _take_over(partial: Path, asked: Asked) -> None:
    """Keep an earlier run's work if it was made of the same source to the same specification."""
    said = json.dumps([asked.specification, asked.source.location], sort_keys=True)
    file = partial / "specification.json"
    if partial.exists() and not (file.is_file() and file.read_text(encoding="utf-8") == said):
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    write_synced(file, said.encode())
    for unfinished in partial.glob("*.tmp"):
        unfinished.unlink()


def _put_all(done: Done, number: int, url: str, *, wanted: bool) -> None:
    """Note all rows of a shard; reading every column finds one that is cut."""
    names: list[str] = []
    stamps: list[str] = []
    for columns in read_columns(url, ("file", "stamp")):
        names += columns["file"]
        stamps += columns["stamp"]
    done.put(number, names, stamps, wanted=wanted)


@dataclass(slots=True)
class _Fingerprinting:
    """One run: pictures are listed, read ahead by workers, fingerprinted in batches, and written in shards."""

    asked: Asked
    shards: Shards
    partial: Path
    number: int
    estimate: int
    finished: int = 0
    pending: deque[SourcePicture] = field(default_factory=deque)

    def all(self) -> None:
        """Fingerprint everything that is new."""
        rows: list[Any] = []
        count, since = 0, time.monotonic()
        try:
            for pictures, taken in self._batches():
                made = shard_rows(pictures, taken, self.asked.fingerprint)
                rows.append(shard_table(made, self.asked.specification))
                count += len(pictures)
                self.finished += len(pictures)
                if count >= _SHARD_ROWS_MOST or (count >= _SHARD_ROWS_LEAST and time.monotonic() - since >= _SHARD_S):
                    written, rows, count, since = rows, [], 0, time.monotonic()
                    self._write(written)
                self._say()
        finally:
            if rows:  # even where somebody stops it
                self._write(rows)
        self._say()

    def _say(self) -> None:
        so_far = self.shards.resumed + self.finished
        self.asked.progress(so_far, max(self.estimate, so_far))

    def _batches(self) -> Iterator[tuple[list[SourcePicture], list[Taken]]]:
        pictures: list[SourcePicture] = []
        taken: list[Taken] = []
        held = 0
        for one in self.asked.spread(self._places()):
            pictures.append(self.pending.popleft())
            taken.append(one)
            held += one.picture.pixels.nbytes if one.picture.pixels is not None else 0
            if len(taken) == _BATCH_PICTURES or held >= _BATCH_BYTES:
                yield pictures, taken
                pictures, taken, held = [], [], 0
        if taken:
            yield pictures, taken

    def _places(self) -> Iterator[Any]:
        for picture in self._new():
            self.pending.append(picture)
            yield self.asked.source.open(picture)

    def _new(self) -> Iterator[SourcePicture]:
        """Every picture that has no fingerprints yet; the others are counted."""
        asked, shards = self.asked, self.shards
        for picture in asked.source:
            if asked.only_table and picture.name not in asked.table:
                shards.left_out += 1
            else:
                yield from self._admitted(picture)
        shards.left_out += asked.source.left_out
        for name in asked.table:
            if shards.done.is_listed(name):
                continue
            if (found := asked.source.find(name)) is not None:
                shards.left_out -= int(bool(found.stamp))  # it was passed over, and counted, when all were listed
                yield from self._admitted(found)
            else:
                shards.faults.append((name, "it is in the works table, and nowhere in the source"))

    def _admitted(self, picture: SourcePicture) -> Iterator[SourcePicture]:
        try:
            picture.name.encode()
        except UnicodeEncodeError:
            shown = picture.name.encode("utf-8", "backslashreplace").decode()
            self.shards.faults.append((shown, "its name is not UTF-8"))
            return
        match self.shards.done.meet(picture.name, picture.stamp):
            case Met.NEW:
                yield picture
            case Met.DONE:
                self.shards.resumed += 1
            case Met.AGAIN:
                self.shards.faults.append((picture.name, "another picture of this name comes before it"))

    def _write(self, tables: list[Any]) -> None:
        """Write a shard in one step, then note its rows."""
        table = pa.concat_tables(tables)
        path = self.partial / f"{self.number:08d}.parquet"
        unfinished = path.with_suffix(".tmp")
        try:
            write_synced(unfinished, shard_bytes(table))
            unfinished.rename(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        names, stamps = table.column("file").to_pylist(), table.column("stamp").to_pylist()
        self.shards.done.put(self.number, names, stamps, wanted=True)
        self.number += 1


def read_shards(shards: ShardList, specification: Mapping[str, Any], at: Path) -> Shards:
    """Fingerprints that were made elsewhere.

    Args:
        shards: their list.
        specification: what they must have been made to.
        at: a file for the table of rows; removed by `clear_up`.

    Raises:
        IndexDamaged: a shard is missing, cut, or holds no fingerprints, or there are not as many pictures as listed.
        IndexMismatch: it was made to another specification.
    """
    done = Done(at)
    try:
        for number, (url, size) in enumerate(zip(shards.urls, shards.expected_bytes, strict=True)):
            require_shard(url, size, specification)
            _put_all(done, number, url, wanted=True)
        for name in shards.gone:
            done.leave_out(name)
        _require_count(shards, done.count())
    except BaseException:
        done.close()
        raise
    return Shards(shards.urls, done, list(shards.faults), left_out=shards.left_out)


def _require_count(shards: ShardList, found: int) -> None:
    if found != shards.pictures:
        raise IndexDamaged(shards.location, f"{found} pictures", f"{shards.pictures} pictures")
