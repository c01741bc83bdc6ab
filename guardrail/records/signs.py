"""Limits of signs of memorisation, fitted to one pipeline as it was run."""

from typing import Literal

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Sha256
from guardrail.records.calibration import FalseAlarms, FittedLimit, calibration_digest

__all__ = ["SignCalibration", "SignLimits"]


class SignLimits(Record):
    """The limits of one sign, how many runs they rest on, and the runs' lowest, middle and highest value.

    `steps` is how many first steps were measured; None: all of them.
    """

    sign: str
    unit: str
    steps: int | None = Field(default=None, ge=1)
    runs: int = Field(ge=1)
    lowest: float
    median: float
    highest: float
    flag: FittedLimit
    block: FittedLimit
    false_alarms: tuple[FalseAlarms, ...]


class SignCalibration(Record):
    """Limits of signs fitted to runs of one pipeline that are known not to be memorised.

    They hold for the same weights, scheduler, number of steps and guidance, and for no others. `prompts_sha256` is a
    digest of the sorted prompts; the prompts themselves are not kept.
    """

    schema_version: Literal[1] = 1
    id: Sha256
    at: AwareDatetime
    pipeline: str
    weights_sha256: Sha256
    scheduler: str | None
    steps: int = Field(ge=1)
    guidance_scale: float | None
    index_snapshot: Sha256 | None = None
    prompts: int = Field(ge=0)
    prompts_sha256: Sha256
    seeds_each: int = Field(ge=1)
    signs: tuple[SignLimits, ...]
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """What `id` must be: a digest of the canonical JSON of all else."""
        return calibration_digest(self.model_dump(mode="json"))

    def limits_of(self, sign: str) -> SignLimits | None:
        """The limits of one sign, or None where it was not calibrated."""
        return next((one for one in self.signs if one.sign == sign), None)
