"""Make an index whole: a stream of rows becomes one segment, and the folder appears in one step."""

import contextlib
import ctypes
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import IndexRows
from guardrail.errors import IndexExists
from guardrail.index.layout import MANIFEST, sync_folder, write_synced
from guardrail.index.store.columns import Packed, column_shapes, pack
from guardrail.index.store.lock import writer_lock
from guardrail.index.store.log import LogEnd, write_acknowledged
from guardrail.index.store.manifest import (
    BACKGROUND,
    UNREADABLE,
    Manifest,
    SegmentEntry,
    entry_of,
    swap_manifest,
    write_array,
)
from guardrail.index.store.segment import write_segment
from guardrail.index.store.writing import files_of_segment, require_fit
from guardrail.records import IndexHeader

__all__ = ["create_store", "json_lines"]

_FIRST = "00000001"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
_WAIT_S = 2.0  # for a writer of the index that is replaced


def create_store(
    target: Path,
    header: IndexHeader,
    batches: Iterable[IndexRows],
    *,
    background: NDArray[np.float32] | None = None,
    unreadable: Sequence[tuple[str, str]] = (),
    overwrite: bool = False,
) -> str:
    """Write an index beside the target and put it in the target's place; returns the snapshot.

    Args:
        target: the folder; it appears whole or not at all.
        header: the specification: embedders, hashes, sampling, normalisation, limits, built_at. Counts, snapshot and
            generation are computed.
        batches: its works, each once; not one of them needs to be there.
        background: float32 (B, D), unit length, where the header has a normalisation.
        unreadable: files that could not be indexed, with the reason.
        overwrite: whether an index that is there is replaced; its calibration is not taken over.

    Raises:
        IndexExists: something is there, and `overwrite` is not set.
        IndexLocked: another process writes to the index that is to be replaced.
        OSError: it cannot be written; what was there is there.
    """
    if target.exists() and not (overwrite and (target / MANIFEST).is_file()):
        raise IndexExists(str(target))
    fresh = target.parent / f".{target.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        manifest = _fill(fresh, header, batches, background, unreadable)
        with writer_lock(target, _WAIT_S) if target.exists() else contextlib.nullcontext():
            _swap_in(fresh, target, overwrite=overwrite)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return manifest.snapshot


def _fill(
    folder: Path,
    header: IndexHeader,
    batches: Iterable[IndexRows],
    background: NDArray[np.float32] | None,
    unreadable: Sequence[tuple[str, str]],
) -> Manifest:
    rows = write_segment(folder / "segments" / _FIRST, _numbered(batches, header, folder), column_shapes(header))
    write_synced(folder / UNREADABLE, json_lines([{"file": file, "error": error} for file, error in unreadable]))
    files = {UNREADABLE: entry_of(folder / UNREADABLE), **files_of_segment(folder, _FIRST)}
    if background is not None:
        files[BACKGROUND] = write_array(folder / BACKGROUND, background.astype(np.float32))
    log = f"log-{_FIRST}.bin"
    write_synced(folder / log, b"")
    sync_folder(folder / "segments")
    said = {name: getattr(header, name) for name in Manifest.model_fields if hasattr(header, name)}
    drawn = said | {"format": 2, "generation": 1, "next_row": rows, "log": log, "files": files, "withdrawn": ""}
    drawn |= {"segments": (SegmentEntry(name=_FIRST, rows=rows),), "unreadable": len(unreadable), "snapshot": "0" * 64}
    manifest = swap_manifest(folder, Manifest.model_validate(drawn))
    write_acknowledged(folder / log, LogEnd(0, bytes.fromhex(manifest.snapshot)))
    return manifest


def _numbered(
    batches: Iterable[IndexRows], header: IndexHeader, folder: Path
) -> Iterator[tuple[NDArray[np.int64], Packed]]:
    count = 0
    for rows in batches:
        require_fit(rows, header, str(folder))
        yield np.arange(count, count + len(rows)), pack(rows)
        count += len(rows)


def json_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "backslashreplace")


def _swap_in(fresh: Path, target: Path, *, overwrite: bool) -> None:
    """Rename into place, in one step where the system can; else an index that was there is put back if that fails."""
    old = target.parent / f".{target.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if not (overwrite and target.exists()):
        fresh.rename(target)
    elif _exchanged(fresh, target):
        fresh.rename(old)
    else:
        target.rename(old)
        try:
            fresh.rename(target)
        except BaseException:
            with contextlib.suppress(OSError):
                old.rename(target)
            raise
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change names in one step, so that neither is missing for a moment; False where that cannot be."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # no Linux, or an old C library
        return False
    return int(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)) == 0
