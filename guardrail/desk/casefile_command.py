"""`guardrail case-file`: one case as a file that a lawyer can read, made where the ledger and its keys lie."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import SettingsInvalid

if TYPE_CHECKING:
    from guardrail.desk.web.casefile import FileChoices
    from guardrail.settings import Settings

__all__ = ["case_file"]

_ENDINGS = {".html": "html", ".htm": "html", ".pdf": "pdf", ".json": "json"}
_WHO = "command line"  # in place of an account, in the audit

Chosen = Annotated[
    list[str] | None,
    typer.Option(
        "--with", metavar="WHAT", help="prompts or names: what could name a private person; may be given again."
    ),
]
Title = Annotated[
    list[str] | None,
    typer.Option(
        "--title", metavar="NAME=TEXT", help="For the title page: claimant, respondent, reference or prepared_by."
    ),
]


def case_file(
    case_id: Annotated[int, typer.Argument(metavar="CASE", help="Number of the case.", min=1)],
    out: Annotated[Path, typer.Option(help="File to write; its ending says as what: .html, .pdf or .json.")],
    chosen: Chosen = None,
    notes: Annotated[bool, typer.Option(help="Put in what reviewers wrote.")] = True,
    title: Title = None,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the file of a case: pictures, evidence, the run, who decided what, and proofs from the ledger.

    That it was made, and its sha256, are noted in the audit. The settings' `organisation` says whose case it is. A PDF
    needs the extra `pdf`.

    Example: guardrail case-file 17 --out case-17.pdf --title reference="17 O 3/26"

    Exit codes: 0 written, 1 not (there is no such case, or the ledger does not hold).
    """
    kind = _ENDINGS.get(out.suffix.lower())
    if kind is None:
        raise SettingsInvalid(str(out), f"found the ending {out.suffix!r}, expected .html, .pdf or .json")
    written = _written(read_settings(settings_file), case_id, kind, _choices(chosen or [], title or [], notes=notes))
    digest = _put(out, written)
    if as_json:
        print_json({"case_id": case_id, "out": str(out), "format": kind, "sha256": digest})
    else:
        aside().print(plain(f"{out}: file of case {case_id}, {len(written):,} bytes, sha256 {digest}"), soft_wrap=True)


def _choices(chosen: list[str], title: list[str], *, notes: bool) -> "FileChoices":
    from guardrail.desk.web.casefile import FileChoices

    if unknown := sorted({*chosen} - {"prompts", "names"}):
        raise typer.BadParameter(f"found {', '.join(unknown)}, expected prompts or names", param_hint="--with")
    said = dict(one.partition("=")[::2] for one in title)
    if unknown := sorted(said.keys() - {"claimant", "respondent", "reference", "prepared_by"}):
        raise typer.BadParameter(
            f"found {', '.join(unknown)}, expected claimant, respondent, reference or prepared_by", param_hint="--title"
        )
    return FileChoices(
        prompts="prompts" in chosen,
        names="names" in chosen,
        notes=notes,
        claimant=said.get("claimant", ""),
        respondent=said.get("respondent", ""),
        reference=said.get("reference", ""),
        prepared_by=said.get("prepared_by", ""),
    )


def _written(settings: "Settings", case_id: int, kind: str, choices: "FileChoices") -> bytes:
    """Make the file and note it; nothing is handed out that could not be noted."""
    import hashlib

    from guardrail.desk.web.casefile import FileSource, gather_file
    from guardrail.desk.web.casefile_render import FORMATS, render_file
    from guardrail.guard import Guard
    from guardrail.records import Actor

    wanted = next(one for one in FORMATS if one == kind)
    guard = Guard(settings=settings)
    with closing(guard.memory) as memory, progress_of("ledger rows") as told:
        actor = Actor(account_id=_WHO, organisation=settings.organisation, role="lead")
        file = gather_file(FileSource(memory, guard, settings.keys_dir, actor, told), case_id, choices)
        written = render_file(file, wanted)
        details: dict[str, object] = {"sha256": hashlib.sha256(written).hexdigest(), "kind": kind, "by": _WHO}
        details |= {"prompts": choices.prompts, "names": choices.names, "notes": choices.notes}
        memory.audit.note(settings.organisation, "case_file.made", f"case {case_id}", details)
    return written


def _put(path: Path, written: bytes) -> str:
    """Write a file that appears whole; returns its sha256."""
    import hashlib

    part = path.with_name(f".{path.name}.part")
    part.write_bytes(written)
    part.replace(path)
    return hashlib.sha256(written).hexdigest()
