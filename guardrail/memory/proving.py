"""Checkpoints and proofs of a ledger, and how they are checked by people who do not have it."""

from collections.abc import Sequence

from sqlalchemy import select

from guardrail.errors import LedgerBroken, LedgerProofInvalid, LedgerRowMissing
from guardrail.memory.appending import LedgerRow, row_of
from guardrail.memory.database import Database
from guardrail.memory.finding import labelled, size_of
from guardrail.memory.notes import Checkpoint, NoteVerifier
from guardrail.memory.tables import LedgerState, StoredRow
from guardrail.memory.tree import inclusion_path, leaf_hash, root_from_path, root_of
from guardrail.records import InclusionProof

__all__ = ["check_proof", "find_rows", "open_checkpoint", "origin_of", "prove_row", "roots_of"]

_ORIGIN = "diffusion-guardrail/ledger"  # put before a ledger's id
_KINDS_OF_ID = {"v": ("verdict",), "m": ("release",), "i": ("intent",), "d": ("review",)}  # which row an id stands for


def origin_of(database: Database) -> str:
    """The name under which a ledger's checkpoints are signed; no two ledgers have the same."""
    with database.reading() as session:
        return f"{_ORIGIN}/{session.scalars(select(LedgerState.ledger_id)).one()}"


def roots_of(checkpoints: Sequence[Checkpoint], origin: str) -> dict[int, bytes]:
    """By size, the roots that a ledger had.

    Raises:
        LedgerProofInvalid: a checkpoint is another ledger's, or two of one size have other roots: a fork.
    """
    roots: dict[int, bytes] = {}
    for checkpoint in checkpoints:
        if checkpoint.origin != origin:
            raise LedgerProofInvalid("checkpoint", f"the ledger {checkpoint.origin!r}", f"{origin!r}, this one")
        if roots.setdefault(checkpoint.size, checkpoint.root) != checkpoint.root:
            raise LedgerProofInvalid("checkpoint", f"two roots of {checkpoint.size} rows", "one: the ledger was forked")
    return roots


def find_rows(database: Database, wanted: str) -> tuple[LedgerRow, ...]:
    """The rows that a number, or the id of a verdict, a manifest or an intent, stands for, oldest first.

    Raises:
        LedgerRowMissing: there is none.
        LedgerBroken: such a row was edited.
    """
    found: list[LedgerRow] = []
    with database.reading() as session:
        if wanted.isdecimal() and len(wanted) < 19:
            if 1 <= int(wanted) <= size_of(session):
                rows = session.scalars(select(StoredRow).where(StoredRow.sequence == int(wanted)))
                found = [row_of(row) for row in rows]
        else:
            for letter, kinds in _KINDS_OF_ID.items():
                found += labelled(session, [f"{letter}:{wanted}"], kinds)
    if not found:
        raise LedgerRowMissing(database.shown, wanted)
    return tuple(found)


def prove_row(database: Database, row: LedgerRow, checkpoint: Checkpoint, note: str) -> InclusionProof:
    """That a row is in the ledger that a checkpoint describes.

    Args:
        database: where the ledger lies.
        row: which row.
        checkpoint: what was signed, of as many rows at least.
        note: the same, signed.

    Raises:
        LedgerBroken: the ledger does not lead to the checkpoint's root.
        LedgerRowMissing: the checkpoint is older than the row.
    """
    query = (
        select(StoredRow.leaf_hash).where(StoredRow.sequence.between(1, checkpoint.size)).order_by(StoredRow.sequence)
    )
    with database.reading() as session:
        hashes = list(session.scalars(query))
    if len(hashes) != checkpoint.size or root_of(hashes) != checkpoint.root:
        raise LedgerBroken(row.sequence, "a tree of other rows", f"that of the checkpoint of {checkpoint.size} rows")
    if row.sequence > checkpoint.size:
        raise LedgerRowMissing(database.shown, f"{row.sequence} of the first {checkpoint.size}")
    index = row.sequence - 1
    return InclusionProof(
        index=index,
        leaf=None if row.leaf is None else row.leaf.decode(),
        leaf_sha256=row.leaf_sha256,
        path=tuple(one.hex() for one in inclusion_path(hashes, index)),
        checkpoint=note,
    )


def check_proof(proof: InclusionProof, verifiers: Sequence[NoteVerifier], name: str) -> Checkpoint:
    """Check a proof, without the ledger.

    Args:
        proof: what was handed out.
        verifiers: whose checkpoints count; any of them.
        name: what people know the proof by: a file.

    Returns:
        The checkpoint that it leads to.

    Raises:
        LedgerProofInvalid: the checkpoint is not signed by any of them, or the row does not lead to it.
    """
    checkpoint = open_checkpoint(proof.checkpoint, verifiers, name)
    digest = bytes.fromhex(proof.leaf_sha256)
    if proof.leaf is not None and leaf_hash(proof.leaf.encode("utf-8", "surrogatepass")) != digest:
        raise LedgerProofInvalid(name, "a row that was edited", f"a leaf of hash {proof.leaf_sha256[:12]}")
    try:
        root = root_from_path(digest, proof.index, checkpoint.size, [bytes.fromhex(one) for one in proof.path])
    except ValueError as error:
        raise LedgerProofInvalid(name, str(error), "a path to the root") from error
    if root != checkpoint.root:
        raise LedgerProofInvalid(name, f"a path to {root.hex()[:12]}", f"one to the root {checkpoint.root.hex()[:12]}")
    return checkpoint


def open_checkpoint(note: str, verifiers: Sequence[NoteVerifier], name: str) -> Checkpoint:
    """The checkpoint in a signed note, checked; its origin is the name of the key that signed it.

    Raises:
        LedgerProofInvalid: none of the verifiers signed it, or it is another ledger's.
    """
    refused = LedgerProofInvalid(name, "no key to check it with", "a verifier key (ledger.pub)")
    for verifier in verifiers:
        try:
            checkpoint = Checkpoint.from_text(verifier.opened(note, name), name)
        except LedgerProofInvalid as error:
            refused = error
            continue
        if checkpoint.origin != verifier.name:
            raise LedgerProofInvalid(name, f"the ledger {checkpoint.origin[:80]!r}", verifier.name)
        return checkpoint
    raise refused
