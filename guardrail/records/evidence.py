"""What was found on an image."""

from typing import Annotated, Literal

from pydantic import Field

from guardrail.records.base import Record, Region, View
from guardrail.records.limits import Signal
from guardrail.records.works import Work

__all__ = [
    "CheckFailed",
    "CopyMatch",
    "Evidence",
    "ExactMatch",
    "HashMatch",
    "MatchEvidence",
    "PixelMatch",
    "SemanticMatch",
]


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
    """A copy descriptor at or above the flag limit of a work's.

    The signal is `copy` where wholes were compared, and `tile` where a tile of either was: `region` says which tile of
    the image, `work_region` which of the work; None is the whole.
    """

    kind: Literal["copy_match"] = "copy_match"
    work: Work
    signal: Literal[Signal.COPY, Signal.TILE] = Signal.COPY
    similarity: float = Field(ge=-1, le=1)
    view: View = "identity"
    region: Region | None = None
    work_region: Region | None = None


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
