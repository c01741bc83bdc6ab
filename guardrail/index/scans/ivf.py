"""Approximate search of many vectors on a CPU: faiss inverted lists of one-bit codes (IVF with RaBitQ)."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from guardrail.index.scans.base import Allowed, VectorBlocks
from guardrail.index.scans.reference import widened

__all__ = ["IvfScan", "ScanUnusable", "lists_for", "turned"]

_faiss: Any = faiss  # its type stubs know less than it takes
_FORMAT = 1  # of the description beside a written scan
_PROBED = 64  # lists looked at for a query: every replica at cosine .7 is in them at 1,000,000 (docs/search.md)
_QUERY_BITS = 8  # of each number of a query: with 4 estimates err by .036 on `mini` before turning, with 8 by .028
_LISTS_PER_ROOT = 4  # lists for each unit of the square root of the vectors: 4096 at 1,000,000
_MOST_LISTS = 65_536
_TRAINING_PER_LIST = 40  # vectors for each list; below 39 faiss warns
_TRAINING_BYTES = 512 * 2**20  # of float32 that training holds at most
_TRAINING_ROUNDS = 10  # of k-means
_BLOCK_BYTES = 64 * 2**20  # of float32 that is added at a time
_CENTRE_LENGTH = 0.99  # a vector at its list's centre has no direction from there: faiss takes rounding for one


class ScanUnusable(ValueError):
    """A written scan that is missing, damaged, or of other vectors: it is to be made again. Text: what was found."""


def lists_for(count: int) -> int:
    """How many lists to part `count` vectors into: the power of two at or above 4 times the square root."""
    wanted = max(1, int(_LISTS_PER_ROOT * count**0.5))
    return min(1 << (wanted - 1).bit_length() if wanted & (wanted - 1) else wanted, _MOST_LISTS)


class IvfScan:
    """Vectors as one bit a dimension in lists around centres, of which the nearest are looked at. Approximate.

    Takes dimensions / 8 + 16 bytes a vector. Its similarities are estimates: candidates are to be compared again with
    what is stored (`nearest_vectors`).

    Source: Gao and Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound for approximate
    nearest neighbor search", 2024, as implemented in faiss (IndexIVFRaBitQ). We turn the vectors by random signs and a
    cosine transform in place of a random matrix, which costs a query of 1280 dimensions 0.02 ms and not 0.3.
    """

    exact = False

    def __init__(self, index: Any) -> None:
        """A structure over a trained faiss index, `faiss_index`, which is not changed from here on."""
        self.faiss_index = index

    @classmethod
    def trained(
        cls,
        vectors: VectorBlocks,
        lists: int | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> IvfScan:
        """The structure over some vectors: centres by k-means of a sample, then every vector added.

        Args:
            vectors: at least one.
            lists: how many, in place of `lists_for` their count.
            seed: of the sample; the same vectors, seed and number of threads give the same structure.
            progress: called with (vectors added, vectors in all).

        Cost: at 1,000,000 x 512 about two minutes of CPU, and 512 MB of memory while it lasts.
        """
        dimensions = vectors.dimensions
        held = max(1, _TRAINING_BYTES // (4 * dimensions))
        lists = min(lists or lists_for(len(vectors)), len(vectors), held)
        index = _faiss.index_factory(dimensions, f"IVF{lists},RaBitQ", _faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.cp.seed = _TRAINING_ROUNDS, seed + 1
        index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, max(_TRAINING_PER_LIST, 1)
        sample = vectors.sample(min(_TRAINING_PER_LIST * lists, held), seed)
        index.train(turned(sample))
        del sample
        _shorten_centres(index)
        done = 0
        for ids, some in vectors.blocks(max(1, _BLOCK_BYTES // (4 * dimensions))):
            index.add_with_ids(turned(some), np.ascontiguousarray(ids, np.int64))
            progress(done := done + len(ids), len(vectors))
        return cls(index)

    def __len__(self) -> int:
        return int(self.faiss_index.ntotal)

    @property
    def lists(self) -> int:
        """Into how many lists the vectors are parted."""
        return int(self.faiss_index.nlist)

    @property
    def resident_bytes(self) -> int:
        """See `VectorScan.resident_bytes`."""
        each = int(self.faiss_index.code_size) + 8
        return len(self) * each + self.lists * int(self.faiss_index.d) * 4 + self._members.nbytes

    def holds(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See `VectorScan.holds`."""
        return Allowed(self._members).has(ids)

    @cached_property
    def _members(self) -> NDArray[np.bool_]:
        """By id, whether it is there: bool, up to the largest."""
        lists = self.faiss_index.invlists
        sizes = [lists.list_size(at) for at in range(self.lists)]
        parts = [_faiss.rev_swig_ptr(lists.get_ids(at), size) for at, size in enumerate(sizes) if size]
        ids = np.concatenate(parts) if parts else np.empty(0, np.int64)
        flags = np.zeros(int(ids.max()) + 1 if len(ids) else 0, np.bool_)
        flags[ids] = True
        return flags

    def extended(self, ids: NDArray[np.int64], vectors: NDArray[np.float16]) -> IvfScan:
        """With some more vectors, by ids that it does not hold; this one stays as it is. Costs a copy of the codes.

        Raises:
            ValueError: it holds one of the ids.
        """
        if self.holds(ids).any():
            raise ValueError("an id that is held already, expected new ones; a changed row gets a new id")
        index = _faiss.clone_index(self.faiss_index)
        index.add_with_ids(turned(vectors), np.ascontiguousarray(ids, np.int64))
        return IvfScan(index)

    def without(self, ids: NDArray[np.int64]) -> IvfScan:
        """Without the vectors of some ids; this one stays as it is. Ids it does not hold change nothing."""
        index = _faiss.clone_index(self.faiss_index)
        index.remove_ids(_faiss.IDSelectorBatch(np.ascontiguousarray(ids, np.int64)))
        return IvfScan(index)

    def search(
        self, queries: NDArray[np.float32], limit: int, allowed: Allowed
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `VectorScan.search`."""
        everything = allowed.count == len(allowed.flags) >= len(self._members)
        parameters = self.parameters(None if everything else allowed)
        near, ids = self.faiss_index.search(turned(queries), limit, params=parameters)
        near[ids < 0] = -1.0
        return near, ids

    def parameters(self, allowed: Allowed | None = None) -> Any:
        """How faiss is asked; it points to the bits of `allowed`, which must outlive the search. None: all count."""
        how: dict[str, Any] = {"nprobe": min(_PROBED, self.lists), "qb": _QUERY_BITS}
        if allowed is not None:
            how["sel"] = _faiss.IDSelectorBitmap(allowed.packed)
        return _faiss.IVFRaBitQSearchParameters(**how)

    # --- on disk: a derived cache ---------------------------------------------------------------------------------

    def write(self, path: Path, specification: str) -> None:
        """Write it to a file, and beside it, in `path` + `.json`, what it is of. Not synced: what is cut is unusable.

        Args:
            path: the file; it is replaced whole.
            specification: what the vectors are, in the caller's words: `read` must be given the same.

        Raises:
            OSError: it cannot be written.
        """
        making = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            _faiss.write_index(self.faiss_index, str(making))
        except RuntimeError as error:  # what faiss raises where a disk is full
            making.unlink(missing_ok=True)
            raise OSError(f"faiss could not write {making}: {error}") from error
        about = self._about(specification) | {"bytes": making.stat().st_size, "sha256": _digest_of(making)}
        description = _description_of(path)
        description.unlink(missing_ok=True)  # while both are replaced there is none, so that none is wrong
        making.replace(path)
        part = description.with_name(making.name + ".json")
        part.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        part.replace(description)

    @classmethod
    def read(cls, path: Path, specification: str) -> IvfScan:
        """Read what was written.

        Raises:
            ScanUnusable: it is missing, cut, edited, of other vectors or by another faiss: make it again.
        """
        try:
            about = json.loads(_description_of(path).read_text(encoding="utf-8"))
            found = {"bytes": path.stat().st_size, "sha256": _digest_of(path)}
        except (OSError, ValueError) as error:
            raise ScanUnusable(f"{path}: {error}") from error
        if not isinstance(about, dict) or {name: about.get(name) for name in found} != found:
            raise ScanUnusable(f"{path}: found other content than was written")
        try:
            scan = cls(_faiss.read_index(str(path)))
            expected = scan._about(specification)
        except (RuntimeError, AttributeError) as error:
            raise ScanUnusable(f"{path}: {error}") from error
        wrong = [name for name, value in expected.items() if about.get(name) != value]
        if wrong:
            raise ScanUnusable(f"{path}: found {wrong[0]} {about.get(wrong[0])!r}, expected {expected[wrong[0]]!r}")
        return scan

    def _about(self, specification: str) -> dict[str, Any]:
        """What a written scan is of; its content's digest apart."""
        return {
            "format": _FORMAT,
            "faiss": _faiss.__version__,
            "structure": f"signs, DCT, IVF{self.lists}, RaBitQ",
            "specification": specification,
            "dimensions": int(self.faiss_index.d),
            "vectors": len(self),
            "ids_sha256": hashlib.sha256(np.packbits(self._members).tobytes()).hexdigest(),
        }


def turned(vectors: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (n, D) turned so that none of their numbers stands out, which a bit could not say: float32 (n, D).

    Inner products stay. On 15,805 vectors of `mini` estimates err by .009 then, and by .028 as they are.
    """
    from scipy.fft import dct  # scipy is loaded where an index has clusters alone

    dimensions = vectors.shape[1]
    drawn = np.frombuffer(hashlib.shake_256(b"guardrail: signs").digest(dimensions), np.uint8)
    signs = np.where(drawn & 1, np.float32(1), np.float32(-1))
    wide = np.empty(vectors.shape, np.float32)
    if vectors.dtype == np.float16:
        widened(vectors.view(np.float16), wide)
    else:
        wide[...] = vectors
    mixed: NDArray[np.float32] = dct(wide * signs, norm="ortho", axis=1, overwrite_x=True)
    return np.ascontiguousarray(mixed, np.float32)


def _shorten_centres(index: Any) -> None:
    """Take the centres of a trained index a little off the sphere on which the vectors lie.

    Which lists are nearest stays, and similarities add up as before. But a picture that stands in an index a thousand
    times makes a centre of its own, and within 3e-4 of a centre faiss 1.15 estimates similarities of 1.1 to everything.
    """
    centres = _faiss.downcast_index(index.quantizer)
    vectors = centres.reconstruct_n(0, index.nlist) * _CENTRE_LENGTH
    centres.reset()
    centres.add(vectors)


def _description_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
