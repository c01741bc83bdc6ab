"""`guardrail index calibrate`: limits for a chosen rate of false alarms, fitted to pictures that copy no work."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import SettingsInvalid
from guardrail.records import Calibration, FalseAlarms, Limits, SignalLimits

if TYPE_CHECKING:
    from guardrail.desk.calibrating import CalibrationRun, Gathered, Wanted
    from guardrail.desk.calibrating_reviews import Reviewed
    from guardrail.desk.probing import Prober
    from guardrail.settings import Settings

__all__ = ["calibrate", "calibration_document", "rates_of"]

_SHOWN = 20  # suspects or files left out, before only their number is told


def calibrate(
    target: Annotated[Path, typer.Argument(help="Folder of the index.")],
    background: Annotated[Path, typer.Option(help="Folder of pictures that copy none of the works.")],
    false_alarms: Annotated[
        str, typer.Option(help="False alarms per picture that you accept, as FLAG,BLOCK.")
    ] = "1e-3,1e-4",
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="A background picture that is a copy in truth, by path or name; may be repeated."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw how near the pictures come, to a .png or .svg file.")] = None,
    copies: Annotated[
        bool, typer.Option("--copies", help="Look at edited copies of the works too: which share the limits reach.")
    ] = False,
    from_reviews: Annotated[
        bool, typer.Option("--from-reviews", help="Hold the limits against the cases that people decided at the desk.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --from-reviews: write without asking.")] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit an index's limits to a rate of false alarms, on pictures that copy none of its works.

    Example: guardrail index calibrate my-index --background other-pictures

    With --from-reviews no confirmed copy is missed by a new limit unseen, and nothing is written before you agree.

    Exit codes: 0 calibrated, 1 not (the background is too small, the index cannot be trusted, or you did not agree);
    what was there before then holds on.
    """
    from guardrail.desk.calibrating import Wanted  # when a command runs, not before: it loads torch
    from guardrail.desk.probing import Prober
    from guardrail.study.plots import require_plots

    settings = read_settings(settings_file)
    wanted = Wanted(background, *rates_of(false_alarms), tuple(leave_out or ()))
    if from_reviews:
        wanted = replace(wanted, reviewed=_reviewed(target, settings), agreed=_asked(yes=yes, as_json=as_json))
    if plot is not None:
        require_plots(plot)
    run, edited = _run(Prober(target, settings), wanted, copies=copies)
    if plot is not None:
        _draw(plot, run, edited)
    if as_json:
        print_json(_document(run, edited, plot))
    else:
        _show(target, run, edited, plot)
    _leave(run)


def _leave(run: "CalibrationRun") -> None:
    """End with 1 where nothing was written."""
    if not run.written:
        aside().print("nothing was written: the limits are as they were")
        raise typer.Exit(1)


def _reviewed(target: Path, settings: "Settings") -> "Reviewed":
    """The decided cases of the settings' organisation.

    Raises:
        SettingsInvalid: there are none.
        MemoryUnwritable: there is no ledger, or it cannot be read.
    """
    from guardrail.desk.calibrating_reviews import Reviewed
    from guardrail.desk.learning import labelled
    from guardrail.index import FolderIndex
    from guardrail.memory import Memory

    memory = Memory(settings.memory_url, must_exist=True)
    try:
        cases = tuple(labelled(memory.reviews.decided_pairs(settings.organisation)))
    finally:
        memory.close()
    if not cases:
        found = f"no decided cases of organisation {settings.organisation!r}, expected some; calibrate without it"
        raise SettingsInvalid("--from-reviews", found)
    shipped = FolderIndex(target).header.limits
    in_force = shipped.overridden(settings.limits) if settings.limits else shipped
    return Reviewed(cases, in_force, settings.policy)


