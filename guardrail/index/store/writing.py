"""Change an index: append to its log, put what the log holds in order; each is one step that a crash cannot split."""

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import IndexRows
from guardrail.errors import IndexMismatch, IndexUnwritable
from guardrail.index.layout import sync_folder, write_synced
from guardrail.index.store.bodies import put_body, withdraw_body
from guardrail.index.store.columns import COMPUTED, Packed, column_shapes, pack
from guardrail.index.store.format_one import FILES_OF_FORMAT_ONE
from guardrail.index.store.lock import writer_lock
from guardrail.index.store.log import ACKNOWLEDGED, Kind, LogEnd, append, write_acknowledged
from guardrail.index.store.manifest import (
    FileEntry,
    Manifest,
    SegmentEntry,
    entry_of,
    manifest_format,
    read_manifest,
    swap_manifest,
    write_array,
)
from guardrail.index.store.opening import damages, newest
from guardrail.index.store.part import LogPart, Part
from guardrail.index.store.segment import Segment, write_segment
from guardrail.index.store.state import State
from guardrail.records import IndexChange, IndexHeader

__all__ = [
    "clear_up",
    "compacted",
    "files_of_segment",
    "picked",
    "put_rows",
    "require_fit",
    "sealed",
    "withdraw_rows",
    "writing",
]

log = logging.getLogger("guardrail.index")
_UNIT_WITHIN = 2e-3  # lengths of float16 vectors
_BATCH_ROWS = 4096  # rows held in memory while segments are merged


@contextmanager
def writing(state: State, wait_s: float) -> Iterator[State]:
    """Hold the writer's lock; gives the newest state, of format 2, after clearing up what a crash left.

    Raises:
        IndexLocked: another process writes.
        IndexUnwritable: the folder cannot be written.
    """
    try:
        with writer_lock(state.folder, wait_s):
            now = newest(state)
            if now.manifest.format == 1:
                _next_generation(now, list(now.parts), None)
                now = newest(now)
            clear_up(now)
            yield now
    except OSError as error:
        if isinstance(error, IndexUnwritable) or type(error).__module__ == "guardrail.errors":
            raise
        raise IndexUnwritable(str(state.folder), str(error)) from error


def clear_up(state: State) -> None:
    """Delete what the manifest does not name: an earlier generation, and leavings of a writer that was killed."""
    named = {entry.name for entry in state.manifest.segments}
    segments = state.folder / "segments"
    for path in segments.iterdir() if segments.is_dir() else ():
        if path.name not in named:
            shutil.rmtree(path)
    kept = {state.manifest.log, state.manifest.withdrawn}
    for pattern in ("log-*.bin", "withdrawn-*.npy"):
        for path in state.folder.glob(pattern):
            if path.name not in kept:
                path.unlink()
    for name in FILES_OF_FORMAT_ONE:
        (state.folder / name).unlink(missing_ok=True)


# --- the log --------------------------------------------------------------------------------------------------


def require_fit(rows: IndexRows, header: IndexHeader, place: str) -> None:
    """Require rows that may lie in an index of this specification.

    Raises:
        IndexMismatch: another dtype, shape or length of vectors.
        ValueError: a work stands there twice.
    """
    shapes = column_shapes(header)
    for name, array in rows.arrays.items():
        if name not in shapes:
            raise IndexMismatch(place, f"{', '.join(shapes)} columns", f"a column {name!r}")
        dtype, shape = shapes[name]
        if array.dtype != dtype or array.shape[1:] != shape:
            raise IndexMismatch(place, f"{name} {np.dtype(dtype)} {shape}", f"{array.dtype} {array.shape[1:]}")
        if name in ("copy", "tiles", "clip"):
            lengths = np.linalg.norm(array.astype(np.float32), axis=-1)
            if not np.allclose(lengths, 1, atol=_UNIT_WITHIN):  # NaN is not close to anything
                raise IndexMismatch(place, f"unit vectors in {name}", "vectors of another length")
    keys = [(work.bank, work.work_id) for work in rows.works]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the work {'/'.join(twice)!r} stands there twice; a batch has each work once")


