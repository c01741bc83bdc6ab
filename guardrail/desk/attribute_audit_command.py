"""`guardrail attribute audit`: a disputed image, and what becomes of it without some of the training pictures."""

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
from guardrail.records import DisputeOutcome, DisputeReport

if TYPE_CHECKING:
    from guardrail.desk.attribute_audit_run import Asked

__all__ = ["attribute_audit"]

_EXITS = {DisputeOutcome.NOT_MOVED: 0, DisputeOutcome.MOVED: 12, DisputeOutcome.COULD_NOT_TELL: 1}
_COLOURS = {DisputeOutcome.NOT_MOVED: "green", DisputeOutcome.MOVED: "red", DisputeOutcome.COULD_NOT_TELL: "yellow"}
_SHOWN = 12  # training pictures; --json and the page have more
_STOPPED = 130  # as shells say it of Ctrl-C
_FEWEST = 9  # random groups: fewer cannot make one in ten rare


class _Words(BaseModel, frozen=True):
    """The words of the command line, as `attribute_audit` names them."""

    model: str
    training: Path
    seed: int
    image: Path | None
    prompt: str | None
    label: int | None
    call: tuple[str, ...] | None
    captions: Path | None
    square: Literal["crop", "pad", "squeeze"]
    group: tuple[str, ...] | None
    top: int
    random: int
    steps: int
    batch: int
    rate: float
    train: tuple[str, ...] | None
    lora: int
    fresh: bool
    training_seed: int
    unlearn: int
    embedder: str
    minutes: float | None
    work: Path
    html: Path | None
    device: str
    settings_file: Path | None
    as_json: bool


_Model = Annotated[str, typer.Argument(metavar="PIPELINE", help="Folder of a diffusers pipeline, or module:function.")]
_Training = Annotated[Path, typer.Argument(help="Folder, .csv (file, caption, label), .txt list, or index.")]
_Seed = Annotated[int, typer.Option(min=0, help="Seed of the generator (on the CPU) that made the image.")]
_Image = Annotated[Path | None, typer.Option(help="The disputed image; default: what the seed makes.")]
_Prompt = Annotated[str | None, typer.Option(help="Prompt that it was made with.")]
_Label = Annotated[int | None, typer.Option(help="Class label that it was made with.")]
_Call = Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the pipeline's call; may be repeated.")]
_Captions = Annotated[Path | None, typer.Option(help="Captions or labels: .csv with file, caption, label.")]
_Square = Annotated[str, typer.Option(help="How its trainer made pictures square: crop, pad (white) or squeeze.")]
_Group = Annotated[list[str] | None, typer.Option(help="Name or pattern of pictures to leave out; may be repeated.")]
_Top = Annotated[int, typer.Option(min=1, help="Without --group: leave out so many, the likeliest by retrieval.")]
_Random = Annotated[int, typer.Option(min=_FEWEST, help="Random groups of the same size to compare with.")]
_Steps = Annotated[int, typer.Option(min=1, help="Steps of each training.")]
_Rate = Annotated[float, typer.Option(min=0, help="Learning rate.")]
_Train = Annotated[list[str] | None, typer.Option(help="Pattern of weights that are trained; may be repeated.")]
_Lora = Annotated[int, typer.Option(min=0, help="Train a LoRA of this rank in place of the weights.")]
_Fresh = Annotated[bool, typer.Option("--fresh/--onwards", help="Train from new weights, or on from the model's.")]
_Unlearn = Annotated[int, typer.Option(min=0, help="Candidates asked when the image is unlearned; 0: leave it out.")]
_Minutes = Annotated[float | None, typer.Option(min=0, help="Start no further training after so long.")]
_Html = Annotated[Path | None, typer.Option(metavar="FILE", help="The page; default: report.html in the work folder.")]


