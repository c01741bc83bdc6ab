"""The frozen records that cross rooms, in flow order: run, work, neighbour, evidence, verdict, release."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, Self
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, Field, PlainSerializer, model_validator

__all__ = [
    "VIEWS",
    "Adapter",
    "BitsLimit",
    "CheckFailed",
    "CopyMatch",
    "Credit",
    "Decision",
    "Disposition",
    "EmbedderSpec",
    "Evidence",
    "ExactMatch",
    "GenerationContext",
    "HashMatch",
    "IndexHeader",
    "Limits",
    "MatchEvidence",
    "Neighbour",
    "PixelMatch",
    "Record",
    "Release",
    "SemanticMatch",
    "Signal",
    "SimilarityLimit",
    "Timings",
    "Verdict",
    "VerifyOutcome",
    "VerifyReport",
    "View",
    "Work",
]

Seed = Annotated[int, PlainSerializer(str, when_used="json")]  # 64 bits, more than JSON numbers hold exactly
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

View = Literal[
    "identity", "rotate_90", "rotate_180", "rotate_270", "flip_left_right", "flip_top_bottom", "transpose", "transverse"
]
VIEWS: tuple[View, ...] = (
    "identity",
    "rotate_90",
    "rotate_180",
    "rotate_270",
    "flip_left_right",
    "flip_top_bottom",
    "transpose",
    "transverse",
)
"""The eight dihedral views, by the names of Pillow's `Image.Transpose` (turns are counter-clockwise)."""


