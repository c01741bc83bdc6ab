"""The model that images are attributed to: a pipeline that a person named, with adapters laid over it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrail.attribution_errors import AttributionImpossible
from guardrail.desk.audit_subject import load_pipeline
from guardrail.errors import AuditImpossible
from guardrail.study.attribution.access import PipelineAccess

__all__ = ["AskedModel", "OpenedModel", "attribution_errors", "open_model"]


@dataclass(frozen=True, slots=True)
class AskedModel:
    """The model as a person named it.

    Attributes:
        pipeline: a folder, or `module:function`.
        adapters: files of LoRAs, each with its weight, as FILE or FILE=WEIGHT.
        side_px: of the pictures it is asked about; 0: as it says itself.
        device: where it runs.
    """

    pipeline: str
    adapters: tuple[str, ...] = ()
    side_px: int = 0
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model that was loaded.

    Attributes:
        access: to its denoiser.
        adapters: that are on, by name, each with its weight.
    """

    access: PipelineAccess
    adapters: tuple[tuple[str, float], ...]


def open_model(asked: AskedModel) -> OpenedModel:
    """Load a pipeline, and lay its adapters over it.

    Raises:
        AttributionImpossible: there is no such pipeline or adapter, or it is of a kind that is not understood.
    """
    with attribution_errors():
        pipeline = load_pipeline(asked.pipeline, asked.device)
    adapters = tuple(_laid(pipeline, number, said) for number, said in enumerate(asked.adapters))
    if adapters:
        pipeline.set_adapters([name for name, _ in adapters], [weight for _, weight in adapters])
    return OpenedModel(PipelineAccess(pipeline, asked.device, asked.side_px or None), adapters)


@contextlib.contextmanager
def attribution_errors() -> Iterator[None]:
    """Say of what an audit cannot read that nothing can be attributed for it."""
    try:
        yield
    except AuditImpossible as error:
        raise AttributionImpossible(*error.args) from error


def _laid(pipeline: Any, number: int, said: str) -> tuple[str, float]:
    """Load one adapter; its name is that of its file."""
    path, weight = _file_and_weight(said)
    if not path.is_file():
        raise AttributionImpossible(said, "no such file", "a LoRA's safetensors, or FILE=WEIGHT", "correct --adapter")
    name = f"{path.stem.replace('.', '_')}_{number}"
    try:
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=name, local_files_only=True)
    except (AttributeError, ValueError, OSError, KeyError, RuntimeError) as error:
        raise AttributionImpossible(
            said, f"an adapter that cannot be loaded ({error})", "one for this pipeline", "load it by hand"
        ) from error
    return name, weight


def _file_and_weight(said: str) -> tuple[Path, float]:
    file, equals, number = said.rpartition("=")
    if not equals or Path(said).is_file():
        return Path(said), 1.0
    try:
        return Path(file), float(number)
    except ValueError as error:
        raise AttributionImpossible(said, f"the weight {number!r}", "a number", "say --adapter FILE=0.8") from error
