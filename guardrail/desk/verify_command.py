"""`guardrail verify`: whose credential a file carries, whether it is intact, and what else is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.records import VerifyOutcome

if TYPE_CHECKING:
    from guardrail.desk.verifying import Verified

__all__ = ["EXIT_CODES", "verify"]

EXIT_CODES = {
    VerifyOutcome.OURS: 0,
    VerifyOutcome.TAMPERED: 20,
    VerifyOutcome.OTHER_SIGNER: 21,
    VerifyOutcome.NO_CREDENTIAL: 22,
    VerifyOutcome.EXPIRED: 23,
}
_UNREADABLE = 1
_WORST_FIRST = (20, 21, 23, 22, _UNREADABLE, 0)
_SILENT_UP_TO = 20  # files: fewer are done before a line of progress is read


def verify(
    files: Annotated[list[Path], typer.Argument(help="Image files.", readable=False)],
    anchor: Annotated[
        Path | None, typer.Option(help="Folder with the root.pem to trust; default: that of our own keys.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures, layers and claims there.")] = None,
    no_ledger: Annotated[
        bool, typer.Option("--no-ledger", help="Leave out the ledger, and with it the search for stripped copies.")
    ] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Say of each file whether it carries our credential, intact; of one that does not, which output it looks like.

    Example: guardrail verify publish/*.png

    Five layers are looked at: credential, time stamp, watermark, ledger, fingerprint. Files are parsed in a process of
    their own without network; one that crashes it could not be read, and the others go on.

    Exit codes: 0 all ours, 20 tampered, 21 other signer, 22 no credential, 23 expired, 1 could not be read; of several
    files the worst.
    """
    from guardrail import act
    from guardrail.desk.verify_page import write_page
    from guardrail.desk.verifying import Verifying

    settings = read_settings(settings_file)
    anchors = act.load_anchors(anchor or settings.keys_dir)
    with Verifying(settings, anchors, with_ledger=not no_ledger) as verifying, progress_of("verify") as say:
        found = []
        for done, file in enumerate(files, start=1):
            found.append(verifying.look(file))
            if len(files) > _SILENT_UP_TO:
                say(done, len(files))
    if html is not None:
        write_page(found, html)
    if as_json:
        print_json({"files": [_document(one) for one in found]})
    else:
        _print_table(found)
        if html is not None:
            aside().print(plain(f"the page is {html}"), soft_wrap=True)
    codes = {_code(one) for one in found}
    if _UNREADABLE in codes:
        aside().print("some files could not be read")
    raise typer.Exit(next(code for code in _WORST_FIRST if code in codes))


def _code(one: Verified) -> int:
    return _UNREADABLE if one.report is None else EXIT_CODES[one.report.outcome]


def _document(one: Verified) -> dict[str, Any]:
    if one.report is not None:
        return one.report.model_dump(mode="json")
    return {"path": str(one.path), "outcome": "unreadable", "explanation": one.unreadable}


def _print_table(found: list[Verified]) -> None:
    """One line a file; of a single file its layers below."""
    console = Console(highlight=False)
    table = Table("outcome", "file", "what it says", box=None)
    for one in found:
        outcome, said = (one.report.outcome, one.report.explanation) if one.report else ("unreadable", one.unreadable)
        table.add_row(str(outcome), plain(one.path), plain(said))
    console.print(table)
    if len(found) > 1 or found[0].report is None:
        return
    layers = Table("layer", "finding", "why", box=None)
    for layer in found[0].report.layers:
        layers.add_row(layer.layer.replace("_", " "), layer.finding.replace("_", " "), plain(layer.explanation))
    console.print()
    console.print(layers)
