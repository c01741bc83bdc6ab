"""`guardrail bench search`: what a search costs and finds, from thousands of works to millions, beside plain faiss."""

import math
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, aside, print_json, progress_of
from guardrail.errors import SettingsInvalid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guardrail.desk.search_bench_run import Asked

__all__ = ["bench_search"]

_PICTURE_SUFFIX = ".npy"
_KINDS = ("vectors", "hashes", "indexes")


def bench_search(
    sizes: Annotated[str, typer.Option("--sizes", help="Works to search among, with commas.")] = "10000,100000",
    dimensions: Annotated[int, typer.Option("--dimensions", min=8, max=8192, help="Of synthetic vectors.")] = 512,
    batches: Annotated[str, typer.Option("--batches", help="Images in one search, with commas.")] = "1,16,256",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Rounds to measure; medians are shown.")] = 5,
    real: Annotated[
        Path | None,
        typer.Option("--real", help="Vectors in place of synthetic ones: an index, or a .npy file float16 (N, D)."),
    ] = None,
    structure: Annotated[
        Literal["", "flat", "ivf_rabitq"],
        typer.Option(help="For vectors; default: as an index chooses by their count."),
    ] = "",
    kinds: Annotated[
        str, typer.Option("--kinds", help="What to measure, with commas: vectors, hashes, whole index folders.")
    ] = ",".join(_KINDS),
    plots: Annotated[Path | None, typer.Option("--plots", help="Draw cost by size to this .png or .svg.")] = None,
    as_json: AsJson = False,
) -> None:
    """CPU time a search takes, what it finds of planted copies, and what it needs, beside plain faiss in the same run.

    Vectors are synthetic unless --real says otherwise, and hashes always are; copies are planted at a cosine of a
    stored vector. What does not fit into this machine's memory is left out, and said. OMP_NUM_THREADS sets the threads.

    Example: guardrail bench search --sizes 10000,100000,1000000 --batches 1,16

    Exit codes: 0 measured, 1 not.
    """
    from guardrail.desk.search_bench_run import Asked
    from guardrail.study.plots import require_plots

    if plots is not None:
        require_plots(plots)
    wanted, asked = _numbers("--sizes", sizes, 10), Asked(_numbers("--batches", batches, 5), repeats, structure)
    wanted_kinds = _chosen(kinds)
    stored = None if real is None else _read(real)
    document: dict[str, Any] = {"machine": _machine(), "vectors_of": str(real or "synthetic")}
    document |= _measured(wanted, wanted_kinds, asked, stored, dimensions)
    document["growth"] = _growths(document)
    if plots is not None:
        _draw(plots, document)
    if as_json:
        print_json(document)
    else:
        _show(document)


