"""`guardrail credit report|extraction`: what is due to whom, and what an adapter takes out of a model."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Column, Table

from guardrail.desk.adapters_commands import MemoryUrl, Organisation, opened
from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import SettingsInvalid
from guardrail.records import AdapterUse, CreditReport, ExtractionReport

__all__ = ["credit_app"]

_EXIT_NOT_TAKEN_OUT = 14
_SHOWN = 12  # digits of a digest, for people

credit_app = typer.Typer(name="credit", help="What is due to whom for what was released.", no_args_is_help=True)


@credit_app.command("report")
def report(
    since: Annotated[
        str, typer.Option(help="Day or time, ISO 8601, UTC: that and later. Default: from the start.")
    ] = "",
    until: Annotated[str, typer.Option(help="Day or time, ISO 8601, UTC: before that. Default: now.")] = "",
    form: Annotated[str, typer.Option("--format", help="text, csv or json.")] = "text",
    memory: MemoryUrl = "",
    organisation: Organisation = "default",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Say per holder and adapter what was released with it and what is due, and which licensed works were credited.

    A price counts from the moment it was registered. Releases that were withdrawn do not count; adapters that nobody
    registered are listed apart.

    Example: guardrail credit report --since 2026-11-01 --until 2026-12-01 --format csv

    Exit codes: 0 reported, 1 the ledger cannot be read, or a row of it does not hold.
    """
    if form not in ("text", "csv", "json"):
        raise SettingsInvalid("--format", f"found {form!r}, expected text, csv or json")
    from guardrail.desk.credit_report import credit_report, csv_of

    with opened(memory, settings_file) as ledger:
        found = credit_report(ledger, _time("--since", since), _time("--until", until), organisation)
    if as_json or form == "json":
        print_json(found.model_dump(mode="json"))
    elif form == "csv":
        for line in csv_of(found):
            typer.echo(line, nl=False)
    else:
        _show(found)


class _Words(BaseModel, frozen=True):
    """The words of the command line, as `credit extraction` names them."""

    model: str
    adapter: str
    work: str
    index: str
    prompt: str
    weight: float
    generations: int
    draws: int
    steps: int
    side: int
    seed: int
    device: str
    settings_file: Path | None
    as_json: bool


