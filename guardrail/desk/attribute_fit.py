"""`guardrail attribute fit` and `add`: gradients of training images, which later queries are held against."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from pydantic import BaseModel
from rich.console import Console

from guardrail.desk.audit_named import require_model
from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import SettingsInvalid

if TYPE_CHECKING:
    from guardrail.desk.attribute_run import AskedFit, FitReport
    from guardrail.settings import Settings
    from guardrail.study.attribution.fitting import FitChoices

__all__ = ["add", "fit"]

_SOME_UNREADABLE = 10
_STOPPED = 130  # as shells say it of Ctrl-C
_LORA = "*lora_*"
_NAMED = 3  # pictures in a line


class _Words(BaseModel, frozen=True):
    """The words of the command line, as `fit` names them; `add` has fewer."""

    pipeline: str
    training: Path | None = None
    out: Path
    decoys: Path | None = None
    captions: Path | None = None
    index: Path | None = None
    square: Literal["crop", "pad", "squeeze"] = "crop"
    adapter: tuple[str, ...] | None = None
    at_once: int = 0
    side: int = 0
    device: str = ""
    settings_file: Path | None = None
    as_json: bool = False


Pipeline = Annotated[str, typer.Argument(help="Folder of a diffusers pipeline, or module:function.")]
_Decoys = Annotated[Path | None, typer.Option(help="Pictures of the same kind that it was not trained on, likewise.")]
_Captions = Annotated[Path | None, typer.Option(help="Captions or labels: .csv with file, caption, label.")]
_Index = Annotated[Path | None, typer.Option(help="Index whose works are these files: rights are looked up there.")]
_Square = Annotated[str, typer.Option(help="How its trainer made pictures square: crop, pad (white) or squeeze.")]
Adapter = Annotated[list[str] | None, typer.Option(metavar="FILE[=WEIGHT]", help="LoRA laid over it; may be repeated.")]
AtOnce = Annotated[int, typer.Option(min=0, help="Draws in one pass, where memory is short; default: all.")]
_Side = Annotated[int, typer.Option(min=0, help="Side in px of what it is asked about; default: as it says.")]
Device = Annotated[str, typer.Option(help="Device, in place of the settings': cpu, cuda, cuda:1.")]


def fit(
    context: typer.Context,
    pipeline: Pipeline,
    training: Annotated[Path, typer.Argument(help="Folder, .csv (file, caption, label), .txt list, or index.")],
    out: Annotated[Path, typer.Option(help="Folder for the gradients; a fit that was stopped goes on there.")],
    decoys: _Decoys = None,
    captions: _Captions = None,
    index: _Index = None,
    square: _Square = "crop",
    parameters: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Parameters by name, such as 'mid_block*'; repeat it.")
    ] = None,
    adapter: Adapter = None,
    draws: Annotated[int, typer.Option(min=1, help="Noisy versions of a picture that the model is asked about.")] = 10,
    counters: Annotated[int, typer.Option(min=1, help="Numbers that are kept of a gradient, 2 bytes each.")] = 4096,
    seed: Annotated[int, typer.Option(min=0, help="Of noise and sketch.")] = 0,
    function: Annotated[str, typer.Option(help="Whose gradient: noise_norm, or loss.")] = "noise_norm",
    at_once: AtOnce = 0,
    side: _Side = 0,
    device: Device = "",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Take down how each training picture pulls at the model, so that outputs can be attributed to them.

    Decoys are what a training picture has to beat to be named: without them nothing is. With --adapter and no
    --parameters, what the adapters add is asked, and nothing else.

    Example: guardrail attribute fit my-pipeline my-pictures --out gradients --decoys others

    Exit codes: 0 all fitted, 10 some pictures could not be read, 1 could not fit, 130 stopped by Ctrl-C.
    """
    if function not in ("noise_norm", "loss"):
        raise SettingsInvalid("--function", f"found {function!r}, expected noise_norm or loss")
    _require_square(square)
    require_model(pipeline)
    from guardrail.study.attribution.fitting import FitChoices  # when a command runs, not before: it loads torch

    patterns = tuple(parameters or ((_LORA,) if adapter else ("*",)))
    chosen = cast("Literal['noise_norm', 'loss']", function)
    _carry_out(_Words.model_validate(context.params), FitChoices(patterns, draws, counters, seed, chosen))


