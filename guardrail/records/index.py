"""What an index says of itself, and what it answers."""

from typing import Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from guardrail.records.base import Record, Region, Sha256, View
from guardrail.records.limits import Limits, Signal
from guardrail.records.works import Work

__all__ = [
    "EmbedderSpec",
    "IndexChange",
    "IndexHeader",
    "Neighbour",
    "Normalisation",
    "Sampling",
    "tiles_of",
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


_QUADRANT_SIDE = (
    0.6  # of the picture's side: neighbours overlap by a third, so that a cut between two is in one of them
)
_NINTH_SIDE = 0.5  # the three by three tiles: each overlaps its neighbours by half


def _grid(steps: int, side: float) -> tuple[Region, ...]:
    """Evenly spaced tiles, `steps` a side, row by row, the first and last at the edges."""
    starts = [(1 - side) * at / (steps - 1) for at in range(steps)]
    return tuple(Region(left=left, top=top, width=side, height=side) for top in starts for left in starts)


def tiles_of(vectors: int) -> tuple[Region, ...]:
    """The tiles that make up `vectors` vectors together with the whole.

    Args:
        vectors: 1 (the whole alone), 5 (four overlapping quadrants), 10 (nine overlapping halves) or 14 (both).

    Returns:
        vectors - 1 regions, in the order of their vectors.
    """
    four, nine = _grid(2, _QUADRANT_SIDE), _grid(3, _NINTH_SIDE)
    return {1: (), 5: four, 10: nine, 14: four + nine}[vectors]


class Normalisation(Record):
    """How similarities are made comparable between images: less the mean similarity to the nearest background pictures.

    An image that looks like much else needs to be nearer to a work to count. `background` counts the pictures, and
    `nearest` how many of them are taken.
    """

    background: int = Field(ge=1)
    nearest: int = Field(ge=1)


class IndexChange(Record):
    """What a change did to an index: durable, and seen by every search from then on.

    `snapshot` and `works` are those after it. `unchanged` rows were there as they are. `unknown` lists, as
    `bank/work_id`, the works that were to be withdrawn or updated and are not there.
    """

    snapshot: Sha256
    works: int = Field(ge=0)
    added: int = Field(default=0, ge=0)
    replaced: int = Field(default=0, ge=0)
    withdrawn: int = Field(default=0, ge=0)
    unchanged: int = Field(default=0, ge=0)
    unknown: tuple[str, ...] = ()


class IndexHeader(Record):
    """What an index says of itself.

    `snapshot` names the state: it changes with every work that is added or withdrawn. `generation` counts how often
    the files were put in order, `withdrawn` the rows that no longer count and are still in the files, and
    `compacted_at` is when such rows were last purged.
    """

    format: Literal[1, 2] = 2
    generation: int = Field(default=0, ge=0)
    snapshot: Sha256
    works: int = Field(ge=0)
    withdrawn: int = Field(default=0, ge=0)
    compacted_at: AwareDatetime | None = None
    banks: dict[str, int]
    embedders: dict[Literal["copy", "clip"], EmbedderSpec]
    hashes: dict[str, str]
    sampling: Sampling = Sampling()
    normalisation: Normalisation | None = None
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
