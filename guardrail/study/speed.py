"""How long a piece of work takes an image, beside others of its kind: they take turns, and medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from guardrail.records import Record

__all__ = ["Pace", "Quartiles", "measured_ms", "pace_of", "times_as_fast"]


class Quartiles(NamedTuple):
    """The median of some measurements, and the quartiles about it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        """Of at least one value, each with its neighbours' mean where there is no middle one."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


class Pace(Record):
    """How long a stage takes one image, in batches of a size: the median of its repeats, and their quartiles."""

    stage: str
    batch: int = Field(ge=1)
    repeats: int = Field(ge=1)
    image_ms: float = Field(ge=0)
    image_ms_low: float = Field(ge=0)
    image_ms_high: float = Field(ge=0)

    @property
    def images_per_second(self) -> float:
        """Images a second, at the median."""
        return 1000 / self.image_ms if self.image_ms else float("inf")


def measured_ms(
    works: Mapping[str, Callable[[], object]],
    repeats: int,
    settle: Callable[[], object] = lambda: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, tuple[float, ...]]:
    """Time pieces of work in turn, so that what else the machine does falls on all of them alike.

    Args:
        works: by name, what to time.
        repeats: how often, >= 1, after one run of each that does not count; every second round goes backwards.
        settle: waits for the device; called before and after each run.
        progress: called with (rounds done, rounds in all).
        clock: seconds; `time.process_time` leaves out what other programs took, but sees no accelerator.

    Returns:
        By name, milliseconds of each repeat, in order: the n-th of all names were taken in the same round.
    """
    spent: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for repeat in range(repeats):
        for name in list(works)[:: -1 if repeat % 2 else 1]:
            settle()
            started = clock()
            works[name]()
            settle()
            spent[name].append((clock() - started) * 1000)
        progress(repeat + 1, repeats)
    return {name: tuple(values) for name, values in spent.items()}


def pace_of(stage: str, batch: int, spent_ms: Sequence[float]) -> Pace:
    """The pace of a stage that took `spent_ms` for each batch of `batch` images, in one or more repeats."""
    low, median, high = (value / batch for value in Quartiles.of(spent_ms))
    repeats = len(spent_ms)
    return Pace(stage=stage, batch=batch, repeats=repeats, image_ms=median, image_ms_low=low, image_ms_high=high)


def times_as_fast(ours_ms: Sequence[float], theirs_ms: Sequence[float]) -> Quartiles:
    """How many times as fast ours is: the quartiles of theirs over ours, round by round.

    Args:
        ours_ms: milliseconds for the same images, one of each round.
        theirs_ms: likewise, of the same rounds.
    """
    return Quartiles.of([theirs / ours for ours, theirs in zip(ours_ms, theirs_ms, strict=True)])
