"""That what a case file says is in the ledger: its rows, each with a proof under a checkpoint signed now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from guardrail.errors import KeysUnusable, LedgerRowMissing
from guardrail.memory import Checkpoints, LedgerKey, NoteVerifier, check_proof

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from guardrail.memory import CaseDetails, LedgerRow, Memory

__all__ = ["LedgerView", "ProofView", "prove_case"]

_ROWS_AT_MOST = 200  # of one case; more are seen in the ledger itself


@dataclass(frozen=True, slots=True)
class ProofView:
    """One row of the ledger with its proof; `document` is what `guardrail ledger check-proof` reads."""

    number: int
    kind: str
    about: str
    leaf_sha256: str
    erased: bool
    name: str
    document: str


@dataclass(frozen=True, slots=True)
class LedgerView:
    """The rows of a case, proved; `missing` says why there are no proofs, and is empty where there are."""

    origin: str
    size: int
    root: str
    checkpoint: str
    verifier: str
    proofs: tuple[ProofView, ...]
    missing: str = ""


def prove_case(
    memory: Memory, keys: Path, details: CaseDetails, told: Callable[[int, int], None] | None = None
) -> LedgerView:
    """Prove the rows of a case: its verdict, every decision that its reader may know of, and the release.

    Each proof is checked as its reader will do it, before it is handed out.

    Raises:
        LedgerBroken, LedgerProofInvalid: the ledger does not hold; no file is made of it.
        MemoryUnwritable: it cannot be read.
    """
    found = _rows_of(memory, details)
    try:
        signed = Checkpoints(memory, keys).sign(told)
        public = (keys / LedgerKey.PUBLIC_FILE).read_text(encoding="utf-8").strip()
    except (KeysUnusable, OSError) as error:
        numbers = ", ".join(str(row.sequence) for _, row in found)
        why = f"no checkpoint could be signed ({type(error).__name__}); the rows are {numbers}"
        return LedgerView(memory.origin, 0, "", "", "", (), why)
    verifier = NoteVerifier(public, LedgerKey.PUBLIC_FILE)
    proofs = []
    for about, row in found:
        proof = memory.prove(row, signed.checkpoint, signed.note)
        check_proof(proof, [verifier], f"row {row.sequence}")
        name = f"proof-{row.sequence}.json"
        document = proof.model_dump_json(indent=2) + "\n"
        proofs.append(ProofView(row.sequence, row.kind, about, row.leaf_sha256, row.erased, name, document))
    made = signed.checkpoint
    return LedgerView(made.origin, made.size, made.root.hex(), signed.note, public, tuple(proofs))


def _rows_of(memory: Memory, details: CaseDetails) -> list[tuple[str, LedgerRow]]:
    """The rows of a case, each once, with what they say."""
    wanted = [(details.verdict.verdict_id, "the verdict on the image")]
    wanted += [
        (
            one.decision.decision_id,
            "a decision that was taken back" if one.undone else f"a decision, {one.decision.round}",
        )
        for one in details.decisions
    ]
    if details.released_by is not None and (release := memory.release_of(details.released_by)) is not None:
        wanted.append((release.manifest_id, "the release of the signed file"))
    found: dict[int, tuple[str, LedgerRow]] = {}
    for wanted_id, about in wanted[:_ROWS_AT_MOST]:
        try:
            for row in memory.find(wanted_id):
                found.setdefault(row.sequence, (about, row))
        except LedgerRowMissing:  # a decision of a case that was carried over from elsewhere has no row here
            continue
    return [found[sequence] for sequence in sorted(found)]
