"""Verdicts and releases in, a ledger that can be proved and a review queue out; the only room with SQLAlchemy."""

from guardrail.memory.appending import LedgerRow
from guardrail.memory.checking import LedgerTip
from guardrail.memory.checkpoints import Checkpoints, SignedCheckpoint, read_checkpoint
from guardrail.memory.ledger import Held, LedgerCounts, Memory
from guardrail.memory.notes import Checkpoint, LedgerKey, NoteVerifier
from guardrail.memory.posting import LogEntry, post_checkpoint
from guardrail.memory.proving import check_proof
from guardrail.memory.releases import Reconciled
from guardrail.memory.tables import Case

__all__ = [
    "Case",
    "Checkpoint",
    "Checkpoints",
    "Held",
    "LedgerCounts",
    "LedgerKey",
    "LedgerRow",
    "LedgerTip",
    "LogEntry",
    "Memory",
    "NoteVerifier",
    "Reconciled",
    "SignedCheckpoint",
    "check_proof",
    "post_checkpoint",
    "read_checkpoint",
]
