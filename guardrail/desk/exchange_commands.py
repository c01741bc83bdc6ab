"""`guardrail index export|import`: hash lists to others, and theirs into an index."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import SettingsInvalid

if TYPE_CHECKING:
    from guardrail.index.interchange import ExportReport, ImportReport, Trusted

__all__ = ["export", "import_"]

_SHOWN = 20  # lines or works
_FORMATS = ("auto", "guardrail", "text", "csv", "json")

Target = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")]


def export(
    target: Target,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="NAME.jsonl or NAME.parquet.")],
    since: Annotated[
        str | None,
        typer.Option(
            metavar="SNAPSHOT|FILE",
            help="Write only what changed since a former list, and what was withdrawn: its file, or the snapshot "
            "it was made of if it lies in the folder of FILE.",
        ),
    ] = None,
    bank: Annotated[str | None, typer.Option(help="Only works of this bank.")] = None,
    with_vectors: Annotated[
        bool,
        typer.Option("--with-vectors", help="Write copy descriptors too; only for readers with the same embedder."),
    ] = False,
    keys: Annotated[Path | None, typer.Option(help="Folder of the keys to sign with; default: the settings'.")] = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Do not sign it.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file of that name.")] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the works of an index as a signed hash list: ids, owners, dates and hashes; no picture, path or file name.

    Example: guardrail index export my-index lists/monday.jsonl

    Example: guardrail index export my-index lists/tuesday.jsonl --since lists/monday.jsonl

    Exit codes: 0 written, 1 not written.
    """
    from guardrail.desk.exchanging import Outgoing, export_index

    if unsigned and keys is not None:
        raise SettingsInvalid("the command line", "both --keys and --unsigned; give one of them")
    folder = None if unsigned else keys or read_settings(settings_file).keys_dir
    with progress_of("exporting") as progress:
        report = export_index(target, file, Outgoing(bank, with_vectors, since, folder, overwrite), progress)
    if as_json:
        print_json(_exported(file, report))
        return
    head = report.head
    counts = f"{head.works} works" + (f" new or changed, {head.withdrawn} withdrawn" if head.since else "")
    signed = f"signed by {head.signer.name}" if head.signer else "not signed"
    _say(f"{file}: {counts}; {signed}; snapshot {head.snapshot[:12]}, sha256 {report.foot.sha256[:12]}")


def import_(
    target: Target,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A list of guardrail's, or of PDQ hashes of others.")],
    trust: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="CERT", help="Root certificate whose signers are trusted, PEM, or a folder with root.pem."
        ),
    ] = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Take it whoever signed it, or nobody; lists of others are never signed.")
    ] = False,
    bank: Annotated[str | None, typer.Option(help="Put all its works into this bank.")] = None,
    form: Annotated[str, typer.Option("--format", help="auto, guardrail, or of others: text, csv, json.")] = "auto",
    create: Annotated[bool, typer.Option("--create", help="Make an index there where there is none.")] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Put the works of a hash list into an index; searches see them at once. Done twice, it changes nothing.

    Lists of guardrail's have to be signed by somebody you trust, and deltas have to come in their order. Of others,
    PDQ lists as ThreatExchange, python-threatexchange and HMA write them are read: text, CSV, JSON.

    Example: guardrail index import my-index lists/monday.jsonl --trust their-root.pem

    Example: guardrail index import my-index hashes.csv --unsigned --bank exchange

    Exit codes: 0 all imported, 1 refused, or some lines were not taken (each is named; the others are in).
    """
    from guardrail.desk.exchanging import Incoming, import_file

    if form not in _FORMATS:
        raise SettingsInvalid("--format", f"{form!r}, expected one of {', '.join(_FORMATS)}")
    dialect: Any = None if form in ("auto", "guardrail") else form
    with ExitStack() as stack:

        def progress(what: str) -> Callable[[int, int], None]:
            stack.close()
            return stack.enter_context(progress_of(what))

        incoming = Incoming(tuple(trust or ()), unsigned, bank, dialect, create)
        report, trusted = import_file(target, file, incoming, read_settings(settings_file), progress)
    if as_json:
        print_json(_imported(file, report, trusted))
    else:
        _show_import(target, report, trusted)
    raise typer.Exit(1 if report.bad_lines or report.clashing else 0)


def _exported(file: Path, report: "ExportReport") -> dict[str, Any]:
    head = report.head.model_dump(mode="json", exclude={"kind", "signer"})
    signer = report.head.signer.name if report.head.signer else None
    return {"file": str(file), "sha256": report.foot.sha256, "signer": signer} | head


def _imported(file: Path, report: "ImportReport", trusted: "Trusted") -> dict[str, Any]:
    return {
        "file": str(file),
        "signer": trusted.signer or None,
        "anchor": trusted.anchor,
        **report.change.model_dump(mode="json", exclude={"unknown"}),
        "bad_lines": report.bad_lines,
        "bad": [{"line": line, "error": error} for line, error in report.bad],
        "clashing": report.clashing,
        "clashes": report.clashes,
        "left_out": dict(report.left_out),
    }


def _show_import(target: Path, report: "ImportReport", trusted: "Trusted") -> None:
    change = report.change
    counts = (
        f"{change.added} added, {change.replaced} replaced, {change.withdrawn} withdrawn, {change.unchanged} unchanged"
    )
    who = f"signed by {trusted.signer}" if trusted.signer else "taken unsigned"
    _say(f"{target}: {counts} ({who}); {change.works} works, snapshot {change.snapshot[:12]}")
    for why, count in report.left_out.most_common(_SHOWN):
        aside().print(plain(f"left out: {count} x {why}"), soft_wrap=True)
    if report.bad_lines:
        lines = [f"line {number}: {problem}" for number, problem in report.bad]
        _list(f"{report.bad_lines} lines could not be used:", lines, report.bad_lines)
    if report.clashing:
        heading = f"{report.clashing} works are in the index from elsewhere and were left as they are:"
        _list(heading, report.clashes, report.clashing)


def _say(line: str) -> None:
    Console(highlight=False).print(plain(line), soft_wrap=True)


def _list(heading: str, lines: list[str], count: int) -> None:
    aside().print(heading)
    for line in lines[:_SHOWN]:
        aside().print(plain(f"  {line}"), soft_wrap=True)
    if count > _SHOWN:
        aside().print(f"  ... and {count - _SHOWN} more; --json names the first 1,000")