def _measured(
    sizes: Sequence[int],
    kinds: Sequence[str],
    asked: "Asked",
    stored: "NDArray[np.float16] | None",
    dimensions: int,
) -> dict[str, Any]:
    """What is measured at those sizes that fit, and why others were left out."""
    with TemporaryDirectory(prefix="guardrail-bench-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        fits, left_out = _that_fit(sizes, _dimensions(kinds, dimensions, stored), stored, folder)
        document: dict[str, Any] = {"left_out": left_out, **{kind: [] for kind in _KINDS}}
        for size in fits:
            _measure(document, size, kinds, asked, lambda size: _vectors(stored, size, dimensions, folder))
    return document


def _measure(
    document: dict[str, Any],
    size: int,
    kinds: Sequence[str],
    asked: "Asked",
    make: "Callable[[int], NDArray[np.float16]]",
) -> None:
    """Put what is measured at one size into the document; `make` gives stored vectors, in a folder for more files."""
    from guardrail.desk.search_bench_run import hashes_at, vectors_at
    from guardrail.desk.search_probe import index_at

    vectors = make(size) if {"vectors", "indexes"} & set(kinds) else None
    if vectors is not None and "vectors" in kinds:
        with TemporaryDirectory() as scratch, progress_of(f"{size} vectors") as progress:
            document["vectors"].append(vectors_at(vectors, asked, Path(scratch), progress))
    if "hashes" in kinds:
        with progress_of(f"{size} hashes") as progress:
            document["hashes"].append(hashes_at(size, asked, progress))
    if vectors is not None and "indexes" in kinds:
        with TemporaryDirectory() as scratch, progress_of(f"an index of {size}") as progress:
            document["indexes"].append(index_at(vectors, Path(scratch) / "index", progress))


# --- what is searched --------------------------------------------------------------------------------------------


def _numbers(option: str, said: str, digits: int) -> tuple[int, ...]:
    """`10000,100000` as numbers, smallest first.

    Raises:
        SettingsInvalid: it is something else.
    """
    if not re.fullmatch(rf"[1-9]\d{{0,{digits - 1}}}(,[1-9]\d{{0,{digits - 1}}})*", said):
        raise SettingsInvalid(option, f"{said!r}, where numbers from 1 on are expected, like 1,16")
    return tuple(sorted({int(one) for one in said.split(",")}))


def _chosen(said: str) -> tuple[str, ...]:
    """`vectors,hashes` as words.

    Raises:
        SettingsInvalid: one of them is none of what can be measured.
    """
    words = tuple(said.split(","))
    if not set(words) <= set(_KINDS):
        raise SettingsInvalid("--kinds", f"{said!r}, where some of {', '.join(_KINDS)} are expected, with commas")
    return words


def _read(path: Path) -> "NDArray[np.float16]":
    """Vectors made elsewhere: the copy descriptors of an index, or of a file.

    Raises:
        SettingsInvalid: it is no file of unit vectors.
        IndexMissing, IndexDamaged: it is no index.
    """
    import numpy as np

    from guardrail.index import FolderIndex

    if path.suffix != _PICTURE_SUFFIX:
        pieces = [batch.arrays["copy"] for batch in FolderIndex(path).export_batches() if "copy" in batch.arrays]
        if not pieces:
            raise SettingsInvalid(f"--real {path}", "found no copy descriptors, expected an index that has some")
        return np.concatenate(pieces)
    try:
        vectors: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"--real {path}", f"not an array: {error}") from error
    if vectors.dtype != np.float16 or vectors.ndim != 2:
        raise SettingsInvalid(f"--real {path}", f"found {vectors.dtype} {vectors.shape}, expected float16 (N, D)")
    if not np.allclose(np.linalg.norm(vectors[:1000].astype(np.float32), axis=1), 1, atol=1e-2):
        raise SettingsInvalid(f"--real {path}", "found vectors of another length, expected unit vectors")
    return vectors


def _dimensions(kinds: Sequence[str], dimensions: int, stored: "NDArray[np.float16] | None") -> int:
    """Of the vectors that are held; 0 where hashes alone are measured."""
    if not {"vectors", "indexes"} & set(kinds):
        return 0
    return dimensions if stored is None else int(stored.shape[1])


def _that_fit(
    sizes: Sequence[int], dimensions: int, stored: "NDArray[np.float16] | None", folder: Path
) -> tuple[list[int], list[dict[str, Any]]]:
    """The sizes that can be measured here, and why others cannot; what they need is told before."""
    from guardrail.desk.search_bench_run import available_bytes, needed_bytes

    memory, room = available_bytes(folder)
    fits, left_out = [], []
    for size in sizes:
        needed, disk = needed_bytes(size, dimensions), size * (4 * dimensions + 700)
        reason = ""
        if stored is not None and size > len(stored):
            reason = f"only {len(stored)} vectors are there"
        elif needed > memory:
            reason = f"it takes {needed / 1e9:.1f} GB of memory, and {memory / 1e9:.1f} GB are free"
        elif disk > room:
            reason = f"it takes {disk / 1e9:.1f} GB of disk, and {room / 1e9:.1f} GB are free"
        aside().print(f"{size} of {dimensions}: " + (f"left out, {reason}" if reason else f"{needed / 1e9:.1f} GB"))
        if reason:
            left_out.append({"size": size, "reason": reason})
        else:
            fits.append(size)
    return fits, left_out


def _vectors(stored: "NDArray[np.float16] | None", size: int, dimensions: int, folder: Path) -> "NDArray[np.float16]":
    """The first so many stored vectors, or synthetic ones; in a file that is memory-mapped, as an index has it."""
    from guardrail.desk.search_bench_run import written_vectors
    from guardrail.study.search_speed import drawn_vectors

    def pieces() -> "Iterator[NDArray[np.float16]]":
        if stored is None:
            yield from drawn_vectors(size, dimensions, seed=0)
        else:
            yield stored

    with progress_of(f"writing {size} vectors") as progress:
        return written_vectors(pieces(), size, folder / f"vectors-{size}.npy", progress)