def _asked(*, yes: bool, as_json: bool) -> "Callable[[Calibration], bool]":
    """Asks a person before a calibration is written; on `--json` only `--yes` agrees."""

    def agreed(found: Calibration) -> bool:
        used = found.reviews
        assert used is not None, "only asked of reviews"
        since, until = used.since.date(), used.until.date()
        console = aside()
        console.print(
            f"{used.confirmed} confirmed copies and {used.passed} cases let pass, from {since} to {until}: "
            f"{used.missed} of the copies would be missed, {used.still_flagged} of the others flagged again",
            soft_wrap=True,
        )
        for warning in found.warnings:
            console.print(plain(f"warning: {warning}"), soft_wrap=True)
        return yes or (not as_json and typer.confirm("write these limits?", default=False, err=True))

    return agreed


def _run(prober: "Prober", wanted: "Wanted", *, copies: bool) -> "tuple[CalibrationRun, Gathered | None]":
    """Calibrate, then look at edited copies where that was asked for."""
    from guardrail.desk.calibrating import calibrate_index
    from guardrail.desk.own_copies import look_at_copies

    looked: list[Gathered] = []

    def edited() -> "Gathered":
        with progress_of("looking at edited copies") as progress:
            looked.append(look_at_copies(prober, progress))
        return looked[0]

    with progress_of("looking at the background") as progress:
        run = calibrate_index(prober, wanted, progress, edited if copies else None)
    return run, looked[0] if looked else None


def rates_of(said: str) -> tuple[float, float]:
    """The rates of `--false-alarms`: two shares, the second no larger."""
    try:
        flag_rate, block_rate = (float(word) for word in said.split(","))
    except ValueError:
        flag_rate = block_rate = 0.0
    if not 0 < block_rate <= flag_rate <= 0.5:
        raise typer.BadParameter(
            f"found {said!r}, expected two rates between 0 and 0.5, for flags and for blocks, such as 1e-3,1e-4",
            param_hint="--false-alarms",
        )
    return flag_rate, block_rate


def _draw(plot: Path, run: "CalibrationRun", edited: "Gathered | None") -> None:
    """A panel for each signal: the background, edited copies where they were looked at, and the limits."""
    from guardrail.study.calibrate import unit_of
    from guardrail.study.plots import Distributions, draw_distributions

    nearest, copies = run.gathered.nearest(), edited.nearest() if edited else {}
    panels = []
    for fitted in run.calibration.signals:
        unit = unit_of(fitted.signal)
        assert unit is not None, "what was fitted has a unit"
        groups = {"background": unit.sign * nearest[fitted.signal]}
        if fitted.signal in copies:
            groups["edited copies"] = unit.sign * copies[fitted.signal]
        limits = {name: one.limit for name, one in (("flag", fitted.flag), ("block", fitted.block)) if one is not None}
        shown = "distance to the nearest work, bits" if unit.sign < 0 else "likeness to the nearest work"
        panels.append(Distributions(str(fitted.signal), shown, groups, limits))
    draw_distributions(plot, panels)


# --- as JSON ------------------------------------------------------------------------------------------------------


def calibration_document(calibration: Calibration, works: int) -> dict[str, Any]:
    """A calibration as `--json` shows it, at an index of so many works."""
    document = calibration.model_dump(mode="json")
    return document | {"stale": calibration.is_stale(works), "stale_at_works": calibration.stale_at_works}


def _document(run: "CalibrationRun", edited: "Gathered | None", plot: Path | None) -> dict[str, Any]:
    suspects = [
        {
            "file": found.file,
            "work_id": found.work.work_id,
            "bank": found.work.bank,
            "title": found.work.title,
            "signal": str(found.signal),
            "measured": found.measured,
        }
        for found in run.gathered.suspects
    ]
    without = run.without_suspects.model_dump(mode="json") if run.without_suspects else None
    return calibration_document(run.calibration, run.calibration.works) | {
        "suspects": suspects,
        "limits_without_suspects": without,
        "left_out": [
            {"file": file, "reason": reason, "detail": detail} for file, reason, detail in run.gathered.left_out
        ],
        "copies": _copies_document(run.calibration, edited) if edited else None,
        "plot": str(plot) if plot else None,
        "written": run.written,
    }


def _copies_document(calibration: Calibration, edited: "Gathered") -> dict[str, Any]:
    from guardrail.study.calibrate import reaching

    nearest = edited.nearest()
    shares = {decision: float(reaching(nearest, calibration.limits, decision).mean()) for decision in ("flag", "block")}
    return {"pictures": len(edited.counted), "share_flagged": shares["flag"], "share_blocked": shares["block"]}


