"""`guardrail signs calibrate`: limits of the signs of memorisation, fitted to one pipeline."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import SettingsInvalid

if TYPE_CHECKING:
    from guardrail.desk.signs_run import SignRun, WantedSigns

__all__ = ["signs_app"]

_LEAST_RUNS = 200  # below, a twentieth of them makes no tail to fit to

signs_app = typer.Typer(name="signs", help="Signs of memorisation in flight: fit their limits.", no_args_is_help=True)


@signs_app.callback()
def signs() -> None:
    """Signs of memorisation in flight: fit their limits."""


@signs_app.command()
def calibrate(
    pipeline: Annotated[Path, typer.Argument(help="Folder of a diffusers pipeline, as save_pretrained writes it.")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="Text file of prompts that the model has not memorised, one a line; none if it takes none."),
    ] = None,
    seeds_each: Annotated[
        int | None, typer.Option(min=1, help="Runs of each prompt; default: 1, or 200 where there are no prompts.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; default: the pipeline's own.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; default: the pipeline's own.")] = None,
    false_alarms: Annotated[
        str, typer.Option(help="False alarms per run that you accept, as FLAG,BLOCK, of all signs together.")
    ] = "1e-2,1e-3",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit the limits of the signs that the settings turn on to runs of a pipeline that are not memorised.

    They hold for these weights, scheduler, steps and guidance only. Without signs in the settings, those are calibrated
    that need no index: noise_magnitude and update_norm.

    Example: guardrail signs calibrate my-pipeline --prompts other-prompts.txt --steps 30

    Exit codes: 0 calibrated, 1 not (too few runs for the rates, or no sign can be measured on this pipeline).
    """
    from guardrail.desk.calibrate_command import rates_of  # when a command runs, not before: it loads torch
    from guardrail.desk.signs_run import WantedSigns, calibrate_signs, read_prompts

    settings = read_settings(settings_file)
    texts = read_prompts(prompts) if prompts is not None else ()
    flag_rate, block_rate = rates_of(false_alarms)
    options = {"num_inference_steps": steps, "guidance_scale": guidance}
    wanted = WantedSigns(
        prompts=texts,
        seeds_each=seeds_each or (1 if texts else _LEAST_RUNS),
        seed=seed,
        options={name: value for name, value in options.items() if value is not None},
        flag_rate=flag_rate,
        block_rate=block_rate,
        source=str(prompts) if prompts is not None else f"the seeds from {seed} on",
    )
    pipe = _loaded(pipeline, settings.device, wanted)
    with progress_of("running the pipeline") as progress:
        run = calibrate_signs(pipe, wanted, settings, progress)
    _show(run, as_json=as_json)


def _loaded(folder: Path, device: str, wanted: "WantedSigns") -> Any:
    """The pipeline of a folder, on its device, quiet.

    Raises:
        SettingsInvalid: there is none, or it does not take what it is to be called with.
    """
    import inspect

    from diffusers import DiffusionPipeline

    from guardrail.fingerprint import resolve_device

    try:
        pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True).to(resolve_device(device))
    except (OSError, ValueError) as error:
        raise SettingsInvalid(str(folder), f"no pipeline could be loaded: {error}") from error
    pipe.set_progress_bar_config(disable=True)
    taken = inspect.signature(type(pipe).__call__).parameters
    asked = [*wanted.options, *(["prompt"] if wanted.prompts else [])]
    unknown = [name for name in asked if name not in taken]
    if unknown:
        raise SettingsInvalid(str(folder), f"{type(pipe).__name__} takes no {', '.join(unknown)}")
    if "prompt" in taken and not wanted.prompts:
        raise SettingsInvalid(str(folder), f"{type(pipe).__name__} takes a prompt and none was given; pass --prompts")
    return pipe


def _show(run: "SignRun", *, as_json: bool) -> None:
    if as_json:
        print_json(run.calibration.model_dump(mode="json") | {"path": str(run.path), "unavailable": run.unavailable})
        return
    console, found = Console(highlight=False), run.calibration
    table = Table("sign", "for", "limit", "95 %", "how", "reached by", "held out", box=None)
    for limits in found.signs:
        for alarms, one in zip(limits.false_alarms, (limits.flag, limits.block), strict=True):
            interval = f"{one.low:.4g} to {one.high:.4g}"
            reached, held_out = f"{alarms.reached} of {limits.runs}", f"{alarms.held_out} of {limits.runs}"
            table.add_row(limits.sign, alarms.decision, f"{one.limit:.4g}", interval, one.method, reached, held_out)
    console.print(table)
    console.print(
        plain(
            f"{found.pipeline}: calibration {found.id[:12]} at {found.steps} steps, guidance {found.guidance_scale}, "
            f"{found.scheduler}; written to {run.path}"
        ),
        soft_wrap=True,
    )
    for warning in found.warnings:
        aside().print(plain(f"warning: {warning}"), soft_wrap=True)
