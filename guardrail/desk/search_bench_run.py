"""What `guardrail bench search` measures: search structures beside plain faiss, at one size after another."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from guardrail.index.scans.base import Allowed
    from guardrail.index.scans.blocks import ArrayBlocks

__all__ = ["Asked", "available_bytes", "hashes_at", "needed_bytes", "vectors_at", "written_vectors"]

_COSINES = (0.6, 0.7, 0.8, 0.9)  # of planted copies
_BITS = (0, 16, 31)  # of near hashes: the last is PDQ's limit
_PLANTED = 256  # copies at each
_LOOPED = 64  # queries that one measurement holds at least, so that it is long enough for the clock
_COMPARED = 20_000_000  # vectors x images that one measurement compares at most: more of faiss's flat are left out
_FLAT = "faiss, flat float32"
_ADDED, _REMOVED = 100, 1000  # rows
_HASH_BYTES, _VIEWS = 32, 8
_TRAINING_BYTES = 2**30  # what making inverted lists takes beside them, at most


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of every size.

    Attributes:
        batches: images in one search.
        repeats: rounds; medians are reported.
        structure: for vectors; empty: as is chosen for their count.
        limit: rows sought.
        seed: of what is drawn.
    """

    batches: tuple[int, ...]
    repeats: int
    structure: Literal["", "flat", "ivf_rabitq"] = ""
    limit: int = 10
    seed: int = 0


def needed_bytes(size: int, dimensions: int) -> int:
    """Memory that measuring a size takes at most: ours, what is stored (in the file cache) and faiss's flat index."""
    return size * (8 * dimensions + 3 * _HASH_BYTES) + (_TRAINING_BYTES if dimensions else 0)


def available_bytes(folder: Path) -> tuple[int, int]:
    """Memory that is free to be used, and room where `folder` lies."""
    room = shutil.disk_usage(folder).free
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), room
    except (OSError, StopIteration):  # not Linux: nothing is known, so nothing is left out for it
        return 2**62, room


