"""Verdicts and releases in, a ledger that can be proved and a review queue out; the only room with SQLAlchemy."""

from guardrail.memory.accounts import Accounts
from guardrail.memory.accounts_links import LINK_HOURS
from guardrail.memory.accounts_shapes import (
    ROLES,
    SCOPE_NEEDS,
    SCOPES,
    Browser,
    Person,
    Preferences,
    TokenShown,
    at_least,
    must_have_totp,
)
from guardrail.memory.accounts_signing import KnownElsewhere
from guardrail.memory.adapters import AdapterEntry, Adapters
from guardrail.memory.appending import LedgerRow
from guardrail.memory.audit import Audit, AuditFilter, AuditShown
from guardrail.memory.changes import ChangeKind, ChangeShown
from guardrail.memory.checking import LedgerTip
from guardrail.memory.checkpoints import Checkpoints, SignedCheckpoint, read_checkpoint
from guardrail.memory.idempotency import KnownAnswer
from guardrail.memory.jobs import JobRow
from guardrail.memory.ledger import Held, LedgerCounts, Memory
from guardrail.memory.notes import Checkpoint, LedgerKey, NoteVerifier
from guardrail.memory.posting import LogEntry, post_checkpoint
from guardrail.memory.proving import check_proof
from guardrail.memory.releases import Reconciled
from guardrail.memory.review_shapes import (
    AppealShown,
    Batch,
    BlindPair,
    BulkPreview,
    CaseDetails,
    CasePage,
    Decided,
    DecidedPair,
    DecisionShown,
    HeldCase,
    PairLabel,
    RuleCount,
    SightingShown,
    SignalValue,
    Waiting,
    WorkHistory,
)
from guardrail.memory.reviews import Reviews
from guardrail.memory.tables import Case
from guardrail.memory.usage import Usage, UsedImage
from guardrail.memory.webhooks import EVENTS, DeliveryRow, DueDelivery, DueHook, WebhookEvent, WebhookRow

__all__ = [
    "EVENTS",
    "LINK_HOURS",
    "ROLES",
    "SCOPES",
    "SCOPE_NEEDS",
    "Accounts",
    "AdapterEntry",
    "Adapters",
    "AppealShown",
    "Audit",
    "AuditFilter",
    "AuditShown",
    "Batch",
    "BlindPair",
    "Browser",
    "BulkPreview",
    "Case",
    "CaseDetails",
    "CasePage",
    "ChangeKind",
    "ChangeShown",
    "Checkpoint",
    "Checkpoints",
    "Decided",
    "DecidedPair",
    "DecisionShown",
    "DeliveryRow",
    "DueDelivery",
    "DueHook",
    "Held",
    "HeldCase",
    "JobRow",
    "KnownAnswer",
    "KnownElsewhere",
    "LedgerCounts",
    "LedgerKey",
    "LedgerRow",
    "LedgerTip",
    "LogEntry",
    "Memory",
    "NoteVerifier",
    "PairLabel",
    "Person",
    "Preferences",
    "Reconciled",
    "Reviews",
    "RuleCount",
    "SightingShown",
    "SignalValue",
    "SignedCheckpoint",
    "TokenShown",
    "Usage",
    "UsedImage",
    "Waiting",
    "WebhookEvent",
    "WebhookRow",
    "WorkHistory",
    "at_least",
    "check_proof",
    "must_have_totp",
    "post_checkpoint",
    "read_checkpoint",
]
