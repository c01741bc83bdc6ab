"""Find the pictures in what a pipeline returned, by value, and rebuild the output with some of them replaced.

Nothing is ever written into what the pipeline returned: parts without a replacement are handed on as they are, parts
with one are made anew.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image

from guardrail.carriers import ImageBatch, Picture
from guardrail.errors import ImageUnreadable, OutputNotUnderstood
from guardrail.intake.pixels import Form, form_of, from_array, from_pillow, to_like, unknown_form
from guardrail.intake.values import failed_picture

__all__ = ["PicturesInOutput", "pictures_in", "put_into"]

_PICTURE_FIELDS = ("images", "image", "frames", "video", "videos", "rgb")

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
        values[name], forms[name] = value, form
        pictures.append(_picture(name, value, form))
        return value

    _rebuilt(output, note)
    return PicturesInOutput(ImageBatch(tuple(pictures)), values, forms)


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
        pixels = (
            from_pillow(name, value) if isinstance(value, Image.Image) else from_array(value, _known(name, value, form))
        )
        return Picture(name, pixels=pixels)
    except (ImageUnreadable, OSError) as error:
        return failed_picture(name, error if isinstance(error, ImageUnreadable) else ImageUnreadable(name, str(error)))


def _known(name: str, value: Any, form: Any) -> Form:
    """The form found for the whole batch; where there was none, the reason for this one picture."""
    return form if isinstance(form, Form) and form.is_known else form_of(name, value)


def _rebuilt(output: Any, replace: Replace) -> Any:
    if isinstance(output, BaseOutput):
        return _rebuilt_fields(output, replace)
    if isinstance(output, tuple) and not _is_pictures(output):
        parts = [
            _walk(f"output[{at}]", part, replace) if _is_pictures(part) else part for at, part in enumerate(output)
        ]
        if not any(_is_pictures(part) for part in output):
            raise OutputNotUnderstood("a tuple", f"({', '.join(type(part).__name__ for part in output)})")
        return tuple(parts)
    if _is_pictures(output):
        return _walk("images", output, replace)
    raise OutputNotUnderstood(f"a {type(output).__name__}", "no picture")


def _rebuilt_fields(output: BaseOutput, replace: Replace) -> BaseOutput:
    held = {name: output[name] for name in output if name in _PICTURE_FIELDS and output[name] is not None}
    held = {name: value for name, value in held.items() if _is_pictures(value)}
    if not held:
        raise OutputNotUnderstood(f"a {type(output).__name__}", f"the fields {', '.join(output.keys()) or 'none'}")
    others = [name for name in output if name not in held and _holds_pillow(output[name])]
    fresh = {name: _walk(name, output[name], replace) for name in (*held, *others)}
    return dataclasses.replace(output, **fresh)


def _holds_pillow(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds_pillow(item) for item in value)
    return isinstance(value, Image.Image)


def _is_pictures(value: Any) -> bool:
    """Whether a value can be pictures: a Pillow image, an array of at least 3 axes, or a list of such (or empty)."""
    if isinstance(value, list | tuple):
        return all(_is_pictures(item) for item in value) if value else isinstance(value, list)
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.ndim >= 3
    return isinstance(value, Image.Image)


def _walk(name: str, value: Any, replace: Replace) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_walk(f"{name}[{at}]", item, replace) for at, item in enumerate(value))
    if isinstance(value, Image.Image):
        return replace(name, value, "pillow")
    return _walk_axes(name, value, replace, _form_or_unknown(name, value))


def _form_or_unknown(name: str, array: Any) -> Form:
    """One form for a whole batch, so that no bright picture is taken for another range; NaN in one spoils only it."""
    try:
        return form_of(name, array)
    except ImageUnreadable:
        return unknown_form(array)


def _walk_axes(name: str, array: Any, replace: Replace, form: Form) -> Any:
    if array.ndim == 3:
        return replace(name, array, form)
    parts = [_walk_axes(f"{name}[{at}]", array[at], replace, form) for at in range(len(array))]
    changed = [at for at, part in enumerate(parts) if not _same(part, array[at])]
    if not changed:
        return array
    fresh = array.clone() if isinstance(array, torch.Tensor) else array.copy()
    for at in changed:
        fresh[at] = parts[at]
    return fresh


def _same(part: Any, original: Any) -> bool:
    """Whether a part is the very view it came from (indexing makes a new object each time, on the same memory)."""
    if isinstance(part, torch.Tensor):
        return bool(part.data_ptr() == original.data_ptr() and part.device == original.device)
    return bool(part.__array_interface__["data"] == original.__array_interface__["data"])
