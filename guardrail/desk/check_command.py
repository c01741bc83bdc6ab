"""`guardrail check`: judge files before they are published, and sign what is accepted."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import GuardrailError, ImageUnreadable
from guardrail.records import CheckFailed, Decision, Neighbour, Verdict

if TYPE_CHECKING:
    from guardrail.guard import Guard

__all__ = ["COLOURS", "check", "exit_code_of", "nearest_document", "shown_name"]

_EXIT_FLAGGED = 10
_EXIT_BLOCKED = 11
_EXIT_COULD_NOT = 1
_LISTED_IN_FULL = 20  # of more files, the accepted ones are only counted
COLOURS = {Decision.ACCEPT: "green", Decision.FLAG: "yellow", Decision.BLOCK: "red"}


class _Checked(NamedTuple):
    """One file, its verdict, where its signed copy went, and why it went nowhere though it was accepted."""

    path: Path
    verdict: Verdict
    output: Path | None
    fault: GuardrailError | None


def check(
    paths: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", readable=False)],
    index: Annotated[str, typer.Option(help="Folder of the index, in place of the settings'.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for signed copies of the accepted images.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are in OUT.")] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare images with an index of works and say of each: accept, flag or block, and why.

    Example: guardrail check outputs/ --index my-index --out publish/

    Exit codes: 0 all accepted, 10 some flagged, 11 some blocked as copies, 1 some could not be checked, or not be
    written to OUT.
    """
    from guardrail.guard import Guard  # when a command runs, not before: it loads torch, and --help need not

    guard = Guard(index, read_settings(settings_file))
    files, left_out = _files(paths)
    if not files:
        raise ImageUnreadable(", ".join(map(str, paths)), "no file that is named like an image")
    if out is not None:
        guard.ready_to_release(out)
    with progress_of("checking") as progress:
        checked = list(_checked(guard, files, out, progress, overwrite=overwrite))
    if left_out:
        aside().print(f"{left_out} files that are not named like images were passed over")
    if as_json:
        print_json(_document(guard, checked, left_out))
    else:
        _show(checked)
    code = exit_code_of([one.verdict for one in checked])
    raise typer.Exit(_EXIT_COULD_NOT if any(one.fault for one in checked) else code)


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
        faults: dict[int, GuardrailError] = {}
        if out is not None:
            outputs = report.save(out, names=names[start : start + size], overwrite=overwrite, failures=faults)
        progress(start + len(some), len(files))
        yield from map(_Checked, some, report.verdicts, outputs, map(faults.get, range(len(some))))


def _output_names(files: list[Path]) -> list[str]:
    """A name for each file's signed copy: its own, with its ending or a number where two would be the same."""
    names: list[str] = []
    taken: set[str] = set()
    for number, file in enumerate(files):
        stem, whole = shown_name(file.stem), shown_name(file.name).replace(".", "-")
        options = (stem, whole, f"{whole}-{number}", f"{whole}-{number}-{len(files)}")
        name = next(option for option in options if option.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def shown_name(name: str) -> str:
    """A file name that can be written anywhere: bytes that are no text, and signs that lead elsewhere, are replaced."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join("_" if sign in "/\\" or not sign.isprintable() else sign for sign in text).lstrip(".") or "_"


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
    work = near.work
    return {"work_id": work.work_id, "bank": work.bank, "title": work.title, "signal": str(near.signal)} | known


def _document(guard: "Guard", checked: list[_Checked], left_out: int) -> dict[str, Any]:
    images = [
        {
            "path": one.verdict.image,
            "decision": str(one.verdict.decision),
            "rule": one.verdict.rule,
            "explanation": one.verdict.explanation,
            "nearest": [nearest_document(near) for near in one.verdict.nearest],
            "credits": [credit.model_dump(mode="json") for credit in one.verdict.credits],
            "verdict_id": one.verdict.verdict_id,
            "output": str(one.output) if one.output else None,
            "release_error": str(one.fault) if one.fault else None,
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
    brief = len(checked) > _LISTED_IN_FULL
    for one in checked:
        decision = one.verdict.decision
        if brief and decision is Decision.ACCEPT and not one.fault:
            continue
        why = f"{one.verdict.explanation} {one.fault or ''}".strip()
        table.add_row(f"[{COLOURS[decision]}]{decision}[/]", plain(one.verdict.image), plain(why))
    if table.row_count:
        console.print(table)
    counts = Counter(one.verdict.decision for one in checked)
    words = zip(Decision, ("accepted", "flagged", "blocked"), strict=True)
    said = ", ".join(f"{counts[decision]} {word}" for decision, word in words)
    released = sum(one.output is not None for one in checked)
    faults = sum(one.fault is not None for one in checked)
    said += f"; {released} signed copies written" if released else ""
    console.print(f"{len(checked)} images: {said}" + (f"; {faults} could not be written" if faults else ""))
