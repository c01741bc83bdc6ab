"""What was found on an image."""

from typing import Annotated, Literal

from pydantic import Field

from guardrail.records.base import Point, Record, Region, View
from guardrail.records.limits import Signal
from guardrail.records.works import Work

__all__ = [
    "CheckFailed",
    "CopyMatch",
    "Evidence",
    "ExactMatch",
    "GeometryMatch",
    "HashMatch",
    "MatchEvidence",
    "PixelMatch",
    "SemanticMatch",
    "Unproved",
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
    """Small pixels that agree once brightness, tint and contrast are taken out (works of one series may, too).

    `tile_l2` is the distance of the farthest of 4 x 4 tiles (0..1), which tells works of one series apart; None where
    it was not measured.
    """

    kind: Literal["pixel_match"] = "pixel_match"
    work: Work
    signal: Literal[Signal.CORRELATION] = Signal.CORRELATION
    similarity: float = Field(ge=-1, le=1)
    view: View = "identity"
    tile_l2: float | None = Field(default=None, ge=0, le=1)


class GeometryMatch(Record):
    """Local features of a work that were found again in the image, lying to each other as in the work: proof.

    `inliers` counts the points; `work_hull` is the convex hull around them in the work, and `overlap` its area as a
    share of the work's (0..1). `image_corners` says where the corners of the work's frame lie in the image, clockwise
    from the work's upper left. `tile_l2` is as in `PixelMatch`, over the tiles that the image shows.
    """

    kind: Literal["geometry_match"] = "geometry_match"
    work: Work
    signal: Literal[Signal.GEOMETRY] = Signal.GEOMETRY
    inliers: int = Field(ge=0)
    overlap: float = Field(ge=0, le=1)
    image_corners: tuple[Point, ...]
    work_hull: tuple[Point, ...] = ()
    view: View = "identity"
    tile_l2: float | None = Field(default=None, ge=0, le=1)


class Unproved(Record):
    """A closer look at a work that had enough to go by, and found no region of it in the image.

    It makes a flag of a block that rests on a likeness alone. Where there is too little to go by (`keypoints`, those of
    the poorer of both pictures), or the look failed, there is no such evidence, and the block stands.
    """

    kind: Literal["unproved"] = "unproved"
    work: Work
    signal: Literal[Signal.GEOMETRY] = Signal.GEOMETRY
    inliers: int = Field(ge=0)
    keypoints: int = Field(ge=0)


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


MatchEvidence = ExactMatch | HashMatch | CopyMatch | PixelMatch | GeometryMatch | SemanticMatch
Evidence = Annotated[MatchEvidence | Unproved | CheckFailed, Field(discriminator="kind")]
