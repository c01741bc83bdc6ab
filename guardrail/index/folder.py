"""An index in a folder, searched exactly: faiss inner product for vectors, faiss binary for hashes."""

import json
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints
from guardrail.errors import IndexDamaged
from guardrail.index.calibrated import calibrated_limits
from guardrail.index.layout import file_entry, read_manifest
from guardrail.index.shelf import Near, Shelf, Vectors
from guardrail.records import Disposition, IndexHeader, Neighbour, Signal, Work, tiles_of

__all__ = ["FolderIndex", "verify_index"]

_CHECKED_AT_OPEN_BYTES = 256 * 2**20  # up to this size every checksum is verified on opening
_READ_IN_PART = ("pixels.npy", "previews.bin")  # of a larger index, only the sizes of these are
_ROWS_AT_A_TIME = 65_536
_LENGTH_WITHIN = 1e-3


def verify_index(
    folder: Path, progress: Callable[[str], None] = lambda file: None
) -> tuple[IndexHeader, tuple[IndexDamaged, ...]]:
    """Check every file of an index against the manifest.

    Returns:
        The header, and one `IndexDamaged` for each file that is missing, cut or edited.

    Raises:
        IndexMissing, IndexDamaged: there is no manifest, or it cannot be trusted.
    """
    header, files = read_manifest(folder)
    damages = []
    for name, expected in files.items():
        damages += _damage_of(folder / name, expected, checksum=True)
        progress(name)
    return header, tuple(damages)


def _damage_of(path: Path, expected: dict[str, Any], *, checksum: bool) -> list[IndexDamaged]:
    if not path.is_file():
        return [IndexDamaged(str(path), "nothing", f"a file of {expected['bytes']} bytes")]
    if path.stat().st_size != expected["bytes"]:
        return [IndexDamaged(str(path), f"{path.stat().st_size} bytes", f"{expected['bytes']} bytes")]
    if checksum and file_entry(path)["sha256"] != expected["sha256"]:
        return [IndexDamaged(str(path), "other content", f"sha256 {expected['sha256'][:12]}...")]
    return []


