"""`guardrail check`: judge files before they are published, and sign what is accepted."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import rfc8785
import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.build_command import AUTOMATIC, Columns, PrivateAddresses, Workers, workers_of
from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import GuardrailError, ImageUnreadable
from guardrail.hookspecs import hookimpl
from guardrail.records import CheckFailed, Decision, Neighbour, Release, Verdict

if TYPE_CHECKING:
    from guardrail.desk.bulk_check import Line, Listed, Named
    from guardrail.guard import Guard

__all__ = ["COLOURS", "check", "exit_code_of", "nearest_document", "shown_name"]

_EXIT_FLAGGED = 10
_EXIT_BLOCKED = 11
_EXIT_COULD_NOT = 1
_COULD_NOT = "could_not"  # the outcome of a picture that was not checked, or whose signed copy was not written
_LISTED_IN_FULL = 20  # of more files, the accepted ones are only counted, and those without a mark not all named
COLOURS = {Decision.ACCEPT: "green", Decision.FLAG: "yellow", Decision.BLOCK: "red"}


_Pictures = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...",
        help="Image files, folders of them, tar shards, parquet files (paths, URLs, {000..099}, *), or saved "
        "Hugging Face datasets.",
    ),
]
_JsonLines = Annotated[
    Path | None,
    typer.Option(help="File for verdicts, one JSON line each, as they are made; the same command goes on from it."),
]


class _Checked(NamedTuple):
    """One file, its verdict, where its signed copy went, or why nowhere though it was accepted; its invisible mark."""

    listed: "Named"
    verdict: Verdict
    output: Path | None
    fault: GuardrailError | None
    watermark: str | None

    @property
    def outcome(self) -> str:
        """What counts for the exit code."""
        if self.fault is not None:
            return _COULD_NOT
        return {_EXIT_COULD_NOT: _COULD_NOT}.get(exit_code_of([self.verdict]), str(self.verdict.decision))


def check(
    paths: _Pictures,
    index: Annotated[str, typer.Option(help="Folder of the index, in place of the settings'.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for signed copies of the accepted images.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are in OUT.")] = False,
    jsonl: _JsonLines = None,
    column: Columns = None,
    private_addresses: PrivateAddresses = False,
    workers: Workers = AUTOMATIC,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare images with an index of works and say of each: accept, flag or block, and why.

    Example: guardrail check outputs/ --index my-index --out publish/

    Example: guardrail check 's3://outputs/{000..999}.tar' --index my-index --jsonl verdicts.jsonl

    Exit codes: 0 all accepted, 10 some flagged, 11 some blocked as copies, 1 some could not be checked, or not be
    written to OUT.
    """
    from guardrail.desk.bulk_check import Listed, sources_of
    from guardrail.guard import Guard  # when a command runs, not before: it loads torch, and --help need not
    from guardrail.intake import SourceOptions

    marks = _Marks()
    guard = Guard(index, read_settings(settings_file), plugins=[marks])
    listed = Listed(sources_of(paths, SourceOptions.of(column or (), private=private_addresses)))
    if out is not None:
        guard.ready_to_release(out)
    estimate = listed.estimate()
    with progress_of("checking") as progress:
        run = _Run(guard, listed, (out, marks), overwrite, workers_of(workers, estimate), estimate, progress)
        checked = list(run.all()) if jsonl is None else []
        counts = Counter(one.outcome for one in checked) if jsonl is None else run.journalled(jsonl)
    if not counts:
        raise ImageUnreadable(", ".join(paths), "no file that is named like an image")
    if listed.left_out:
        aside().print(f"{listed.left_out} files that are not named like images were passed over")
    if guard.settings.watermark.name and marks.lost:
        aside().print(plain(_told_unmarked(list(marks.lost))), soft_wrap=True)
    if as_json:
        print_json(_document(guard, checked, counts, jsonl, listed.left_out))
    else:
        _show(checked, counts, jsonl)
    raise typer.Exit(_exit_code(checked, counts))


class _Marks:
    """An observer that notes which released files left without the mark that the settings ask for."""

    def __init__(self) -> None:
        self.lost: dict[Path, None] = {}

    @hookimpl
    def output_released(self, release: Release, path: Path) -> None:
        """Note a file without one."""
        if release.watermark is None:
            self.lost[path] = None

    def of(self, output: Path | None, asked: bool) -> str | None:
        """`kept` or `lost`; None where none was asked for, or nothing left."""
        if output is None or not asked:
            return None
        return "lost" if output in self.lost else "kept"


