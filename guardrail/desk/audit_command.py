"""`guardrail audit`: what a model gives back of the pictures it was trained on, before it is published."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Column, Table

from guardrail.desk.audit_named import require_model
from guardrail.desk.calling import read_call
from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import SettingsInvalid
from guardrail.records import AuditOutcome, AuditReport

if TYPE_CHECKING:
    from guardrail.desk.audit_run import Asked
    from guardrail.records import PrivacyClaim

__all__ = ["audit"]

_EXITS = {AuditOutcome.CLEAN: 0, AuditOutcome.MEMORISED: 12, AuditOutcome.COULD_NOT_TELL: 1}
_COLOURS = {AuditOutcome.CLEAN: "green", AuditOutcome.MEMORISED: "red", AuditOutcome.COULD_NOT_TELL: "yellow"}
_SHOWN = 12  # works; --json and the page have the others
_STOPPED = 130  # as shells say it of Ctrl-C


class _Words(BaseModel, frozen=True):
    """The words of the command line, as `audit` names them."""

    model: str
    training: Path
    captions: Path | None
    held_out: Path | None
    generations: int
    seeds_each: int
    minutes: float | None
    steps: int
    call: tuple[str, ...] | None
    batch: int
    side: int
    square: Literal["crop", "pad", "squeeze"]
    seed: int
    part: tuple[str, ...] | None
    shadow: tuple[Path, ...] | None
    claim: str
    trained_share: float | None
    fingerprints: bool
    work: Path
    html: Path | None
    device: str
    settings_file: Path | None
    as_json: bool


_Model = Annotated[str, typer.Argument(metavar="PIPELINE", help="Folder of a diffusers pipeline, or module:function.")]
_Training = Annotated[Path, typer.Option(help="Folder, .csv (file, caption, label), .txt list, or index: the works.")]
_HeldOut = Annotated[Path | None, typer.Option(help="Pictures it was not trained on, likewise; default: shapes.")]
_Minutes = Annotated[float | None, typer.Option(min=0, help="Start no further call after so long.")]
_Call = Annotated[list[str] | None, typer.Option(help="NAME=VALUE for every call of the pipeline; may be repeated.")]
_Part = Annotated[list[str] | None, typer.Option(help="A further part by name, or all; may be repeated.")]
_Shadow = Annotated[list[Path] | None, typer.Option(help="A shadow model's folder, with members.txt; repeat it.")]
_TrainedShare = Annotated[float | None, typer.Option(help="With --claim: the coin that chose the training pictures.")]
_Square = Annotated[str, typer.Option(help="How its trainer made pictures square: crop, pad (white) or squeeze.")]
_Html = Annotated[Path | None, typer.Option(metavar="FILE", help="The page; default: report.html in the work folder.")]


def audit(
    context: typer.Context,
    model: _Model,
    training: _Training,
    captions: Annotated[
        Path | None, typer.Option(help="Captions or labels of works: .csv with file, caption, label.")
    ] = None,
    held_out: _HeldOut = None,
    generations: Annotated[int, typer.Option(min=1, help="Pictures to generate.")] = 256,
    seeds_each: Annotated[int, typer.Option(min=1, help="In a row with one caption or class, then the next.")] = 1,
    minutes: _Minutes = None,
    steps: Annotated[int, typer.Option(min=0, help="Denoising steps; default: the pipeline's.")] = 0,
    call: _Call = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures a call of the pipeline.")] = 8,
    side: Annotated[int, typer.Option(min=0, help="Side in px of what it makes; default: as it says.")] = 0,
    square: _Square = "crop",
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture; each next one takes the next.")] = 0,
    part: _Part = None,
    shadow: _Shadow = None,
    claim: Annotated[str, typer.Option(help="Differential privacy claimed, EPSILON[,DELTA]: put to the test.")] = "",
    trained_share: _TrainedShare = None,
    fingerprints: Annotated[bool, typer.Option("--fingerprints/--pixels", help="Look as a guard does, too.")] = True,
    work: Annotated[Path, typer.Option(help="Folder for everything; a run goes on there.")] = Path("audit-out"),
    html: _Html = None,
    device: Annotated[str, typer.Option(help="Device, in place of the settings': cpu, cuda, cuda:1.")] = "",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Find out before publication which training pictures a model gives back.

    Generates from many seeds, holds every picture against the works, looks for pictures that come again and again, and
    counts how many held-out pictures would be taken for copies. A run that was stopped goes on where it was.

    Example: guardrail audit my-pipeline --training my-pictures --held-out others --generations 512

    Exit codes: 0 clean, 12 it gives works back, 1 could not tell (too few generations, works that were never asked for,
    or something failed), 130 stopped by Ctrl-C.
    """
    _require_square(square)
    require_model(model)
    _carry_out(_Words.model_validate(context.params))


