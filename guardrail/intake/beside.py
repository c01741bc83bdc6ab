"""Parts of an output that are no pictures, set aside: sound, and what goes with a picture and leaves only with it."""

import dataclasses
import inspect
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput

__all__ = ["blanked", "parts_beside", "put_back", "without"]

_NEVER_SHOWN = frozenset({"audio", "audios", "c2w", "sound"})  # sound, and where a camera stood
_WITH_PICTURES = frozenset({"depth", "latent"})  # made from a picture, or a picture can be made from it


def parts_beside(pipe: Any, output: Any) -> Mapping[int, tuple[str, Any]]:
    """The parts of a pipeline's tuple that are no pictures, by their place, with their names.

    Nothing in a tuple says what its parts are, but its class does: it has the fields of the output class that the
    pipeline's module uses, in order. Only classes of diffusers itself are asked. Where several have as many fields, all
    must agree.

    Args:
        pipe: the pipeline.
        output: what it returned; the parts of anything but a tuple have names of their own.
    """
    if not isinstance(output, tuple) or not type(pipe).__module__.startswith("diffusers."):
        return {}
    module = vars(sys.modules[type(pipe).__module__])
    kinds = [kind for kind in module.values() if inspect.isclass(kind) and issubclass(kind, BaseOutput)]
    named = [[field.name for field in dataclasses.fields(kind)] for kind in kinds if dataclasses.is_dataclass(kind)]
    fitting = [names for names in named if len(names) == len(output)]
    known = _NEVER_SHOWN | _WITH_PICTURES
    return {
        at: (fitting[0][at], part)
        for at, part in enumerate(output)
        if fitting and all(names[at] in known and names[at] == fitting[0][at] for names in fitting)
    }


def without(output: tuple[Any, ...], aside: Mapping[int, tuple[str, Any]]) -> tuple[Any, ...]:
    """The other parts, in order."""
    return tuple(part for at, part in enumerate(output) if at not in aside)


def put_back(output: tuple[Any, ...], aside: Mapping[int, tuple[str, Any]], *, all_released: bool) -> tuple[Any, ...]:
    """The whole tuple again; once a picture is withheld, what goes with pictures is zeros."""
    rest = iter(output)
    parts = []
    for at in range(len(output) + len(aside)):
        name, part = aside[at] if at in aside else ("", next(rest))
        parts.append(part if all_released or name not in _WITH_PICTURES else _zeros(part))
    return tuple(parts)


def blanked(output: Any) -> Any:
    """An output of which a picture is withheld: what goes with pictures is zeros; made anew, never written to."""
    if not isinstance(output, BaseOutput):
        return output
    found = {name: _zeros(value) for name, value in output.items() if name in _WITH_PICTURES}
    return dataclasses.replace(output, **found) if found else output


def _zeros(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.zeros_like(value)
    return np.zeros_like(value) if isinstance(value, np.ndarray) else value
