"""Sign how far a ledger goes, never against what was signed before; what was signed last is kept beside the key."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from guardrail.errors import KeysUnusable, LedgerProofInvalid
from guardrail.memory.ledger import Memory
from guardrail.memory.notes import Checkpoint, LedgerKey, NoteVerifier
from guardrail.memory.proving import open_checkpoint
from guardrail.memory.tree import EMPTY_ROOT
from guardrail.records import InclusionProof

__all__ = ["Checkpoints", "SignedCheckpoint", "read_checkpoint"]

_LAST = "ledger.checkpoint"  # in the folder of the keys: what was signed last
_LONGEST_NOTE = 1 << 20  # bytes of a file with a checkpoint


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint, and the note that is handed out."""

    checkpoint: Checkpoint
    note: str


class Checkpoints:
    """The checkpoints of one ledger.

    Args:
        memory: the ledger.
        folder: of the signing keys, where the ledger has a key of its own.
    """

    def __init__(self, memory: Memory, folder: Path) -> None:
        self._memory, self._folder = memory, folder

    def last(self) -> Checkpoint | None:
        """What was signed last, if anything was and the key's folder is at hand.

        Raises:
            LedgerProofInvalid: the file was edited, or is another ledger's.
        """
        path = self._folder / _LAST
        if not path.exists():
            return None
        return read_checkpoint(path, [NoteVerifier.from_file(self._folder / LedgerKey.PUBLIC_FILE)]).checkpoint

    def sign(self, told: Callable[[int, int], None] | None = None) -> SignedCheckpoint:
        """Check the whole ledger, what was signed last included, and sign how far it goes now.

        Raises:
            LedgerBroken: the ledger does not hold, or rows that were signed for are cut off or others.
            LedgerProofInvalid: what was signed last is not there as it was signed.
            KeysUnusable: the key there is another ledger's, or none.
        """
        key = LedgerKey.at(self._folder, self._memory.origin)
        last = self.last()
        rows, root = self._memory.verify([last] if last else [], told=told)
        checkpoint = Checkpoint(self._memory.origin, rows, bytes.fromhex(root))
        note = key.sign(checkpoint)
        self._keep(note)
        return SignedCheckpoint(checkpoint, note)

    def prove(self, wanted: str, told: Callable[[int, int], None] | None = None) -> tuple[InclusionProof, ...]:
        """Proofs of the rows that a number or an id stands for, under a checkpoint signed now.

        Raises:
            LedgerRowMissing: there is no such row.
            LedgerBroken, LedgerProofInvalid, KeysUnusable: as `sign`.
        """
        rows = self._memory.find(wanted)
        signed = self.sign(told)
        return tuple(self._memory.prove(row, signed.checkpoint, signed.note) for row in rows)

    def _keep(self, note: str) -> None:
        part = self._folder / f".{uuid4().hex}.part"
        try:
            part.write_text(note, encoding="utf-8")
            part.replace(self._folder / _LAST)
        except OSError as error:
            raise KeysUnusable(str(self._folder / _LAST), f"a file that cannot be written ({error})", "one") from error


def read_checkpoint(path: Path, verifiers: Sequence[NoteVerifier]) -> SignedCheckpoint:
    """The checkpoint in a file, its signature checked.

    Raises:
        LedgerProofInvalid: it cannot be read, or is signed by none of the verifiers.
    """
    try:
        with path.open("rb") as file:
            note = file.read(_LONGEST_NOTE + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerProofInvalid(str(path), f"no text ({error})", "a signed checkpoint") from error
    checkpoint = open_checkpoint(note, verifiers, str(path))
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise LedgerProofInvalid(str(path), "an empty ledger with another root", "the hash of nothing")
    return SignedCheckpoint(checkpoint, note)
