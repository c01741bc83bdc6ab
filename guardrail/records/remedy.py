"""What was tried to make blocked images anew."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Seed
from guardrail.records.limits import Decision

__all__ = [
    "RemedyName",
    "RemedyTried",
]

RemedyName = Literal["fresh_seed", "delayed_guidance", "prompt_noise", "random_token", "away_from_work"]


class RemedyTried(Record):
    """One try at making blocked images anew, or why a remedy did not fit.

    `images` are the blocked images it was for and `before` their decisions. `unfit` says why nothing was tried; it is
    None for a try that was made, of which `changed` tells what it altered and `seeds` the generators' seeds (empty
    where the pipeline takes no generator). `after` are the decisions on the outcome, image by image, and
    `verdict_ids` their verdicts; empty where the outcome could not be judged, for which `failed` is the reason. The
    remedy `any` stands for all of them at once.
    """

    remedy: RemedyName | Literal["any"]
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    images: tuple[str, ...]
    before: tuple[Decision, ...]
    unfit: str | None = None
    changed: str = ""
    seeds: tuple[Seed, ...] = ()
    failed: str | None = None
    after: tuple[Decision, ...] = ()
    verdict_ids: tuple[str, ...] = ()
    took_ms: float | None = Field(default=None, ge=0)
