"""`guardrail verify`: whose credential a file carries, and whether it is intact."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from guardrail import act
from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, read_settings
from guardrail.errors import ImageUnreadable
from guardrail.records import VerifyOutcome

__all__ = ["EXIT_CODES", "verify"]

EXIT_CODES = {
    VerifyOutcome.OURS: 0,
    VerifyOutcome.TAMPERED: 20,
    VerifyOutcome.OTHER_SIGNER: 21,
    VerifyOutcome.NO_CREDENTIAL: 22,
    VerifyOutcome.EXPIRED: 23,
}
_WORST_FIRST = (20, 21, 23, 22, 1, 0)


def verify(
    files: Annotated[list[Path], typer.Argument(help="Image files.", readable=False)],
    anchor: Annotated[
        Path | None, typer.Option(help="Folder with the root.pem to trust; default: that of our own keys.")
    ] = None,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Say of each file whether it carries our credential, intact.

    Example: guardrail verify publish/*.png

    Exit codes: 0 all ours, 20 tampered, 21 other signer, 22 no credential, 23 expired, 1 could not be read; of several
    files the worst.
    """
    anchors = act.load_anchors(anchor or read_settings(settings_file).keys_dir)
    reports: list[dict[str, Any]] = []
    codes = []
    for file in files:
        try:
            found = act.verify_file(file, anchors)
            reports.append(found.model_dump(mode="json"))
            codes.append(EXIT_CODES[found.outcome])
        except ImageUnreadable as error:
            reports.append({"path": str(file), "outcome": "unreadable", "explanation": str(error)})
            codes.append(1)
    if as_json:
        print_json({"files": reports})
    else:
        table = Table("outcome", "file", "what it says", box=None)
        for report in reports:
            table.add_row(report["outcome"], plain(report["path"]), plain(report["explanation"]))
        Console(highlight=False).print(table)
    if max(codes) == 1:
        aside().print("some files could not be read")
    raise typer.Exit(next(code for code in _WORST_FIRST if code in codes))
