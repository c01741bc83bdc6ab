"""What is said of an image when it leaves: file type, manifest, time stamp, watermark."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from guardrail.records import ImageMime

__all__ = ["ProvenanceSettings", "WatermarkSettings"]


class ProvenanceSettings(BaseModel, frozen=True, extra="forbid"):
    """What accepted images carry: `[provenance]` in a settings file."""

    mime: ImageMime = Field(default="image/png", description="type of the released files")
    quality: int = Field(default=95, ge=1, le=100, description="of JPEG and WebP files")
    detail: Literal["none", "summary", "full"] = Field(
        default="full",
        description="what the manifest says of verdict and run: nothing; decision, rule, policy, index, calibration "
        "and model; or the nearest works and the run's settings too",
    )
    model_name: str = Field(
        default="", description="name of the model as others may read it; default: a model id that is no path"
    )
    model_type: str = Field(
        default="c2pa.types.model",
        pattern=r"^[\w-]+(\.[\w-]+)+$",
        description="type of the model, from the list that C2PA keeps for AI disclosure",
    )
    human_oversight: Literal["", "fully_autonomous", "prompt_guided", "human_validated"] = Field(
        default="", description="level of human oversight to declare, by C2PA's names; empty: said nothing of"
    )
    training_mining: Literal["", "allowed", "not_allowed", "constrained"] = Field(
        default="", description="whether others may mine or train on the image; empty: said nothing of"
    )
    training_mining_terms: str = Field(default="", description="where it is constrained: under which terms")
    soft_binding: bool = Field(default=False, description="put an ISCC of the image into its manifest (extra `iscc`)")
    prompt_digest: bool = Field(default=True, description="put a keyed digest of the prompt into the manifest")
    prompt_key: Path | None = Field(
        default=None, description="file of the key of that digest, made when missing; default: prompt.key in `home`"
    )
    time_stamp_url: str = Field(default="", description="URL of a time stamp server (RFC 3161); empty: no time stamp")
    time_stamp_anchors: Path | None = Field(
        default=None, description="PEM file of the root certificates of time stamp servers to trust"
    )
    fingerprints: bool = Field(
        default=True, description="keep fingerprints of released images, to know copies without credentials again"
    )


class WatermarkSettings(BaseModel, frozen=True, extra="forbid"):
    """The invisible mark in accepted images: `[watermark]` in a settings file."""

    name: str = Field(default="", description="plugin that marks: `rivagan`, `trustmark`, another's; empty: no mark")
    payload: str = Field(
        default="", pattern=r"^[0-9a-f]*$", description="what is put in, as hex; default: what the plugin says"
    )
    weights: Path | None = Field(default=None, description="file or folder of the plugin's weights")
    when_lost: Literal["withhold", "unmarked"] = Field(
        default="withhold", description="an image in which its mark cannot be found again: keep it in, or unmarked"
    )
    weights_sha256: str = Field(
        default="", pattern=r"^([0-9a-f]{64})?$", description="digest of these weights; others are refused"
    )