def add(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="GRADIENTS", help="Folder that `guardrail attribute fit` made.")],
    pipeline: Annotated[str, typer.Option(help="The same model: a folder, or module:function.")],
    training: Annotated[Path | None, typer.Option(help="Further training pictures, as for fit.")] = None,
    decoys: _Decoys = None,
    captions: _Captions = None,
    index: _Index = None,
    square: _Square = "crop",
    adapter: Adapter = None,
    at_once: AtOnce = 0,
    device: Device = "",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Add pictures to gradients, made as those that are there.

    Example: guardrail attribute add gradients --pipeline my-pipeline --decoys more-others

    Exit codes: 0 all fitted, 10 some pictures could not be read, 1 could not fit, 130 stopped by Ctrl-C.
    """
    if training is None and decoys is None:
        raise SettingsInvalid("--training", "found neither --training nor --decoys, expected pictures to add")
    _require_square(square)
    require_model(pipeline)
    _carry_out(_Words.model_validate(context.params), None)


def _require_square(square: str) -> None:
    if square not in ("crop", "pad", "squeeze"):
        raise SettingsInvalid("--square", f"found {square!r}, expected crop, pad or squeeze")


def _carry_out(words: _Words, choices: "FitChoices | None") -> None:
    """Fit, say what was done, and end with the exit code."""
    from guardrail.desk.attribute_run import fit_gradients

    settings = read_settings(words.settings_file)
    try:
        report = fit_gradients(_asked(words, choices, settings), settings, progress_of)
    except KeyboardInterrupt:
        aside().print(plain(f"stopped; what was done is in {words.out}, and the same command goes on there"))
        raise typer.Exit(_STOPPED) from None
    if words.as_json:
        print_json(_document(words, report))
    else:
        _show(words, report)
    if report.fitted.unreadable:
        raise typer.Exit(_SOME_UNREADABLE)


def _asked(words: _Words, choices: "FitChoices | None", settings: "Settings") -> "AskedFit":
    from guardrail.desk.attribute_model import AskedModel
    from guardrail.desk.attribute_run import AskedFit
    from guardrail.fingerprint import resolve_device
    from guardrail.study.attribution.keeping import GradientRows

    side = words.side if choices is not None else GradientRows(words.out).manifest.side_px
    device = str(resolve_device(words.device or settings.device))
    return AskedFit(
        model=AskedModel(words.pipeline, words.adapter or (), side, device),
        out=words.out,
        training=words.training,
        captions=words.captions,
        decoys=words.decoys,
        index=words.index,
        square=words.square,
        choices=choices,
        at_once=words.at_once or None,
    )


def _document(words: _Words, report: "FitReport") -> dict[str, object]:
    fitted = report.fitted
    return {
        "gradients": str(words.out),
        "images": report.images,
        "decoys": report.decoys,
        "parameters": report.parameters,
        "made": fitted.added,
        "kept": fitted.kept,
        "replaced": fitted.replaced,
        "unreadable": list(fitted.unreadable),
        "cpu_s": round(fitted.cpu_s, 3),
    }


def _show(words: _Words, report: "FitReport") -> None:
    console, fitted = Console(highlight=False), report.fitted
    if fitted.unreadable:
        names = ", ".join(fitted.unreadable[:_NAMED])
        aside().print(plain(f"warning: {len(fitted.unreadable)} pictures could not be read, such as {names}"))
    if not report.decoys:
        aside().print("warning: there are no decoys, and without them no training image is named; give --decoys")
    done = f"{fitted.added} gradients of {report.parameters:,} parameters made, {fitted.kept} were there"
    each = f", {fitted.cpu_s / fitted.added:.3f} s each" if fitted.added else ""
    console.print(plain(f"{done}; {fitted.cpu_s:.1f} CPU seconds{each}"), soft_wrap=True)
    console.print(plain(f"{words.out}: {report.images} training images, {report.decoys} decoys"), soft_wrap=True)
