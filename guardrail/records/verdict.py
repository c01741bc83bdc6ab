"""The verdict, and what follows from it."""

from enum import StrEnum
from typing import Literal
from uuid import uuid4

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Sha256
from guardrail.records.evidence import Evidence
from guardrail.records.index import Neighbour
from guardrail.records.limits import Decision

__all__ = [
    "Credit",
    "Release",
    "Timings",
    "Verdict",
    "VerifyOutcome",
    "VerifyReport",
]


class Credit(Record):
    """A licensed work that an accepted image comes near, so its maker is named."""

    work_id: str
    bank: str
    title: str
    creator: str
    rights_holder: str
    licence: str


class Timings(Record):
    """Wall time spent on one batch, in milliseconds."""

    fingerprint_ms: float = Field(ge=0)
    search_ms: float = Field(ge=0)
    evidence_ms: float = Field(ge=0)


class Verdict(Record):
    """The decision on one image, the rule that decided, and all it rests on.

    `input_repeated` names the user's own input that the image repeats where that input itself is a copy of the works
    that decided: not memorisation, and no retry can help. `adapter_snapshots` are those of the indexes of active
    adapters, by the adapter's name, that were searched besides the index of `index_snapshot`.
    """

    schema_version: Literal[1] = 1
    verdict_id: str = Field(default_factory=lambda: uuid4().hex)
    run_id: str | None = None
    image: str
    pixels_sha256: Sha256 | None
    at: AwareDatetime
    decision: Decision
    rule: str
    explanation: str
    evidence: tuple[Evidence, ...]
    nearest: tuple[Neighbour, ...]
    credits: tuple[Credit, ...] = ()
    index_snapshot: Sha256 | None
    adapter_snapshots: dict[str, Sha256] = Field(default_factory=dict)
    frames: tuple[str, ...] = ()
    input_repeated: str | None = None
    policy_sha256: Sha256
    calibration: str
    timings: Timings | None = None


class Release(Record):
    """A signed file that left: where to, its bytes, and the manifest in it."""

    schema_version: Literal[1] = 1
    verdict_id: str
    file: str
    file_sha256: Sha256
    manifest_id: str
    at: AwareDatetime


class VerifyOutcome(StrEnum):
    """What a file's credential is to us."""

    OURS = "ours"
    TAMPERED = "tampered"
    OTHER_SIGNER = "other_signer"
    NO_CREDENTIAL = "no_credential"
    EXPIRED = "expired"


class VerifyReport(Record):
    """What `guardrail verify` says of one file; `states` are the C2PA validation codes behind it."""

    path: str
    outcome: VerifyOutcome
    explanation: str
    signer: str | None = None
    manifest_id: str | None = None
    decision: Decision | None = None
    states: tuple[str, ...] = ()
