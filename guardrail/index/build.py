"""Build an index from a folder: fingerprint in chunks that survive an interruption, then assemble and swap in."""

import contextlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail.carriers import Fingerprints, ImageBatch, Picture
from guardrail.errors import IndexExists, IndexUnwritable, NothingToIndex
from guardrail.index.layout import MANIFEST, sync_folder, write_manifest, write_synced
from guardrail.index.recipe import Recipe
from guardrail.index.works import WorkRow, unnamed_work
from guardrail.records import EmbedderSpec, Limits, Normalisation, Sampling, Work

__all__ = ["BuildReport", "Builder", "build_index", "find_images"]

_CHUNK_FILES = 64  # an interruption costs at most this many fingerprints
_PROOF_SIDE_PX = 32
_PREVIEW_SIDE_PX = 192
_PREVIEW_QUALITY = 85
_ARRAYS = ("pdq", "phash", "copy", "tiles", "clip", "pixels")


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did: counts, each file that could not be indexed with the reason, and `faint` ones.

    A faint work has too little in it to be told from others by its hash: a blank page, a thin line. `hidden` counts the
    pictures that were left out of the background because they are works, or nearly.
    """

    works: int
    resumed: int
    unreadable: tuple[tuple[str, str], ...]
    faint: tuple[str, ...]
    left_out: int
    snapshot: str
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class Builder:
    """What a build is given from other rooms.

    Attributes:
        read: opens a file as a `Picture`; one that cannot be read comes back with a failure.
        fingerprint: the fingerprinter, made to `embedders` and `hashes`, with the looks that `sampling` gives works.
        embedders: the specification of the vectors.
        hashes: the versions of the hashes.
        limits: the limits that hold before calibration.
        sampling: where the copy descriptor looks.
        normalisation: how similarities are normalised, or None for not at all.
        background: float32 (B, D), unit length copy descriptors of the background, with `normalisation`.
        background_below: a background picture as near as this to a work, by cosine, would hide copies: it is left out.
    """

    read: Callable[[Path], Picture]
    fingerprint: Callable[[ImageBatch], Fingerprints]
    embedders: Mapping[str, EmbedderSpec]
    hashes: Mapping[str, str]
    limits: Limits
    sampling: Sampling = field(default_factory=Sampling)
    normalisation: Normalisation | None = None
    background: NDArray[np.float32] | None = None
    background_below: float = 1.0

    def apart_from(self, works: NDArray[np.float32]) -> tuple["Builder", int]:
        """This builder with the background that is no work (N, D), and how many of its pictures were left out.

        Raises:
            NothingToIndex: none are left.
        """
        if self.background is None or self.normalisation is None:
            return self, 0
        chunks = range(0, len(self.background), _CHUNK_FILES)
        near = [self.background[at : at + _CHUNK_FILES] @ works.T for at in chunks]
        kept = self.background[np.concatenate([some.max(1) for some in near]) < self.background_below]
        if not len(kept):
            raise NothingToIndex("background", "all of its pictures are as near to a work as copies are")
        how = Normalisation(background=len(kept), nearest=min(self.normalisation.nearest, len(kept)))
        return replace(self, background=kept, normalisation=how), len(self.background) - len(kept)

    @property
    def specification(self) -> dict[str, Any]:
        """What fingerprints must have in common to lie in one index."""
        specs = {name: spec.model_dump(mode="json") for name, spec in self.embedders.items()}
        return {"embedders": specs, "hashes": dict(self.hashes), "sampling": self.sampling.model_dump(mode="json")}


def find_images(source: Path) -> tuple[list[str], int]:
    """Files below a folder that are named like images, sorted, and how many others (hidden, other endings)."""
    endings = Image.registered_extensions()
    names, others = [], 0
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            continue
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() in endings and not hidden and not path.is_dir():
            names.append(inside.as_posix())
        else:
            others += 1
    return names, others


def build_index(
    source: Path,
    target: Path,
    builder: Builder,
    recipe: Recipe,
    works: Sequence[WorkRow] = (),
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BuildReport:
    """Build the index of a folder of images.

    Fingerprints are kept in `.NAME.partial` beside the target until the index is complete, so that the same command
    goes on after an interruption. The target appears whole or not at all.

    Raises:
        IndexExists: something is at the target and `overwrite` is not set.
        NothingToIndex: no image could be read.
        IndexUnwritable: the target's folder cannot be written or is full.
    """
    if not source.is_dir():
        raise NothingToIndex(str(source), "no such folder")
    _require_free(source, target, overwrite=overwrite)
    table = {row.file: row.work for row in works}
    named, others = find_images(source)
    names = sorted({*(name for name in named if name in table or recipe.unlisted == "index"), *table})
    left_out = others + len(set(named) - set(names))
    partial = target.parent / f".{target.name}.partial"
    try:
        chunks, resumed = _fingerprint_all(source, names, partial, builder, progress)
        gathered = _gather(chunks, table, recipe)
        if not gathered.rows:
            shutil.rmtree(partial)
            raise NothingToIndex(str(source), f"{len(gathered.unreadable)} unreadable files")
        builder, hidden = builder.apart_from(gathered.arrays["copy"])
        snapshot = _assemble(target, gathered, builder, overwrite=overwrite)
        shutil.rmtree(partial)
    except OSError as error:
        raise IndexUnwritable(str(target), str(error)) from error
    least = builder.limits.pdq_quality_at_least
    faint = tuple(
        row["file"] for row, quality in zip(gathered.rows, gathered.qualities, strict=True) if quality < least
    )
    return BuildReport(len(gathered.rows), resumed, tuple(gathered.unreadable), faint, left_out, snapshot, hidden)


def _require_free(source: Path, target: Path, *, overwrite: bool) -> None:
    """Refuse to write over anything but an index, and asked to."""
    here, there = source.resolve(), target.resolve()
    if here == there or here.is_relative_to(there):
        raise IndexUnwritable(str(target), "the images lie there")
    if target.exists() and not (overwrite and (target / MANIFEST).is_file()):
        raise IndexExists(str(target))


# --- fingerprints, chunk by chunk ---------------------------------------------------------------------------


def _stamp(path: Path) -> list[int]:
    """What tells that a file has not changed since: size and modification time."""
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _fingerprint_all(
    source: Path, names: list[str], partial: Path, builder: Builder, progress: Callable[[int, int], None]
) -> tuple[list[Path], int]:
    """Fingerprint what no earlier run of this specification has; returns all chunks, and how many files were done."""
    specification = json.dumps([builder.specification, str(source.resolve())], sort_keys=True)
    spec_file = partial / "specification.json"
    if spec_file.exists() and spec_file.read_text(encoding="utf-8") != specification:
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    spec_file.write_text(specification, encoding="utf-8")
    done: dict[str, list[int]] = {}
    for chunk in sorted(partial.glob("*.npz")):
        try:
            done |= {entry["file"]: entry["stamp"] for entry in _entries(chunk)}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            chunk.unlink()  # cut by a crash: its files are fingerprinted again
    fresh = {name: stamp for name in names if (stamp := _stamp(source / name)) and done.get(name) == stamp}
    progress(len(fresh), len(names))
    left = iter([name for name in names if name not in fresh])
    last = max(partial.glob("*.npz"), default=None)
    count, number = len(fresh), int(last.stem) + 1 if last else 0
    while chunk_names := list(islice(left, _CHUNK_FILES)):
        _write_chunk(partial / f"{number:08d}.npz", source, chunk_names, builder)
        number, count = number + 1, count + len(chunk_names)
        progress(count, len(names))
    (partial / "names.json").write_text(json.dumps(names), encoding="utf-8")
    return sorted(partial.glob("*.npz")), len(fresh)


def _entries(chunk: Path) -> list[dict[str, Any]]:
    with np.load(io.BytesIO(chunk.read_bytes()), allow_pickle=False) as arrays:
        entries: list[dict[str, Any]] = json.loads(str(arrays["entries"]))
    return entries


def _write_chunk(chunk: Path, source: Path, names: list[str], builder: Builder) -> None:
    """Fingerprint some files and write all that is kept of them in one step."""
    pictures = tuple(replace(builder.read(source / name), name=f"{at}: {name}") for at, name in enumerate(names))
    prints = builder.fingerprint(ImageBatch(pictures))
    entries: list[dict[str, Any]] = []
    smalls, previews = [], []
    for at, (name, picture) in enumerate(zip(names, pictures, strict=True)):
        failure = prints.failures[at]
        entry: dict[str, Any] = {
            "file": name,
            "stamp": _stamp(source / name),
            "error": failure.error if failure else _name_fault(name),
        }
        entry["pdq_quality"] = int(prints.pdq_quality[at])
        entries.append(entry | {"file_sha256": prints.file_sha256[at], "pixels_sha256": prints.pixels_sha256[at]})
        small, preview = _small_pictures(picture)
        smalls.append(small)
        previews.append(np.frombuffer(preview, np.uint8))
    arrays: dict[str, NDArray[Any]] = {
        "pdq": prints.pdq[:, 0],
        "phash": prints.phash[:, 0],
        "copy": prints.copy,
        "pixels": np.stack(smalls),
        "previews": np.concatenate(previews),
        "preview_bytes": np.array([len(preview) for preview in previews]),
    }
    if prints.clip is not None:
        arrays["clip"] = prints.clip
    if prints.copy_looks is not None:
        arrays["tiles"] = prints.copy_looks
    whole = io.BytesIO()
    np.savez(whole, allow_pickle=False, entries=np.array(json.dumps(entries)), **arrays)
    unfinished = chunk.with_suffix(".tmp")
    try:
        write_synced(unfinished, whole.getvalue())
        unfinished.rename(chunk)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _name_fault(name: str) -> str:
    """Why a file of this name cannot be in an index; empty where it can."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return ""