def written_vectors(
    pieces: Iterator[NDArray[np.float16]], size: int, path: Path, progress: Callable[[int, int], None]
) -> NDArray[np.float16]:
    """The first `size` vectors of some pieces, in a file, memory-mapped: float16 (size, D)."""
    done, stored = 0, None
    for piece in pieces:
        if stored is None:
            stored = np.lib.format.open_memmap(path, "w+", np.float16, (size, piece.shape[1]))
        taken = piece[: size - done]
        stored[done : done + len(taken)] = taken
        progress(done := done + len(taken), size)
        if done == size:
            break
    assert stored is not None, "at least one vector"
    stored.flush()
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def vectors_at(
    vectors: NDArray[np.float16], asked: Asked, folder: Path, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """The structure that is chosen for so many vectors, and plain faiss beside it.

    Args:
        vectors: float16 (n, D), stored.
        asked: how to measure.
        folder: for what is written.
        progress: called with (rounds done, rounds in all) of each batch size.

    Returns:
        What the JSON has of this size: CPU milliseconds and seconds, bytes, shares.
    """
    from guardrail.index.scans.base import Allowed
    from guardrail.index.scans.blocks import ArrayBlocks
    from guardrail.index.scans.choose import choose, make_vector_scan
    from guardrail.index.scans.nearest import nearest_vectors
    from guardrail.index.scans.plain import plain_flat, plain_structure
    from guardrail.study.search_speed import planted_copies

    size, dimensions = vectors.shape
    blocks, allowed = ArrayBlocks(np.arange(size), vectors), Allowed(np.ones(size, bool))
    name = asked.structure or choose(size, dimensions)
    scan, build_s = _timed(lambda: make_vector_scan(name, blocks))
    chosen = np.sort(np.random.default_rng(asked.seed).choice(size, min(size, _PLANTED), replace=False))
    queries = planted_copies(vectors[chosen], chosen, 0.8, asked.seed).queries
    plain, flat = plain_structure(scan, vectors), plain_flat(blocks)

    def work(some: NDArray[np.float32]) -> Mapping[str, Callable[[], object]]:
        return {
            "guardrail": lambda: nearest_vectors([scan], blocks.take, some, asked.limit, allowed),
            "faiss, same structure": plain(some, asked.limit),
            _FLAT: flat(some, asked.limit),
        }

    return {
        "size": size,
        "dimensions": dimensions,
        "structure": name,
        "bytes_each": scan.resident_bytes / size,
        "build_cpu_s": build_s,
        **_changes(scan, blocks, folder),
        "recall": _recalls(lambda some: nearest_vectors([scan], blocks.take, some, 1, allowed)[0], blocks),
        "paces": _paces(work, queries, size, asked, progress),
    }


def _recalls(search: Callable[[NDArray[np.float32]], NDArray[np.float32]], blocks: "ArrayBlocks") -> dict[str, float]:
    """By cosine, the share of planted copies that are found."""
    from guardrail.index.scans.reference import similarities_of
    from guardrail.study.search_speed import planted_copies, recall_of

    found = {}
    for number, cosine in enumerate(_COSINES):
        rows = np.sort(np.random.default_rng(number).choice(len(blocks), min(len(blocks), _PLANTED), replace=False))
        stored = blocks.take(rows)
        queries = planted_copies(stored, rows, cosine, number).queries
        found[str(cosine)] = recall_of(search(queries)[:, 0], similarities_of(queries, stored[:, None])[:, 0])
    return found


def _changes(scan: Any, blocks: "ArrayBlocks", folder: Path) -> dict[str, float]:
    """CPU milliseconds of adding and removing rows, and of opening what is on disk.

    Rows that come are searched in an exact structure of their own at once, and those that go are left out by a bit, so
    neither changes the structure; `merge` and `purge` are what putting them into or out of it costs later.
    """
    from guardrail.index.scans.base import Allowed
    from guardrail.index.scans.flat import FlatScan
    from guardrail.index.scans.ivf import IvfScan

    size = len(blocks)
    ids = np.arange(size, size + _ADDED)
    added = np.resize(blocks.take(np.arange(min(size, _ADDED))), (_ADDED, blocks.dimensions))
    gone = np.arange(min(size, _REMOVED))

    def withdraw() -> "Allowed":
        flags = np.ones(size, bool)
        flags[gone] = False
        allowed = Allowed(flags)
        _ = allowed.packed, allowed.count  # what the next search would have to make
        return allowed

    spent = {"add_100_cpu_ms": _timed(lambda: FlatScan(ids, added)), "remove_1000_cpu_ms": _timed(withdraw)}
    if isinstance(scan, IvfScan):
        path = folder / "bench.ivf"
        scan.write(path, "benchmark")
        spent["merge_100_cpu_ms"] = _timed(lambda: scan.extended(ids, added))
        spent["purge_1000_cpu_ms"] = _timed(lambda: scan.without(gone))
        spent["open_cpu_ms"] = _timed(lambda: IvfScan.read(path, "benchmark"))
    else:
        spent["open_cpu_ms"] = _timed(lambda: FlatScan(blocks.ids, blocks.vectors))
    return {name: took * 1000 for name, (_, took) in spent.items()}


def hashes_at(size: int, asked: Asked, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """256-bit hashes in eight views, compared one and all, beside faiss's binary index; like `vectors_at`."""
    from guardrail.index.scans.base import Allowed
    from guardrail.index.scans.choose import make_hash_scan
    from guardrail.index.scans.nearest import nearest_codes
    from guardrail.index.scans.plain import plain_hashes
    from guardrail.study.search_speed import near_hashes

    rng = np.random.default_rng(asked.seed)
    codes = rng.integers(0, 256, (size, _HASH_BYTES), dtype=np.uint8)
    allowed = Allowed(np.ones(size, bool))
    scan, build_s = _timed(lambda: make_hash_scan(np.arange(size), codes))
    rows = np.sort(rng.choice(size, min(size, _PLANTED), replace=False))
    plain = plain_hashes(codes)
    near = {bits: near_hashes(codes[rows], bits, asked.seed) for bits in _BITS}
    views = np.concatenate([near[31], rng.integers(0, 256, (len(rows) * (_VIEWS - 1), _HASH_BYTES), dtype=np.uint8)])

    def work(some: NDArray[np.uint8]) -> Mapping[str, Callable[[], object]]:
        return {
            "guardrail": lambda: nearest_codes([scan], some, asked.limit, allowed),
            "faiss, same structure": plain(some, asked.limit),
        }

    return {
        "size": size,
        "bits": _HASH_BYTES * 8,
        "structure": "flat",
        "bytes_each": scan.resident_bytes / size,
        "build_cpu_s": build_s,
        "recall": {
            str(bits): float((nearest_codes([scan], some, 1, allowed)[0][:, 0] <= bits).mean())
            for bits, some in near.items()
        },
        "paces": _paces(work, views, size, asked, progress, _VIEWS),
    }


def _paces(
    work: Callable[[Any], Mapping[str, Callable[[], object]]],
    queries: NDArray[Any],
    size: int,
    asked: Asked,
    progress: Callable[[int, int], None],
    each: int = 1,
) -> list[dict[str, Any]]:
    """By batch size, CPU milliseconds an image, ours and theirs in turn; an image asks with `each` queries.

    faiss's flat index is left out of large batches of many vectors, which it takes minutes for.
    """
    from guardrail.study.speed import measured_ms, pace_of, times_as_fast

    paces = []
    for batch in asked.batches:
        pieces = _pieces(queries, batch * each, max(1, min(_LOOPED, _COMPARED // size)))
        bound = [work(piece) for piece in pieces]
        if batch * size > _COMPARED:
            bound = [{name: one[name] for name in one if name != _FLAT} for one in bound]
        calls = {name: _all([one[name] for one in bound]) for name in bound[0]}
        spent = measured_ms(calls, asked.repeats, progress=progress, clock=time.process_time)
        for name, values in spent.items():
            pace = pace_of(name, batch * len(pieces), values)
            ratio = times_as_fast(spent["guardrail"], values)._asdict() if name != "guardrail" else None
            said = {"batch": batch, "query_cpu_ms": pace.image_ms, "low": pace.image_ms_low, "high": pace.image_ms_high}
            paces.append({"name": name, **said, "times_as_fast": ratio})
    return paces


def _pieces(queries: NDArray[Any], count: int, most: int) -> list[NDArray[Any]]:
    """Batches of queries that make up a measurement; queries come round again where there are too few."""
    pieces = max(1, min(most, len(queries)) // count)
    rows = np.arange(pieces * count).reshape(pieces, count) % len(queries)
    return [np.ascontiguousarray(queries[some]) for some in rows]


def _all(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    return lambda: [call() for call in calls]


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and CPU seconds."""
    started = time.process_time()
    made = work()
    return made, time.process_time() - started