def put_rows(state: State, rows: IndexRows) -> tuple[LogEnd | None, IndexChange]:
    """Append rows to the log. The lock is held, and `state` is the newest.

    Returns:
        Where the log ends then, or None where all rows were there as they are, and the counts.
    """
    require_fit(rows, state.header, str(state.folder))
    before = [state.find_key(work.bank, work.work_id) for work in rows.works]
    fresh = [at for at, row in enumerate(before) if row is None or not _same(state, row, rows, at)]
    change = IndexChange(snapshot=state.snapshot, works=state.works, unchanged=len(rows) - len(fresh))
    if not fresh:
        return None, change
    replaced = np.array([row for at in fresh if (row := before[at]) is not None], np.int64)
    body = put_body(len(state.alive), pack(picked(rows, fresh)), replaced)
    end = append(state.log, state.end, Kind.PUT, body)
    return end, change.model_copy(update={"added": len(fresh) - len(replaced), "replaced": len(replaced)})


def picked(rows: IndexRows, which: Sequence[int]) -> IndexRows:
    """Some of the rows."""
    return IndexRows(
        works=tuple(rows.works[at] for at in which),
        files=tuple(rows.files[at] for at in which),
        file_sha256=tuple(rows.file_sha256[at] for at in which),
        pixels_sha256=tuple(rows.pixels_sha256[at] for at in which),
        arrays={name: array[list(which)] for name, array in rows.arrays.items()},
        previews=tuple(rows.previews[at] for at in which),
    )


def _same(state: State, row: int, rows: IndexRows, at: int) -> bool:
    """Whether a row says what is to be put."""
    part, position = state.place(row)
    one = pack(picked(rows, [at]))
    kept = part.packed(np.array([position], np.int64))
    names = [name for at, name in enumerate(COMPUTED) if int(kept.columns["standing"]["columns"][0]) >> at & 1]
    if names != [name for name in COMPUTED if name in one.columns]:
        return False
    return all(np.array_equal(kept.columns[name], one.columns[name]) for name in (*names, "rows", "previews"))


def withdraw_rows(state: State, keys: Sequence[tuple[str, str]]) -> tuple[LogEnd | None, IndexChange]:
    """Append to the log that works are withdrawn. The lock is held, and `state` is the newest."""
    found = {key: state.find_key(*key) for key in dict.fromkeys(keys)}
    unknown = tuple("/".join(key) for key, row in found.items() if row is None)
    rows = np.array(sorted(row for row in found.values() if row is not None), np.int64)
    change = IndexChange(snapshot=state.snapshot, works=state.works, withdrawn=len(rows), unknown=unknown)
    if not len(rows):
        return None, change
    return append(state.log, state.end, Kind.WITHDRAW, withdraw_body(rows)), change


# --- putting in order -----------------------------------------------------------------------------------------


def sealed(state: State) -> Manifest | None:
    """Put the rows of the log into a segment and begin a new log. The lock is held; None where the log is empty.

    Segments that are not larger than what is put in order are put together with it.

    Rows of the log that were withdrawn since are not written: they are gone.

    Raises:
        OSError: it cannot be written; the index is as it was.
    """
    if not state.end.length:
        return None
    merged: list[Part] = [part for part in state.parts if isinstance(part, LogPart)]
    rows = sum(part.count for part in merged)
    segments = [part for part in state.parts if isinstance(part, Segment)]
    for segment in sorted(segments, key=lambda part: part.count):
        if segment.count > rows:
            break
        merged.append(segment)  # so that their number grows with the logarithm of the rows
        rows += segment.count
    return _next_generation(state, merged, None)


def compacted(state: State, progress: Callable[[int, int], None] = lambda done, total: None) -> Manifest:
    """Put all rows that count into one segment; what was withdrawn is purged from disk. The lock is held.

    Raises:
        OSError: it cannot be written; the index is as it was.
    """
    return _next_generation(state, list(state.parts), datetime.now(UTC), progress)


