"""`guardrail bench recognise`: how many copies without credentials are known again, and how many others are claimed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import NothingToIndex

if TYPE_CHECKING:
    from guardrail.desk.recognise_run import RecognitionFigures

__all__ = ["bench_recognise"]


def bench_recognise(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of images that stand for outputs; as many are drawn of each.")
    ],
    unrelated: Annotated[
        list[Path] | None, typer.Option(help="Folder of other images; again for more; default: the same folders.")
    ] = None,
    outputs: Annotated[int, typer.Option(min=1, help="Outputs, at most.")] = 500,
    others: Annotated[int, typer.Option(min=1, help="Unrelated images, at most.")] = 2000,
    embedder: Annotated[str, typer.Option(help="Embedder of the copy descriptor.")] = "mini",
    synthetic: Annotated[int, typer.Option(min=0, help="Made-up prints beside the outputs', for the time.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of images and of the crops.")] = 0,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Keep fingerprints of images, look for edited copies of them without credentials, and for unrelated images.

    Copies are saved as JPEG 50, halved, cropped by 10 % of either side, and all three.

    Example: guardrail bench recognise my-outputs --unrelated my-photos --others 3000

    Exit codes: 0 measured, 1 not (no image, or no such embedder).
    """
    from dataclasses import asdict

    from guardrail.desk.recognise_run import Trial, measure_recognition  # loads torch
    from guardrail.plugins import build_plugins, make_embedder

    settings = read_settings(settings_file)
    copy = make_embedder(build_plugins(), embedder, settings.device, settings.weights_dir)
    trial = Trial(outputs, others, seed=seed, synthetic=synthetic, largest_px=settings.largest_image_px)
    with progress_of("looking for copies") as progress:
        figures = measure_recognition(_files(folders), _files(unrelated or folders), copy, trial, progress)
    if as_json:
        print_json(asdict(figures))
    else:
        _show(figures)


def _files(folders: list[Path]) -> list[list[Path]]:
    """The images in some folders, folder by folder.

    Raises:
        NothingToIndex: there is none.
    """
    from guardrail.intake import find_images

    found = [[folder / name for name in find_images(folder)[0]] for folder in folders]
    if not any(found):
        raise NothingToIndex(", ".join(map(str, folders)), "no file of an image type")
    return found


def _show(figures: RecognitionFigures) -> None:
    console = Console(highlight=False)
    table = Table("edit", "copies", "found", "share", box=None)
    for one in figures.edits:
        table.add_row(one.edit, str(one.copies), str(one.found), f"{one.found / max(1, one.copies):.2%}")
    console.print(table)
    told = f"{len(figures.claims)} of {figures.unrelated} unrelated images claimed (under {figures.claims_bound:.3%}"
    console.print(f"{told} with 95 % confidence); {figures.variants} variants left out")
    console.print(f"templates claimed {figures.templates_claimed} of {figures.templates}")
    beside = f", beside {figures.synthetic} made-up prints" if figures.synthetic else ""
    cost = f"{figures.prints_ms:.0f} ms and {figures.prints_bytes / 1000:.1f} kB an output to keep"
    console.print(f"{cost}, {figures.find_ms:.0f} ms to look one image up{beside}")
    for one in figures.edits:
        for file, instead in one.missed:
            aside().print(plain(f"missed ({one.edit}): {file}{f', found {instead}' if instead else ''}"))
    for claim in figures.claims:
        aside().print(plain(f"claimed: {claim.file} as {claim.output}, tile {claim.tile_l2}, by {claim.laid_by}"))
