"""Write a hash list: every work of an index, or what changed since a former list and what was withdrawn."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import IndexRows
from guardrail.errors import HashListUnusable
from guardrail.index.interchange.form import (
    Former,
    ListedWork,
    ListFoot,
    ListHead,
    ListSigner,
    Vectors,
    WithdrawnWork,
    canonical,
    encoded_vectors,
)
from guardrail.index.interchange.former import FormerLists
from guardrail.index.interchange.lines import said_wrong
from guardrail.index.interchange.parquet import ParquetWriter
from guardrail.index.layout import sync_folder
from guardrail.index.pinned import PinnedIndex
from guardrail.index.store.columns import key_prefix
from guardrail.records import Work

__all__ = ["ExportReport", "Seal", "Wanted", "export_list", "origin_of"]

_CONTROL = dict.fromkeys([*range(32), *range(127, 160), *range(0xD800, 0xE000)], "\N{REPLACEMENT CHARACTER}")
_LONGEST_TEXT = 4096
_TEXTS = ("title", "creator", "rights_holder", "licence")
_VECTORS: tuple[Vectors, ...] = ("copy", "tiles", "clip")
_SUFFIXES = (".jsonl", ".parquet")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Seal:
    """Who signs a list, and how.

    Attributes:
        signer: stands in its head; None where it is not signed.
        sign: gives the signature of a sha256 digest.
    """

    signer: ListSigner | None = None
    sign: Callable[[bytes], str] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of an index is listed.

    Attributes:
        bank: only works of this bank, or None.
        vectors: whether vectors are written too.
        former: the lists that a delta goes on from, or None for a full list.
    """

    bank: str | None = None
    vectors: bool = False
    former: FormerLists | None = None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written."""

    head: ListHead
    foot: ListFoot


class _Writer(Protocol):
    def add(self, line: dict[str, Any]) -> None: ...

    def close(self, foot: ListFoot | None) -> None: ...


def origin_of(built_at: datetime, bank: str | None) -> str:
    """What all lists of one index, or of one bank of it, have in common: 32 hex digits."""
    said = canonical({"built_at": built_at.astimezone(UTC).isoformat(), "bank": bank})
    return hashlib.sha256(said).hexdigest()[:32]


def export_list(
    index: PinnedIndex,
    path: Path,
    wanted: Wanted,
    seal: Seal,
    *,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> ExportReport:
    """Write a list; the file appears whole or not at all.

    Args:
        index: one state of an index.
        path: `NAME.jsonl` or `NAME.parquet`.
        wanted: which works, and how much of them.
        seal: who signs it.
        overwrite: whether a file of that name is replaced.
        progress: called with (works, works in all).

    Raises:
        HashListUnusable: the name is of another kind, a file is there already, the former list is another index's, the
            id of a work cannot be written, or the file cannot; what was there is there.
    """
    _require_free(path, overwrite=overwrite)
    rows, withdrawn = _rows_of(index, wanted.bank), tuple[WithdrawnWork, ...]()
    since: Former | None = None
    origin = origin_of(index.header.built_at, wanted.bank)
    if (former := wanted.former) is not None:
        former.require_origin(origin)
        since = former.last
        rows, kept = _changed(index, rows, wanted, former, progress)
        withdrawn = tuple(former.withdrawn(kept))
    head = _head(index, wanted, seal, origin, since, (len(rows), len(withdrawn)))
    try:
        with _unfinished(path) as unfinished:
            foot = _write(unfinished, path, head, seal, _lines(index, rows, withdrawn, wanted, path, progress))
    except OSError as error:
        raise HashListUnusable(str(path), str(error), "a folder to write in", "make it, or make room there") from error
    return ExportReport(head, foot)


def _require_free(path: Path, *, overwrite: bool) -> None:
    if path.suffix not in _SUFFIXES:
        expected = f"a name that ends in {' or '.join(_SUFFIXES)}"
        raise HashListUnusable(str(path), f"the ending {path.suffix!r}", expected, "name it so")
    if path.exists() and not overwrite:
        raise HashListUnusable(str(path), "a file", "none of that name", "choose another name or pass --overwrite")


def _rows_of(index: PinnedIndex, bank: str | None) -> NDArray[np.int64]:
    """The ids of the rows that count, of one bank or of all, ascending."""
    if bank is None:
        return index.rows()
    chosen = np.zeros(len(index.state.alive), bool)
    for part in index.state.parts:
        if bank in part.banks:
            chosen[part.ids[part.standing["bank"] == part.banks.index(bank)]] = True
    return np.flatnonzero(chosen & index.state.alive)


def _head(
    index: PinnedIndex, wanted: Wanted, seal: Seal, origin: str, since: Former | None, counts: tuple[int, int]
) -> ListHead:
    header = index.header
    has = {"copy": True, "tiles": header.sampling.tiles > 1, "clip": "clip" in header.embedders}
    return ListHead(
        origin=origin,
        bank=wanted.bank,
        snapshot=header.snapshot,
        built_at=header.built_at,
        made_at=datetime.now(UTC),
        since=since,
        works=counts[0],
        withdrawn=counts[1],
        hashes=header.hashes,
        embedders=header.embedders,
        sampling=header.sampling,
        vectors=tuple(name for name in _VECTORS if has[name]) if wanted.vectors else (),
        signer=seal.signer,
    )


def _changed(
    index: PinnedIndex, rows: NDArray[np.int64], wanted: Wanted, former: FormerLists, progress: Progress
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The rows that no former list has as they are, and the keys of all."""
    fresh: list[int] = []
    keys = np.zeros(len(rows), np.uint64)
    done = 0
    for ids, batch in index.state.batches(rows.tolist()):
        for at, row in enumerate(ids.tolist()):
            work = batch.works[at]
            keys[done] = key = key_prefix(work.bank, work.work_id)
            content = canonical(_listed(batch, at, vectors=wanted.vectors).line())
            if former.digest(key) != int.from_bytes(hashlib.sha256(content).digest()[:8], "little"):
                fresh.append(row)
            done += 1
        progress(done, len(rows))
    return np.array(fresh, np.int64), np.unique(keys)