class FolderIndex:
    """An index opened for search; its files are memory-mapped or read once, and never written.

    Raises:
        IndexMissing: there is no index in that folder.
        IndexDamaged: a file is missing, cut or edited.
        CalibrationUnfit: the calibration beside it was edited, or is another index's.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.header, files = read_manifest(self.folder)
        if (limits := calibrated_limits(self.folder, self.header)) is not None:
            self.header = self.header.model_copy(update={"limits": limits})
        small = sum(entry["bytes"] for entry in files.values()) <= _CHECKED_AT_OPEN_BYTES
        for name, expected in files.items():
            for damage in _damage_of(self.folder / name, expected, checksum=small or name not in _READ_IN_PART):
                raise damage
        self._read_rows()
        self._pixels = self._array("pixels", np.uint8, 32, 32, 3)
        self._starts = self._array("previews", np.int64, rows=self.header.works + 1)
        self._codes = {Signal.PDQ: self._array("pdq", np.uint8, 32), Signal.PHASH: self._array("phash", np.uint8, 8)}
        self._vectors = self._read_vectors()
        self._shelves: tuple[Shelf, ...] = ()
        self._shelved_until: datetime | None = None

    def _read_rows(self) -> None:
        path = self.folder / "rows.jsonl"
        try:
            rows = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
            self.works = tuple(Work.model_validate(row["work"]) for row in rows)
            self.files = tuple(str(row["file"]) for row in rows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexDamaged(str(path), f"a line that cannot be read ({error})", "one work a line") from error
        if len(rows) != self.header.works:
            raise IndexDamaged(str(path), f"{len(rows)} rows", f"{self.header.works} rows")
        self._exact: dict[Signal, dict[str, list[int]]] = {
            Signal.BYTES: defaultdict(list),
            Signal.PIXELS: defaultdict(list),
        }
        for number, row in enumerate(rows):
            self._exact[Signal.BYTES][row["file_sha256"]].append(number)
            self._exact[Signal.PIXELS][row["pixels_sha256"]].append(number)

    def _array(self, name: str, dtype: type[np.generic], *shape: int, rows: int | None = None) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        expected = (self.header.works if rows is None else rows, *shape)
        try:
            array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise IndexDamaged(str(path), str(error), f"an array {expected}") from error
        if array.shape != expected or array.dtype != dtype:
            raise IndexDamaged(str(path), f"{array.dtype} {array.shape}", f"{np.dtype(dtype)} {expected}")
        return array

    def _read_vectors(self) -> Vectors:
        specs = self.header.embedders
        wholes = {Signal(name): self._unit_vectors(name, spec.dimensions) for name, spec in specs.items()}
        regions = tiles_of(self.header.sampling.tiles)
        tiles = self._unit_vectors("tiles", len(regions), specs["copy"].dimensions) if regions else None
        how = self.header.normalisation
        if how is None:
            return Vectors(wholes, tiles, regions)
        background = self._unit_vectors("background", specs["copy"].dimensions, rows=how.background)
        return Vectors(wholes, tiles, regions, background, how.nearest)

    def _unit_vectors(self, name: str, *shape: int, rows: int | None = None) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = self._array(name, np.float32, *shape, rows=rows)
        for start in range(0, len(vectors), _ROWS_AT_A_TIME):
            lengths = np.linalg.norm(vectors[start : start + _ROWS_AT_A_TIME], axis=-1)
            if not np.allclose(lengths, 1, atol=_LENGTH_WITHIN):  # NaN is not close to anything
                raise IndexDamaged(str(self.folder / f"{name}.npy"), "vectors of another length", "unit vectors")
        return vectors

    def search(self, prints: Fingerprints, limit: int) -> tuple[tuple[Neighbour, ...], ...]:
        """See `IndexBackend.search`. Exact: every work is compared; cost grows with works x images."""
        found: list[list[Neighbour]] = [[] for _ in range(len(prints))]
        sought = [row for row in range(len(prints)) if prints.failures[row] is None]
        shelves = self._shelves_at(datetime.now(UTC))
        for row in sought:
            found[row] += self._same(Signal.BYTES, prints.file_sha256[row])
            found[row] += self._same(Signal.PIXELS, prints.pixels_sha256[row])
        if sought:
            for shelf in shelves:
                for row, near in zip(sought, shelf.search(prints, sought, limit), strict=True):
                    found[row] += [self._neighbour(one) for one in near]
        return tuple(tuple(near) for near in found)

    def nearest_to(self, role: str, vector: NDArray[np.float32], limit: int) -> tuple[tuple[Work, float], ...]:
        """The works nearest to a vector, with their cosine similarity: for looking a bank through, not for judging.

        Args:
            role: `copy` or `clip`, one that the header lists.
            vector: float32 (D,), unit length, of that embedder.
            limit: how many works, at most; all banks and dispositions count.
        """
        similarities = self._vectors.wholes[Signal(role)] @ vector
        order = np.argsort(-similarities, kind="stable")[:limit]
        return tuple((self.works[row], float(similarities[row])) for row in order)

    def _neighbour(self, near: Near) -> Neighbour:
        return Neighbour(work=self.works[near.row], **near._asdict())

    def _same(self, signal: Signal, digest: str | None) -> list[Neighbour]:
        """Every work with these very bytes or pixels: none may be crowded out by others."""
        rows = self._exact[signal].get(digest, []) if digest else []
        return [Neighbour(work=self.works[row], row=row, signal=signal, distance_bits=0) for row in rows]

    def _shelves_at(self, at: datetime) -> tuple[Shelf, ...]:
        """The works that are protected at a moment, and the others that count then; kept until a date passes."""
        if self._shelved_until is None or at >= self._shelved_until:
            standing = [work.standing(at) for work in self.works]
            protected = [row for row, what in enumerate(standing) if what is Disposition.PROTECT]
            others = [row for row, what in enumerate(standing) if what not in (None, Disposition.PROTECT)]
            self._shelves = tuple(Shelf.of(rows, self._codes, self._vectors) for rows in (protected, others) if rows)
            dates = (date for work in self.works for date in (work.opted_out_at, work.expires_at))
            self._shelved_until = min(
                (date for date in dates if date and date > at), default=datetime.max.replace(tzinfo=UTC)
            )
        return self._shelves

    def proof_pixels(self, row: int) -> NDArray[np.uint8]:
        """See `IndexBackend.proof_pixels`."""
        return np.array(self._pixels[row])

    def preview(self, row: int) -> bytes:
        """See `IndexBackend.preview`."""
        with (self.folder / "previews.bin").open("rb") as file:
            file.seek(int(self._starts[row]))
            return file.read(int(self._starts[row + 1] - self._starts[row]))
