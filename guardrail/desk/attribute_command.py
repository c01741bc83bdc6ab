"""`guardrail attribute`: which training images an output is estimated to owe to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.attribute_audit_command import attribute_audit
from guardrail.desk.attribute_bench_command import attribute_bench
from guardrail.desk.attribute_fit import add, fit
from guardrail.desk.attribute_query import query
from guardrail.desk.console import AsJson, aside, plain, print_json
from guardrail.errors import SettingsInvalid

if TYPE_CHECKING:
    from guardrail.study.attribution.keeping import KeptRow

__all__ = ["attribute_app"]

_NONE_SUCH = 1

attribute_app = typer.Typer(
    name="attribute",
    help="Estimate which training images an output owes to, under one model and method.",
    no_args_is_help=True,
)

_Target = Annotated[Path, typer.Argument(metavar="GRADIENTS", help="Folder that `guardrail attribute fit` made.")]


def _show(target: _Target, as_json: AsJson = False) -> None:
    """Say what gradients were made with, and how many there are; every number is checked.

    Example: guardrail attribute info gradients --json

    Exit codes: 0, or 1 where there are none that can be trusted.
    """
    from guardrail.study.attribution.keeping import GradientRows

    rows = GradientRows(target)
    for _ in rows.blocks():  # a row whose numbers are not those that were written raises
        pass
    decoys = sum(row.decoy for row in rows.rows)
    document: dict[str, Any] = rows.manifest.model_dump(mode="json")
    document |= {"images": len(rows.rows) - decoys, "decoys": decoys, "bytes": _bytes_of(target)}
    if as_json:
        print_json(document)
        return
    table = Table("field", "value", box=None, show_header=False)
    for name, one in document.items():
        table.add_row(name, plain(f"{one:,}" if isinstance(one, int) else one))
    Console(highlight=False).print(table)


def _list(
    target: _Target,
    decoys: Annotated[bool, typer.Option("--decoys", help="List the decoys, not the training images.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the images whose gradients are kept.

    Example: guardrail attribute list gradients

    Exit codes: 0, or 1 where there are no gradients.
    """
    from guardrail.study.attribution.keeping import GradientRows

    rows = [row for row in GradientRows(target).rows if row.decoy == decoys]
    if as_json:
        print_json({"decoys" if decoys else "images": [_row_document(row) for row in rows]})
        return
    table = Table("work", "bank", "file", "pixels", box=None)
    for row in rows:
        table.add_row(plain(row.work_id), plain(row.bank), plain(row.file), row.pixels_sha256[:12])
    Console(highlight=False).print(table)


def _remove(
    target: _Target,
    names: Annotated[list[str], typer.Argument(metavar="BANK/ID...", help="As `list` has them.")],
    decoys: Annotated[bool, typer.Option("--decoys", help="They are decoys.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take images out of gradients, so that nothing is attributed to them any more.

    Example: guardrail attribute remove gradients default/file-0123456789abcdef

    Exit codes: 0 all were there and are gone, 1 some were not there (those that were are gone).
    """
    from guardrail.study.attribution.keeping import GradientRows

    if strange := [name for name in names if "/" not in name]:
        raise SettingsInvalid("BANK/ID", f"found {strange[0]!r}, expected names as `attribute list` has them")
    rows = GradientRows(target)
    wanted = {f"{'decoy:' if decoys else ''}{name}" for name in names}
    with rows.writing():
        missing = sorted(name for name in wanted if rows.row(name) is None)
        removed = rows.remove(wanted)
    if as_json:
        print_json({"removed": removed, "missing": missing})
    else:
        Console(highlight=False).print(plain(f"{removed} removed; {len(rows.rows)} are left"))
    if missing:
        aside().print(plain(f"not there: {', '.join(missing)}"), soft_wrap=True)
        raise typer.Exit(_NONE_SUCH)


def _row_document(row: "KeptRow") -> dict[str, Any]:
    return {
        "work_id": row.work_id,
        "bank": row.bank,
        "file": row.file,
        "pixels_sha256": row.pixels_sha256,
        "label": row.label,
    }


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


attribute_app.command()(fit)
attribute_app.command()(query)
attribute_app.command()(add)
attribute_app.command("info")(_show)
attribute_app.command("list")(_list)
attribute_app.command("remove")(_remove)
attribute_app.command("audit")(attribute_audit)
attribute_app.command("bench")(attribute_bench)
