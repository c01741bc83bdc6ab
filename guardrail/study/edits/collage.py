"""Edits that set the work among other pictures."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from guardrail.study.edits.base import Edit, sides_px

__all__ = ["COLLAGE"]

_LEAST_SHARE = 0.1  # of the collage's area, that the work keeps
_CELLS = ((1, 2), (2, 2), (2, 3), (3, 3))  # rows and columns of a sheet, with growing intensity
_LARGEST_SIDE_PX = 1536  # of a collage: a larger one is brought down
_SHAPES = 24  # of a painted ground


def _ground(size: tuple[int, int], random: np.random.Generator, others: Sequence[Image.Image]) -> Image.Image:
    """Another picture, cut to a size; where there is none, a blurred heap of coloured shapes."""
    if others:
        other = others[int(random.integers(len(others)))]
        return ImageOps.fit(other.convert("RGB"), size, Image.Resampling.BICUBIC)
    ground = Image.new("RGB", size, tuple(map(int, random.integers(0, 256, 3))))
    draw = ImageDraw.Draw(ground)
    for left, top, right, bottom, round_one in random.random((_SHAPES, 5)):
        (x0, x1), (y0, y1) = sorted((left * size[0], right * size[0])), sorted((top * size[1], bottom * size[1]))
        box = (x0, y0, x1 + 1, y1 + 1)
        shape = draw.ellipse if round_one < 0.5 else draw.rectangle
        shape(box, tuple(map(int, random.integers(0, 256, 3))))
    return ground.filter(ImageFilter.GaussianBlur(max(size) / 200))


def _bounded(picture: Image.Image) -> Image.Image:
    longest = max(picture.size)
    if longest <= _LARGEST_SIDE_PX:
        return picture
    return picture.resize(sides_px(picture, _LARGEST_SIDE_PX / longest), Image.Resampling.BICUBIC)


def _collage(
    picture: Image.Image, share: float, random: np.random.Generator, others: Sequence[Image.Image]
) -> Image.Image:
    """The work, whole, anywhere on another picture of the work's shape."""
    size = sides_px(picture, math.sqrt(1 / _LEAST_SHARE**share))
    across, down = random.random(2)
    ground = _ground(size, random, others)
    place = (round(across * (size[0] - picture.width)), round(down * (size[1] - picture.height)))
    ground.paste(picture, place)
    return _bounded(ground)


def _sheet(
    picture: Image.Image, share: float, random: np.random.Generator, others: Sequence[Image.Image]
) -> Image.Image:
    """The work as one cell of a sheet of pictures: two, four, six, then nine of them."""
    rows, columns = _CELLS[min(math.ceil(share * len(_CELLS)), len(_CELLS)) - 1]
    width, height = picture.size
    sheet = Image.new("RGB", (columns * width, rows * height))
    chosen = int(random.random() * rows * columns)
    for cell in range(rows * columns):
        content = picture if cell == chosen else _ground(picture.size, random, others)
        sheet.paste(content, (cell % columns * width, cell // columns * height))
    return _bounded(sheet)


def _ghost(
    picture: Image.Image, share: float, random: np.random.Generator, others: Sequence[Image.Image]
) -> Image.Image:
    """Another picture shines through, at last as strongly as the work."""
    return Image.blend(picture, _ground(picture.size, random, others), 0.5 * share)


COLLAGE = (
    Edit("collage", "collage", "the work on a tenth of another picture's area", collage=_collage),
    Edit("sheet", "collage", "one of nine pictures on a sheet", collage=_sheet),
    Edit("ghost", "collage", "another picture mixed in, half and half", collage=_ghost),
)
"""Edits that set the work among other pictures; given none, they paint a ground of shapes."""
