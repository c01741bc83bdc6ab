"""An index in a folder, searched exactly: faiss inner product for vectors, faiss binary for hashes."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints
from guardrail.errors import IndexDamaged
from guardrail.index.layout import file_entry, read_manifest
from guardrail.records import VIEWS, IndexHeader, Neighbour, Signal, Work

__all__ = ["FolderIndex", "verify_index"]

_CHECKED_AT_OPEN_BYTES = 256 * 2**20  # up to this size every checksum is verified on opening; sizes always are


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
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.header, files = read_manifest(self.folder)
        checksum = sum(entry["bytes"] for entry in files.values()) <= _CHECKED_AT_OPEN_BYTES
        for name, expected in files.items():
            for damage in _damage_of(self.folder / name, expected, checksum=checksum):
                raise damage
        self._read_rows()
        self._pixels = self._array("pixels", np.uint8, 32, 32, 3)
        self._starts = self._array("previews", np.int64, rows=self.header.works + 1)
        self._hashes = {
            Signal.PDQ: _binary_index(self._array("pdq", np.uint8, 32)),
            Signal.PHASH: _binary_index(self._array("phash", np.uint8, 8)),
        }
        self._vectors = {
            Signal(name): _vector_index(self._array(name, np.float32, spec.dimensions))
            for name, spec in self.header.embedders.items()
        }

    def _read_rows(self) -> None:
        path = self.folder / "rows.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if len(rows) != self.header.works:
            raise IndexDamaged(str(path), f"{len(rows)} rows", f"{self.header.works} rows")
        self.works = tuple(Work.model_validate(row["work"]) for row in rows)
        self.files = tuple(str(row["file"]) for row in rows)
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

    def search(self, prints: Fingerprints, limit: int) -> tuple[tuple[Neighbour, ...], ...]:
        """See `IndexBackend.search`. Exact: every work is compared; cost grows with works x images."""
        found: list[list[Neighbour]] = [[] for _ in range(len(prints))]
        sought = [row for row in range(len(prints)) if prints.failures[row] is None]
        for row in sought:
            found[row] += self._same(Signal.BYTES, prints.file_sha256[row], limit)
            found[row] += self._same(Signal.PIXELS, prints.pixels_sha256[row], limit)
        vectors = {Signal.COPY: prints.copy, Signal.CLIP: prints.clip}
        for signal, index in self._vectors.items():
            queries = vectors[signal]
            if queries is not None and sought:
                for row, near in zip(sought, self._by_vector(signal, index, queries[sought], limit), strict=True):
                    found[row] += near
        for signal, codes in ((Signal.PDQ, prints.pdq), (Signal.PHASH, prints.phash)):
            if sought:
                for row, near in zip(sought, self._by_hash(signal, codes[sought], limit), strict=True):
                    found[row] += near
        return tuple(tuple(near) for near in found)

    def _same(self, signal: Signal, digest: str | None, limit: int) -> list[Neighbour]:
        rows = self._exact[signal].get(digest, []) if digest else []
        return [Neighbour(work=self.works[row], row=row, signal=signal, distance_bits=0) for row in rows[:limit]]

    def _by_vector(
        self, signal: Signal, index: Any, queries: NDArray[np.float32], limit: int
    ) -> Iterator[list[Neighbour]]:
        similarities, rows = index.search(np.ascontiguousarray(queries), min(limit, len(self.works)))
        for values, numbers in zip(similarities.clip(-1.0, 1.0), rows, strict=True):
            yield [
                Neighbour(work=self.works[row], row=int(row), signal=signal, similarity=float(value))
                for value, row in zip(values, numbers, strict=True)
            ]

    def _by_hash(self, signal: Signal, codes: NDArray[np.uint8], limit: int) -> Iterator[list[Neighbour]]:
        """Each image is asked in eight views; a work counts once, in the view where it is nearest."""
        images, views, width = codes.shape
        depth = min(limit, len(self.works))
        distances, rows = self._hashes[signal].search(np.ascontiguousarray(codes.reshape(-1, width)), depth)
        for bits, numbers in zip(distances.reshape(images, -1), rows.reshape(images, -1), strict=True):
            nearest: dict[int, Neighbour] = {}
            for place in np.argsort(bits, kind="stable"):
                row = int(numbers[place])
                if row not in nearest and len(nearest) < limit:
                    nearest[row] = Neighbour(
                        work=self.works[row],
                        row=row,
                        signal=signal,
                        distance_bits=int(bits[place]),
                        view=VIEWS[int(place) // depth],
                    )
            yield list(nearest.values())
            assert views == len(VIEWS)

    def proof_pixels(self, row: int) -> NDArray[np.uint8]:
        """See `IndexBackend.proof_pixels`."""
        return np.array(self._pixels[row])

    def preview(self, row: int) -> bytes:
        """See `IndexBackend.preview`."""
        with (self.folder / "previews.bin").open("rb") as file:
            file.seek(int(self._starts[row]))
            return file.read(int(self._starts[row + 1] - self._starts[row]))


def _vector_index(vectors: NDArray[np.float32]) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index


def _binary_index(codes: NDArray[np.uint8]) -> Any:
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(np.ascontiguousarray(codes))
    return index
