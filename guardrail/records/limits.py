"""Signals, decisions, and the limits that lie between."""

from enum import StrEnum
from typing import Self

from pydantic import ConfigDict, Field, model_validator

from guardrail.records.base import Record

__all__ = [
    "BankLimit",
    "BitsLimit",
    "CountLimit",
    "Decision",
    "Limits",
    "Signal",
    "SimilarityLimit",
]


class Decision(StrEnum):
    """What is to happen with an image; compare by `severity`, never as text."""

    ACCEPT = "accept"
    FLAG = "flag"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        """0 for accept, 1 for flag, 2 for block."""
        return list(Decision).index(self)


class Signal(StrEnum):
    """How a likeness was measured."""

    BYTES = "bytes"
    PIXELS = "pixels"
    PDQ = "pdq"
    PHASH = "phash"
    COPY = "copy"
    TILE = "tile"
    CLIP = "clip"
    CORRELATION = "correlation"
    GEOMETRY = "geometry"


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


class CountLimit(Record):
    """Limits on a count of agreeing points, inclusive: a count equal to the limit reaches it. None: never reaches."""

    flag_at_least: int | None = Field(default=None, ge=1)
    block_at_least: int | None = Field(default=None, ge=1)

    def reached(self, count: int) -> Decision:
        """The decision this count is enough for."""
        if self.block_at_least is not None and count >= self.block_at_least:
            return Decision.BLOCK
        if self.flag_at_least is not None and count >= self.flag_at_least:
            return Decision.FLAG
        return Decision.ACCEPT


class BankLimit(Record):
    """The flag limit of one signal that a person set for the works of one bank, in the unit of the signal.

    `change_id` is that of the change by which it was set.
    """

    bank: str = Field(min_length=1)
    signal: Signal
    limit: float
    change_id: str = ""

    @model_validator(mode="after")
    def _can_be_a_limit(self) -> Self:
        if self.signal in (Signal.BYTES, Signal.PIXELS):
            raise ValueError(
                f"found a limit on {self.signal}, expected a signal that is measured: exact copies have none"
            )
        _ = self.put_into(Limits())
        return self

    @property
    def field(self) -> str:
        """The name of the signal's field in `Limits`."""
        return "copy_" if self.signal is Signal.COPY else str(self.signal)

    def put_into(self, limits: "Limits") -> "Limits":
        """Limits with this one in the place of the signal's flag limit."""
        mine = getattr(limits, self.field)
        name = next(name for name in type(mine).model_fields if name.startswith("flag"))
        said = self.limit if isinstance(mine, SimilarityLimit) else int(self.limit)
        put = type(mine).model_validate({**mine.model_dump(), name: said})
        return limits.model_copy(update={self.field: put})


class Limits(Record):
    """The limits of every signal, and the calibration that set them (`uncalibrated`: shipped defaults).

    `tile_l2_within` says how far the farthest tile of an aligned picture may be from the work's (0..1) for it to be the
    same picture; beyond, proof by pixels flags and does not block: it is another of the series. None: never.
    `banks` are limits for the works of one bank only; what is stored leaves them out while there are none.
    """

    calibration: str = "uncalibrated"
    pdq: BitsLimit = BitsLimit()
    phash: BitsLimit = BitsLimit()
    copy_: SimilarityLimit = Field(default=SimilarityLimit(), alias="copy")
    tile: SimilarityLimit = SimilarityLimit()
    clip: SimilarityLimit = SimilarityLimit()
    correlation: SimilarityLimit = SimilarityLimit()
    geometry: CountLimit = CountLimit()
    tile_l2_within: float | None = Field(default=None, ge=0, le=1)
    pdq_quality_at_least: int = Field(default=0, ge=0, le=100)
    banks: tuple[BankLimit, ...] = Field(default=(), exclude_if=lambda banks: not banks)

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    def of_bank(self, bank: str) -> "Limits":
        """The limits for the works of one bank."""
        limits = self
        for one in self.banks:
            if one.bank == bank:
                limits = one.put_into(limits)
        return limits

    def overridden(self, by: "Limits") -> "Limits":
        """These limits with every single one that `by` says in its place; what it leaves out stays."""
        said: dict[str, object] = {}
        for name in by.model_fields_set:
            mine, theirs = getattr(self, name), getattr(by, name)
            fields = theirs.model_fields_set if isinstance(theirs, Record) else ()
            said[name] = mine.model_copy(update={f: getattr(theirs, f) for f in fields}) if fields else theirs
        calibration = {"calibration": f"{self.calibration}, overridden"} if "calibration" not in said else {}
        return self.model_copy(update=said | calibration)
