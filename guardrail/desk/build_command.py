"""`guardrail index build`: from a folder, files, tar shards, tables or fingerprints that other machines made."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import IndexUnwritable, SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardrail.index import BuildReport, Recipe, ShardList
    from guardrail.protocols import Source
    from guardrail.settings import Settings

__all__ = ["AUTOMATIC", "Columns", "PrivateAddresses", "Workers", "build", "workers_of"]

_SHOWN_FAINT = 5
_SHOWN_UNREADABLE = 20
AUTOMATIC = -1
"""Workers: none for a few pictures, otherwise one for each core but one."""

_FEW = 1000  # pictures; starting a worker takes some four seconds of CPU

Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="KIND=NAME",
        help="Column of a table, or field of a tar shard's .json: image=, url=, name=, title=, creator=, work_id=, ...",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        min=AUTOMATIC, help="Processes that read pictures; 0: none; -1: none for a few, else one a core but one."
    ),
]
_Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Folder of images, or image files, tar shards, parquet files (paths, URLs, {000..099}, *), a folder "
        "of a saved Hugging Face dataset, or a folder or URL of fingerprints that --ray made.",
    ),
]
_RayAddress = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Fingerprint on a Ray cluster: auto, local, ray://HOST:10001.")
]
_ShardsUrl = Annotated[
    str, typer.Option(metavar="URL", help="With --ray: where fingerprints go, a folder or fsspec URL.")
]
PrivateAddresses = Annotated[
    bool, typer.Option("--private-addresses", help="Fetch from private networks too, where a table holds addresses.")
]


def workers_of(asked: int, pictures: int) -> int:
    """How many processes a command starts for about so many pictures."""
    from guardrail.desk.bulk_pool import default_workers

    if asked != AUTOMATIC:
        return asked
    return default_workers() if pictures >= _FEW else 0


def build(
    sources: _Sources,
    target: Annotated[Path, typer.Argument(help="Folder of the index; it appears whole or not at all.")],
    recipe: Annotated[Path | None, typer.Option(help="TOML recipe: embedder, works table, bank, disposition.")] = None,
    works: Annotated[Path | None, typer.Option(help="Works table, CSV or parquet: who made which file.")] = None,
    embedder: Annotated[
        str, typer.Option(help="Embedder, in place of the recipe's: mini, clip:ARCH/TAG, sscd:FILE, onnx:FILE.")
    ] = "",
    column: Columns = None,
    private_addresses: PrivateAddresses = False,
    workers: Workers = AUTOMATIC,
    ray: _RayAddress = "",
    shards: _ShardsUrl = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an index that is there.")] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Build an index from images. Interrupted, the same command goes on where it stopped.

    Example: guardrail index build my-works my-index --works my-works/works.csv

    Example: guardrail index build 's3://bank/{0000..0999}.tar' my-index --ray auto --shards s3://bank/fingerprints

    Exit codes: 0 built (unreadable files are listed), 1 not built.
    """
    from guardrail.desk.making import build_source_index  # when a command runs, not before: it loads torch
    from guardrail.index import ShardList
    from guardrail.intake import SourceOptions

    chosen, table = _chosen(recipe, embedder, works)
    _require_apart(sources, target)
    settings = read_settings(settings_file)
    source = _open(sources, SourceOptions.of(column or (), private=private_addresses))
    with progress_of("fingerprinting") as progress:
        if ray or shards:
            source = _on_ray(source, ray, shards, settings, chosen, progress)
        processes = 0 if isinstance(source, ShardList) else workers_of(workers, source.estimate())
        how: dict[str, Any] = {"workers": processes, "overwrite": overwrite, "progress": progress}
        report = build_source_index(source, target, settings, chosen, table, **how)
    _tell(target, report, as_json=as_json)


def _chosen(recipe: Path | None, embedder: str, works: Path | None) -> "tuple[Recipe, Path | None]":
    """The recipe and the works table, with what the command line says in their place."""
    from guardrail.index import Recipe

    chosen = Recipe.from_file(recipe) if recipe else Recipe()
    if embedder:
        chosen = chosen.model_copy(update={"embedder": embedder})
    return chosen, works or (recipe.parent / chosen.works if recipe and chosen.works else None)


def _tell(target: Path, report: "BuildReport", *, as_json: bool) -> None:
    from guardrail.index import FolderIndex

    index = FolderIndex(target)
    if index.pinned().structures.needs_training():
        with progress_of("making the search structure") as progress:
            index.prepare(progress)
    if as_json:
        print_json(index.header.model_dump(mode="json") | _report_document(report))
    else:
        _show_report(target, report)


def _open(sources: list[str], options: Any) -> "Source | ShardList":
    """The source of some locations, or the fingerprints that lie there."""
    from guardrail.desk.bulk_shards import find_shard_list
    from guardrail.intake import open_source

    return find_shard_list(sources) or open_source(sources, options)


def _on_ray(
    source: "Source | ShardList",
    ray: str,
    shards: str,
    settings: "Settings",
    recipe: "Recipe",
    progress: "Callable[[int, int], None]",
) -> "ShardList":
    """Let a cluster fingerprint a source."""
    from guardrail.desk.bulk_ray import Cluster, fingerprint_on_ray
    from guardrail.index import ShardList

    if not ray or not shards or isinstance(source, ShardList):
        raise SettingsInvalid("--ray", "expected both --ray ADDRESS and --shards URL, and a source of pictures")
    return fingerprint_on_ray(source, shards, settings, recipe, Cluster(ray), progress=progress)


def _require_apart(sources: list[str], target: Path) -> None:
    """Refuse a target that holds what is to be read."""
    there = target.resolve()
    for source in sources:
        if "://" not in source and Path(source).resolve().is_relative_to(there):
            raise IndexUnwritable(str(target), f"{source!r} lies there")


def _report_document(report: "BuildReport") -> dict[str, Any]:
    unreadable = [{"file": file, "error": error} for file, error in report.unreadable]
    counts = {"resumed": report.resumed, "left_out": report.left_out, "background_left_out": report.hidden}
    return counts | {"unreadable": unreadable, "faint": report.faint}


def _show_report(target: Path, report: "BuildReport") -> None:
    console = Console(highlight=False)
    resumed = f", {report.resumed} of them from an interrupted build" if report.resumed else ""
    console.print(
        plain(f"{target}: {report.works} works indexed{resumed}; snapshot {report.snapshot[:12]}"), soft_wrap=True
    )
    if report.left_out:
        console.print(f"{report.left_out} other files left out (not named like images, or not in the works table)")
    if report.hidden:
        aside().print(
            f"{report.hidden} pictures left out of the background: they are works, or nearly, and would hide them"
        )
    if report.faint:
        some = ", ".join(report.faint[:_SHOWN_FAINT]) + (" ..." if len(report.faint) > _SHOWN_FAINT else "")
        aside().print(plain(f"blank images look like works that have little in them ({len(report.faint)}): {some}"))
    if report.unreadable:
        aside().print(f"{len(report.unreadable)} files could not be indexed:")
        for file, error in report.unreadable[:_SHOWN_UNREADABLE]:
            aside().print(plain(f"  {file}: {error}"), soft_wrap=True)
        if len(report.unreadable) > _SHOWN_UNREADABLE:
            aside().print(f"  ... all of them in {target / 'unreadable.jsonl'}")
