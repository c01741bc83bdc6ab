"""What all records share: the base class, digests, seeds, views and regions of pictures."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, PlainSerializer

__all__ = [
    "VIEWS",
    "Point",
    "Record",
    "Region",
    "Seed",
    "Sha256",
    "View",
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


class Point(Record):
    """A place in a picture, in fractions of its width and height from the upper left corner; outside 0..1 beside it."""

    x: float
    y: float


class Region(Record):
    """A rectangle of a picture, in fractions of its width and height from the upper left corner."""

    left: float = Field(ge=0, le=1)
    top: float = Field(ge=0, le=1)
    width: float = Field(ge=0, le=1)
    height: float = Field(ge=0, le=1)
