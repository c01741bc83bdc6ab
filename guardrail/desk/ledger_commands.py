"""`guardrail ledger verify|checkpoint|prove|check-proof|erase`."""

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import LedgerProofInvalid, LogUnreachable, SettingsInvalid
from guardrail.records import InclusionProof

if TYPE_CHECKING:
    from guardrail.memory import Checkpoint, LogEntry, Memory
    from guardrail.settings import Settings

__all__ = ["ledger_app"]

_EXIT_COULD_NOT = 1
_LONGEST_PROOF = 1 << 24  # bytes of a file with a proof
_SHOWN = 12  # digits of a digest, for people
_NO_CONTENT = "the proof holds no content; whether it was erased only the ledger can say"
_LOG_ENDING = ".log.json"  # put after a checkpoint's file: what a log answered

ledger_app = typer.Typer(name="ledger", help="The record of every verdict and release.", no_args_is_help=True)

Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", help="Verifier key (ledger.pub) of the ledger; may be given again; default: that in `keys`."),
]


@ledger_app.command("verify")
def verify_ledger(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Signed checkpoint to compare with, from elsewhere; may be given again."),
    ] = None,
    key: Keys = None,
    deep: Annotated[bool, typer.Option(help="Read every row's content and all prints again, too.")] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Check every row of the ledger, the tree over them, and the checkpoint that was signed last.

    Rows that were cut off at the end are found where a checkpoint counts them.

    Example: guardrail ledger verify --checkpoint 2026-11.checkpoint

    Exit codes: 0 it holds, 1 it does not (the first bad row is named) or cannot be read.
    """
    from guardrail.memory import LedgerKey

    settings = read_settings(settings_file)
    with _opened(settings) as memory, progress_of("rows") as told:
        compared = _compared(memory, settings.keys_dir, checkpoint, key or [settings.keys_dir / LedgerKey.PUBLIC_FILE])
        rows, root = memory.verify(compared, deep=deep, told=told)
        origin, counts = memory.origin, memory.counts()
    sizes = sorted({one.size for one in compared})
    if as_json:
        found = {"tip": root, **counts._asdict(), "rows": rows}
        print_json(found | {"origin": origin, "checkpoints": sizes, "deep": deep})
        return
    against = f"as in checkpoints of {', '.join(map(str, sizes))} rows" if sizes else "no checkpoint to compare with"
    Console(highlight=False).print(
        f"{rows} rows, the tree holds, {against}; root {root[:_SHOWN]}; {counts.erased} erased, "
        f"{counts.open_cases} open cases, {counts.unfinished} unfinished releases",
        soft_wrap=True,
    )


@ledger_app.command("checkpoint")
def sign_checkpoint(
    out: Annotated[Path | None, typer.Option(help="File to write it to; default: stdout.")] = None,
    post: Annotated[
        str, typer.Option(metavar="URL", help="Enter its digest into a transparency log of Rekor's kind, too.")
    ] = "",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Check the ledger, and sign how far it goes now; keep the checkpoint where nobody who can edit the ledger can.

    It is signed with a key of its own in the folder of the keys, made at the first use: give `ledger.pub` to whoever
    is to check checkpoints and proofs.

    Example: guardrail ledger checkpoint --out 2026-11.checkpoint

    Exit codes: 0 signed, 1 the ledger does not hold, or the log did not take it (the checkpoint is written then).
    """
    from guardrail.memory import Checkpoints

    settings = read_settings(settings_file)
    with _opened(settings) as memory, progress_of("rows") as told:
        signed = Checkpoints(memory, settings.keys_dir).sign(told)
    _write(out, signed.note)
    if not as_json and out is None:
        typer.echo(signed.note, nl=False)
    entry = _posted(signed.note, post, settings.keys_dir, out) if post else None
    if as_json:
        made = signed.checkpoint
        found = {"origin": made.origin, "size": made.size, "root": made.root.hex(), "note": signed.note}
        print_json(found | {"posted": entry and {"uuid": entry.uuid, "log_index": entry.log_index}})
    if post and entry is None:
        raise typer.Exit(_EXIT_COULD_NOT)


@ledger_app.command("prove")
def prove(
    wanted: Annotated[str, typer.Argument(metavar="ROW", help="Number of a row, or id of a verdict or a manifest.")],
    out: Annotated[Path | None, typer.Option(help="File to write the proof to; default: stdout.")] = None,
    settings_file: SettingsFile = None,
) -> None:
    """Prove that a row is in the ledger, to somebody who does not have it; the proof is one JSON document.

    It holds the whole row (never a prompt), and a checkpoint signed now.

    Example: guardrail ledger prove urn:c2pa:8d3c9d4c-1f0e-4a0b-9f2f-5a0c7a3f3f7b --out proof.json

    Exit codes: 0 proved, 1 there is no such row, or the ledger does not hold.
    """
    from guardrail.memory import Checkpoints

    settings = read_settings(settings_file)
    with _opened(settings) as memory, progress_of("rows") as told:
        proofs = Checkpoints(memory, settings.keys_dir).prove(wanted, told)
    if len(proofs) > 1:
        numbers = ", ".join(str(proof.index + 1) for proof in proofs)
        aside().print(f"rows {numbers} have this id; the proof is of the last one", soft_wrap=True)
    text = proofs[-1].model_dump_json(indent=2) + "\n"
    if out is None:
        typer.echo(text, nl=False)
    _write(out, text)


