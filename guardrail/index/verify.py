"""Check every byte of an index: what each file should be, and which are not."""

from collections.abc import Callable, Iterator
from pathlib import Path

from guardrail.errors import IndexDamaged, IndexMissing
from guardrail.index.clusters_cache import links_damages
from guardrail.index.store.format_one import format_one_manifest
from guardrail.index.store.log import ACKNOWLEDGED, LogEnd, acknowledged, read_log
from guardrail.index.store.manifest import FileEntry, Manifest, manifest_format, read_manifest
from guardrail.index.store.opening import damage_of, open_state
from guardrail.index.structures import cache_damages
from guardrail.records import IndexHeader

__all__ = ["verify_index"]

_NOT_NEEDED = "what the last writer wrote; the next one writes it anew"


def verify_index(
    folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[IndexHeader, tuple[IndexDamaged, ...]]:
    """Check every file of an index: checksums of all that the manifest names, the log's chain, and the cache.

    Args:
        folder: the index.
        progress: called with (bytes read, bytes in all).

    Returns:
        The header, and one `IndexDamaged` for each file that is missing, cut or edited. What is in `cache/` can be
        deleted: it is made again.

    Raises:
        IndexMissing, IndexDamaged: there is no manifest, or it cannot be trusted.
    """
    if folder.is_file():
        raise IndexMissing(str(folder), "a file, and an index is a folder")
    if manifest_format(folder) == 1:
        header, _, files = format_one_manifest(folder)
        return header, tuple(_file_damages(folder, files, progress))
    manifest = read_manifest(folder)
    found = list(_file_damages(folder, manifest.files, progress))
    found += _log_damages(folder, manifest)
    if not found:
        state = open_state(folder)
        return state.header, (*cache_damages(state), *links_damages(state))
    rows = sum(entry.rows for entry in manifest.segments)
    return manifest.header(rows, {}, 0, manifest.snapshot), tuple(found)


def _file_damages(
    folder: Path, files: dict[str, FileEntry], progress: Callable[[int, int], None]
) -> Iterator[IndexDamaged]:
    total, done = sum(entry.bytes for entry in files.values()), 0
    for name, expected in files.items():
        yield from damage_of(folder / name, expected, checksum=True)
        done += expected.bytes
        progress(done, total)


def _log_damages(folder: Path, manifest: Manifest) -> Iterator[IndexDamaged]:
    path = folder / manifest.log
    known: LogEnd | None = None
    try:
        known = acknowledged(path)
    except ValueError as error:
        yield IndexDamaged(str(folder / ACKNOWLEDGED), str(error), _NOT_NEEDED)
    if known is None and not (folder / ACKNOWLEDGED).exists():
        yield IndexDamaged(str(folder / ACKNOWLEDGED), "nothing", _NOT_NEEDED)
    end = LogEnd(0, bytes.fromhex(manifest.snapshot))
    try:
        for record in read_log(path, end, known.length if known else None):
            end = record.end
    except FileNotFoundError:
        yield IndexDamaged(str(path), "nothing", "the log of this generation")
    except IndexDamaged as damage:
        yield damage
