"""Find the pictures in what a pipeline returned, by value, and rebuild the output with some of them replaced.

Every field and element is walked, however deep: Pillow images and arrays of two or more axes are pictures wherever
they stand, what is known to be none (numbers, words, audio, embeddings) passes, and anything else is refused. Nothing
is ever written into what the pipeline returned: `own_copy` makes the output anew, so that it is what was judged, and no
buffer that the pipeline will use again.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image

from guardrail.carriers import ImageBatch, Picture
from guardrail.errors import ImageUnreadable, OutputNotUnderstood
from guardrail.intake.pixels import (
    Form,
    bare_array,
    bare_colours,
    form_of,
    from_array,
    from_pillow,
    to_like,
    unknown_form,
)
from guardrail.intake.spelled import is_picture_in_numbers, is_picture_in_words
from guardrail.intake.values import failed_picture

__all__ = ["NO_PICTURES", "BaseOutput", "PicturesInOutput", "kind_of", "own_copy", "pictures_in", "put_into"]

NO_PICTURES = frozenset(
    {
        "audio",
        "audios",
        "c2w",
        "depth",
        "has_nsfw_concept",
        "image_embeds",
        "latent",
        "negative_image_embeds",
        "negative_prompt_embeds",
        "nsfw_content_detected",
        "pooled_prompt_embeds",
        "prompt_embeds",
        "sound",
        "text",
        "unsafe_concept",
        "watermark_detected",
    }
)
"""Fields of diffusers' outputs whose values are never shown."""

_LEAST_AXES = 2

Replace = Callable[[str, Any, "Form | Literal['pillow']"], Any]
"""Called with a picture's name, value and form; returns the value that takes its place (or the same value)."""


@dataclass(frozen=True, slots=True)
class PicturesInOutput:
    """The pictures of one output, in order, and what is needed to put others in their place."""

    batch: ImageBatch
    values: Mapping[str, Any]
    forms: Mapping[str, "Form | Literal['pillow']"]


def pictures_in(output: Any) -> PicturesInOutput:
    """Every picture in a pipeline's output, copied; what looks like one but cannot be read is there with a failure.

    Raises:
        OutputNotUnderstood: there is no field or element that holds pictures; nothing of it may be released.
    """
    pictures: list[Picture] = []
    values: dict[str, Any] = {}
    forms: dict[str, Form | Literal["pillow"]] = {}

    def note(name: str, value: Any, form: Form | Literal["pillow"]) -> Any:
        if name in values:
            raise OutputNotUnderstood("an output", f"two pictures called {name!r}")
        values[name], forms[name] = value, form
        pictures.append(_picture(name, value, form))
        return value

    _rebuilt(output, note)
    shown = [value for value in values.values() if isinstance(value, Image.Image) or value.ndim > _LEAST_AXES]
    if not shown and not _is_empty(output):
        raise OutputNotUnderstood(f"a {type(output).__name__}", "no picture")
    return PicturesInOutput(ImageBatch(tuple(pictures)), values, forms)


def own_copy(output: Any) -> Any:
    """The same output with every picture copied: what the pipeline does to its own buffers later changes nothing here.

    Raises:
        OutputNotUnderstood: it holds something that may be a picture and cannot be looked into.
    """

    def copied(name: str, value: Any, form: Form | Literal["pillow"]) -> Any:
        del name, form
        if isinstance(value, torch.Tensor):
            return value.detach().clone()
        return value.copy() if isinstance(value, Image.Image) else np.array(value, copy=True, subok=False)

    return _rebuilt(output, copied)


def put_into(output: Any, cards: Mapping[str, Image.Image], values: Mapping[str, Any] | None = None) -> Any:
    """The output, made anew with some pictures replaced; of the same type, nesting, shape, dtype, range and device.

    Args:
        output: what the pipeline returned; it is not written to.
        cards: by picture name, what to show instead.
        values: by picture name, a value of the same kind to put there instead (from another call).
    """

    def swap(name: str, value: Any, form: Form | Literal["pillow"]) -> Any:
        if name in cards:
            return to_like(cards[name], value, form)
        return (values or {}).get(name, value)

    return _rebuilt(output, swap)


def _picture(name: str, value: Any, form: Form | Literal["pillow"]) -> Picture:
    try:
        if isinstance(value, Image.Image):
            return Picture(name, pixels=from_pillow(name, value), bare=bare_colours(value))
        if isinstance(form, Form) and form.refused:
            return failed_picture(name, ImageUnreadable(name, form.refused))
        known = form if isinstance(form, Form) and form.is_known else form_of(name, value)
        grey = tuple(from_array(one[None], known) for one in value) if known.may_be_grey else ()
        return Picture(name, pixels=from_array(value, known), bare=bare_array(value, known) + grey)
    except ImageUnreadable as error:
        return failed_picture(name, error)
    except Exception as error:  # noqa: BLE001 - whatever is odd about one value must not stop the others
        return failed_picture(name, ImageUnreadable(name, f"{type(error).__name__}: {error}"))


