"""Open an index and follow it: the newest state, as often as it is asked for, without waiting for a writer."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import IndexDamaged, IndexMissing
from guardrail.index.layout import MANIFEST, file_entry
from guardrail.index.store.bodies import read_put, read_withdraw
from guardrail.index.store.columns import column_shapes, pack
from guardrail.index.store.format_one import format_one_manifest, read_format_one
from guardrail.index.store.log import ACKNOWLEDGED, Kind, LogEnd, LogRecord, acknowledged, read_log
from guardrail.index.store.manifest import FileEntry, Manifest, manifest_format, read_manifest
from guardrail.index.store.part import LogPart, Part
from guardrail.index.store.segment import READ_IN_PART, Segment, segment_files
from guardrail.index.store.state import Draft, State, Tail, stamp_of

__all__ = ["CHECKED_AT_OPEN_BYTES", "damage_of", "damages", "newest", "open_state"]

CHECKED_AT_OPEN_BYTES = 256 * 2**20  # up to this size every checksum is verified on opening, whatever is read later
_TRIES = 50  # a generation may be replaced while it is being opened
_WAIT_S = 0.02
log = logging.getLogger("guardrail.index")


def newest(state: State) -> State:
    """The state of an index now: the same one where nothing changed.

    Raises:
        IndexMissing, IndexDamaged: it cannot be trusted any more.
    """
    try:
        if stamp_of(state.folder / MANIFEST) != state.stamp:
            return open_state(state.folder, state)
        if state.manifest.format == 1:
            return state
        known = _acknowledged(state.log)
        if (known is None and state.log.stat().st_size == state.end.length) or known == state.end:
            return state
        draft = Draft.of(state)
        _replay(draft, known)
        if known is not None and draft.end != known:
            return open_state(state.folder, state)  # a change was taken back, or this is the log of another history
    except (FileNotFoundError, IndexDamaged):
        return open_state(state.folder, state)  # which tells damage from a newer generation
    return draft.frozen()


def open_state(folder: Path, before: State | None = None) -> State:
    """Open an index, of format 2 or 1.

    Args:
        folder: where it lies.
        before: an earlier state of it, whose segments need not be opened again.

    Raises:
        IndexMissing, IndexDamaged: there is none, or it cannot be trusted.
    """
    if folder.is_file():
        raise IndexMissing(str(folder), "a file, and an index is a folder")
    for _ in range(_TRIES):
        stamp: tuple[int, ...] = ()
        try:
            stamp = stamp_of(folder / MANIFEST)
            return (_opened if manifest_format(folder) > 1 else _format_one)(folder, stamp, before)
        except (FileNotFoundError, IndexDamaged, IndexMissing) as error:
            if not _replaced_since(folder, stamp):
                if isinstance(error, FileNotFoundError) and not isinstance(error, IndexMissing):
                    _raise_missing(folder, error)
                raise
        time.sleep(_WAIT_S)
    raise IndexDamaged(
        str(folder), f"a manifest that was replaced {_TRIES} times while it was opened", "one that stays"
    )


def _replaced_since(folder: Path, stamp: tuple[int, ...]) -> bool:
    try:
        return stamp_of(folder / MANIFEST) != stamp
    except FileNotFoundError:
        return False


def _raise_missing(folder: Path, error: FileNotFoundError) -> None:
    manifest_format(folder)  # raises IndexMissing where there is no manifest
    raise IndexDamaged(str(error.filename or folder), "nothing", "a file of the index") from error


def _opened(folder: Path, stamp: tuple[int, ...], before: State | None) -> State:
    manifest = read_manifest(folder)
    known = _known_segments(before, manifest)
    shapes = column_shapes(manifest.header(0, {}, 0, manifest.snapshot))
    for entry in manifest.segments:
        named = {Path(name).name for name in manifest.files_of(entry.name)}
        if named != (needed := segment_files(shapes)):
            found = f"the files {sorted(named ^ needed)} of segment {entry.name} too many or too few"
            raise IndexDamaged(str(folder / MANIFEST), found, f"the files {sorted(needed)}")
    for damage in damages(folder, manifest, skip=tuple(known)):
        raise damage
    whole = sum(entry.bytes for entry in manifest.files.values()) <= CHECKED_AT_OPEN_BYTES
    parts: list[Part] = []
    for entry in manifest.segments:
        place = folder / "segments" / entry.name
        part = known.get(entry.name) or Segment(place, shapes, whole=whole)
        if part.count != entry.rows:
            raise IndexDamaged(str(place), f"{part.count} rows", f"{entry.rows} rows")
        parts.append(part)
    draft = Draft(folder, manifest, [], LogEnd(0, bytes.fromhex(manifest.snapshot)), Tail(), stamp)
    draft.begin(parts, _withdrawn(folder, manifest))
    _replay(draft, _acknowledged(folder / manifest.log))
    return draft.frozen()


def _format_one(folder: Path, stamp: tuple[int, ...], before: State | None) -> State:
    del before
    header, manifest, files = format_one_manifest(folder)
    for damage in _damages_of(folder, files):
        raise damage
    draft = Draft(folder, manifest, [], LogEnd(0, bytes.fromhex(manifest.snapshot)), Tail(), stamp)
    draft.add(LogPart(0, pack(read_format_one(folder, header))))
    return draft.frozen()


def _known_segments(before: State | None, manifest: Manifest) -> dict[str, Segment]:
    """The segments that an earlier state has open, as far as their files are to the byte what they were."""
    if before is None:
        return {}
    opened = {part.folder.name: part for part in before.parts if isinstance(part, Segment)}
    return {
        name: part
        for name, part in opened.items()
        if before.manifest.files_of(name) and before.manifest.files_of(name) == manifest.files_of(name)
    }


def _withdrawn(folder: Path, manifest: Manifest) -> NDArray[np.int64]:
    if not manifest.withdrawn:
        return np.zeros(0, np.int64)
    path = folder / manifest.withdrawn
    try:
        rows: NDArray[np.int64] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise IndexDamaged(str(path), str(error), "an array of row ids") from error
    if rows.dtype != np.int64 or (len(rows) and not 0 <= rows.min() <= rows.max() < manifest.next_row):
        raise IndexDamaged(str(path), "other numbers", f"row ids below {manifest.next_row}")
    return rows


def damages(
    folder: Path, manifest: Manifest, *, skip: tuple[str, ...] = (), every_byte: bool = False
) -> Iterator[IndexDamaged]:
    """Each file that is missing, cut or edited.

    Args:
        folder: the index.
        manifest: its manifest.
        skip: segments that were looked at before.
        every_byte: every checksum; else those of large files that are read in part are left to the reading.
    """
    wanted = {
        name: entry
        for name, entry in manifest.files.items()
        if not any(name.startswith(f"segments/{segment}/") for segment in skip)
    }
    whole = every_byte or sum(entry.bytes for entry in manifest.files.values()) <= CHECKED_AT_OPEN_BYTES
    yield from _damages_of(folder, wanted, READ_IN_PART if not whole else ())


def _damages_of(folder: Path, files: Mapping[str, FileEntry], by_size: Sequence[str] = ()) -> Iterator[IndexDamaged]:
    for name, expected in files.items():
        yield from damage_of(folder / name, expected, checksum=Path(name).name not in by_size)


def damage_of(path: Path, expected: FileEntry, *, checksum: bool) -> Iterator[IndexDamaged]:
    """What is wrong with a file, if anything is."""
    if not path.is_file():
        yield IndexDamaged(str(path), "nothing", f"a file of {expected.bytes} bytes")
    elif (size := path.stat().st_size) != expected.bytes:
        yield IndexDamaged(str(path), f"{size} bytes", f"{expected.bytes} bytes")
    elif checksum and file_entry(path)["sha256"] != expected.sha256:
        yield IndexDamaged(str(path), "other content", f"sha256 {expected.sha256[:12]}...")


def _acknowledged(log_file: Path) -> LogEnd | None:
    try:
        return acknowledged(log_file)
    except ValueError as error:
        log.warning("%s cannot be read (%s); every record of the log that holds is taken", ACKNOWLEDGED, error)
        return None


def _replay(draft: Draft, known: LogEnd | None) -> None:
    """Apply what the log says behind the draft's end, as far as it was acknowledged.

    Raises:
        IndexDamaged: a record that was acknowledged does not hold, or says what cannot be.
        FileNotFoundError: a newer generation has taken the log's place.
    """
    path = draft.folder / draft.manifest.log
    for record in read_log(path, draft.end, known.length if known else None):
        try:
            _apply(draft, record)
        except (ValueError, LookupError) as error:
            found = f"a record at byte {draft.end.length} that cannot be ({error})"
            raise IndexDamaged(str(path), found, "records as guardrail writes them") from error
        draft.end = record.end


def _apply(draft: Draft, record: LogRecord) -> None:
    if record.kind is Kind.PUT:
        first_id, packed, replaced = read_put(record.body)
        draft.withdraw(replaced)
        draft.add(LogPart(first_id, packed))
    else:
        draft.withdraw(read_withdraw(record.body))