# --- what is said of it ------------------------------------------------------------------------------------------


def _machine() -> dict[str, Any]:
    import os
    from importlib.metadata import version

    faiss = next((name for name in ("faiss-gpu", "faiss-cpu", "faiss-gpu-cuvs") if _has(name)), "")
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "faiss": f"{faiss} {version(faiss)}" if faiss else "",
    }


def _has(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _growths(document: dict[str, Any]) -> dict[str, float | None]:
    """By kind and name, how the cost of a search of one batch size grows with the number of works."""
    from guardrail.study.search_speed import growth_of

    spent: dict[str, dict[int, float]] = {}
    for kind in ("vectors", "hashes"):
        for at in document[kind]:
            for pace in at["paces"]:
                name = f"{kind}, {pace['name']}, batch {pace['batch']}"
                spent.setdefault(name, {})[at["size"]] = pace["query_cpu_ms"]
    for at in document["indexes"]:
        spent.setdefault("index, batch 1", {})[at["size"]] = at["query_cpu_ms"]
    return {name: growth_of(values) for name, values in spent.items()}


def _show(document: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in document["machine"].items()))
    for kind in [kind for kind in ("vectors", "hashes") if document[kind]]:
        table = Table(
            "works", "structure", "batch", "what", "CPU ms an image", "quartiles", "ours is times as fast", title=kind
        )
        for at in document[kind]:
            for pace in at["paces"]:
                ratio = pace["times_as_fast"]
                table.add_row(
                    f"{at['size']:,}",
                    at["structure"],
                    str(pace["batch"]),
                    pace["name"],
                    f"{pace['query_cpu_ms']:.3f}",
                    f"{pace['low']:.3f} to {pace['high']:.3f}",
                    f"{ratio['median']:.2f}" if ratio else "",
                )
        console.print(table)
        _show_sizes(console, kind, document[kind])
    _show_indexes(console, document["indexes"])
    for name, slope in document["growth"].items():
        if slope is not None:
            console.print(f"{name}: grows with the size to the power of {slope:.2f}")


def _show_sizes(console: Console, kind: str, sizes: Sequence[dict[str, Any]]) -> None:
    table = Table(
        "works",
        "structure",
        "bytes each",
        "build s",
        "changes, ms",
        f"found, by {'cosine' if kind == 'vectors' else 'bits'}",
    )
    for at in sizes:
        changes = ", ".join(f"{name.removesuffix('_cpu_ms')} {at[name]:.1f}" for name in at if name.endswith("_cpu_ms"))
        recall = ", ".join(f"{name}: {share:.3f}" for name, share in at["recall"].items())
        table.add_row(
            f"{at['size']:,}", at["structure"], f"{at['bytes_each']:.0f}", f"{at['build_cpu_s']:.1f}", changes, recall
        )
    console.print(table)


def _show_indexes(console: Console, indexes: Sequence[dict[str, Any]]) -> None:
    if not indexes:
        return
    table = Table(
        "works", "open s", "resident MB", "before opening", "CPU ms a query", "disk MB", title="index folders"
    )
    for at in indexes:
        megabytes = (at["resident_bytes"], at["resident_bytes_before_opening"], at["disk_bytes"])
        resident, before, disk = (f"{value / 1e6:.0f}" for value in megabytes)
        table.add_row(f"{at['size']:,}", f"{at['open_s']:.2f}", resident, before, f"{at['query_cpu_ms']:.2f}", disk)
    console.print(table)


def _draw(path: Path, document: dict[str, Any]) -> None:
    """Cost by size, a panel for each kind and batch size."""
    from guardrail.study.plots import Lines, draw_lines

    panels = []
    for kind in ("vectors", "hashes"):
        sizes = [at["size"] for at in document[kind]]
        for batch in sorted({pace["batch"] for at in document[kind] for pace in at["paces"]}):
            lines: dict[str, list[float]] = {}
            for place, at in enumerate(document[kind]):
                for pace in at["paces"]:
                    if pace["batch"] == batch:
                        lines.setdefault(pace["name"], [math.nan] * len(sizes))[place] = pace["query_cpu_ms"]
            title = f"{kind}, batches of {batch}"
            panels.append(Lines(title, "works", "CPU ms an image", sizes, lines, logarithmic=True))
    if panels:
        draw_lines(path, panels)
