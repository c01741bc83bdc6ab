"""The whole way of a search: an index folder of made-up works, opened in a fresh process and asked for near ones."""

import hashlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from guardrail.carriers import Fingerprints, IndexRows

__all__ = ["index_at", "written_index"]

_BATCH = 20_000  # works
_ASKED = 64  # images, one after the other
_LIMIT = 10


def index_at(vectors: NDArray[np.float16], folder: Path, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """An index of works with these copy descriptors and random hashes, as a guard has it: opened, and asked.

    Args:
        vectors: float16 (n, D), stored.
        folder: where the index is made.
        progress: called with (works written, works in all).

    Returns:
        What the JSON has of it: seconds, milliseconds, bytes.
    """
    from guardrail.index import FolderIndex

    started = time.process_time()
    written_index(vectors, folder, progress)
    written = time.process_time()
    structures = FolderIndex(folder).prepare()
    prepared = time.process_time()
    probe = multiprocessing.get_context("spawn").Pool(1)
    with probe:
        found: dict[str, Any] = probe.apply(_probe, (str(folder), np.array(vectors[:_ASKED])))
    return {
        "size": len(vectors),
        "dimensions": vectors.shape[1],
        "approximate": list(structures),
        "write_cpu_s": written - started,
        "prepare_cpu_s": prepared - written,
        "disk_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        **found,
    }


def written_index(vectors: NDArray[np.float16], folder: Path, progress: Callable[[int, int], None]) -> None:
    """Write an index of made-up works: PDQ and pHash are random, pictures are not kept."""
    from guardrail.index.store.create import create_store
    from guardrail.records import EmbedderSpec, IndexHeader, Limits

    spec = EmbedderSpec(
        name="benchmark", weights_sha256="0" * 64, preprocessing="none", dimensions=int(vectors.shape[1])
    )
    header = IndexHeader(
        snapshot="0" * 64,
        works=0,
        banks={},
        embedders={"copy": spec},
        hashes={"pdq": "1", "phash": "1"},
        limits=Limits(),
        built_at=datetime.now(UTC),
        unreadable=0,
    )
    create_store(folder, header, _batches(vectors, progress))


def _batches(vectors: NDArray[np.float16], progress: Callable[[int, int], None]) -> "Iterator[IndexRows]":
    from guardrail.carriers import IndexRows
    from guardrail.records import Work

    rng = np.random.default_rng(0)
    for start in range(0, len(vectors), _BATCH):
        some = np.array(vectors[start : start + _BATCH])
        count = len(some)
        digests = tuple(hashlib.sha256(b"%d" % number).hexdigest() for number in range(start, start + count))
        yield IndexRows(
            works=tuple(Work(work_id=str(number), bank="benchmark") for number in range(start, start + count)),
            files=("",) * count,
            file_sha256=digests,
            pixels_sha256=digests,
            arrays={
                "pdq": rng.integers(0, 256, (count, 32), dtype=np.uint8),
                "phash": rng.integers(0, 256, (count, 8), dtype=np.uint8),
                "copy": some,
            },
            previews=(b"",) * count,
        )
        progress(start + count, len(vectors))


def _probe(folder: str, vectors: NDArray[np.float16]) -> dict[str, Any]:
    """In a process of its own: what opening and searching take, beyond what the imports have taken."""
    from guardrail.index import FolderIndex
    from guardrail.index.pinned import PinnedIndex

    assert PinnedIndex is not None, "imported, so that its memory is not counted as the index's"
    before = _resident_bytes()
    started, started_cpu = time.perf_counter(), time.process_time()
    index = FolderIndex(folder)
    opened, opened_cpu = time.perf_counter(), time.process_time()
    near = [index.search(_prints(vectors[at : at + 1], at), _LIMIT) for at in range(min(4, len(vectors)))]
    warm = _resident_bytes()
    spent = []
    for at in range(len(vectors)):
        prints = _prints(vectors[at : at + 1], at)
        moment = time.process_time()
        near.append(index.search(prints, _LIMIT))
        spent.append((time.process_time() - moment) * 1000)
    found = sum(any(one.work.work_id == str(at) for one in some[0]) for at, some in enumerate(near[-len(vectors) :]))
    return {
        "open_s": opened - started,
        "open_cpu_s": opened_cpu - started_cpu,
        "resident_bytes": warm,
        "resident_bytes_before_opening": before,
        "query_cpu_ms": float(np.median(spent)),
        "found": found / len(vectors),
    }


def _prints(vectors: NDArray[np.float16], seed: int) -> "Fingerprints":
    """An image with one of the stored descriptors, and hashes that are near none."""
    from guardrail.carriers import Fingerprints

    rng = np.random.default_rng(10**6 + seed)
    return Fingerprints(
        failures=(None,),
        file_sha256=(None,),
        pixels_sha256=("f" * 64,),
        pdq=rng.integers(0, 256, (1, 8, 32), dtype=np.uint8),
        pdq_quality=np.array([100]),
        phash=rng.integers(0, 256, (1, 8, 8), dtype=np.uint8),
        copy=vectors.astype(np.float32),
    )


def _resident_bytes() -> int:
    """Memory of this process that is in use, files' pages included; 0 where that is not known."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0
