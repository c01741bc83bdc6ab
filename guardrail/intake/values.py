"""Whatever a caller has (paths, Pillow images, arrays, tensors, lists of them) in, one image batch out."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from guardrail.carriers import ImageBatch, Picture
from guardrail.errors import ImageUnreadable
from guardrail.intake.files import LARGEST_IMAGE_PX, read_picture
from guardrail.intake.pixels import bare_array, bare_colours, form_of, from_array, from_pillow
from guardrail.records import CheckFailed

__all__ = ["failed_picture", "pictures_from"]


def failed_picture(name: str, error: ImageUnreadable) -> Picture:
    """A picture that could not be read from a value."""
    return Picture(name, failure=CheckFailed(check="read_value", image=name, error=str(error.args[1])))


def pictures_from(images: Any, largest_px: int = LARGEST_IMAGE_PX) -> ImageBatch:
    """The pictures in what a caller passed, in order; what cannot be read is in the batch with a failure.

    Args:
        images: a path, a Pillow image, a NumPy array or torch tensor (one picture of 2 or 3 axes, or more axes for a
            batch; see `pixels.form_of`), a `Picture` that was read elsewhere, or a list or tuple of any of these.
        largest_px: files of more pixels are not decoded.
    """
    pictures: list[Picture] = []
    taken: set[str] = set()
    for at, picture in enumerate(_pictures("images", images, largest_px)):
        name = picture.name if picture.name not in taken else f"{picture.name} #{at}"
        while name in taken:
            name += "#"
        taken.add(name)
        pictures.append(picture if name == picture.name else replace(picture, name=name))
    return ImageBatch(tuple(pictures))


def _pictures(name: str, value: Any, largest_px: int) -> Iterator[Picture]:
    if isinstance(value, list | tuple):
        for at, item in enumerate(value):
            yield from _pictures(f"{name}[{at}]", item, largest_px)
    elif isinstance(value, Picture):
        yield value
    elif isinstance(value, str | os.PathLike):
        yield read_picture(Path(value), largest_px)
    elif isinstance(value, np.ndarray | torch.Tensor):
        yield from _from_axes(name, value)
    elif not isinstance(value, Image.Image):
        yield failed_picture(name, ImageUnreadable(name, f"a {type(value).__name__}"))
    else:
        try:
            yield Picture(name, pixels=from_pillow(name, value), bare=bare_colours(value))
        except (ImageUnreadable, OSError) as error:
            unreadable = error if isinstance(error, ImageUnreadable) else ImageUnreadable(name, str(error))
            yield failed_picture(name, unreadable)


def _from_axes(name: str, array: Any) -> Iterator[Picture]:
    """The pictures of an array: 2 axes are one grey picture, 3 one picture, more a batch of them."""
    if array.ndim > 3:
        for at in range(len(array)):
            yield from _from_axes(f"{name}[{at}]", array[at])
        return
    if array.ndim < 2:
        yield failed_picture(name, ImageUnreadable(name, f"an array of shape {tuple(array.shape)}"))
        return
    try:
        array = array[..., None] if array.ndim == 2 else array
        form = form_of(name, array)
        yield Picture(name, pixels=from_array(array, form), bare=bare_array(array, form))
    except ImageUnreadable as error:
        yield failed_picture(name, error)
