"""Read an index of format 1: arrays and a table under one manifest. The first write makes it format 2."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import IndexRows
from guardrail.errors import IndexDamaged
from guardrail.index.layout import read_manifest
from guardrail.index.store.manifest import BACKGROUND, UNREADABLE, FileEntry, Manifest
from guardrail.records import IndexHeader, Work, tiles_of

__all__ = ["FILES_OF_FORMAT_ONE", "format_one_manifest", "read_format_one"]

FILES_OF_FORMAT_ONE = (
    *("rows.jsonl", "previews.bin", "previews.npy", "pdq.npy", "phash.npy"),
    *("copy.npy", "tiles.npy", "clip.npy", "pixels.npy"),
)
_ROWS_AT_A_TIME = 65_536
_LENGTH_WITHIN = 1e-3


def format_one_manifest(folder: Path) -> tuple[IndexHeader, Manifest, dict[str, FileEntry]]:
    """Its header, the same as a manifest of format 2 would say it, and all its files.

    Raises:
        IndexMissing, IndexDamaged: there is none, or it was edited.
    """
    header, said = read_manifest(folder)
    files = {name: FileEntry(**entry) for name, entry in said.items()}
    shared = {name: getattr(header, name) for name in Manifest.model_fields if hasattr(header, name)}
    shared |= {"format": 1, "generation": 1, "next_row": 0, "segments": (), "log": "log-00000001.bin", "withdrawn": ""}
    kept = {name: entry for name, entry in files.items() if name in (UNREADABLE, BACKGROUND)}
    return header, Manifest(**shared | {"files": kept}), files


def read_format_one(folder: Path, header: IndexHeader) -> IndexRows:
    """All its rows, in memory, with vectors as float16.

    Raises:
        IndexDamaged: a file is not what the header says.
    """
    rows = _lines(folder, header.works)
    arrays: dict[str, NDArray[Any]] = {
        "pdq": _array(folder, "pdq", np.uint8, header.works, 32),
        "phash": _array(folder, "phash", np.uint8, header.works, 8),
        "pixels": _array(folder, "pixels", np.uint8, header.works, 32, 32, 3),
    }
    for role, spec in header.embedders.items():
        arrays[role] = _unit_vectors(folder, role, header.works, spec.dimensions)
    if regions := tiles_of(header.sampling.tiles):
        arrays["tiles"] = _unit_vectors(
            folder, "tiles", header.works, len(regions), header.embedders["copy"].dimensions
        )
    starts = _array(folder, "previews", np.int64, header.works + 1)
    previews = (folder / "previews.bin").read_bytes()
    try:
        return IndexRows(
            works=tuple(Work.model_validate(row["work"]) for row in rows),
            files=tuple(str(row["file"]) for row in rows),
            file_sha256=tuple(row["file_sha256"] for row in rows),
            pixels_sha256=tuple(row["pixels_sha256"] for row in rows),
            arrays=arrays,
            previews=tuple(previews[start:stop] for start, stop in pairwise(starts)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise IndexDamaged(str(folder / "rows.jsonl"), f"a line that cannot be read ({error})", "a work") from error


def _lines(folder: Path, works: int) -> list[dict[str, Any]]:
    path = folder / "rows.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    except (OSError, ValueError) as error:
        raise IndexDamaged(str(path), f"a line that cannot be read ({error})", "one work a line") from error
    if len(rows) != works:
        raise IndexDamaged(str(path), f"{len(rows)} rows", f"{works} rows")
    return rows


def _array(folder: Path, name: str, dtype: type[np.generic], *shape: int) -> NDArray[Any]:
    path = folder / f"{name}.npy"
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IndexDamaged(str(path), str(error), f"an array {shape}") from error
    if array.shape != shape or array.dtype != dtype:
        raise IndexDamaged(str(path), f"{array.dtype} {array.shape}", f"{np.dtype(dtype)} {shape}")
    return array


def _unit_vectors(folder: Path, name: str, *shape: int) -> NDArray[np.float16]:
    vectors: NDArray[np.float32] = _array(folder, name, np.float32, *shape)
    for start in range(0, len(vectors), _ROWS_AT_A_TIME):
        lengths = np.linalg.norm(vectors[start : start + _ROWS_AT_A_TIME], axis=-1)
        if not np.allclose(lengths, 1, atol=_LENGTH_WITHIN):  # NaN is not close to anything
            raise IndexDamaged(str(folder / f"{name}.npy"), "vectors of another length", "unit vectors")
    return vectors.astype(np.float16)