def attribute_audit(
    context: typer.Context,
    model: _Model,
    training: _Training,
    seed: _Seed,
    image: _Image = None,
    prompt: _Prompt = None,
    label: _Label = None,
    call: _Call = None,
    captions: _Captions = None,
    square: _Square = "crop",
    group: _Group = None,
    top: _Top = 10,
    random: _Random = 19,
    steps: _Steps = 300,
    batch: Annotated[int, typer.Option(min=1, help="Training pictures a step.")] = 16,
    rate: _Rate = 1e-4,
    train: _Train = None,
    lora: _Lora = 0,
    fresh: _Fresh = False,
    training_seed: Annotated[int, typer.Option(min=0, help="Of batches, noise and random groups.")] = 0,
    unlearn: _Unlearn = 2000,
    embedder: Annotated[str, typer.Option(help="Copy descriptor.")] = "mini",
    minutes: _Minutes = None,
    work: Annotated[Path, typer.Option(help="Folder for everything; a run goes on there.")] = Path("attribute-audit"),
    html: _Html = None,
    device: Annotated[str, typer.Option(help="Device, in place of the settings': cpu, cuda, cuda:1.")] = "",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Find out how far a disputed image moves when a group of training pictures is left out.

    Trains the model on with and without the group, on the same batches and noise, makes the image again from its seed,
    and compares how far it moved with leaving out random groups of the same size. Then the image itself is unlearned,
    and training pictures are listed by how much is lost of them. A run that was stopped goes on where it was.

    Example: guardrail attribute audit my-pipeline my-pictures --seed 7 --group 'jane-doe/*' --image disputed.png

    Exit codes: 0 it does not move more than without random groups, 12 it does, 1 could not tell (time was up, or
    something failed), 130 stopped by Ctrl-C.
    """
    if square not in ("crop", "pad", "squeeze"):
        raise SettingsInvalid("--square", f"found {square!r}, expected crop, pad or squeeze")
    if not rate > 0:
        raise SettingsInvalid("--rate", f"found {rate}, expected a learning rate above 0")
    require_model(model)
    _carry_out(_Words.model_validate(context.params))


def _carry_out(words: _Words) -> None:
    """Audit, write the page, say what was found, and end with the exit code."""
    from guardrail.desk.attribute_audit_page import write_page  # when a command runs, not before: they load torch
    from guardrail.desk.attribute_audit_run import audit_image

    page = words.html or words.work / "report.html"
    if page.is_dir() or (words.html is not None and not page.absolute().parent.is_dir()):
        raise SettingsInvalid("--html", f"{str(page)!r}, expected a file in a folder that is there")
    device = {"device": words.device} if words.device else {}
    settings = read_settings(words.settings_file).model_copy(update=device)
    try:
        audited = audit_image(_asked(words), settings, progress_of)
    except KeyboardInterrupt:
        aside().print(plain(f"stopped; trainings that ended are in {words.work}, and the same command goes on there"))
        raise typer.Exit(_STOPPED) from None
    write_page(audited, page)
    if words.as_json:
        print_json({**audited.report.model_dump(mode="json"), "page": str(page)})
    else:
        _show(audited.report, page)
    raise typer.Exit(_EXITS[audited.report.outcome])


def _asked(words: _Words) -> "Asked":
    from guardrail.desk.attribute_audit_run import Asked
    from guardrail.study.attribution.retraining import Recipe

    return Asked(
        model=words.model,
        training=words.training,
        seed=words.seed,
        image=words.image,
        prompt=words.prompt,
        label=words.label,
        call=read_call(words.call or ()),
        captions=words.captions,
        square=words.square,
        group=words.group or (),
        top=words.top,
        random=words.random,
        recipe=Recipe(words.steps, words.batch, words.rate, words.training_seed, words.fresh),
        train=words.train or ("*",),
        lora=words.lora,
        unlearn=words.unlearn,
        embedder=words.embedder,
        work=words.work,
        minutes=words.minutes,
    )


# --- for people -----------------------------------------------------------------------------------------------------


def _show(report: DisputeReport, page: Path) -> None:
    from guardrail.desk.attribute_audit_words import MEASURES, SAID

    console = Console(highlight=False)
    right = {"justify": "right", "no_wrap": True}
    if report.moves:
        names = ("without the group", "without random groups", "p")
        table = Table(Column("how far it moved"), *(Column(name, **right) for name in names), box=None)  # type: ignore[arg-type]
        for one in report.moves:
            others = f"{min(one.others):.4f} to {max(one.others):.4f}"
            table.add_row(MEASURES[one.measure], f"{one.moved:.4f}", others, f"{one.p_value:.2g}")
        console.print(table)
    if report.images:
        names = ("loss rises by", "similarity", "posterior")
        table = Table(Column("training picture", overflow="fold"), *(Column(name, **right) for name in names), box=None)  # type: ignore[arg-type]
        for image in report.images[:_SHOWN]:
            rise = "" if image.loss_rise is None else f"{image.loss_rise:.4f}"
            name = f"{image.image} (in the group)" if image.in_group else image.image
            table.add_row(plain(name), rise, f"{image.similarity:.3f}", f"{image.posterior:.3f}")
        console.print(table)
    if len(report.images) > _SHOWN:
        aside().print(f"... and {len(report.images) - _SHOWN} more candidates: --json names all")
    for warning in report.warnings:
        aside().print(plain(f"warning: {warning}"), soft_wrap=True)
    console.print(f"[bold {_COLOURS[report.outcome]}]{SAID[report.outcome]}[/]: ", plain(report.reason), soft_wrap=True)
    console.print(
        plain(f"an estimate under this model and this training, no proof of copying; page: {page}"), soft_wrap=True
    )
