"""`guardrail bench copies`: what share of edited copies is found, at a rate of false alarms of your choosing."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Column, Table

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import SettingsInvalid

if TYPE_CHECKING:
    from guardrail.desk.copies_run import Asked, CopiesRun
    from guardrail.index import Recipe
    from guardrail.study.copies import CopyFigures
    from guardrail.study.edits import Suite

__all__ = ["bench_copies"]

_LISTED = 12  # pictures left out, or checks that failed, before only their number is told
_FULL = 100.0  # intensity of an edit that is done or not


class _Words(BaseModel, frozen=True):
    """The words of the command line, as `bench_copies` names them."""

    folder: Path
    clean: Path | None
    works: int
    queries: int
    clean_take: int
    suite: str
    edits: str
    intensity: str
    false_alarms: str
    embedder: str
    recipe: Path | None
    tiles: int
    query_tiles: int
    views: int
    proof: bool
    peer: tuple[str, ...] | None
    side: int
    duplicate_bits: int
    leave_out: tuple[str, ...] | None
    seed: int
    device: str
    keep: Path | None
    plot: Path | None
    settings_file: Path | None
    as_json: bool


_Vectors = Annotated[int, typer.Option(min=0, max=14, help="1, 5, 10 or 14; default: the recipe's.")]
_Bits = Annotated[int, typer.Option(min=0, max=255, help="PDQ distance that makes a near-duplicate, left out.")]
_LeaveOut = Annotated[list[str] | None, typer.Option(help="Pattern of files that take no part; may be repeated.")]
_Proof = Annotated[bool, typer.Option("--proof/--no-proof", help="Let plugins look closer, as a guard does.")]
_Peers = Annotated[list[str] | None, typer.Option(help="Another embedder beside, like onnx:FILE; none for no peer.")]
_Keep = Annotated[Path | None, typer.Option(help="Folder for index and finished pieces: a run goes on there.")]


def bench_copies(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder of images; some become works, others clean pictures.")],
    clean: Annotated[Path | None, typer.Option(help="Folder of clean pictures, in place of some of FOLDER.")] = None,
    works: Annotated[int, typer.Option(min=2, help="Works to index, at most.")] = 400,
    queries: Annotated[int, typer.Option(min=1, help="Works to make copies of, at most.")] = 100,
    clean_take: Annotated[int, typer.Option(min=1, help="Clean pictures, at most.")] = 500,
    suite: Annotated[str, typer.Option(help="Edits: default, thorn (its eleven), or all.")] = "default",
    edits: Annotated[str, typer.Option(help="Edits by name, with commas, in place of a suite's.")] = "",
    intensity: Annotated[str, typer.Option(help="Intensities 0..100, with commas; default: the suite's.")] = "",
    false_alarms: Annotated[str, typer.Option(help="Rates of false alarms a clean picture, with commas.")] = "0.01",
    embedder: Annotated[str, typer.Option(help="Embedder of the index, in place of the recipe's.")] = "",
    recipe: Annotated[Path | None, typer.Option(help="Recipe (TOML) of the index.")] = None,
    tiles: _Vectors = 0,
    query_tiles: _Vectors = 0,
    views: Annotated[int, typer.Option(min=0, max=8, help="Views of an image: 1, 4 or 8.")] = 0,
    proof: _Proof = True,
    peer: _Peers = None,
    side: Annotated[int, typer.Option(min=0, help="Longer side of all pictures in px; default: the suite's.")] = 0,
    duplicate_bits: _Bits = 16,
    leave_out: _LeaveOut = None,
    seed: Annotated[int, typer.Option(help="Of the split and the edits.")] = 0,
    device: Annotated[str, typer.Option(help="Device, in place of the settings': cpu, cuda, cuda:1.")] = "",
    keep: _Keep = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the recalls, to a .png or .svg file.")] = None,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Turn a folder of images into a benchmark: index some, edit copies of them, and count which are found.

    A limit is the one that the chosen share of clean pictures reaches; a copy counts only where its own work is found.

    Example: guardrail bench copies my-images --edits crop,collage --intensity 25,50,75 --plot recall.png

    Exit codes: 0 measured, 1 not (too few pictures, or an embedder is missing).
    """
    _bench(_Words.model_validate(context.params))


def _bench(words: _Words) -> None:
    """Do what the words say: look, measure, draw, show."""
    from guardrail.desk.copies_run import run_copies  # when a command runs, not before: it loads torch
    from guardrail.study.copies import measure_copies
    from guardrail.study.plots import require_plots

    rates = _rates(words.false_alarms)
    if words.plot is not None:
        require_plots(words.plot)
    settings = read_settings(words.settings_file)
    settings = settings.model_copy(update={"device": words.device} if words.device else {})
    run = run_copies(_asked(words, settings.largest_image_px), settings, progress_of)
    figures = measure_copies(run.looks, run.own, rates, str(words.clean or words.folder))
    if words.plot is not None:
        _draw(words.plot, figures, rates[0])
    if words.as_json:
        print_json(_document(run, figures))
    else:
        _show(run, figures, rates)


