"""The state that a modular pipeline ends in, the pictures it made out, and what of it may leave.

A modular pipeline hands out whatever a caller names of its state: pictures, and latents from which they can be made.
So the guard always takes the whole state, and gives what was asked for from what is left of it.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.modular_pipelines import PipelineState
from PIL import Image

from guardrail.errors import OutputNotUnderstood

__all__ = ["ModularOutput", "PipelineState", "modular_output"]

_PICTURES = frozenset({"frames", "images", "video", "videos"})  # what decoders of diffusers call what they made
_PICTURE_AXES = 3  # fewer are masks of words, sigmas and the like
_WORDS = ("embed", "_ids", "mask", "text_encoder")  # in the names of what blocks make of a prompt


@dataclass(frozen=True, slots=True)
class ModularOutput:
    """What a modular pipeline's call came to.

    Attributes:
        state: its state, as it ended.
        pictures: the values that hold pictures the pipeline made, by name.
        given: names of the values that the caller put in, and that are still the same.
    """

    state: PipelineState
    pictures: Mapping[str, Any]
    given: frozenset[str]

    def give(self, asked: Any, pictures: Mapping[str, Any], *, all_released: bool) -> Any:
        """What the caller asked for, with pictures as they may leave.

        Args:
            asked: the argument `output`: None for the whole state, a name, or several.
            pictures: by name, the values that take the place of `self.pictures`.
            all_released: whether every picture leaves; else whatever else it could be made from stays.
        """
        values = {**self.state.values, **pictures}
        if not all_released:
            values = {
                name: value
                for name, value in values.items()
                if name in pictures or name in self.given or not _holds_arrays(value)
            }
        state = copy(self.state)
        state.values = values
        return state if asked is None else state.get(list(asked) if isinstance(asked, tuple) else asked)


def modular_output(pipe: Any, state: PipelineState, said: Mapping[str, Any]) -> ModularOutput:
    """Find what a modular pipeline made in its state.

    Args:
        pipe: the pipeline.
        state: as its call left it.
        said: the arguments of the call: what the caller put in, some of it in an earlier state.

    Raises:
        OutputNotUnderstood: it made no picture, but latents that one could be made from.
    """
    earlier = getattr(said.get("state"), "values", {})
    put_in = {**earlier, **said}
    given = frozenset(name for name, value in state.values.items() if name in put_in and _same(value, put_in[name]))
    made = {name: value for name, value in state.values.items() if value is not None and name not in given}
    pictures = {name: value for name, value in made.items() if name in _PICTURES or _holds_picture(value)}
    if not pictures:
        latents = [name for name, value in made.items() if _may_show(name, value)]
        if latents:
            raise OutputNotUnderstood(
                f"the state of a {type(pipe).__name__}", f"{', '.join(latents)} and no picture to check"
            )
    return ModularOutput(state, pictures, given)


def _holds_picture(value: Any) -> bool:
    """Whether a value is Pillow's or NumPy's: the blocks of diffusers make those of finished pictures only."""
    if isinstance(value, list | tuple):
        return any(_holds_picture(item) for item in value)
    return isinstance(value, Image.Image) or (isinstance(value, np.ndarray) and value.ndim > 1)


def _same(value: Any, other: Any) -> bool:
    """Whether a value is what was put in: the very object, or an equal copy (an earlier state is copied)."""
    if value is other:
        return True
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(_same, value, other))
    if isinstance(value, torch.Tensor) and isinstance(other, torch.Tensor):
        return value.shape == other.shape and value.dtype == other.dtype and bool(torch.equal(value, other))
    if isinstance(value, np.ndarray) and isinstance(other, np.ndarray):
        return bool(np.array_equal(value, other))
    return isinstance(value, Image.Image) and isinstance(other, Image.Image) and value == other


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_arrays(item) for item in value)
    if isinstance(value, dict):
        return any(_holds_arrays(item) for item in value.values())
    return isinstance(value, torch.Tensor | np.ndarray | Image.Image)


def _may_show(name: str, value: Any) -> bool:
    """Whether a picture could be made from a value: a tensor of several axes that is no embedding of words."""
    if isinstance(value, list | tuple):
        return any(_may_show(name, item) for item in value)
    if not isinstance(value, torch.Tensor) or any(word in name for word in _WORDS):
        return False
    return value.ndim >= _PICTURE_AXES or (name.endswith("latents") and value.ndim > 1)