class Record(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Base of all records: immutable, no unknown fields, no NaN (JSON would turn it into null)."""


class Decision(StrEnum):
    """What is to happen with an image; compare by `severity`, never as text."""

    ACCEPT = "accept"
    FLAG = "flag"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        """0 for accept, 1 for flag, 2 for block."""
        return list(Decision).index(self)


class Disposition(StrEnum):
    """What a match with a work means: protect it, credit its maker, or ignore generic imagery."""

    PROTECT = "protect"
    CREDIT = "credit"
    IGNORE = "ignore"


class Signal(StrEnum):
    """How a likeness was measured."""

    BYTES = "bytes"
    PIXELS = "pixels"
    PDQ = "pdq"
    PHASH = "phash"
    COPY = "copy"
    CLIP = "clip"
    CORRELATION = "correlation"


# --- the run -----------------------------------------------------------------------------------------------


class Adapter(Record):
    """An adapter (LoRA and the like) that was active: its name, weight, and sha256 where it could be read."""

    name: str
    weight: float | None = None
    sha256: Sha256 | None = None


class GenerationContext(Record):
    """How a model was run. `unread` names every field that could not be read, with the reason: nothing is guessed."""

    schema_version: Literal[1] = 1
    run_id: str = Field(default_factory=lambda: uuid4().hex)
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    pipeline: str
    model_id: str | None = None
    model_revision: str | None = None
    weights_sha256: Sha256 | None = None
    scheduler: str | None = None
    adapters: tuple[Adapter, ...] = ()
    prompts: dict[str, str | tuple[str, ...]] = Field(default_factory=dict, repr=False)
    guidance_scale: float | None = None
    steps: int | None = None
    seed: Seed | None = None
    strength: float | None = None
    init_image_sha256: Sha256 | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def without_prompts(self) -> Self:
        """The same run with every prompt field taken out, for whatever leaves this machine."""
        return self.model_copy(update={"prompts": {}})


# --- works, and what they are searched with ----------------------------------------------------------------


class Work(Record):
    """One work of an index, with its owner and what a match with it means."""

    work_id: str = Field(min_length=1)
    bank: str = "default"
    title: str = ""
    creator: str = ""
    rights_holder: str = ""
    licence: str = ""
    source: str = ""
    disposition: Disposition = Disposition.PROTECT
    opted_out_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    multiplicity: int = Field(default=1, ge=1)

    def standing(self, at: datetime) -> Disposition | None:
        """What a match means at a moment; None when the row no longer counts.

        An opt-out turns any row into `protect` from its date on. When a row expires, protection and
        suppression end (None), and a licence to credit ends, so the work is protected again.
        """
        if self.opted_out_at is not None and self.opted_out_at <= at:
            return Disposition.PROTECT
        if self.expires_at is not None and self.expires_at <= at:
            return Disposition.PROTECT if self.disposition is Disposition.CREDIT else None
        return self.disposition


class EmbedderSpec(Record):
    """What vectors were made with; two vectors may be compared only when these are equal."""

    name: str
    weights_sha256: Sha256
    preprocessing: str
    dimensions: int = Field(gt=0)

    def __str__(self) -> str:
        return f"{self.name} ({self.weights_sha256[:12]}, {self.preprocessing})"


class BitsLimit(Record):
    """Limits on a Hamming distance, inclusive: a distance equal to the limit reaches it. None: never reaches."""

    flag_within_bits: int | None = Field(default=None, ge=0)
    block_within_bits: int | None = Field(default=None, ge=0)

    def reached(self, distance_bits: int) -> Decision:
        """The decision this distance is enough for."""
        if self.block_within_bits is not None and distance_bits <= self.block_within_bits:
            return Decision.BLOCK
        if self.flag_within_bits is not None and distance_bits <= self.flag_within_bits:
            return Decision.FLAG
        return Decision.ACCEPT


class SimilarityLimit(Record):
    """Limits on a cosine or correlation (-1..1), inclusive: a value equal to the limit reaches it. None: never."""

    flag_above: float | None = Field(default=None, ge=-1, le=1)
    block_above: float | None = Field(default=None, ge=-1, le=1)

    def reached(self, similarity: float) -> Decision:
        """The decision this similarity is enough for."""
        if self.block_above is not None and similarity >= self.block_above:
            return Decision.BLOCK
        if self.flag_above is not None and similarity >= self.flag_above:
            return Decision.FLAG
        return Decision.ACCEPT


class Limits(Record):
    """The limits of every signal, and the calibration that set them (`uncalibrated`: shipped defaults)."""

    calibration: str = "uncalibrated"
    pdq: BitsLimit = BitsLimit()
    phash: BitsLimit = BitsLimit()
    copy_: SimilarityLimit = Field(default=SimilarityLimit(), alias="copy")
    clip: SimilarityLimit = SimilarityLimit()
    correlation: SimilarityLimit = SimilarityLimit()
    pdq_quality_at_least: int = Field(default=0, ge=0, le=100)

    model_config = {"populate_by_name": True, "serialize_by_alias": True}

    def overridden(self, by: "Limits") -> "Limits":
        """These limits with every single one that `by` says in its place; what it leaves out stays."""
        said: dict[str, object] = {}
        for name in by.model_fields_set:
            mine, theirs = getattr(self, name), getattr(by, name)
            fields = theirs.model_fields_set if isinstance(theirs, Record) else ()
            said[name] = mine.model_copy(update={f: getattr(theirs, f) for f in fields}) if fields else theirs
        calibration = {"calibration": f"{self.calibration}, overridden"} if "calibration" not in said else {}
        return self.model_copy(update=said | calibration)


class IndexHeader(Record):
    """What an index says of itself."""

    format: Literal[1] = 1
    snapshot: Sha256
    works: int = Field(ge=0)
    banks: dict[str, int]
    embedders: dict[Literal["copy", "clip"], EmbedderSpec]
    hashes: dict[str, str]
    limits: Limits
    built_at: AwareDatetime
    unreadable: int = Field(ge=0)


class Neighbour(Record):
    """A work that is near an image by one signal: a similarity (higher is closer) or a distance (lower is)."""

    work: Work
    row: int = Field(ge=0)
    signal: Signal
    similarity: float | None = Field(default=None, ge=-1, le=1)
    distance_bits: int | None = Field(default=None, ge=0)
    view: View = "identity"

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.similarity is None) == (self.distance_bits is None):
            raise ValueError("a neighbour has either a similarity or a distance_bits")
        return self


# --- evidence ----------------------------------------------------------------------------------------------


class ExactMatch(Record):
    """The same bytes, or the same pixels, as a work."""

    kind: Literal["exact_match"] = "exact_match"
    work: Work
    signal: Literal[Signal.BYTES, Signal.PIXELS]


class HashMatch(Record):
    """A perceptual hash within the flag limit of a work's."""

    kind: Literal["hash_match"] = "hash_match"
    work: Work
    signal: Literal[Signal.PDQ, Signal.PHASH]
    distance_bits: int = Field(ge=0)
    view: View = "identity"


class CopyMatch(Record):
    """A copy descriptor at or above the flag limit of a work's."""

    kind: Literal["copy_match"] = "copy_match"
    work: Work
    signal: Literal[Signal.COPY] = Signal.COPY
    similarity: float = Field(ge=-1, le=1)


class PixelMatch(Record):
    """Small pixels that agree once brightness, tint and contrast are taken out (works of one series may, too)."""

    kind: Literal["pixel_match"] = "pixel_match"
    work: Work
    signal: Literal[Signal.CORRELATION] = Signal.CORRELATION
    similarity: float = Field(ge=-1, le=1)
    view: View = "identity"


class SemanticMatch(Record):
    """A CLIP vector at or above the flag limit of a work's: what it resembles, never proof of copying."""

    kind: Literal["semantic_match"] = "semantic_match"
    work: Work
    signal: Literal[Signal.CLIP] = Signal.CLIP
    similarity: float = Field(ge=-1, le=1)


class CheckFailed(Record):
    """A check that could not answer. The policy decides what that means; it is never an accept."""

    kind: Literal["check_failed"] = "check_failed"
    check: str
    image: str
    error: str


MatchEvidence = ExactMatch | HashMatch | CopyMatch | PixelMatch | SemanticMatch
Evidence = Annotated[MatchEvidence | CheckFailed, Field(discriminator="kind")]


# --- the verdict, and what follows from it -----------------------------------------------------------------


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
    """The decision on one image, the rule that decided, and all it rests on."""

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