def kind_of(value: Any) -> tuple[Any, ...]:
    """Mode and size of a Pillow image; type, shape and dtype of an array: what may take one another's place."""
    if isinstance(value, Image.Image):
        return value.mode, value.size
    return type(value), tuple(value.shape), value.dtype


def _is_empty(output: Any) -> bool:
    """Whether an output is an empty batch: lists of nothing, or arrays without a picture."""
    if isinstance(output, BaseOutput | dict):
        return any(_is_empty(value) for name, value in output.items() if name not in NO_PICTURES)
    if isinstance(output, tuple) and output:
        return _is_empty(output[0])
    if isinstance(output, np.ndarray | torch.Tensor):
        return output.ndim > 3 and len(output) == 0
    return isinstance(output, list) and all(_is_empty(item) for item in output)


def _rebuilt(output: Any, replace: Replace) -> Any:
    """Walk a whole output; a bare tuple is a pipeline's tuple, whose parts are called by their place."""
    if isinstance(output, BaseOutput):
        return _rebuilt_fields("", output, replace)
    if type(output) in (dict, OrderedDict):
        return type(output)((key, _walk(str(key), value, replace)) for key, value in output.items())
    name = "output" if isinstance(output, tuple) else "images"
    return _walk(name, output, replace)


def _rebuilt_fields(prefix: str, output: BaseOutput, replace: Replace) -> BaseOutput:
    fresh = {
        name: value if name in NO_PICTURES and not _holds_pillow(value) else _walk(f"{prefix}{name}", value, replace)
        for name, value in output.items()
    }
    return dataclasses.replace(output, **fresh)


def _holds_pillow(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_pillow(item) for item in value)
    return isinstance(value, Image.Image)


def _walk(name: str, value: Any, replace: Replace) -> Any:
    """One part of an output.

    Raises:
        OutputNotUnderstood: it may hold pictures and cannot be looked into.
    """
    if isinstance(value, Image.Image):
        return replace(name, value, "pillow")
    if isinstance(value, torch.Tensor) and (value.layout is not torch.strided or value.is_quantized):
        raise OutputNotUnderstood("an output", f"a tensor of layout {value.layout} as {name}")
    if isinstance(value, np.ndarray | torch.Tensor) and getattr(value, "dtype", None) != np.dtype(object):
        return _walk_axes(name, value, replace, _form_or_unknown(name, value)) if value.ndim >= _LEAST_AXES else value
    if isinstance(value, BaseOutput):
        return _rebuilt_fields(f"{name}.", value, replace)
    if isinstance(value, list | tuple):
        if is_picture_in_numbers(value):
            raise OutputNotUnderstood("an output", f"rows of numbers, as pictures are, as {name}")
        parts = [_walk(f"{name}[{at}]", item, replace) for at, item in enumerate(value)]
        return type(value)._make(parts) if hasattr(value, "_make") else type(value)(parts)
    if type(value) in (dict, OrderedDict):
        return type(value)((key, _walk(f"{name}.{key}", item, replace)) for key, item in value.items())
    if isinstance(value, str) and is_picture_in_words(value):
        raise OutputNotUnderstood("an output", f"a picture written in words as {name}")
    if value is None or isinstance(value, bool | int | float | complex | str | np.generic | Enum):
        return value
    raise OutputNotUnderstood("an output", f"a {type(value).__name__} as {name}")


def _form_or_unknown(name: str, array: Any) -> Form:
    """One form for a whole batch, so that no bright picture is taken for another range; NaN in one spoils only it."""
    try:
        form = form_of(name, array)
        one_clip = isinstance(array, torch.Tensor) and array.ndim > 4 and array.shape[-4] == 1
        return form._replace(may_be_grey=one_clip and form.channels_first)
    except ImageUnreadable:
        return unknown_form(name, array)


def _walk_axes(name: str, array: Any, replace: Replace, form: Form) -> Any:
    if array.ndim <= 3:
        return replace(name, array, form)
    parts = [_walk_axes(f"{name}[{at}]", array[at], replace, form) for at in range(len(array))]
    changed = [at for at, part in enumerate(parts) if not _same(part, array[at])]
    if not changed:
        return array
    fresh = array.detach().clone() if isinstance(array, torch.Tensor) else array.copy()
    for at in changed:
        fresh[at] = parts[at]
    return fresh


def _same(part: Any, original: Any) -> bool:
    """Whether a part is the very view it came from (indexing makes a new object each time, on the same memory)."""
    if isinstance(part, torch.Tensor):
        return bool(part.data_ptr() == original.data_ptr() and part.device == original.device)
    return bool(part.__array_interface__["data"] == original.__array_interface__["data"])
