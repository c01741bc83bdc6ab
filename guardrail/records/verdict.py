"""The verdict, and what follows from it."""

from typing import Literal
from uuid import uuid4

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Sha256
from guardrail.records.evidence import Evidence
from guardrail.records.index import Neighbour
from guardrail.records.limits import Decision

__all__ = ["Credit", "Timings", "Verdict"]


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
    adapters, by the adapter's name, that were searched besides the index of `index_snapshot`. `earlier_verdict_id` is
    the verdict on the image as it was generated, where this one is on the image as it leaves, marked or compressed.
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
    earlier_verdict_id: str | None = None
    policy_sha256: Sha256
    calibration: str
    timings: Timings | None = None