@ledger_app.command("check-proof")
def check_proof(
    file: Annotated[Path, typer.Argument(help="The proof.")],
    key: Annotated[list[Path], typer.Option(help="Verifier key (ledger.pub) of the ledger; may be given again.")],
    as_json: AsJson = False,
) -> None:
    """Check a proof without the ledger: the row leads to the root of a checkpoint that the key signed.

    Example: guardrail ledger check-proof proof.json --key ledger.pub

    Exit codes: 0 it holds (without content, it holds for the row's hash alone), 1 it does not.
    """
    from guardrail import memory

    proof = _read_proof(file)
    checkpoint = memory.check_proof(proof, [memory.NoteVerifier.from_file(path) for path in key], str(file))
    row = json.loads(proof.leaf) if proof.leaf is not None else None
    if as_json:
        found: dict[str, Any] = {"holds": True, "row": proof.index + 1, "sha256": proof.leaf_sha256, "content": row}
        print_json(found | {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()})
        return
    console = Console(highlight=False)
    console.print(
        plain(f"row {proof.index + 1} of {checkpoint.size} of {checkpoint.origin}: it is there"), soft_wrap=True
    )
    console.print(_NO_CONTENT if row is None else plain(proof.leaf), soft_wrap=True)


@ledger_app.command("erase")
def erase(
    verdict_id: Annotated[str, typer.Argument(help="Id of the verdict on the image.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger, so it should name nobody.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Erase what the ledger says of one image, with its case, prompts and fingerprints; it cannot be undone.

    The rows' hashes stay, so that the ledger and older proofs go on to hold, and a row says what was erased.

    Example: guardrail ledger erase 2f1c6a0b9d5e4c3fa1b2c3d4e5f60718 --reason "request 17"

    Exit codes: 0 erased, 1 there is nothing of that id, or it could not be erased.
    """
    if as_json and not yes:
        raise SettingsInvalid("--json", "nobody can be asked; pass --yes, too")
    with _opened(read_settings(settings_file)) as memory:
        rows = memory.find(verdict_id)
        if not yes:
            typer.confirm(f"erase all rows about the image of row {rows[-1].sequence}, for good?", abort=True, err=True)
        sequences = memory.erase(verdict_id, reason)
    if as_json:
        print_json({"erased": list(sequences)})
        return
    numbers = ", ".join(map(str, sequences))
    Console(highlight=False).print(f"erased the content of rows {numbers}; older copies of the ledger still hold it")


def _opened(settings: "Settings") -> "closing[Memory]":
    from guardrail.memory import Memory

    return closing(Memory(settings.memory_url, must_exist=True, pictures=settings.pictures_place))


def _compared(memory: "Memory", keys: Path, files: list[Path] | None, verifiers: list[Path]) -> "list[Checkpoint]":
    """The checkpoints in files, and the one that was signed last."""
    from guardrail.memory import Checkpoints, NoteVerifier, read_checkpoint

    known = [NoteVerifier.from_file(path) for path in verifiers] if files else []
    compared = [read_checkpoint(one, known).checkpoint for one in files or ()]
    last = Checkpoints(memory, keys).last()
    return [*compared, last] if last is not None else compared


def _posted(note: str, url: str, keys: Path, out: Path | None) -> "LogEntry | None":
    """Post a checkpoint, and keep the answer beside its file; None, and a line on stderr, where that failed."""
    from guardrail.memory import post_checkpoint

    try:
        entry = post_checkpoint(note, url, keys)
    except LogUnreachable as error:
        aside().print(plain(f"error: {error}"), soft_wrap=True)
        return None
    aside().print(plain(f"entered into {url} as number {entry.log_index}"), soft_wrap=True)
    if out is not None:
        _write(out.with_name(out.name + _LOG_ENDING), json.dumps(entry.answer, indent=2) + "\n")
    return entry


def _write(path: Path | None, text: str) -> None:
    """Write a file that appears whole; nothing where none was asked for."""
    if path is None:
        return
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _read_proof(path: Path) -> InclusionProof:
    """The proof in a file.

    Raises:
        LedgerProofInvalid: it is none.
    """
    try:
        with path.open("rb") as file:
            return InclusionProof.model_validate_json(file.read(_LONGEST_PROOF))
    except (OSError, ValueError) as error:
        what = " ".join(str(error).split())[:200]
        raise LedgerProofInvalid(str(path), f"no proof ({what})", "what guardrail ledger prove wrote") from error
