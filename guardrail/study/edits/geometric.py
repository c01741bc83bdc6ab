"""Edits of place and shape: crops, turns, squeezes, borders."""

import math

import numpy as np
from PIL import Image

from guardrail.study.edits.base import Edit, either, sides_px

__all__ = ["GEOMETRIC"]

_LEAST_AREA = 0.1  # of the picture, that the strongest crop keeps
_LEAST_SIDE = 0.1  # of each side, that the strongest shrinking keeps
_LEAST_ASPECT = 0.4  # of one side, that the strongest squeeze keeps
_LARGEST_TURN_DEGREES = 20.0
_LARGEST_BORDER = 0.5  # of the shorter side, on every side
_LARGEST_TILT = 0.3  # of each side, that a corner moves inwards


def _cropped(picture: Image.Image, area: float, random: np.random.Generator) -> Image.Image:
    """A piece of the picture's own shape that has `area` of its pixels, anywhere in it."""
    width, height = sides_px(picture, math.sqrt(area))
    left = round(random.random() * (picture.width - width))
    top = round(random.random() * (picture.height - height))
    return picture.crop((left, top, left + width, top + height))


def _crop(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return _cropped(picture, _LEAST_AREA ** (share**1.5), random)


def _quarter_crop(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return _cropped(picture, 0.25, random)


def _shrink(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return picture.resize(sides_px(picture, _LEAST_SIDE**share), Image.Resampling.BICUBIC)


def _squeeze(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    factor = 1 - (1 - _LEAST_ASPECT) * share
    width, height = sides_px(picture, factor)
    size = (width, picture.height) if either(random) > 0 else (picture.width, height)
    return picture.resize(size, Image.Resampling.BICUBIC)


def _rotate(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    degrees = either(random) * _LARGEST_TURN_DEGREES * share
    fill = "white" if random.random() < 0.5 else "black"
    return picture.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=fill)


def _straight(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """Turned, and then the largest upright piece of the picture's own shape that lies inside."""
    radians = math.radians(_LARGEST_TURN_DEGREES * share)
    turned = picture.rotate(math.degrees(either(random) * radians), Image.Resampling.BICUBIC)
    width, height = picture.size
    longest = max(width / height, height / width)
    kept = 1 / (math.cos(radians) + longest * math.sin(radians))
    new_width, new_height = sides_px(picture, kept)
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return turned.crop((left, top, left + new_width, top + new_height))


def _quarter_turn(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return picture.transpose(Image.Transpose.ROTATE_90 if either(random) > 0 else Image.Transpose.ROTATE_270)


def _half_turn(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return picture.transpose(Image.Transpose.ROTATE_180)


def _mirror(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _flip(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def _perspective(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """The corners of the picture move inwards, each by its own part of the largest tilt; the rest is filled black."""
    width, height = picture.size
    moved = random.random((4, 2)) * _LARGEST_TILT * share
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    target = corners + np.where(corners == 0, moved, -moved)
    scale = np.array([width, height], float)
    coefficients = _homography(target * scale, corners * scale)
    return picture.transform(picture.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)


def _homography(places: np.ndarray, sources: np.ndarray) -> list[float]:
    """The eight coefficients with which Pillow takes output places (4, 2) to source places (4, 2)."""
    rows = []
    for (x, y), (u, v) in zip(places, sources, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return [float(value) for value in np.linalg.solve(np.array(rows), sources.ravel())]


def _pad(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    colour = tuple(map(int, random.integers(0, 256, 3)))
    border = round(_LARGEST_BORDER * share * min(picture.size))
    ground = Image.new("RGB", (picture.width + 2 * border, picture.height + 2 * border), colour)
    ground.paste(picture, (border, border))
    return ground


GEOMETRIC = (
    Edit("crop", "geometric", "a tenth of the area, anywhere", _crop),
    Edit("quarter_crop", "geometric", "a quarter of the area, anywhere", _quarter_crop, graded=False),
    Edit("shrink", "geometric", "a tenth of each side", _shrink),
    Edit("squeeze", "geometric", "one side to two fifths", _squeeze),
    Edit("rotate", "geometric", "20 degrees, on black or white", _rotate),
    Edit("straighten", "geometric", "20 degrees, cut to the largest upright piece", _straight),
    Edit("quarter_turn", "geometric", "90 degrees, either way", _quarter_turn, graded=False),
    Edit("half_turn", "geometric", "180 degrees", _half_turn, graded=False),
    Edit("mirror", "geometric", "left and right change places", _mirror, graded=False),
    Edit("flip", "geometric", "top and bottom change places", _flip, graded=False),
    Edit("perspective", "geometric", "corners move in by up to 30 % of the sides", _perspective),
    Edit("pad", "geometric", "a border as wide as half the shorter side", _pad),
)
"""Edits of place and shape."""
