"""`guardrail index build|calibrate|info|verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.calibrate_command import calibrate, calibration_document
from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.desk.find_command import find
from guardrail.errors import CalibrationUnfit, IndexDamaged
from guardrail.records import Calibration, IndexHeader

if TYPE_CHECKING:
    from guardrail.index import BuildReport

__all__ = ["index_app"]

_SHOWN_FAINT = 5
_SHOWN_UNREADABLE = 20

index_app = typer.Typer(name="index", help="Build an index of works, look at it, verify it.", no_args_is_help=True)
index_app.command()(calibrate)
index_app.command()(find)


@index_app.command()
def build(
    source: Annotated[Path, typer.Argument(help="Folder of images, searched with its sub-folders.")],
    target: Annotated[Path, typer.Argument(help="Folder of the index; it appears whole or not at all.")],
    recipe: Annotated[Path | None, typer.Option(help="TOML recipe: embedder, works table, bank, disposition.")] = None,
    works: Annotated[Path | None, typer.Option(help="Works table, CSV or parquet: who made which file.")] = None,
    embedder: Annotated[
        str, typer.Option(help="Embedder, in place of the recipe's: mini, clip:ARCH/TAG, sscd:FILE, onnx:FILE.")
    ] = "",
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
    from guardrail.index.calibrated import read_calibration

    header = FolderIndex(target).header
    calibration = read_calibration(target, header)
    if as_json:
        document = calibration_document(calibration, header.works) if calibration else None
        print_json(_header_document(header) | {"calibration": document})
        return
    table = Table("field", "value", box=None, show_header=False)
    for name, value in _header_document(header).items():
        table.add_row(
            name,
            "\n".join(f"{key}: {inner}" for key, inner in value.items()) if isinstance(value, dict) else str(value),
        )
    for name, value in _calibration_rows(calibration, header.works):
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _calibration_rows(calibration: Calibration | None, works: int) -> list[tuple[str, str]]:
    """What a person wants to know of a calibration: which, when, on what, how sure, and whether it still holds."""
    if calibration is None:
        return [("calibration", "none: these limits are the shipped ones; fit them with guardrail index calibrate")]
    rates = "\n".join(
        f"{alarms.decision}: {alarms.asked:g} of pictures asked, {alarms.held_out} of {alarms.pictures} measured "
        f"(95 %: {alarms.low:.2%} to {alarms.high:.2%})"
        for alarms in calibration.false_alarms
    )
    holds = f"fitted at {calibration.works} works, stale from {calibration.stale_at_works}"
    if calibration.is_stale(works):
        times = works / calibration.works
        holds = f"STALE: {holds}, and there are {works}: false alarms are about {times:.1f} times those asked"
    return [
        ("calibration", calibration.id),
        ("calibrated_at", calibration.at.isoformat()),
        ("calibrated_on", f"{calibration.background.pictures} pictures"),
        ("false_alarms", rates),
        ("calibration holds", holds),
    ]


def _header_document(header: IndexHeader) -> dict[str, Any]:
    return header.model_dump(mode="json")


@index_app.command()
def verify(
    target: Annotated[Path, typer.Argument(help="Folder of the index.")],
    as_json: AsJson = False,
) -> None:
    """Check every file of an index against its manifest, and its calibration against the index.

    Example: guardrail index verify my-index

    Exit codes: 0 all files as they were written, 1 some are missing, cut or edited (each is named).
    """
    from guardrail.index import verify_index
    from guardrail.index.calibrated import read_calibration

    header, found = verify_index(target)
    damages: list[IndexDamaged | CalibrationUnfit] = list(found)
    try:
        read_calibration(target, header)
    except CalibrationUnfit as error:
        damages.append(error)
    if as_json:
        damaged = [{"file": damage.args[0], "found": damage.args[1], "expected": damage.args[2]} for damage in damages]
        print_json({"snapshot": header.snapshot, "works": header.works, "damaged": damaged})
    else:
        for damage in damages:
            aside().print(plain(f"damaged: {damage}"), soft_wrap=True)
        if not damages:
            Console(highlight=False).print(plain(f"{target}: {header.works} works, every file as it was written"))
    raise typer.Exit(1 if damages else 0)