# --- for people -----------------------------------------------------------------------------------------------------


def _show(target: Path, run: "CalibrationRun", edited: "Gathered | None", plot: Path | None) -> None:
    console = Console(highlight=False)
    found = run.calibration
    table = Table("signal", "for", "limit", "95 %", "how", "reached by", box=None)
    for fitted in found.signals:
        for row in _rows(fitted):
            table.add_row(*row)
    console.print(table)
    for alarms in found.false_alarms:
        console.print(_alarms_line(alarms), soft_wrap=True)
    near_blank = f", {found.background.near_blank} of them nearly blank" if found.background.near_blank else ""
    console.print(
        plain(
            f"{target}: calibration {found.id[:12]} on {found.background.pictures} pictures{near_blank}; it holds at "
            f"{found.works} works ({found.protected} protected) and is stale at {found.stale_at_works}"
        ),
        soft_wrap=True,
    )
    if edited is not None:
        shares = _copies_document(found, edited)
        console.print(
            f"of {shares['pictures']} edited copies of the works {shares['share_flagged']:.1%} reach a flag limit, "
            f"{shares['share_blocked']:.1%} a block limit"
        )
    for warning in found.warnings:
        aside().print(plain(f"warning: {warning}"), soft_wrap=True)
    _show_left_out(run.gathered)
    _show_suspects(run)
    if plot is not None:
        aside().print(plain(f"plot: {plot}"), soft_wrap=True)


def _rows(fitted: SignalLimits) -> list[tuple[str, ...]]:
    """A line for each limit of a signal."""
    rows: list[tuple[str, ...]] = []
    for name, one in (("flag", fitted.flag), ("block", fitted.block)):
        if one is not None:
            interval = f"{_number(one.low)} to {_number(one.high)}"
            reached = f"{one.reached} of {fitted.pictures}"
            rows.append((str(fitted.signal), name, _number(one.limit), interval, one.method, reached))
    return rows


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.3f}"


def _alarms_line(alarms: FalseAlarms) -> str:
    share = alarms.held_out / max(alarms.pictures, 1)
    return (
        f"{alarms.decision}, all signals together: asked {alarms.asked:g}; {alarms.reached} of {alarms.pictures} "
        f"pictures, {alarms.held_out} by limits fitted without them: {share:.2%} "
        f"(95 %: {alarms.low:.2%} to {alarms.high:.2%})"
    )


def _show_left_out(gathered: "Gathered") -> None:
    if not gathered.left_out:
        return
    aside().print(f"{len(gathered.left_out)} pictures do not count:")
    for file, _, detail in gathered.left_out[:_SHOWN]:
        aside().print(plain(f"  {file}: {detail}"), soft_wrap=True)
    if len(gathered.left_out) > _SHOWN:
        aside().print("  ... all of them with --json")


def _show_suspects(run: "CalibrationRun") -> None:
    console = aside()
    suspects = run.gathered.suspects
    if not suspects:
        return
    console.print(
        f"{len(suspects)} pictures may be copies of a work, and count nevertheless; look at them, and name those "
        "that are with --leave-out:",
        soft_wrap=True,
    )
    for found in suspects[:_SHOWN]:
        near = f"{found.signal} {_number(found.measured)} from {found.work.title or found.work.work_id!r}"
        console.print(plain(f"  {found.file}: {near}"), soft_wrap=True)
    if len(suspects) > _SHOWN:
        console.print("  ... all of them with --json")
    if run.without_suspects is not None:
        console.print("without them the limits would be:")
        console.print(_limits_table(run.calibration.limits, run.without_suspects))


def _limits_table(ours: Limits, without: Limits) -> Table:
    table = Table("signal", "flag", "flag without", "block", "block without", box=None)
    for name, limits in ours.model_dump(mode="json").items():
        other = without.model_dump(mode="json")[name]
        if isinstance(limits, dict) and any(value is not None for value in limits.values()):
            table.add_row(name, *(_bare(value) for key in limits for value in (limits[key], other[key])))
    return table


def _bare(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
