"""`guardrail check`: judge files before they are published, and sign what is accepted."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, aside, print_json, progress_of, read_settings
from guardrail.errors import SettingsInvalid
from guardrail.records import CheckFailed, Decision, Neighbour, Verdict

if TYPE_CHECKING:
    from guardrail.guard import Guard

__all__ = ["COLOURS", "check", "exit_code_of", "nearest_document"]

_EXIT_FLAGGED = 10
_EXIT_BLOCKED = 11
_EXIT_COULD_NOT = 1
COLOURS = {Decision.ACCEPT: "green", Decision.FLAG: "yellow", Decision.BLOCK: "red"}


class _Checked(NamedTuple):
    """One file, its verdict, and where its signed copy went."""

    path: Path
    verdict: Verdict
    output: Path | None


def check(
    paths: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    index: Annotated[str, typer.Option(help="Folder of the index, in place of the settings'.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for signed copies of the accepted images.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are in OUT.")] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare images with an index of works and say of each: accept, flag or block, and why.

    Example: guardrail check outputs/ --index my-index --out publish/

    Exit codes: 0 all accepted, 10 some flagged, 11 some blocked as copies, 1 some (or all) could not be checked.
    """
    from guardrail.guard import Guard  # when a command runs, not before: it loads torch, and --help need not

    guard = Guard(index, read_settings(settings_file))
    files, left_out = _files(paths)
    if not files:
        raise SettingsInvalid("the command line", f"no image in {', '.join(map(str, paths))}")
    with progress_of("checking") as progress:
        checked = list(_checked(guard, files, out, progress, overwrite=overwrite))
    if left_out:
        aside().print(f"{left_out} files that are not named like images were passed over")
    if as_json:
        print_json(_document(guard, checked, left_out))
    else:
        _show(checked)
    raise typer.Exit(exit_code_of([one.verdict for one in checked]))


def _files(paths: list[Path]) -> tuple[list[Path], int]:
    """Files as they were named, and those in folders that are named like images; and how many others folders hold."""
    from guardrail.index import find_images

    files: list[Path] = []
    left_out = 0
    for path in paths:
        if path.is_dir():
            names, others = find_images(path)
            files += [path / name for name in names]
            left_out += others
        else:
            files.append(path)
    return list(dict.fromkeys(files)), left_out


def _checked(
    guard: "Guard", files: list[Path], out: Path | None, progress: Callable[[int, int], None], *, overwrite: bool
) -> Iterator[_Checked]:
    names = _output_names(files)
    size = guard.settings.batch
    for start in range(0, len(files), size):
        some = files[start : start + size]
        report = guard.check(some)
        outputs: list[Path | None] = [None] * len(some)
        if out is not None:
            outputs = report.save(out, names=names[start : start + size], overwrite=overwrite)
        progress(start + len(some), len(files))
        yield from map(_Checked, some, report.verdicts, outputs)


def _output_names(files: list[Path]) -> list[str]:
    """A name for each file's signed copy: its own, with its ending or a number where two would be the same."""
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        options = (
            file.stem,
            file.name.replace(".", "-"),
            *(f"{file.stem}-{number}" for number in range(2, len(files) + 2)),
        )
        name = next(option for option in options if option not in taken)
        taken.add(name)
        names.append(name)
    return names


def exit_code_of(verdicts: list[Verdict]) -> int:
    """0 all accepted, 10 some flagged, 11 some blocked as copies, 1 some could not be checked (and none is a copy)."""
    blocked = [verdict for verdict in verdicts if verdict.decision is Decision.BLOCK]
    if any(not all(isinstance(found, CheckFailed) for found in verdict.evidence) for verdict in blocked):
        return _EXIT_BLOCKED
    if blocked:
        return _EXIT_COULD_NOT
    return _EXIT_FLAGGED if any(verdict.decision is Decision.FLAG for verdict in verdicts) else 0


def nearest_document(near: Neighbour) -> dict[str, Any]:
    """A neighbour as `--json` shows it."""
    measure = {"similarity": near.similarity, "distance_bits": near.distance_bits}
    known = {name: value for name, value in measure.items() if value is not None}
    return {"work_id": near.work.work_id, "bank": near.work.bank, "signal": str(near.signal)} | known


def _document(guard: "Guard", checked: list[_Checked], left_out: int) -> dict[str, Any]:
    images = [
        {
            "path": str(one.path),
            "decision": str(one.verdict.decision),
            "rule": one.verdict.rule,
            "explanation": one.verdict.explanation,
            "nearest": [nearest_document(near) for near in one.verdict.nearest],
            "credits": [credit.model_dump(mode="json") for credit in one.verdict.credits],
            "verdict_id": one.verdict.verdict_id,
            "output": str(one.output) if one.output else None,
        }
        for one in checked
    ]
    header = guard.index.header
    return {
        "images": images,
        "left_out": left_out,
        "index": {"location": guard.settings.index, "snapshot": header.snapshot, "works": header.works},
        "calibration": guard.limits.calibration,
    }


def _show(checked: list[_Checked]) -> None:
    console = Console(highlight=False)
    table = Table("decision", "file", "why", box=None)
    for one in checked:
        decision = one.verdict.decision
        table.add_row(f"[{COLOURS[decision]}]{decision}[/]", one.path.name, one.verdict.explanation)
    console.print(table)
    counts = Counter(one.verdict.decision for one in checked)
    released = sum(one.output is not None for one in checked)
    said = ", ".join(
        f"{counts[decision]} {word}"
        for decision, word in zip(Decision, ("accepted", "flagged", "blocked"), strict=True)
    )
    console.print(f"{len(checked)} images: {said}" + (f"; {released} signed copies written" if released else ""))
