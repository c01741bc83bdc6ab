"""The manifest of format 2: what files make up an index; swapped in one step.

MANIFEST.json             header, generation, segments, and size and sha256 of every file that it names
segments/NAME/            rows that were put in order, see `segment`
log-GENERATION.bin        what was added and withdrawn since, see `log`; ACKNOWLEDGED says how far it is on disk
withdrawn-GENERATION.npy  int64, ascending: rows in segments that no longer count
background.npy            float32 (B, D), where similarities are normalised
unreadable.jsonl          one line for each file that could not be indexed when it was built, with the reason
LOCK                      who writes now; cache/ search structures, which may be deleted; CALIBRATION.json
"""

import io
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, AwareDatetime, Field, ValidationError

from guardrail.errors import IndexDamaged, IndexMissing
from guardrail.index.layout import MANIFEST, file_entry, snapshot_of, swap_file, write_synced
from guardrail.records import EmbedderSpec, IndexHeader, Limits, Normalisation, Sampling
from guardrail.records.base import Record, Sha256

__all__ = [
    "BACKGROUND",
    "FORMATS",
    "UNREADABLE",
    "FileEntry",
    "Manifest",
    "SegmentEntry",
    "entry_of",
    "manifest_format",
    "read_manifest",
    "swap_manifest",
    "write_array",
]

FORMATS = (1, 2)  # that can be read; the last one is written
BACKGROUND, UNREADABLE = "background.npy", "unreadable.jsonl"


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise ValueError(f"{path!r} is not a file of the index")
    return path


FilePath = Annotated[str, AfterValidator(_inside)]


class FileEntry(Record):
    """Size and digest of a file."""

    bytes: int = Field(ge=0)
    sha256: Sha256


class SegmentEntry(Record):
    """A segment, by the name of its folder."""

    name: FilePath
    rows: int = Field(ge=0)


class Manifest(Record):
    """What makes up an index, of format 2; one of format 1 is put in the same words when it is read."""

    format: Literal[1, 2] = 2
    generation: int = Field(ge=1)
    next_row: int = Field(ge=0)
    segments: tuple[SegmentEntry, ...]
    log: FilePath
    withdrawn: FilePath | Literal[""] = ""
    embedders: dict[Literal["copy", "clip"], EmbedderSpec]
    hashes: dict[str, str]
    sampling: Sampling = Sampling()
    normalisation: Normalisation | None = None
    limits: Limits
    built_at: AwareDatetime
    compacted_at: AwareDatetime | None = None
    unreadable: int = Field(ge=0)
    files: dict[FilePath, FileEntry]
    snapshot: Sha256 = "0" * 64

    def header(self, works: int, banks: dict[str, int], withdrawn: int, snapshot: str) -> IndexHeader:
        """What the index says of itself in a state of so many works."""
        said = {name: getattr(self, name) for name in IndexHeader.model_fields if hasattr(self, name)}
        return IndexHeader(**said | {"works": works, "banks": banks, "withdrawn": withdrawn, "snapshot": snapshot})

    def files_of(self, segment: str) -> dict[str, FileEntry]:
        """The files of a segment."""
        return {path: entry for path, entry in self.files.items() if path.startswith(f"segments/{segment}/")}


def manifest_format(folder: Path) -> int:
    """The format of the index in a folder.

    Raises:
        IndexMissing: there is no folder, or no manifest in it.
        IndexDamaged: the manifest cannot be read, or is of a format we do not know.
    """
    said = _read(folder).get("format")
    if said not in FORMATS:
        known = " or ".join(map(str, FORMATS))
        raise IndexDamaged(str(folder / MANIFEST), f"format {said!r}", f"format {known}")
    return int(said)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        found = "no such folder" if not folder.is_dir() else f"a folder without {MANIFEST}"
        raise IndexMissing(str(folder), found) from None
    except (OSError, ValueError) as error:
        raise IndexDamaged(str(path), str(error), "a manifest as guardrail writes it") from error
    if not isinstance(said, dict):
        raise IndexDamaged(str(path), type(said).__name__, "a manifest as guardrail writes it")
    return said


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index of format 2.

    Raises:
        IndexMissing, IndexDamaged: see `manifest_format`; or it was edited, or names files that it should not.
    """
    path, said = folder / MANIFEST, _read(folder)
    if said.get("snapshot") != snapshot_of(said):
        raise IndexDamaged(str(path), "a manifest that was edited", f"one whose digest is {said.get('snapshot')!r}")
    try:
        manifest = Manifest.model_validate(said)
    except ValidationError as error:
        raise IndexDamaged(str(path), "fields we do not know", "a manifest as guardrail writes it") from error
    segments = {f"segments/{entry.name}" for entry in manifest.segments}
    named = {UNREADABLE, *([manifest.withdrawn] if manifest.withdrawn else [])}
    named |= {BACKGROUND} if manifest.normalisation else set()
    rest = {file for file in manifest.files if str(PurePosixPath(file).parent) not in segments}
    if rest != named:
        raise IndexDamaged(str(path), f"the files {sorted(rest)}", f"the files {sorted(named)}")
    return manifest


def swap_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Put a manifest in the place of the one before, in one step; what it names must be on disk.

    Raises:
        OSError: it cannot be written; the one before stands.
    """
    said = manifest.model_dump(mode="json")
    said["snapshot"] = snapshot_of(said)
    swap_file(folder / MANIFEST, json.dumps(said, indent=2, ensure_ascii=False).encode())
    return Manifest.model_validate(said)


def entry_of(path: Path) -> FileEntry:
    """Size and digest of a file that is there."""
    return FileEntry(**file_entry(path))


def write_array(path: Path, array: NDArray[Any]) -> FileEntry:
    """Write a small array and wait until it is on disk."""
    whole = io.BytesIO()
    np.save(whole, np.ascontiguousarray(array), allow_pickle=False)
    write_synced(path, whole.getvalue())
    return entry_of(path)
