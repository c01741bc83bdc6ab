"""What an audit of a model found: what it gives back of its training pictures, and how sure that is."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Seed, Sha256

__all__ = [
    "AuditClique",
    "AuditFinding",
    "AuditOutcome",
    "AuditReport",
    "ExtractedWork",
    "Measured",
]


class AuditOutcome(StrEnum):
    """What a part of an audit, or all of it, says of a model; what could not be told is never clean."""

    CLEAN = "clean"
    MEMORISED = "memorised"
    COULD_NOT_TELL = "could_not_tell"


class Measured(Record):
    """One figure: what was measured, over how many, and its 95 % interval, where it has one."""

    name: str = Field(min_length=1)
    value: float
    over: int = Field(ge=0)
    low: float | None = None
    high: float | None = None


class ExtractedWork(Record):
    """A training picture that generations gave back, and how to make the nearest of them again.

    `generations` counts how often it came. `near_duplicates` is how many training pictures show the work, itself
    counted: the k of (k, l, delta)-eidetic memorisation. `tile_l2` (0..1) and `correlation` (-1..1) are of the nearest
    generation, the one that `seed` and `prompt` make; `nearest` is its number in the plan. `found_by` names the
    measures that each called it a copy.
    """

    work: str = Field(min_length=1)
    generations: int = Field(ge=1)
    near_duplicates: int = Field(default=1, ge=1)
    nearest: int = Field(ge=0)
    seed: Seed
    prompt: str | None = Field(default=None, repr=False)
    class_label: int | None = None
    tile_l2: float = Field(ge=0, le=1)
    correlation: float = Field(ge=-1, le=1)
    found_by: tuple[str, ...] = ()


class AuditClique(Record):
    """Generations that are all near one another: the same picture, come again and again.

    `members` are their numbers in the plan; `work` is the training picture that most of them show, where one does.
    """

    members: tuple[int, ...]
    work: str | None = None


class AuditFinding(Record):
    """What one part of an audit found: its outcome, the reason in a sentence, and the figures it rests on."""

    part: str = Field(min_length=1)
    outcome: AuditOutcome
    reason: str = Field(min_length=1)
    measured: tuple[Measured, ...] = ()
    works: tuple[ExtractedWork, ...] = ()
    cliques: tuple[AuditClique, ...] = ()
    source: str = ""


class AuditReport(Record):
    """An audit of one model against its training pictures: every finding, and what they say together.

    `works_asked` counts the training pictures whose caption or label was asked for at least once, all of them where a
    model takes neither; None in reports from before it was counted. `parts_left_out` names parts that do not apply to
    the model, each with the reason: they change nothing.
    """

    schema_version: Literal[1] = 1
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    pipeline: str
    weights_sha256: Sha256 | None = None
    training: str
    training_pictures: int = Field(ge=0)
    held_out_pictures: int = Field(ge=0)
    planned: int = Field(ge=0)
    generated: int = Field(ge=0)
    works_asked: int | None = Field(default=None, ge=0)
    seed: Seed
    outcome: AuditOutcome
    findings: tuple[AuditFinding, ...] = ()
    warnings: tuple[str, ...] = ()
    parts_left_out: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
