"""How a model was run."""

from datetime import UTC, datetime
from typing import Literal, Self
from uuid import uuid4

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record, Seed, Sha256

__all__ = [
    "Adapter",
    "GenerationContext",
]


class Adapter(Record):
    """An adapter (LoRA and the like) that was active: its name, weight, and sha256 where it could be read."""

    name: str
    weight: float | None = None
    sha256: Sha256 | None = None


class GenerationContext(Record):
    """How a model was run. `unread` names every field that could not be read, with the reason: nothing is guessed."""

    schema_version: Literal[1] = 1
    run_id: str = Field(default_factory=lambda: uuid4().hex)
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    pipeline: str
    model_id: str | None = None
    model_revision: str | None = None
    weights_sha256: Sha256 | None = None
    scheduler: str | None = None
    adapters: tuple[Adapter, ...] = ()
    prompts: dict[str, str | tuple[str, ...]] = Field(default_factory=dict, repr=False)
    guidance_scale: float | None = None
    steps: int | None = None
    seed: Seed | None = None
    strength: float | None = None
    init_image_sha256: Sha256 | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def without_prompts(self) -> Self:
        """The same run with every prompt field taken out, for whatever leaves this machine."""
        return self.model_copy(update={"prompts": {}})