@credit_app.command("extraction")
def extraction(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="Folder of a diffusers pipeline, or module:function.")
    ],
    adapter: Annotated[str, typer.Option(help="Its safetensors file, or its name in the pipeline that is made.")],
    work: Annotated[str, typer.Option(metavar="BANK/ID", help="The work that it is to take out.")],
    index: Annotated[str, typer.Option(help="Folder of the index that has the work, in place of the settings'.")] = "",
    prompt: Annotated[str, typer.Option(help="What to ask for; default: nothing.")] = "",
    weight: Annotated[float, typer.Option(help="Of the adapter; negative for one that learnt the work.")] = 1.0,
    generations: Annotated[int, typer.Option(min=1, help="Pictures to generate with it, and as many without.")] = 32,
    draws: Annotated[
        int, typer.Option(min=2, help="Of timestep and noise, at which the work's picture is asked.")
    ] = 64,
    steps: Annotated[int, typer.Option(min=0, help="Denoising steps; default: the pipeline's.")] = 0,
    side: Annotated[int, typer.Option(min=0, help="Side in px of what it makes; default: as it says.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the first picture; each next one takes the next.")] = 0,
    device: Annotated[str, typer.Option(help="Device, in place of the settings': cpu, cuda, cuda:1.")] = "",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Measure whether an adapter takes a work out of a model: the same seeds with it and without.

    Every picture is looked at as a guard looks. The copy rate must fall, by an exact test; where the model never gave
    the work back, it must know less of its picture.

    Example: guardrail credit extraction my-pipeline --adapter no-fox.safetensors --work zoo/fox --index my-index

    Exit codes: 0 it takes the work out, 14 that could not be shown, 1 it could not be measured.
    """
    words = _Words.model_validate(context.params)
    found = _measured(words)
    if words.as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _show_extraction(found)
    raise typer.Exit(0 if found.took_out else _EXIT_NOT_TAKEN_OUT)


def _measured(words: _Words) -> ExtractionReport:
    from guardrail.desk.credit_extraction import Measuring, measured  # when a command runs, not before: it loads torch

    settings = read_settings(words.settings_file)
    asked = Measuring(
        model=words.model,
        adapter=words.adapter,
        work=words.work,
        index=words.index,
        prompt=words.prompt,
        weight=words.weight,
        generations=words.generations,
        draws=words.draws,
        steps=words.steps,
        side_px=words.side,
        seed=words.seed,
        device=words.device or settings.device,
    )
    with progress_of("generating") as told:
        return measured(asked, settings, told)


def _time(option: str, said: str) -> datetime | None:
    """A day or time; of one without a zone, UTC."""
    if not said:
        return None
    try:
        found = datetime.fromisoformat(said)
    except ValueError as error:
        raise SettingsInvalid(option, f"found {said!r}, expected a day or time such as 2026-11-01") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


# --- for people -----------------------------------------------------------------------------------------------------


def _show(found: CreditReport) -> None:
    console = Console(highlight=False)
    since = f"from {found.since:%Y-%m-%d %H:%M}" if found.since else "from the start"
    console.print(f"{found.images} images released {since} to {found.until:%Y-%m-%d %H:%M} UTC")
    for heading, uses in (("", found.adapters), ("adapters that take a work out:", found.extractions)):
        if uses:
            if heading:
                console.print(heading)
            console.print(_table(uses))
    for one in found.unregistered:
        digest = one.weights_sha256[:_SHOWN] if one.weights_sha256 else "could not be read"
        later = "; it is registered now, which does not count for what was before" if one.registered_since else ""
        line = f"not registered: {one.name} ({one.kind}, sha256 {digest}): {one.images} images{later}"
        console.print(plain(line), soft_wrap=True)
    for work in found.works:
        line = f"credited: {work.holder or 'no holder'}: {work.bank}/{work.work_id} {work.title}: {work.images} images"
        console.print(plain(line), soft_wrap=True)
    due = ", ".join(f"{amount} {currency}" for currency, amount in found.amounts.items())
    console.print(f"due: {due or 'nothing'}")
    _warn(found)


def _warn(found: CreditReport) -> None:
    said = {
        "images of which nobody knows how they were made: their adapters are in no line": found.runs_unknown,
        "images of which not all adapters could be read: those are in no line": found.adapters_unread,
        "releases were erased from the ledger (at any time): what they used nobody can tell": found.erased,
    }
    for what, count in said.items():
        if count:
            aside().print(f"{count} {what}", soft_wrap=True)


def _table(uses: tuple[AdapterUse, ...]) -> Table:
    columns = [Column(name, justify="right") for name in ("images", "weight", "share", "price", "due")]
    table = Table("holder", "adapter", *columns, box=None)
    for one in uses:
        weight = "not known" if one.weights.mean is None else f"{one.weights.mean:.2f}"
        share = "none kept" if one.share is None else f"{one.share:.2f} of {one.attributed}"
        prices = ", ".join("none" if priced.price is None else str(priced.price) for priced in one.prices)
        name = f"{one.name} (takes out {one.extracts})" if one.extracts else one.name
        cells = (one.holder, name, str(one.images), weight, share, prices, f"{one.amount} {one.currency}".strip())
        table.add_row(*map(plain, cells))
    return table


def _show_extraction(found: ExtractionReport) -> None:
    console = Console(highlight=False)
    for what, rate in (("without it", found.without), (f"at weight {found.weight:g}", found.with_adapter)):
        share = rate.copies / rate.generated
        interval = f"{rate.low:.1%} to {rate.high:.1%}"
        console.print(
            plain(f"{what}: {rate.copies} of {rate.generated} copies of {found.work} ({share:.0%}, {interval})")
        )
    console.print(f"the same rate, or a higher one, with it: p {found.p_value:.2g}")
    console.print(
        f"what the model knows of its picture: {found.known_without:.4f} without, {found.known_with:.4f} with "
        f"(difference within {found.known_error:.4f})",
        soft_wrap=True,
    )
    if found.share is not None:
        console.print(f"its share in the picture: {found.share:+.2f}")
    for warning in found.warnings:
        aside().print(plain(f"warning: {warning}"), soft_wrap=True)
    outcome = "takes the work out" if found.took_out else "could not be shown to take the work out"
    console.print(plain(f"{found.adapter}: {outcome}"))