class _Run:
    """One run over what was listed, batch by batch."""

    def __init__(
        self,
        guard: "Guard",
        listed: "Listed",
        out: tuple[Path | None, _Marks],
        overwrite: bool,
        workers: int,
        estimate: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self.guard, self.listed, self.overwrite = guard, listed, overwrite
        self.out, self.marks = out
        self.workers, self.estimate, self.progress = workers, estimate, progress
        self.done = 0
        self.names = _OutputNames()

    def all(self) -> Iterator[_Checked]:
        """Judge everything."""
        met: set[str] = set()
        fresh = (one for one in self.listed if not (one.name in met or met.add(one.name)))  # type: ignore[func-returns-value]
        for some in self.batches(fresh):
            yield from some

    def batches(self, listed: "Iterable[Named]") -> Iterator[list[_Checked]]:
        """Judge some, a batch at a time; signed copies are written where they were asked for."""
        from guardrail.desk.bulk_check import read_listed

        settings = self.guard.settings
        for some, pictures in read_listed(listed, settings.largest_image_px, self.workers, settings.batch):
            report = self.guard.check(pictures)
            outputs: list[Path | None] = [None] * len(some)
            faults: dict[int, GuardrailError] = {}
            if self.out is not None:
                names = [self.names.of(one.stem) for one in some]
                outputs = report.save(self.out, names=names, overwrite=self.overwrite, failures=faults)
            self.say(len(some))
            asked = bool(settings.watermark.name)
            marks = [self.marks.of(output, asked) for output in outputs]
            yield list(map(_Checked, some, report.verdicts, outputs, map(faults.get, range(len(some))), marks))

    def say(self, more: int = 1) -> None:
        """Tell how far it is."""
        self.done += more
        self.progress(self.done, max(self.done, self.estimate))

    def journalled(self, path: Path) -> Counter[str]:
        """Judge what is not in a journal yet, and write it there; how many have which outcome, in all."""
        from guardrail.desk.bulk_check import Journal

        journal = Journal(path, self._state(self.guard.index.header.snapshot))
        try:
            for some in self.batches(journal.new(self.listed, self.say)):
                journal.write(map(self._line, some))
            return Counter(journal.outcomes())
        finally:
            journal.close()

    def _line(self, one: _Checked) -> "Line":
        from guardrail.desk.bulk_check import Line

        state = self._state(one.verdict.index_snapshot or "")
        return Line(one.listed, one.outcome, state, one.outcome == _COULD_NOT, _image_document(one))

    def _state(self, snapshot: str) -> str:
        """The digest of what a verdict depends on besides its picture, and of where signed copies go."""
        said: dict[str, Any] = {
            "snapshot": snapshot,
            "policy": self.guard.settings.policy.sha256,
            "limits": self.guard.limits.model_dump(mode="json"),
            "neighbours": self.guard.settings.neighbours,
            "proof": self.guard.settings.proof,
            "out": str(self.out.resolve()) if self.out else None,
        }
        return hashlib.sha256(rfc8785.dumps(said)).hexdigest()


class _OutputNames:
    """A name for each file's signed copy: its own, with its ending or a number where two would be the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._count = 0

    def of(self, name: str) -> str:
        """The next file's."""
        self._count += 1
        stem, whole = shown_name(Path(name).stem), shown_name(name).replace(".", "-")
        options = chain((stem, whole), (f"{whole}-{number}" for number in count(self._count - 1)))
        chosen = next(option for option in options if option.casefold() not in self._taken)
        self._taken.add(chosen.casefold())
        return chosen


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


def _exit_code(checked: list[_Checked], counts: Counter[str]) -> int:
    """That of all pictures, those of an earlier run too."""
    if any(one.fault for one in checked):
        return _EXIT_COULD_NOT
    for outcome, code in ((str(Decision.BLOCK), _EXIT_BLOCKED), (_COULD_NOT, _EXIT_COULD_NOT)):
        if counts[outcome]:
            return code
    return _EXIT_FLAGGED if counts[str(Decision.FLAG)] else 0


def _told_unmarked(lost: list[Path]) -> str:
    """How many files left without their mark, and which."""
    named = ", ".join(map(str, lost[:_LISTED_IN_FULL])) + (", ..." if len(lost) > _LISTED_IN_FULL else "")
    files = "file" if len(lost) == 1 else "files"
    return f'{len(lost)} {files} left without an invisible mark, as watermark.when_lost = "unmarked" has it: {named}'


def nearest_document(near: Neighbour) -> dict[str, Any]:
    """A neighbour as `--json` shows it."""
    measure = {"similarity": near.similarity, "distance_bits": near.distance_bits}
    known = {name: value for name, value in measure.items() if value is not None}
    work = near.work
    return {"work_id": work.work_id, "bank": work.bank, "title": work.title, "signal": str(near.signal)} | known


def _image_document(one: _Checked) -> dict[str, Any]:
    """One picture as `--json` and `--jsonl` show it."""
    return {
        "path": one.verdict.image,
        "decision": str(one.verdict.decision),
        "rule": one.verdict.rule,
        "explanation": one.verdict.explanation,
        "nearest": [nearest_document(near) for near in one.verdict.nearest],
        "credits": [credit.model_dump(mode="json") for credit in one.verdict.credits],
        "verdict_id": one.verdict.verdict_id,
        "output": str(one.output) if one.output else None,
        "release_error": str(one.fault) if one.fault else None,
        "watermark": one.watermark,
    }


def _document(
    guard: "Guard", checked: list[_Checked], counts: Counter[str], jsonl: Path | None, left_out: int
) -> dict[str, Any]:
    header = guard.index.header
    said: dict[str, Any] = {"images": [_image_document(one) for one in checked]}
    if jsonl is not None:
        said = {"jsonl": str(jsonl), "counts": dict(counts)}
    return said | {
        "left_out": left_out,
        "index": {"location": guard.settings.index, "snapshot": header.snapshot, "works": header.works},
        "calibration": guard.limits.calibration,
    }


def _show(checked: list[_Checked], counts: Counter[str], jsonl: Path | None) -> None:
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
    if jsonl is not None:
        kinds = zip((*Decision, _COULD_NOT), ("accepted", "flagged", "blocked", "could not be checked"), strict=True)
        said = ", ".join(f"{counts[str(kind)]} {words}" for kind, words in kinds)
        console.print(plain(f"{counts.total()} images: {said}; see {jsonl}"), soft_wrap=True)
        return
    decisions = Counter(one.verdict.decision for one in checked)
    words = zip(Decision, ("accepted", "flagged", "blocked"), strict=True)
    said = ", ".join(f"{decisions[decision]} {word}" for decision, word in words)
    released = sum(one.output is not None for one in checked)
    faults = sum(one.fault is not None for one in checked)
    said += f"; {released} signed copies written" if released else ""
    console.print(f"{len(checked)} images: {said}" + (f"; {faults} could not be written" if faults else ""))