# --- what was asked ---------------------------------------------------------------------------------------------


def _asked(words: _Words, largest_image_px: int) -> "Asked":
    from guardrail.desk.copies_choice import Sides
    from guardrail.desk.copies_run import Asked

    suite = _suite(words.suite)
    sampling = {"tiles": words.tiles, "query_tiles": words.query_tiles, "query_views": words.views}
    sides = Sides(
        folder=words.folder,
        clean=words.clean,
        works=words.works,
        clean_take=words.clean_take,
        side_px=words.side or suite.side_px,
        seed=words.seed,
        duplicate_bits=words.duplicate_bits,
        least_quality=_least_quality(),
        largest_image_px=largest_image_px,
        leave_out=words.leave_out or (),
    )
    return Asked(
        sides=sides,
        queries=words.queries,
        edits=_edits(suite, words.edits, words.intensity),
        recipe=_recipe(words.recipe, words.embedder, sampling),
        peers=words.peer or (),
        proof=words.proof,
        keep=words.keep,
    )


def _least_quality() -> int:
    """The PDQ quality that a work must have, of the limits that ship."""
    import tomllib

    import guardrail

    said = tomllib.loads((Path(guardrail.__file__).parent / "limits.toml").read_text(encoding="utf-8"))
    return int(said["pdq_quality_at_least"])


def _suite(name: str) -> "Suite":
    from guardrail.study.edits import SUITES

    if name not in SUITES:
        raise SettingsInvalid("--suite", f"found {name!r}, expected one of {', '.join(SUITES)}")
    return SUITES[name]


def _numbers(option: str, said: str, most: float) -> tuple[float, ...]:
    """`25,50` as numbers from 0 to `most`, each once, in order.

    Raises:
        SettingsInvalid: it is something else.
    """
    try:
        numbers = tuple(sorted({float(word) for word in said.split(",")}))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 <= number <= most for number in numbers):
        raise SettingsInvalid(option, f"found {said!r}, expected numbers from 0 to {most:g}, with commas")
    return numbers


def _rates(said: str) -> tuple[float, ...]:
    rates = _numbers("--false-alarms", said, 0.5)
    if rates[0] == 0:
        raise SettingsInvalid("--false-alarms", f"found {said!r}, expected rates above 0, such as 0.01")
    return rates


def _edits(suite: "Suite", names: str, said: str) -> tuple[tuple[str, float], ...]:
    """Edits with their intensities; one that is done or not is done once."""
    from guardrail.study.edits import EDITS

    chosen = tuple(dict.fromkeys(names.split(","))) if names else suite.edits
    if unknown := [name for name in chosen if name not in EDITS]:
        raise SettingsInvalid("--edits", f"found {unknown[0]!r}, expected some of {', '.join(EDITS)}")
    intensities = _numbers("--intensity", said, _FULL) if said else (suite.intensity,)
    return tuple((name, at) for name in chosen for at in (intensities if EDITS[name].graded else (_FULL,)))


def _recipe(path: Path | None, embedder: str, sampling: dict[str, int]) -> "Recipe":
    from pydantic import ValidationError

    from guardrail.index import Recipe

    recipe = Recipe.from_file(path) if path else Recipe()  # without CLIP, which is a hint and finds no copies
    said: dict[str, Any] = {name: value for name, value in sampling.items() if value}
    if path and recipe.background:
        said["background"] = str((path.parent / recipe.background).resolve())
    try:
        return Recipe.model_validate(
            recipe.model_dump() | said | ({"embedder": embedder} if embedder else {}) | {"works": "", "clip": ""}
        )
    except ValidationError as error:
        raise SettingsInvalid("--tiles, --query-tiles, --views", str(error)) from error


# --- as JSON and as a plot ---------------------------------------------------------------------------------------


def _document(run: "CopiesRun", figures: "CopyFigures") -> dict[str, Any]:
    header = run.header
    return figures.model_dump(mode="json") | {
        "own_signals": list(run.own),
        "embedder": str(header.embedders["copy"]),
        "sampling": header.sampling.model_dump(mode="json"),
        "snapshot": header.snapshot,
        "pictures_found": run.choice.found,
        "backdrops": len(run.choice.backdrops),
        "faint": dict(run.faint),
        "failed_checks": list(run.failures),
        "alarms": _alarms(run, figures, max(one.false_alarms for one in figures.signals)),
        "left_out": [one._asdict() for one in run.choice.left_out],
        "files": {role: [one.file for one in getattr(run.choice, role)] for role in ("works", "clean", "backdrops")},
    }


