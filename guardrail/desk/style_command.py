"""`guardrail bench style`: how often pictures that share a hand with works, and copy none, are flagged."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import NothingToIndex, SettingsInvalid, WorksTableInvalid

if TYPE_CHECKING:
    from guardrail.desk.style_run import Asked, Flagged, StyleRun
    from guardrail.records import Measured
    from guardrail.study.style import StyleFigures

__all__ = ["bench_style"]

_LISTED = 12  # pictures left out, or checks that failed, before only their number is told
_BY_FOLDER = "folder"
_ROWS = {
    "flagged or blocked": "flagged",
    "- copies by proof": "proved",
    "- too little to hash": "faint",
    "false alarms, of the rest": "unproved",
    "- of them blocked": "unproved_blocked",
    "groups with one": "groups",
}


class _Words(BaseModel, frozen=True):
    """The words of the command line, as `bench_style` names them."""

    folder: Path
    works: Path | None
    by: str
    groups: int
    each: int
    side: int
    embedder: str
    recipe: Path | None
    generic: Path | None
    limits_of: Path | None
    seed: int
    device: str
    html: Path | None
    settings_file: Path | None
    as_json: bool


_Works = Annotated[Path | None, typer.Option(help="Table (CSV) with the columns file and creator, or that of --by.")]
_By = Annotated[str, typer.Option(help="Column that names a picture's group: creator, genre; folder: its folder.")]
_Generic = Annotated[Path | None, typer.Option(help="Folder of pictures to ignore: a generic bank, in both indexes.")]
_LimitsOf = Annotated[Path | None, typer.Option(metavar="INDEX", help="Index whose limits are tried too.")]
_Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with what was flagged, side by side.")]


def bench_style(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of images, several of each maker or genre.")],
    works: _Works = None,
    by: _By = "",
    groups: Annotated[int, typer.Option(min=2, help="Makers (or genres), at most.")] = 150,
    each: Annotated[int, typer.Option(min=2, help="Pictures of each, at most: half of them are indexed.")] = 8,
    side: Annotated[int, typer.Option(min=64, help="Longer side of all pictures in px.")] = 384,
    embedder: Annotated[str, typer.Option(help="Embedder of the index, in place of the recipe's.")] = "",
    recipe: Annotated[Path | None, typer.Option(help="Recipe (TOML) of the index.")] = None,
    generic: _Generic = None,
    limits_of: _LimitsOf = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
    device: Annotated[str, typer.Option(help="Device, in place of the settings': cpu, cuda, cuda:1.")] = "",
    html: _Html = None,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Count false alarms on pictures by the makers of works that are other pictures: style is not a copy.

    Half of each maker's pictures are indexed, the other half is judged: with its maker's works in the index, and with
    works of other makers only. What proof calls a copy is counted apart; look at the rest with --html.

    Example: guardrail bench style my-images --works works.csv --html flagged.html

    Example: guardrail bench style icons --by folder --generic plain-shapes

    Exit codes: 0 measured, 1 not (too few pictures, or one that could not be checked).
    """
    _bench(_Words.model_validate(context.params))


def _bench(words: _Words) -> None:
    """Do what the words say: split, judge, count, show."""
    from guardrail.desk.style_run import run_style  # when a command runs, not before: it loads torch
    from guardrail.study.style import measure_style

    if words.html is not None and (words.html.is_dir() or not words.html.absolute().parent.is_dir()):
        raise SettingsInvalid("--html", f"{str(words.html)!r}, expected a file in a folder that is there")
    settings = read_settings(words.settings_file)
    settings = settings.model_copy(update={"device": words.device} if words.device else {})
    run = run_style(_asked(words), settings, progress_of)
    figures = tuple(measure_style(judged, limits) for limits, judged in run.judged.items())
    if words.html is not None:
        from guardrail.desk.style_page import write_page

        write_page(run, figures, words.html)
    if words.as_json:
        print_json(_document(run, figures))
    else:
        _show(run, figures, words.html)
    if run.failures:
        raise typer.Exit(1)


# --- what was asked ---------------------------------------------------------------------------------------------


def _asked(words: _Words) -> "Asked":
    from guardrail.desk.style_run import Asked
    from guardrail.index import Recipe
    from guardrail.study.style import style_groups

    recipe = Recipe.from_file(words.recipe) if words.recipe else Recipe()
    groups = style_groups(_group_of(words), groups=words.groups, each=words.each, seed=words.seed)
    if len(groups) < 2:
        found = f"{len(groups)} groups of two pictures or more, expected two groups or more"
        raise NothingToIndex(str(words.folder), found)
    return Asked(
        folder=words.folder,
        groups=groups,
        side_px=words.side,
        recipe=recipe.model_copy(update={"works": "", "embedder": words.embedder or recipe.embedder}),
        generic=words.generic,
        limits_of=words.limits_of,
    )