def _next_generation(
    state: State,
    merged: Sequence[Part],
    compacted_at: datetime | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Manifest:
    """Write the rows of some parts that count into one segment, and swap in a manifest that names it."""
    made: list[Path] = []
    try:
        fresh = _write_generation(state, merged, compacted_at, made, progress)
    except BaseException:
        if not _is_named(state.folder, made):
            for path in made:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        raise
    try:
        write_acknowledged(state.folder / fresh.log, LogEnd(0, bytes.fromhex(fresh.snapshot)))
    except OSError as error:  # the generation is there; without this, every record of its log that holds is taken
        log.warning("%s of %r cannot be written: %s", ACKNOWLEDGED, str(state.folder), error)
    return fresh


def _is_named(folder: Path, made: Sequence[Path]) -> bool:
    """Whether the manifest was swapped before something failed, so that what was made is the index now."""
    return bool(made) and manifest_format(folder) > 1 and read_manifest(folder).log == made[0].name


def _write_generation(
    state: State,
    merged: Sequence[Part],
    compacted_at: datetime | None,
    made: list[Path],
    progress: Callable[[int, int], None],
) -> Manifest:
    """Write all files of the next generation, then its manifest; says in `made` what is there so far, its log first."""
    old, folder = state.manifest, state.folder
    name = f"{old.generation + 1:08d}"
    kept = [entry for entry in old.segments if all(_name(part) != entry.name for part in merged)]
    files = {path: entry for path, entry in old.files.items() if not path.startswith(("segments/", "withdrawn-"))}
    for entry in kept:
        files |= old.files_of(entry.name)
    withdrawn = _withdrawn_in(state, [entry.name for entry in kept])
    made.append(folder / f"log-{name}.bin")
    write_synced(made[0], b"")
    _require_whole(folder, old, merged)
    made.append(folder / "segments" / name)
    rows = _write_merged(state, merged, made[1], progress)
    if rows:
        files |= files_of_segment(folder, name)
        kept.append(SegmentEntry(name=name, rows=rows))
    if len(withdrawn):
        made.append(folder / f"withdrawn-{name}.npy")
        files[made[-1].name] = write_array(made[-1], withdrawn)
    if rows:
        sync_folder(folder / "segments")
    sync_folder(folder)
    update = {
        "format": 2,
        "generation": old.generation + 1,
        "next_row": len(state.alive),
        "segments": tuple(kept),
        "log": made[0].name,
        "withdrawn": made[-1].name if len(withdrawn) else "",
        "compacted_at": compacted_at or old.compacted_at,
        "files": files,
    }
    return swap_manifest(folder, old.model_copy(update=update))


def _require_whole(folder: Path, manifest: Manifest, merged: Sequence[Part]) -> None:
    """Require that segments are to the byte what was written before they are written anew, under fresh checksums."""
    names = {_name(part) for part in merged}
    kept = tuple(entry.name for entry in manifest.segments if entry.name not in names)
    for damage in damages(folder, manifest, skip=kept, every_byte=True) if names - {""} else ():
        raise damage


def _name(part: Part) -> str:
    return part.folder.name if isinstance(part, Segment) else ""


def _write_merged(state: State, merged: Sequence[Part], folder: Path, progress: Callable[[int, int], None]) -> int:
    total = sum(int(np.count_nonzero(state.alive[part.ids])) for part in merged)

    def batches() -> Iterator[tuple[NDArray[np.int64], Packed]]:
        done = 0
        for ids, packed in _in_order(state, merged):
            yield ids, packed
            done += len(ids)
            progress(done, total)

    return write_segment(folder, batches(), column_shapes(state.header))


def _in_order(state: State, merged: Sequence[Part]) -> Iterator[tuple[NDArray[np.int64], Packed]]:
    """The rows of some parts that count, by ascending id, some at a time, those of one part together."""
    ids = np.concatenate([np.zeros(0, np.int64), *(part.ids for part in merged)])
    owners = np.concatenate([np.zeros(0, np.int64), *(np.full(part.count, at) for at, part in enumerate(merged))])
    positions = np.concatenate([np.zeros(0, np.int64), *(np.arange(part.count) for part in merged)])
    order = np.argsort(ids, kind="stable")
    order = order[state.alive[ids[order]]]
    changes = np.flatnonzero(np.diff(owners[order])) + 1
    for run in np.split(order, changes):
        for start in range(0, len(run), _BATCH_ROWS):
            some = run[start : start + _BATCH_ROWS]
            if len(some):
                yield ids[some], merged[int(owners[some[0]])].packed(positions[some])


def _withdrawn_in(state: State, names: Iterable[str]) -> NDArray[np.int64]:
    """The rows of segments that do not count."""
    wanted = set(names)
    dead = [part.ids[~state.alive[part.ids]] for part in state.parts if _name(part) in wanted]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *dead]))


def files_of_segment(folder: Path, name: str) -> dict[str, FileEntry]:
    """Size and digest of every file of a segment."""
    return {f"segments/{name}/{path.name}": entry_of(path) for path in sorted((folder / "segments" / name).iterdir())}
