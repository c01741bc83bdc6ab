"""What an index says of itself, and what it answers."""

from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from guardrail.records.base import Record, Region, Sha256, View
from guardrail.records.limits import Limits, Signal
from guardrail.records.works import Work

__all__ = [
    "EmbedderSpec",
    "IndexHeader",
    "Neighbour",
    "Sampling",
]


class EmbedderSpec(Record):
    """What vectors were made with; two vectors may be compared only when these are equal."""

    name: str
    weights_sha256: Sha256
    preprocessing: str
    dimensions: int = Field(gt=0)

    def __str__(self) -> str:
        return f"{self.name} ({self.weights_sha256[:12]}, {self.preprocessing})"


class Sampling(Record):
    """Where the copy descriptor looks: at the whole picture always, at tiles and turned views where asked.

    `tiles` counts the vectors of a work (the whole, then overlapping tiles), `query_tiles` those of an image that is
    searched for, and `query_views` in how many dihedral views its whole is looked at, in the order of `VIEWS`.
    """

    tiles: Literal[1, 5, 10, 14] = 1
    query_tiles: Literal[1, 5, 10, 14] = 1
    query_views: Literal[1, 4, 8] = 1


class IndexHeader(Record):
    """What an index says of itself."""

    format: Literal[1] = 1
    snapshot: Sha256
    works: int = Field(ge=0)
    banks: dict[str, int]
    embedders: dict[Literal["copy", "clip"], EmbedderSpec]
    hashes: dict[str, str]
    sampling: Sampling = Sampling()
    limits: Limits
    built_at: AwareDatetime
    unreadable: int = Field(ge=0)


class Neighbour(Record):
    """A work that is near an image by one signal: a similarity (higher is closer) or a distance (lower is).

    `region` and `work_region` say which tile of the image and of the work were compared; None is the whole.
    """

    work: Work
    row: int = Field(ge=0)
    signal: Signal
    similarity: float | None = Field(default=None, ge=-1, le=1)
    distance_bits: int | None = Field(default=None, ge=0)
    view: View = "identity"
    region: Region | None = None
    work_region: Region | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.similarity is None) == (self.distance_bits is None):
            raise ValueError("a neighbour has either a similarity or a distance_bits")
        return self