def _small_pictures(picture: Picture) -> tuple[NDArray[np.uint8], bytes]:
    """The picture at 32x32 for proof, and as a JPEG for people; blank where it could not be read."""
    if picture.pixels is None:
        return np.zeros((_PROOF_SIDE_PX, _PROOF_SIDE_PX, 3), np.uint8), b""
    image = Image.fromarray(np.ascontiguousarray(picture.pixels.cpu().numpy().transpose(1, 2, 0)))
    small = np.asarray(image.resize((_PROOF_SIDE_PX, _PROOF_SIDE_PX), Image.Resampling.BOX, reducing_gap=None))
    image.thumbnail((_PREVIEW_SIDE_PX, _PREVIEW_SIDE_PX))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=_PREVIEW_QUALITY)
    return small, jpeg.getvalue()


# --- assembly -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Gathered:
    """All rows of an index, in the order of their files' names."""

    rows: list[dict[str, Any]]
    unreadable: list[tuple[str, str]]
    qualities: list[int]
    arrays: dict[str, NDArray[Any]]
    previews: list[bytes]


def _gather(chunks: list[Path], table: Mapping[str, Work], recipe: Recipe) -> _Gathered:
    """The newest entry of every file that was asked for; later chunks replace earlier ones."""
    names = json.loads((chunks[0].parent / "names.json").read_text(encoding="utf-8")) if chunks else []
    wanted = set(names)
    place: dict[str, tuple[dict[str, Any], dict[str, NDArray[Any]], bytes]] = {}
    for chunk in chunks:
        for entry, arrays, preview in _chunk_rows(chunk):
            if entry["file"] in wanted:
                place[entry["file"]] = (entry, arrays, preview)
    good = [name for name in names if not place[name][0]["error"]]
    rows = [_row(place[name][0], table, recipe) for name in good]
    stacked = {key: np.stack([place[name][1][key] for name in good]) for key in (place[good[0]][1] if good else ())}
    unreadable = [(name, place[name][0]["error"]) for name in names if place[name][0]["error"]]
    qualities = [int(place[name][0]["pdq_quality"]) for name in good]
    return _Gathered(rows, unreadable, qualities, stacked, [place[name][2] for name in good])


