"""A call's arguments in, the pictures among them out, copied before the call: an output may merely repeat one."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from guardrail.carriers import ImageBatch, ParentFile, Picture, RunInputs
from guardrail.intake.calls import BoundCall
from guardrail.intake.credentials import StoreOf, file_behind
from guardrail.intake.files import LARGEST_IMAGE_PX
from guardrail.intake.values import pictures_from
from guardrail.records import InputPicture, InputRole

__all__ = ["inputs_of"]

_SAMPLED_FRAMES = 16  # of one argument: a video's frames are looked at evenly spaced
_DEEPEST = 3  # lists in lists in lists: several IP-Adapters with several pictures each
_CONTROLLING_PARTS = ("controlnet", "adapter")  # where a pipeline has one, `image` is what controls it
_WORDS: dict[InputRole, tuple[str, ...]] = {
    "mask": ("mask",),
    "control": ("control", "pose", "depth", "face_video", "conditioning_frames", "canny", "condtioning"),
    "ip_adapter": ("ip_adapter",),
    "reference": ("reference", "ref_image", "example", "input_images", "gligen", "style", "text_images"),
    "init": ("image", "video", "frames", "condition"),
}
_NEVER = ("latents", "embeds", "embeddings", "prompt", "generator", "sigmas", "timesteps", "noise", "attention_mask")


def inputs_of(bound: BoundCall, largest_px: int = LARGEST_IMAGE_PX, store_of: StoreOf | None = None) -> RunInputs:
    """The pictures that a call is given, whatever the arguments are called, as they are before the call.

    Pillow images are found in any argument; arrays and tensors in those whose names speak of pictures. Of more than
    sixteen pictures in one argument, such as a video's frames, sixteen are taken, evenly spaced.

    Args:
        bound: the call, its arguments bound by name.
        largest_px: pictures of more pixels are not read.
        store_of: tells whether a file carries credentials; None: the file behind the first picture is not looked for.

    Returns:
        Own copies, uint8 (3, H, W) in host memory or where the tensor lies; what could not be read carries a failure.
    """
    pictures: list[Picture] = []
    records: list[InputPicture] = []
    unread = [f"inputs: {bound.unbound}"] if bound.unbound else []
    parent: ParentFile | None = None
    for argument, value in bound.said.items():
        if value is None or isinstance(value, bool | int | float | torch.Generator):
            continue
        role = _role(argument, bound)
        found = list(_candidates(argument, value, named=role is not None))
        kept = _sampled(found)
        if len(kept) < len(found):
            unread.append(
                f"inputs: {len(found) - len(kept)} of {len(found)} pictures in {argument!r} were not looked at"
            )
        for name, one in kept:
            for picture in _pictures(name, one, largest_px):
                if role == "init" and parent is None and store_of and picture.pixels is not None:
                    parent = file_behind(one, picture.pixels, store_of, largest_px)
                pictures.append(picture)
                records.append(
                    InputPicture(name=picture.name, role=role or "reference", pixels_sha256=_digest(picture))
                )
    unread += [f"input {one.name!r}: {one.failure.error}" for one in pictures if one.failure is not None]
    return RunInputs(tuple(records), ImageBatch(tuple(pictures)), tuple(unread), parent)


def _role(argument: str, bound: BoundCall) -> InputRole | None:
    """What a picture in an argument is for, by the argument's name; None where the name speaks of no picture."""
    if any(word in argument for word in _NEVER):
        return None
    role = next((role for role, words in _WORDS.items() if any(word in argument for word in words)), None)
    if role == "init" and argument == "image" and "control_image" not in bound.said:
        parts = getattr(bound.pipe, "config", {})
        if any(getattr(bound.pipe, part, None) is not None for part in _CONTROLLING_PARTS if part in parts):
            return "control"
    return role


def _candidates(name: str, value: Any, *, named: bool, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The single pictures and arrays in an argument; arrays only where its name speaks of pictures."""
    if isinstance(value, Image.Image):
        yield name, value
    elif named and isinstance(value, np.ndarray | torch.Tensor):
        yield from _of_array(name, value)
    elif depth < _DEEPEST and isinstance(value, list | tuple):
        for at, one in enumerate(value):
            yield from _candidates(f"{name}[{at}]", one, named=named, depth=depth + 1)
    elif depth < _DEEPEST and isinstance(value, Mapping):
        for key, one in value.items():
            yield from _candidates(f"{name}.{key}", one, named=named, depth=depth + 1)
    elif depth < _DEEPEST and dataclasses.is_dataclass(value) and not isinstance(value, type):
        for part in dataclasses.fields(value):
            yield from _candidates(f"{name}.{part.name}", getattr(value, part.name), named=named, depth=depth + 1)


def _of_array(name: str, array: Any) -> Iterator[tuple[str, Any]]:
    """The pictures of an array: one of up to three axes, more axes are batches and videos."""
    if array.ndim < 2:
        return
    if array.ndim <= 3:
        yield name, array
        return
    if (
        array.ndim == 5
        and isinstance(array, torch.Tensor)
        and array.shape[1] in (1, 3)
        and array.shape[2] not in (1, 3)
    ):
        array = array.transpose(1, 2)  # a video as diffusers' models take it: (B, C, F, H, W)
    for at in range(len(array)):
        yield from _of_array(f"{name}[{at}]", array[at])


def _sampled(found: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    if len(found) <= _SAMPLED_FRAMES:
        return found
    places = np.linspace(0, len(found) - 1, _SAMPLED_FRAMES).round().astype(int)
    return [found[at] for at in places]


def _pictures(name: str, value: Any, largest_px: int) -> Iterator[Picture]:
    """The picture in a value under its argument's name, in memory of its own."""
    for picture in pictures_from(value, largest_px).pictures:
        failure = picture.failure.model_copy(update={"image": name}) if picture.failure is not None else None
        pixels = picture.pixels.clone() if picture.pixels is not None else None
        yield dataclasses.replace(picture, name=name, pixels=pixels, failure=failure, bare=())


def _digest(picture: Picture) -> str | None:
    """The sha256 of a picture's size and RGB pixels, like those of outputs and works."""
    if picture.pixels is None:
        return None
    _, height, width = picture.pixels.shape
    digest = hashlib.sha256(b"%dx%d:" % (width, height))
    digest.update(picture.pixels.permute(1, 2, 0).contiguous().cpu().numpy().data)
    return digest.hexdigest()
