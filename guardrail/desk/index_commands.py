"""`guardrail index build|info|verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.records import IndexHeader

if TYPE_CHECKING:
    from guardrail.index import BuildReport

__all__ = ["index_app"]

_SHOWN_FAINT = 5
_SHOWN_UNREADABLE = 20

index_app = typer.Typer(name="index", help="Build an index of works, look at it, verify it.", no_args_is_help=True)


@index_app.command()
def build(
    source: Annotated[Path, typer.Argument(help="Folder of images, searched with its sub-folders.")],
    target: Annotated[Path, typer.Argument(help="Folder of the index; it appears whole or not at all.")],
    recipe: Annotated[Path | None, typer.Option(help="TOML recipe: embedder, works table, bank, disposition.")] = None,
    works: Annotated[Path | None, typer.Option(help="Works table, CSV or parquet: who made which file.")] = None,
    embedder: Annotated[str, typer.Option(help="Embedder, in place of the recipe's: mini, clip:ARCH/TAG.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an index that is there.")] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Build an index from a folder of images. Interrupted, the same command goes on where it stopped.

    Example: guardrail index build my-works my-index --works my-works/works.csv

    Exit codes: 0 built (unreadable files are listed), 1 not built.
    """
    from guardrail.desk.making import build_folder_index  # when a command runs, not before: it loads torch
    from guardrail.index import FolderIndex, Recipe

    chosen = Recipe.from_file(recipe) if recipe else Recipe()
    if embedder:
        chosen = chosen.model_copy(update={"embedder": embedder})
    table = works or (recipe.parent / chosen.works if recipe and chosen.works else None)
    with progress_of("fingerprinting") as progress:
        report = build_folder_index(
            source, target, read_settings(settings_file), chosen, table, overwrite=overwrite, progress=progress
        )
    header = FolderIndex(target).header
    if as_json:
        print_json(_header_document(header) | _report_document(report))
    else:
        _show_report(target, report)


def _report_document(report: "BuildReport") -> dict[str, Any]:
    unreadable = [{"file": file, "error": error} for file, error in report.unreadable]
    return {"resumed": report.resumed, "left_out": report.left_out, "unreadable": unreadable, "faint": report.faint}


def _show_report(target: Path, report: "BuildReport") -> None:
    console = Console(highlight=False)
    resumed = f", {report.resumed} of them from an interrupted build" if report.resumed else ""
    console.print(
        plain(f"{target}: {report.works} works indexed{resumed}; snapshot {report.snapshot[:12]}"), soft_wrap=True
    )
    if report.left_out:
        console.print(f"{report.left_out} other files left out (not named like images, or not in the works table)")
    if report.faint:
        some = ", ".join(report.faint[:_SHOWN_FAINT]) + (" ..." if len(report.faint) > _SHOWN_FAINT else "")
        aside().print(
            plain(f"{len(report.faint)} works have so little in them that blank images look like them: {some}")
        )
    if report.unreadable:
        aside().print(f"{len(report.unreadable)} files could not be indexed:")
        for file, error in report.unreadable[:_SHOWN_UNREADABLE]:
            aside().print(plain(f"  {file}: {error}"), soft_wrap=True)
        if len(report.unreadable) > _SHOWN_UNREADABLE:
            aside().print(f"  ... all of them in {target / 'unreadable.jsonl'}")


@index_app.command("info")
def show(
    target: Annotated[Path, typer.Argument(help="Folder of the index.")],
    as_json: AsJson = False,
) -> None:
    """Say what an index holds and what it was built with.

    Example: guardrail index info my-index --json

    Exit codes: 0, or 1 where there is no index that can be trusted.
    """
    from guardrail.index import FolderIndex

    header = FolderIndex(target).header
    if as_json:
        print_json(_header_document(header))
        return
    table = Table("field", "value", box=None, show_header=False)
    for name, value in _header_document(header).items():
        table.add_row(
            name,
            "\n".join(f"{key}: {inner}" for key, inner in value.items()) if isinstance(value, dict) else str(value),
        )
    Console(highlight=False).print(table)


def _header_document(header: IndexHeader) -> dict[str, Any]:
    return header.model_dump(mode="json")


@index_app.command()
def verify(
    target: Annotated[Path, typer.Argument(help="Folder of the index.")],
    as_json: AsJson = False,
) -> None:
    """Check every file of an index against its manifest.

    Example: guardrail index verify my-index

    Exit codes: 0 all files as they were written, 1 some are missing, cut or edited (each is named).
    """
    from guardrail.index import verify_index

    header, damages = verify_index(target)
    if as_json:
        damaged = [{"file": damage.args[0], "found": damage.args[1], "expected": damage.args[2]} for damage in damages]
        print_json({"snapshot": header.snapshot, "works": header.works, "damaged": damaged})
    else:
        for damage in damages:
            aside().print(plain(f"damaged: {damage}"), soft_wrap=True)
        if not damages:
            Console(highlight=False).print(plain(f"{target}: {header.works} works, every file as it was written"))
    raise typer.Exit(1 if damages else 0)
