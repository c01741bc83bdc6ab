"""The model that is audited: from a diffusers folder, or from a function that makes a pipeline."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray

from guardrail import __version__, intake
from guardrail.desk.audit_named import require_model
from guardrail.errors import AuditImpossible

__all__ = ["load_pipeline", "model_digest", "read_output", "versions", "weights_digest"]

_LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pillow")


def load_pipeline(said: str, device: str) -> Any:
    """The pipeline that a person named, on a device, its progress bar off and without a guard.

    Args:
        said: a folder with a `model_index.json`, whose weights are safetensors; or `module:function`, where the
            function takes nothing and returns a pipeline (modules of this folder are found, too).
        device: `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        AuditImpossible: there is no such pipeline, or it cannot be loaded.
    """
    require_model(said)
    pipeline = _from_folder(Path(said)) if Path(said).is_dir() else _from_function(said)
    if not isinstance(pipeline, DiffusionPipeline):
        raise AuditImpossible(said, f"a {type(pipeline).__name__}", "a diffusers pipeline", "let it return one")
    if intake.guard_of(pipeline) is not None:
        pipeline = intake.unwrap(pipeline)  # what the model makes is audited, not what a guard lets out
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _from_folder(folder: Path) -> Any:
    diffusers_logging.disable_progress_bar()
    try:
        return DiffusionPipeline.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, ImportError, KeyError, TypeError, RuntimeError) as error:
        raise AuditImpossible(
            str(folder), f"a pipeline that cannot be loaded ({error})", "one with safetensors", "save it again"
        ) from error


def _from_function(said: str) -> Any:
    module, _, name = said.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module), name)()
    except Exception as error:  # the user's own code raises anything, and it is told which
        raise AuditImpossible(
            said, f"{type(error).__name__} ({error})", "a function that returns a pipeline", "call it by hand"
        ) from error


def weights_digest(pipeline: Any) -> str:
    """sha256 over names, dtypes, shapes and bytes of all weights of all components, whatever device they lie on."""
    digest = hashlib.sha256()
    for part, module in sorted(vars(pipeline).items()):
        if isinstance(module, torch.nn.Module):
            for name, tensor in sorted(module.state_dict().items()):
                digest.update(f"{part}.{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
                flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(flat.numpy().tobytes())
    return digest.hexdigest()


def model_digest(pipeline: Any, weights_sha256: str) -> str:
    """Digest of all that decides what a seed gives: weights, class, and the scheduler's configuration."""
    scheduler = getattr(pipeline, "scheduler", None)
    config = {name: str(value) for name, value in dict(getattr(scheduler, "config", {})).items()}
    said = [weights_sha256, type(pipeline).__name__, type(scheduler).__name__, sorted(config.items())]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def read_output(output: Any) -> list[NDArray[np.uint8] | str]:
    """The pictures in what a pipeline returned: uint8 (H, W, 3), RGB, or why one cannot be looked at."""
    pictures: list[NDArray[np.uint8] | str] = []
    for picture in intake.pictures_in(output).batch.pictures:
        if picture.pixels is None:
            pictures.append(picture.failure.error if picture.failure else "no pixels")
        else:
            pictures.append(np.ascontiguousarray(picture.pixels.permute(1, 2, 0).cpu().numpy()))
    return pictures


def versions() -> dict[str, str]:
    """Of guardrail and the libraries that decide what a seed gives; those that are not installed are left out."""
    found = {"guardrail": __version__}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
