"""What `guardrail verify` finds on a file."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from guardrail.records.base import Record
from guardrail.records.limits import Decision

__all__ = ["LayerFinding", "VerifyLayer", "VerifyOutcome", "VerifyReport"]


class VerifyOutcome(StrEnum):
    """What a file's credential is to us."""

    OURS = "ours"
    TAMPERED = "tampered"
    OTHER_SIGNER = "other_signer"
    NO_CREDENTIAL = "no_credential"
    EXPIRED = "expired"


LayerFinding = Literal["holds", "fails", "absent", "not_asked", "unavailable"]


class VerifyLayer(Record):
    """What one layer of proof says of a file, and on what ground; `facts` are for people, by name."""

    layer: Literal["credential", "time_stamp", "watermark", "ledger", "fingerprint"]
    finding: LayerFinding
    explanation: str
    facts: dict[str, str] = Field(default_factory=dict)


class VerifyReport(Record):
    """What `guardrail verify` says of one file; `states` are the C2PA validation codes behind it.

    `claims` is what the signer put their name to, by name and for people, where the signature is ours.
    """

    path: str
    outcome: VerifyOutcome
    explanation: str
    signer: str | None = None
    manifest_id: str | None = None
    decision: Decision | None = None
    states: tuple[str, ...] = ()
    layers: tuple[VerifyLayer, ...] = ()
    claims: dict[str, str] = Field(default_factory=dict)