def _alarms(run: "CopiesRun", figures: "CopyFigures", rate: float) -> list[dict[str, Any]]:
    """The clean pictures that reach a limit of ours at a rate, and the work each is near: copies in truth, perhaps."""
    looks = run.looks
    reached = (one for one in figures.signals if one.false_alarms == rate and one.limit is not None)
    limits = {one.signal: one.limit for one in reached}
    rows = (looks.right < 0).nonzero()[0]
    found = []
    for signal in run.own:
        nearest = looks.nearness[signal][rows].max(axis=1).astype(float)
        for at in (nearest >= limits.get(signal, float("inf"))).nonzero()[0]:
            work = int(looks.nearness[signal][rows[at]].argmax())
            files = {"file": run.choice.clean[at].file, "work": run.choice.works[work].file}
            found.append({"signal": signal, "nearness": float(nearest[at])} | files)
    return found


def _draw(path: Path, figures: "CopyFigures", rate: float) -> None:
    from guardrail.study.plots import draw_shares

    names = _signals(figures)
    rows = {label: [cells[name].recall for name in names] for label, cells in _by_edit(figures, rate).items()}
    title = f"recall in %, {rate:.2%} of {figures.clean} clean pictures above the limit, {figures.works} works"
    draw_shares(path, title, rows, names)


def _signals(figures: "CopyFigures") -> list[str]:
    return list(figures.micro_ap)


def _by_edit(figures: "CopyFigures", rate: float) -> dict[str, dict[str, Any]]:
    """The recalls of one rate, by edit and intensity and then by signal."""
    from guardrail.study.edits import EDITS

    rows: dict[str, dict[str, Any]] = {}
    for one in figures.edits:
        if one.false_alarms == rate:
            label = f"{one.edit} {one.intensity:g}" if EDITS[one.edit].graded else one.edit
            rows.setdefault(label, {})[one.signal] = one
    return rows


# --- for people -----------------------------------------------------------------------------------------------------


def _show(run: "CopiesRun", figures: "CopyFigures", rates: Sequence[float]) -> None:
    console = Console(highlight=False)
    names = _signals(figures)
    for rate in rates:
        title = f"recall in % with {rate:.2%} of {figures.clean} clean pictures above the limit"
        columns = [Column(name.partition("?")[0], justify="right", overflow="fold") for name in names]
        table = Table(Column("edit", no_wrap=True), *columns, title=title, title_justify="left", box=None)
        for label, cells in _by_edit(figures, rate).items():
            table.add_row(label, *(f"{100 * cells[name].recall:.0f}" for name in names))
        console.print(table)
        console.print(_summary(figures, rate))
    header = run.header
    console.print(
        plain(
            f"{figures.copies} copies, {figures.works} works by {header.embedders['copy']}, "
            f"sampling {header.sampling.tiles}/{header.sampling.query_tiles}/{header.sampling.query_views}; "
            f"too faint for PDQ: {run.faint['copies']} copies, {run.faint['clean']} clean pictures"
        ),
        soft_wrap=True,
    )
    _show_asides(run)


def _summary(figures: "CopyFigures", rate: float) -> Table:
    table = Table("signal", "limit", "alarms", "recall (95 %)", "micro-AP", "R@P90", "R@P99.99", box=None)
    for one in figures.signals:
        if one.false_alarms != rate:
            continue
        table.add_row(
            one.signal,
            _limit_text(one.limit),
            str(one.alarms),
            f"{100 * one.recall:.1f} ({100 * one.low:.1f}-{100 * one.high:.1f})",
            f"{figures.micro_ap[one.signal]:.3f}",
            f"{figures.recall_at_p90[one.signal]:.3f}",
            f"{figures.pooled_recall[one.signal]:.3f}",
        )
    return table


def _limit_text(limit: float | None) -> str:
    """A limit on nearness in the signal's own unit; distances are kept negative."""
    if limit is None:
        return ""
    return f"{-limit:.0f} bits" if limit < -1 else f"{limit:.4g}"


def _show_asides(run: "CopiesRun") -> None:
    console = aside()
    console.print(
        "the clean pictures above a limit are listed by --json; one that is a copy in truth spoils the limits"
    )
    if run.choice.left_out:
        counts = Counter(one.reason for one in run.choice.left_out)
        said = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in sorted(counts.items()))
        console.print(f"left out of {run.choice.found + counts['identical'] + counts['unreadable']} pictures: {said}")
    if run.failures:
        console.print(f"{len(run.failures)} checks failed, and what they looked at counts as not found:")
        for text in run.failures[:_LISTED]:
            console.print(plain(f"  {text}"), soft_wrap=True)