def _lines(
    index: PinnedIndex,
    rows: NDArray[np.int64],
    withdrawn: Sequence[WithdrawnWork],
    wanted: Wanted,
    path: Path,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    done = 0
    for _, batch in index.state.batches(rows.tolist()):
        for at, work in enumerate(batch.works):
            try:
                yield _listed(batch, at, vectors=wanted.vectors).line()
            except ValueError as error:
                found = f"the work {work.bank!r}/{work.work_id!r} ({said_wrong(error)})"
                told = "withdraw it, and add it under another id"
                raise HashListUnusable(str(path), found, "an id and hashes that can be written", told) from error
        done += len(batch)
        progress(done, len(rows))
    for one in withdrawn:
        yield one.model_dump(mode="json")


def _listed(batch: IndexRows, at: int, *, vectors: bool) -> ListedWork:
    """One work as it leaves: no path, and no title that is only the name of its file."""
    work = batch.works[at]
    facts = {name: _cleaned(str(getattr(work, name))) for name in _TEXTS}
    if _is_file_name(work, batch.files[at]):
        facts["title"] = ""
    hashes = {name: batch.arrays[name][at].tobytes().hex() for name in ("pdq", "phash") if name in batch.arrays}
    if not hashes.get("pdq", "").strip("0"):
        hashes.pop("pdq", None)  # of a flat picture: it would match every blank image
    kept = {name: encoded_vectors(batch.arrays[name][at]) for name in _VECTORS if name in batch.arrays}
    return ListedWork.model_validate(
        {
            **facts,
            **hashes,
            **{name: getattr(work, name) for name in ("bank", "work_id", "disposition", "multiplicity")},
            **{name: getattr(work, name) for name in ("opted_out_at", "expires_at")},
            "file_sha256": batch.file_sha256[at],
            "pixels_sha256": batch.pixels_sha256[at],
            "vectors": kept if vectors else {},
        }
    )


def _cleaned(text: str) -> str:
    return text.translate(_CONTROL)[:_LONGEST_TEXT]


def _is_file_name(work: Work, file: str) -> bool:
    return bool(file) and work.title in (file, Path(file).name, Path(file).stem)


# --- the file -------------------------------------------------------------------------------------------------


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A file beside the target that takes its place at the end."""
    beside = path.with_name(f".{path.name}.unfinished")
    try:
        beside.unlink(missing_ok=True)
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.rename(path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _write(unfinished: Path, path: Path, head: ListHead, seal: Seal, lines: Iterator[dict[str, Any]]) -> ListFoot:
    said = head.model_dump(mode="json")
    digest = hashlib.sha256(canonical(said))
    writer: _Writer = ParquetWriter(unfinished, head) if path.suffix == ".parquet" else _JsonWriter(unfinished, said)
    count, foot = 1, None
    try:
        for line in lines:
            digest.update(canonical(line))
            writer.add(line)
            count += 1
        signature = seal.sign(digest.digest()) if seal.sign is not None else None
        foot = ListFoot(lines=count, sha256=digest.hexdigest(), signature=signature)
    finally:
        writer.close(foot)
    return foot


class _JsonWriter:
    """Writes a list as JSON lines."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self._file: BinaryIO = path.open("xb")
        self._file.write(canonical(head))

    def add(self, line: dict[str, Any]) -> None:
        self._file.write(canonical(line))

    def close(self, foot: ListFoot | None) -> None:
        if foot is not None:
            self._file.write(canonical(foot.model_dump(mode="json")))
        self._file.close()