def _chunk_rows(chunk: Path) -> Iterator[tuple[dict[str, Any], dict[str, NDArray[Any]], bytes]]:
    entries = _entries(chunk)
    with np.load(chunk, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in _ARRAYS if name in stored}
        ends = np.cumsum(stored["preview_bytes"])
        previews = stored["previews"].tobytes()
    for at, entry in enumerate(entries):
        start = int(ends[at - 1]) if at else 0
        yield entry, {name: array[at] for name, array in arrays.items()}, previews[start : int(ends[at])]


def _row(entry: Mapping[str, Any], table: Mapping[str, Work], recipe: Recipe) -> dict[str, Any]:
    file = entry["file"]
    unlisted = Work(work_id=unnamed_work(file), title=Path(file).stem, bank=recipe.bank, disposition=recipe.disposition)
    work = table.get(file, unlisted).model_dump(mode="json")
    return {"work": work} | {key: entry[key] for key in ("file", "file_sha256", "pixels_sha256")}


def _assemble(target: Path, gathered: _Gathered, builder: Builder, *, overwrite: bool) -> str:
    """Write the whole index beside the target, then put it in the target's place."""
    fresh = target.parent / f".{target.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        for name, array in gathered.arrays.items():
            _save_array(fresh / f"{name}.npy", array)
        if builder.background is not None:
            _save_array(fresh / "background.npy", builder.background)
        starts = np.cumsum([0, *(len(preview) for preview in gathered.previews)], dtype=np.int64)
        _save_array(fresh / "previews.npy", starts)
        write_synced(fresh / "previews.bin", b"".join(gathered.previews))
        write_synced(fresh / "rows.jsonl", _json_lines(gathered.rows))
        bad = [{"file": file, "error": error} for file, error in gathered.unreadable]
        write_synced(fresh / "unreadable.jsonl", _json_lines(bad))
        snapshot = write_manifest(fresh, _header(gathered, builder))
        _swap_in(fresh, target, overwrite=overwrite)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return snapshot


def _header(gathered: _Gathered, builder: Builder) -> dict[str, Any]:
    banks: dict[str, int] = {}
    for row in gathered.rows:
        banks[row["work"]["bank"]] = banks.get(row["work"]["bank"], 0) + 1
    return {
        "format": 1,
        "works": len(gathered.rows),
        "banks": banks,
        **builder.specification,
        "normalisation": builder.normalisation.model_dump(mode="json") if builder.normalisation else None,
        "limits": builder.limits.model_dump(mode="json"),
        "built_at": datetime.now(UTC).isoformat(),
        "unreadable": len(gathered.unreadable),
    }


def _json_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "backslashreplace")


def _save_array(path: Path, array: NDArray[Any]) -> None:
    whole = io.BytesIO()
    np.save(whole, np.ascontiguousarray(array), allow_pickle=False)
    write_synced(path, whole.getvalue())


def _swap_in(fresh: Path, target: Path, *, overwrite: bool) -> None:
    """Rename into place; an index that was there is put back if that fails."""
    old = target.parent / f".{target.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if overwrite and target.exists():
        target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        with contextlib.suppress(OSError):
            old.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)