def _carry_out(words: _Words) -> None:
    """Audit, write the page, say what was found, and end with the exit code."""
    from guardrail.desk.audit_page import write_page  # when a command runs, not before: they load torch
    from guardrail.desk.audit_run import audit_model

    page = _page(words)
    device = {"device": words.device} if words.device else {}
    settings = read_settings(words.settings_file).model_copy(update=device)
    try:
        audited = audit_model(_asked(words), settings, progress_of)
    except KeyboardInterrupt:
        aside().print(plain(f"stopped; what was done is in {words.work}, and the same command goes on there"))
        raise typer.Exit(_STOPPED) from None
    write_page(audited, page)
    if words.as_json:
        print_json({**audited.report.model_dump(mode="json"), "page": str(page)})
    else:
        _show(audited.report, page)
    raise typer.Exit(_EXITS[audited.report.outcome])


def _require_square(square: str) -> None:
    if square not in ("crop", "pad", "squeeze"):
        raise SettingsInvalid("--square", f"found {square!r}, expected crop, pad or squeeze")


def _page(words: _Words) -> Path:
    page = words.html or words.work / "report.html"
    if page.is_dir() or (words.html is not None and not page.absolute().parent.is_dir()):
        raise SettingsInvalid("--html", f"{str(page)!r}, expected a file in a folder that is there")
    return page


def _asked(words: _Words) -> "Asked":
    from guardrail.desk.audit_parts import Given, require_parts
    from guardrail.desk.audit_run import Asked

    further = Given(words.part or (), words.shadow or (), _claim(words))
    require_parts(further)
    call = read_call(words.call or ())
    if words.steps:
        call["num_inference_steps"] = words.steps
    return Asked(
        model=words.model,
        training=words.training,
        captions=words.captions,
        held_out=words.held_out,
        work=words.work,
        generations=words.generations,
        seeds_each=words.seeds_each,
        minutes=words.minutes,
        seed=words.seed,
        call=call,
        batch=words.batch,
        side_px=words.side,
        square=words.square,
        fingerprints=words.fingerprints,
        further=further,
    )


def _claim(words: _Words) -> "PrivacyClaim | None":
    from guardrail.records import PrivacyClaim

    if not words.claim:
        return None
    epsilon, _, delta = words.claim.partition(",")
    try:
        said = PrivacyClaim(epsilon=float(epsilon), delta=float(delta or 0), trained_share=words.trained_share)
    except ValueError as error:
        raise SettingsInvalid(
            "--claim", f"found {words.claim!r} and a share of {words.trained_share}, expected numbers such as 3,1e-5"
        ) from error
    return said


# --- for people -----------------------------------------------------------------------------------------------------


def _show(report: AuditReport, page: Path) -> None:
    console = Console(highlight=False)
    for finding in report.findings:
        colour = _COLOURS[finding.outcome]
        console.print(f"[{colour}]{str(finding.outcome).replace('_', ' ')}[/]  ", plain(finding.part), end="  ")
        console.print(plain(finding.reason), soft_wrap=True)
    works = [work for finding in report.findings for work in finding.works]
    if works:
        right = {"justify": "right", "no_wrap": True}
        columns = [Column(name, **right) for name in ("came", "k", "correlation", "tile l2", "seed")]  # type: ignore[arg-type]
        table = Table(Column("work", overflow="fold"), *columns, box=None)
        for one in works[:_SHOWN]:
            figures = (f"{one.correlation:.3f}", f"{one.tile_l2:.3f}", str(one.seed))
            table.add_row(plain(one.work), str(one.generations), str(one.near_duplicates), *figures)
        console.print(table)
    if len(works) > _SHOWN:
        aside().print(f"... and {len(works) - _SHOWN} more works: --json names all, the page shows them")
    for part in report.parts_left_out:
        aside().print(plain(f"does not apply: {part}"), soft_wrap=True)
    for warning in report.warnings:
        aside().print(plain(f"warning: {warning}"), soft_wrap=True)
    colour, said = _COLOURS[report.outcome], str(report.outcome).replace("_", " ")
    console.print(f"[bold {colour}]{said}[/]: {report.generated} of {report.planned} generations looked at", end="; ")
    console.print(f"works asked for: {report.works_asked} of {report.training_pictures}", end="; ")
    console.print(plain(f"page: {page}"), soft_wrap=True)
