"""When outputs are attributed to training images and adapters, and by what."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

__all__ = ["AttributionSettings"]


class AttributionSettings(BaseModel, frozen=True, extra="forbid"):
    """Instance attribution: `[attribution]` in a settings file."""

    gradients: Path | None = Field(
        default=None, description="folder that `guardrail attribute fit` made for the model that runs; default: none"
    )
    when: Literal["never", "flagged", "always"] = Field(
        default="never",
        description="which outputs are attributed: those that were not accepted, or all",
    )
    how: Literal["at_once", "queued"] = Field(
        default="at_once", description="before the call returns, or later by the desk's worker, which needs `model`"
    )
    model: str = Field(
        default="", description="for the desk's worker: folder of the diffusers pipeline, or module:function"
    )
    name_by: Literal["both", "p_value", "rate"] = Field(
        default="both", description="what a training image has to pass to be named: name_at_p, name_at_rate, or both"
    )
    name_at_p: float = Field(default=0.01, gt=0, lt=1, description="a training image is named at this p-value or below")
    name_at_rate: float = Field(
        default=0.1, gt=0, lt=1, description="of those named at most this share is false (Benjamini-Hochberg)"
    )
    shown: int = Field(default=20, ge=1, description="most influential training images that are kept and shown")

    @model_validator(mode="after")
    def _queued_pictures_are_kept(self) -> Self:
        if self.how == "queued" and self.when == "always":
            raise ValueError("found when = 'always' with how = 'queued'; only flagged pictures are kept: say 'flagged'")
        return self
