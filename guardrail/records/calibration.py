"""What a calibration found: limits fitted to a rate of false alarms, on what, and how sure that is."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import rfc8785
from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Sha256
from guardrail.records.index import EmbedderSpec, IndexHeader, Sampling
from guardrail.records.limits import Limits, Signal

__all__ = [
    "Background",
    "Calibration",
    "FalseAlarms",
    "FittedLimit",
    "Histogram",
    "Method",
    "ReviewsUsed",
    "SignalLimits",
    "calibration_digest",
    "specification_sha256",
]

Method = Literal["empirical", "extrapolated", "bounded", "reviewed"]

_OF_FINGERPRINTS = ("embedders", "hashes", "sampling", "normalisation")  # of a header: what similarities depend on
_STALE_AT_TIMES_THE_WORKS = 2  # false alarms grow with the works: at twice as many, the rate has about doubled


class FittedLimit(Record):
    """One limit in its signal's own unit, with the interval it lies in (95 %), and how it was found.

    `empirical`: counted among the background; `extrapolated`: read off a fitted tail; `bounded`: the background would
    allow a looser limit than the meaning of a block does; `reviewed`: it stayed as it was, because of cases that people
    decided. `share` is the rate this signal may use of the rate asked,
    `reached` how many pictures of the background reach the limit.
    """

    limit: float
    low: float
    high: float
    method: Method
    share: float = Field(ge=0, le=1)
    reached: int = Field(ge=0)


class Histogram(Record):
    """How near pictures came to the nearest work by one signal, counted in bins of equal width from `low` to `high`.

    In the signal's own unit; a value on an edge counts above it, and `high` itself in the last bin. `far` counts the
    pictures that the signal found near nothing.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    far: int = Field(default=0, ge=0)


class SignalLimits(Record):
    """The limits of one signal, and how many pictures of the background counted for it. None: no such limit.

    `background` and `copies` are how near these pictures, and edited copies of the works, came; None where it was not
    kept or looked at.
    """

    signal: Signal
    pictures: int = Field(ge=0)
    flag: FittedLimit | None = None
    block: FittedLimit | None = None
    background: Histogram | None = None
    copies: Histogram | None = None


class FalseAlarms(Record):
    """How many background pictures any signal would flag (or block): the rate asked, and what was measured.

    `reached` counts by these limits; `held_out` by limits fitted without the picture that is counted (five folds), and
    `low` and `high` are the 95 % interval of that rate (Clopper and Pearson).
    """

    decision: Literal["flag", "block"]
    asked: float = Field(gt=0, le=1)
    pictures: int = Field(ge=0)
    reached: int = Field(ge=0)
    held_out: int = Field(ge=0)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class Background(Record):
    """The pictures that limits were fitted on, and how many were left out for which reason.

    `sha256` is a digest of the sorted pixel digests of all that counted; a near-blank picture counts, but not for the
    signals that say nothing of it.
    """

    pictures: int = Field(ge=0)
    near_blank: int = Field(ge=0)
    left_out: dict[str, int] = Field(default_factory=dict)
    suspects: int = Field(ge=0)
    sha256: Sha256


class ReviewsUsed(Record):
    """The reviewed cases that a calibration was held against: how many, from when, and what stayed because of them.

    `confirmed` are those that people said copy, `passed` the others. `missed_unheld` confirmed copies would be missed
    by the limits that the background alone allows, `missed` are missed by the limits as they are; `still_flagged` of
    those let pass would be flagged again. `flags_held` and `blocks_held` name the signals whose limits stayed.
    """

    confirmed: int = Field(ge=0)
    passed: int = Field(ge=0)
    since: AwareDatetime
    until: AwareDatetime
    missed_unheld: int = Field(ge=0)
    missed: int = Field(ge=0)
    still_flagged: int = Field(ge=0)
    flags_held: tuple[Signal, ...] = ()
    blocks_held: tuple[Signal, ...] = ()


class Calibration(Record):
    """Limits fitted to one index at one size, and everything that says for which index and how sure they are."""

    schema_version: Literal[1] = 1
    id: Sha256
    at: AwareDatetime
    index_snapshot: Sha256
    index_built_at: AwareDatetime
    specification_sha256: Sha256
    embedders: dict[Literal["copy", "clip"], EmbedderSpec]
    sampling: Sampling
    works: int = Field(ge=1)
    protected: int = Field(ge=1)
    background: Background
    signals: tuple[SignalLimits, ...]
    false_alarms: tuple[FalseAlarms, ...]
    limits: Limits
    warnings: tuple[str, ...] = ()
    reviews: ReviewsUsed | None = Field(default=None, exclude_if=lambda used: used is None)

    @property
    def digest(self) -> str:
        """What `id` must be when it is written: see `calibration_digest`."""
        return calibration_digest(self.model_dump(mode="json"))

    @property
    def stale_at_works(self) -> int:
        """The number of works from which on these limits are stale: exactly double those they were fitted at."""
        return _STALE_AT_TIMES_THE_WORKS * self.works

    def is_stale(self, works: int) -> bool:
        """Whether an index of so many works has outgrown these limits."""
        return works >= self.stale_at_works

    def named(self, works: int) -> str:
        """What a verdict calls this calibration, at an index of so many works."""
        return f"{self.id}, stale" if self.is_stale(works) else self.id


def calibration_digest(said: Mapping[str, Any]) -> str:
    """Digest of the canonical JSON (RFC 8785) of a calibration without its `id`.

    Of a stored one it is taken over what was written, so that fields that came later do not change it.
    """
    return hashlib.sha256(rfc8785.dumps({key: value for key, value in said.items() if key != "id"})).hexdigest()


def specification_sha256(header: IndexHeader) -> str:
    """Digest of what in a header decides how near two pictures are; whatever changes as works come and go is not in it.

    Fields at their defaults are left out too, so that a field that comes later leaves old digests as they are.
    """
    said = header.model_dump(mode="json", include=set(_OF_FINGERPRINTS), exclude_defaults=True)
    return hashlib.sha256(rfc8785.dumps(said)).hexdigest()
