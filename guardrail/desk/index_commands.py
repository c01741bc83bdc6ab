"""`guardrail index`: build, change, look at, verify."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.build_command import build
from guardrail.desk.calibrate_command import calibrate, calibration_document
from guardrail.desk.change_commands import add, compact, remove, update
from guardrail.desk.console import AsJson, aside, plain, print_json
from guardrail.desk.dedup_command import dedup, known_document
from guardrail.desk.exchange_commands import export, import_
from guardrail.desk.find_command import find
from guardrail.desk.index_copy_command import copy
from guardrail.desk.list_command import list_works
from guardrail.errors import CalibrationUnfit, IndexDamaged
from guardrail.records import Calibration, IndexHeader

__all__ = ["index_app"]

index_app = typer.Typer(
    name="index", help="Build an index of works, change it, look at it, verify it.", no_args_is_help=True
)


def _show(
    target: Annotated[Path, typer.Argument(help="Folder of the index.")],
    as_json: AsJson = False,
) -> None:
    """Say what an index holds and what it was built with.

    Example: guardrail index info my-index --json

    Exit codes: 0, or 1 where there is no index that can be trusted.
    """
    from guardrail.index import FolderIndex
    from guardrail.index.calibrated import read_calibration

    pinned = FolderIndex(target).pinned()
    header = pinned.header
    calibration = read_calibration(target, header)
    if as_json:
        document = calibration_document(calibration, header.works) if calibration else None
        rest = {"calibration": document, "search": pinned.structures.said(), "storage": pinned.storage()}
        print_json(_header_document(header) | rest | {"near_duplicates": known_document(pinned)})
        return
    table = Table("field", "value", box=None, show_header=False)
    known: Any = known_document(pinned) or "not sought yet: guardrail index dedup finds them"
    rest = {"search": pinned.structures.said(), "storage": pinned.storage(), "near_duplicates": known}
    for name, value in (_header_document(header) | rest).items():
        table.add_row(name, _plain_lines(value))
    for name, value in _calibration_rows(calibration, header.works):
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _plain_lines(value: Any) -> str:
    """A value of a document for people: one line for each field, nested ones in brackets behind their name."""
    if not isinstance(value, dict):
        return "none" if value is None else str(value)
    lines = []
    for key, inner in value.items():
        within = inner
        if isinstance(inner, dict):
            within = ", ".join(f"{name} {one}" for name, one in inner.items() if one is not None)
        lines.append(f"{key}: {'none' if within in (None, '') else within}")
    return "\n".join(lines)


def _calibration_rows(calibration: Calibration | None, works: int) -> list[tuple[str, str]]:
    """What a person wants to know of a calibration: which, when, on what, how sure, and whether it still holds."""
    if calibration is None:
        return [("calibration", "none: these limits are the shipped ones; fit them with guardrail index calibrate")]
    rates = "\n".join(
        f"{alarms.decision}: {alarms.asked:g} of pictures asked, {alarms.held_out} of {alarms.pictures} measured "
        f"(95 %: {alarms.low:.2%} to {alarms.high:.2%})"
        for alarms in calibration.false_alarms
    )
    holds = f"fitted at {calibration.works} works, stale from {calibration.stale_at_works}"
    if calibration.is_stale(works):
        times = works / calibration.works
        holds = f"STALE: {holds}, and there are {works}: false alarms are about {times:.1f} times those asked"
    return [
        ("calibration", calibration.id),
        ("calibrated_at", calibration.at.isoformat()),
        ("calibrated_on", f"{calibration.background.pictures} pictures"),
        ("false_alarms", rates),
        ("calibration holds", holds),
        *((("calibration warns", "\n".join(calibration.warnings)),) if calibration.warnings else ()),
    ]


def _header_document(header: IndexHeader) -> dict[str, Any]:
    return header.model_dump(mode="json")


def _verify(
    target: Annotated[Path, typer.Argument(help="Folder of the index.")],
    as_json: AsJson = False,
) -> None:
    """Check every file of an index against its manifest, and its calibration against the index.

    Example: guardrail index verify my-index

    Exit codes: 0 all files as they were written, 1 some are missing, cut or edited (each is named).
    """
    from guardrail.index import verify_index
    from guardrail.index.calibrated import read_calibration
    from guardrail.index.interchange import read_origins

    header, found = verify_index(target)
    damages: list[IndexDamaged | CalibrationUnfit] = list(found)
    try:
        read_calibration(target, header)
    except CalibrationUnfit as error:
        damages.append(error)
    try:
        read_origins(target, header.built_at)
    except IndexDamaged as error:
        damages.append(error)
    if as_json:
        damaged = [{"file": damage.args[0], "found": damage.args[1], "expected": damage.args[2]} for damage in damages]
        print_json({"snapshot": header.snapshot, "works": header.works, "damaged": damaged})
    else:
        for damage in damages:
            aside().print(plain(f"damaged: {damage}"), soft_wrap=True)
        if not damages:
            Console(highlight=False).print(plain(f"{target}: {header.works} works, every file as it was written"))
    raise typer.Exit(1 if damages else 0)


_COMMANDS: dict[str, Callable[..., None]] = {  # in the order in which one comes to need them, as `--help` lists them
    "build": build,
    "add": add,
    "remove": remove,
    "update": update,
    "list": list_works,
    "find": find,
    "info": _show,
    "verify": _verify,
    "compact": compact,
    "calibrate": calibrate,
    "dedup": dedup,
    "export": export,
    "import": import_,
    "copy": copy,
}
for _name, _command in _COMMANDS.items():
    index_app.command(_name)(_command)
