"""How an index of format 1 lies on disk (read, no longer written): one folder of arrays and tables, and a manifest.

MANIFEST.json     header, and size and sha256 of every other file; `snapshot` is the digest of all the rest of it
rows.jsonl        one line a row: the work, its file, sha256 of the file's bytes and of its pixels
pdq.npy           uint8 (N, 32)         phash.npy   uint8 (N, 8)
copy.npy          float32 (N, D)        clip.npy    float32 (N, E), where the recipe asks for it
tiles.npy         float32 (N, T, D)     copy descriptors of the works' tiles, where the recipe asks for them
background.npy    float32 (B, D)        copy descriptors of the background, where similarities are normalised
pixels.npy        uint8 (N, 32, 32, 3)  the works, small, for proof
previews.bin      JPEG files end to end; previews.npy  int64 (N + 1,) where each starts
unreadable.jsonl  one line for each file that could not be indexed, with the reason
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rfc8785
from pydantic import ValidationError

from guardrail.errors import IndexDamaged, IndexMissing
from guardrail.records import IndexHeader

__all__ = [
    "MANIFEST",
    "file_entry",
    "read_manifest",
    "snapshot_of",
    "swap_file",
    "sync_folder",
    "write_manifest",
    "write_synced",
]

MANIFEST = "MANIFEST.json"
_FILES = ("pdq.npy", "phash.npy", "pixels.npy", "previews.bin", "previews.npy", "rows.jsonl", "unreadable.jsonl")


def file_entry(path: Path) -> dict[str, Any]:
    """Size in bytes and sha256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def snapshot_of(manifest: Mapping[str, Any]) -> str:
    """Digest of the canonical JSON (RFC 8785) of a manifest without its `snapshot` field."""
    return hashlib.sha256(
        rfc8785.dumps({key: value for key, value in manifest.items() if key != "snapshot"})
    ).hexdigest()


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def swap_file(path: Path, content: bytes) -> None:
    """Put a small file in the place of the one before, in one step: a crash leaves the one or the other.

    Raises:
        OSError: it cannot be written; the one before stands.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        write_synced(unfinished, content)
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_manifest(folder: Path, header: Mapping[str, Any]) -> str:
    """Write the manifest of a folder whose other files are complete; returns the snapshot."""
    files = {path.name: file_entry(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    manifest = {**header, "files": files}
    manifest["snapshot"] = snapshot_of(manifest)
    write_synced(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False).encode())
    sync_folder(folder)
    return str(manifest["snapshot"])


def _require_files(path: Path, files: Mapping[str, Any], header: IndexHeader) -> None:
    """Require that the manifest vouches for every file that is read, and for none elsewhere."""
    needed = {*_FILES, *(f"{role}.npy" for role in header.embedders)}
    needed |= {"tiles.npy"} if header.sampling.tiles > 1 else set()
    needed |= {"background.npy"} if header.normalisation else set()
    if set(files) != needed:
        raise IndexDamaged(str(path), f"the files {sorted(files)}", f"the files {sorted(needed)}")
    if header.works < 1:
        raise IndexDamaged(str(path), "no works", "at least one")


def read_manifest(folder: Path) -> tuple[IndexHeader, dict[str, dict[str, Any]]]:
    """The header of an index, and the entry of each of its files.

    Raises:
        IndexMissing: there is no folder or no manifest in it.
        IndexDamaged: the manifest was edited, cut, or is of a format we do not know.
    """
    path = folder / MANIFEST
    if not path.is_file():
        found = "no such folder" if not folder.is_dir() else f"a folder without {MANIFEST}"
        raise IndexMissing(str(folder), found)
    try:
        manifest = json.loads(path.read_bytes())
        if manifest.get("format") != 1:
            raise IndexDamaged(str(path), f"format {manifest.get('format')!r}", "format 1")
        if manifest.get("snapshot") != snapshot_of(manifest):
            raise IndexDamaged(
                str(path), "a manifest that was edited", f"one whose digest is {manifest.get('snapshot')!r}"
            )
        files = manifest.pop("files")
        header = IndexHeader.model_validate(manifest)
        _require_files(path, files, header)
    except (OSError, ValueError, AttributeError, KeyError) as error:
        if isinstance(error, IndexDamaged):
            raise
        reason = "fields we do not know" if isinstance(error, ValidationError) else str(error)
        raise IndexDamaged(str(path), reason, "a manifest as guardrail writes it") from error
    return header, files
