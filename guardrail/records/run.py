"""How a model was run."""

from datetime import UTC, datetime
from typing import Literal, Self
from uuid import uuid4

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Seed, Sha256

__all__ = [
    "Adapter",
    "AdapterKind",
    "GenerationContext",
    "GeneratorState",
    "InputPicture",
    "InputRole",
    "ModelFiles",
    "ModelSignature",
]

AdapterKind = Literal["lora", "ip_adapter", "textual_inversion", "controlnet"]
InputRole = Literal["init", "mask", "control", "ip_adapter", "reference"]


class Adapter(Record):
    """An adapter (LoRA and the like) that was on: its name, weight, and sha256 where it could be read.

    `component` is the part of the pipeline it lies over; one that lies over two is listed twice, and `sha256` covers
    all of it. `fused` says that it was added into the weights. `trained_on` counts the images it was trained on, as
    the settings say. `known_as` is its name in the settings, by its sha256 or its own name. `doubted`: the settings
    know that name by another sha256, or its own could not be read, so that it may only bear the name.
    """

    name: str
    weight: float | None = None
    sha256: Sha256 | None = None
    kind: AdapterKind = "lora"
    component: str | None = None
    fused: bool = False
    trained_on: int | None = Field(default=None, ge=0)
    known_as: str | None = None
    doubted: bool = False


class InputPicture(Record):
    """A picture that was given to the pipeline: the argument, and what for; no digest where it could not be read."""

    name: str
    role: InputRole
    pixels_sha256: Sha256 | None = None


class GeneratorState(Record):
    """A random generator as it was before the call: replayed, it gives the same numbers, bit for bit.

    `state` is torch's own (`Generator.get_state`), as zlib and Base64; empty where the generator was fresh, so that
    the seed says all. `is_global` marks torch's own generator of the device, used where the caller passed none.
    """

    device: str
    seed: Seed
    state: str = ""
    is_global: bool = False


class ModelFiles(Record):
    """Whether the weights that ran are those in the safetensors files that they were loaded from.

    `sha256` are the digests of these files, by part and shard, as hubs list them. `modified`: what ran is not in any of
    the files beside it, as after fusing an adapter or training. `unknown` comes with the reason.
    """

    state: Literal["as_in_files", "modified", "unknown"]
    sha256: tuple[Sha256, ...] = ()
    reason: str = ""


class ModelSignature(Record):
    """What the check of a model's signature found, where the settings ask for one.

    `verified`: the files in the model's folder are those that `signed_by` signed, and the weights that ran are those in
    the files. Everything else is `failed`, with the reason.
    """

    outcome: Literal["verified", "failed"]
    signed_by: str = ""
    reason: str = ""


class GenerationContext(Record):
    """How a model was run. `unread` names every field that could not be read, with the reason: nothing is guessed."""

    schema_version: Literal[1] = 1
    run_id: str = Field(default_factory=lambda: uuid4().hex)
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    pipeline: str
    model_id: str | None = None
    model_revision: str | None = None
    weights_sha256: Sha256 | None = None
    model_files: ModelFiles | None = None
    model_signature: ModelSignature | None = None
    scheduler: str | None = None
    scheduler_config_sha256: Sha256 | None = None
    adapters: tuple[Adapter, ...] = ()
    prompts: dict[str, str | tuple[str, ...]] = Field(default_factory=dict, repr=False)
    guidance_scale: float | None = None
    steps: int | None = None
    seed: Seed | None = None
    generators: tuple[GeneratorState, ...] = Field(default=(), repr=False)
    images_per_prompt: int | None = Field(default=None, ge=0)
    strength: float | None = None
    init_image_sha256: Sha256 | None = None
    inputs: tuple[InputPicture, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def is_unread(self, *parts: str) -> bool:
        """Whether one of these parts of the run (`strength`, `adapters`, ...) could not be read."""
        return any(line.partition(":")[0] in parts for line in self.unread)

    def without_prompts(self) -> Self:
        """The same run with every prompt field taken out, for whatever leaves this machine."""
        return self.model_copy(update={"prompts": {}})
