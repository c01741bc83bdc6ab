"""What was found on an image."""

from typing import Annotated, Literal

from pydantic import Field

from guardrail.records.base import Point, Record, Region, View
from guardrail.records.limits import Decision, Signal
from guardrail.records.run import InputRole
from guardrail.records.works import Work

__all__ = [
    "CheckFailed",
    "CopyMatch",
    "Evidence",
    "ExactMatch",
    "GeometryMatch",
    "HashMatch",
    "InputMatch",
    "MatchEvidence",
    "MemorisationSign",
    "PixelMatch",
    "RunEvidence",
    "SemanticMatch",
    "SignUnavailable",
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


class InputMatch(Record):
    """An image that repeats a picture which the user gave to the pipeline: no sign that the model memorised anything.

    `input` and `role` say which picture. `works` are those that the picture itself comes near, as far as a flag limit,
    by another signal than CLIP: an image that repeats it comes near them because of the input. Distances are in bits;
    exact pixels (signal `pixels`) have neither measure.
    """

    kind: Literal["input_match"] = "input_match"
    input: str
    role: InputRole
    signal: Literal[Signal.PIXELS, Signal.PDQ, Signal.PHASH, Signal.COPY]
    similarity: float | None = Field(default=None, ge=-1, le=1)
    distance_bits: int | None = Field(default=None, ge=0)
    view: View = "identity"
    works: tuple[Work, ...] = ()


class CheckFailed(Record):
    """A check that could not answer. The policy decides what that means; it is never an accept."""

    kind: Literal["check_failed"] = "check_failed"
    check: str
    image: str
    error: str


class MemorisationSign(Record):
    """A sign of memorisation that was measured while an image came about, and the limit that it reaches.

    `sign` names the plugin's sign that measured `value`, in `unit`, higher is more suspicious, put together over
    `steps` steps; `step` is the one after which it was decided, counted from 1, or None where the whole run was
    measured. Without limits (None) it reaches nothing: `calibration` is the id of the calibration they come from,
    `settings`, or `uncalibrated` with the reason. `action` says what was done about it, `work` which work a look-up
    found nearest.
    """

    kind: Literal["memorisation_sign"] = "memorisation_sign"
    sign: str
    value: float
    unit: str = ""
    steps: int = Field(default=1, ge=0)
    reaches: Decision = Decision.ACCEPT
    step: int | None = Field(default=None, ge=0)
    flag_above: float | None = None
    block_above: float | None = None
    calibration: str = "uncalibrated"
    action: str = "recorded"
    work: Work | None = None


class SignUnavailable(Record):
    """A sign of memorisation that was asked for and could not be measured on this run, with the reason."""

    kind: Literal["sign_unavailable"] = "sign_unavailable"
    sign: str
    reason: str


MatchEvidence = ExactMatch | HashMatch | CopyMatch | PixelMatch | GeometryMatch | SemanticMatch
RunEvidence = InputMatch | MemorisationSign | SignUnavailable
Evidence = Annotated[MatchEvidence | Unproved | RunEvidence | CheckFailed, Field(discriminator="kind")]