def _group_of(words: _Words) -> dict[str, str]:
    """By file of the folder, its group: by the table, or the first folder that it lies in."""
    from guardrail.intake import find_images

    if not words.folder.is_dir():
        raise NothingToIndex(str(words.folder), "no such folder")
    names, _ = find_images(words.folder)
    by = words.by or ("creator" if words.works else _BY_FOLDER)
    if by == _BY_FOLDER:
        return {name: name.partition("/")[0] if "/" in name else "" for name in names}
    if words.works is None:
        raise SettingsInvalid("--by", f"found {by!r} without a table, expected --works TABLE, or --by folder")
    said = _read_groups(words.works, by)
    return {name: said[name] for name in names if name in said}


def _read_groups(table: Path, by: str) -> dict[str, str]:
    """By file, what a column says of it.

    Raises:
        WorksTableInvalid: it cannot be read, or a column is not there.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = [(row.get("file"), row.get(by)) for row in reader]
            names = reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorksTableInvalid(str(table), "whole file", str(error)) from error
    if missing := [name for name in ("file", by) if name not in names]:
        raise WorksTableInvalid(str(table), "header", f"no column {missing[0]!r} among {', '.join(names)}")
    return {Path(file).as_posix(): (group or "").strip() for file, group in rows if file}


# --- as JSON ------------------------------------------------------------------------------------------------------


def _document(run: "StyleRun", figures: Sequence["StyleFigures"]) -> dict[str, Any]:
    return {
        "groups": [one._asdict() for one in run.groups],
        "works": list(run.works),
        "embedder": run.embedder,
        "figures": [one.model_dump(mode="json") for one in figures],
        "flagged": [_flagged_document(one) for one in run.flagged],
        "left_out": [one._asdict() for one in run.left_out],
        "failed_checks": list(run.failures),
    }


def _flagged_document(one: "Flagged") -> dict[str, Any]:
    judged = one.judged
    return {
        "file": judged.file,
        "group": judged.group,
        "arm": str(judged.arm),
        "decision": str(judged.decision),
        "cause": str(judged.cause),
        "limits": one.limits,
        "rule": one.rule,
        "works": [{**work._asdict(), "said": list(work.said)} for work in one.works],
    }


# --- for people -----------------------------------------------------------------------------------------------------


def _show(run: "StyleRun", figures: Sequence["StyleFigures"], html: Path | None) -> None:
    console = Console(highlight=False)
    for one in figures:
        console.print(_table(one))
        console.print(
            f"flagged without proof in one row only: {one.only_own} with their group, {one.only_other} with other "
            f"groups; {one.groups_more} groups have more with their own works, {one.groups_fewer} fewer "
            f"(by chance alone: {one.chance:.3f})",
            soft_wrap=True,
        )
        by_signal = ", ".join(f"{name} {count}" for name, count in one.own.signals.items()) or "none"
        console.print(
            f"of {_count(one.own.unproved)} without proof {one.own.by_own_group} resemble a work of their own group; "
            f"signals: {by_signal}",
            soft_wrap=True,
        )
    judged = sum(len(group.judged) for group in run.groups)
    works = " and ".join(map(str, run.works))
    console.print(
        plain(f"{judged} pictures of {len(run.groups)} groups, {works} works in two indexes, by {run.embedder}"),
        soft_wrap=True,
    )
    _show_asides(run, html)


def _table(one: "StyleFigures") -> Table:
    title = f"limits: {one.limits[:24]}; with 95 % intervals"
    heads = ("works in the index:", "with its group", "of other groups only")
    table = Table(*heads, title=title, title_justify="left", box=None)
    for words, name in _ROWS.items():
        table.add_row(words, *(_share(getattr(arm, name)) for arm in (one.own, one.other)))
    return table


def _share(one: "Measured") -> str:
    low, high = one.low or 0.0, one.high or 0.0
    return f"{_count(one)} of {one.over}, {100 * one.value:.1f} % ({100 * low:.1f}-{100 * high:.1f})"


def _count(one: "Measured") -> int:
    return round(one.value * one.over)


def _show_asides(run: "StyleRun", html: Path | None) -> None:
    console = aside()
    for what, lines in (
        ("pictures take no part", [f"{one.file}: {one.reason}, {one.detail}" for one in run.left_out]),
        ("pictures could not be checked, are blocked, and count nowhere", list(run.failures)),
    ):
        if lines:
            console.print(f"{len(lines)} {what}:")
            for line in lines[:_LISTED]:
                console.print(plain(f"  {line}"), soft_wrap=True)
            if len(lines) > _LISTED:
                console.print("  ... all of them with --json")
    if html is not None:
        console.print(plain(f"what was flagged is in {html}"), soft_wrap=True)
