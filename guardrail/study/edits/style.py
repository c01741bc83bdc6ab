"""Edits that redraw the picture: painted, smoothed, pencilled, cartooned, in blocks or in dots."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter, uniform_filter

from guardrail.study.edits.base import Edit, as_image, as_values, sides_px

__all__ = ["STYLE"]

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma
_LARGEST_MEDIAN_PX = 11  # side of the window
_BRUSH_SHARE = 0.02  # radius of a brush dab, of the shorter side
_SMOOTHING_SHARE = 0.03  # radius of the guided filter, of the shorter side
_SMOOTHING_CONTRAST = 60.0  # of 255: what is fainter than this is smoothed away
_CARTOON_LEVELS = 6


def _paint(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """Dabs of a brush: each pixel takes the mean of that quarter of its window which varies least.

    Source: Kuwahara et al. 1976; we differ in taking one choice for the three channels, by their summed variance.
    """
    values = as_values(picture)
    wide = _BRUSH_SHARE * share * min(picture.size)
    radius = max(1, round(wide))
    size = radius + 1
    means = uniform_filter(values, (size, size, 0), mode="nearest")
    spread = (uniform_filter(values**2, (size, size, 0), mode="nearest") - means**2).sum(axis=2)
    best, least = means, np.full(spread.shape, np.inf, np.float32)
    half = radius // 2 or 1
    for down in (-half, half):
        for across in (-half, half):
            moved = np.roll(spread, (down, across), (0, 1))
            better = moved < least
            least = np.where(better, moved, least)
            best = np.where(better[..., None], np.roll(means, (down, across), (0, 1)), best)
    return Image.blend(picture, as_image(best), min(1.0, wide))  # a dab of less than a pixel is a faint one


def _median(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return picture.filter(ImageFilter.MedianFilter(1 + 2 * round((_LARGEST_MEDIAN_PX - 1) / 2 * share)))


def _smoothed(values: NDArray[np.float32], radius_px: int, contrast: float) -> NDArray[np.float32]:
    """Edges kept, the rest smoothed, for float32 (H, W, 3) in 0..255.

    Source: He, Sun, Tang, "Guided image filtering", 2010, each channel guiding itself.
    """
    size = (2 * radius_px + 1, 2 * radius_px + 1, 0)
    mean = uniform_filter(values, size, mode="nearest")
    variance = uniform_filter(values**2, size, mode="nearest") - mean**2
    slope = variance / (variance + contrast**2)
    offset = mean * (1 - slope)
    again = uniform_filter(slope, size, mode="nearest") * values
    return np.asarray(again + uniform_filter(offset, size, mode="nearest"), np.float32)


def _smooth(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    radius = max(1, round(_SMOOTHING_SHARE * share * min(picture.size)))
    return as_image(_smoothed(as_values(picture), radius, _SMOOTHING_CONTRAST * share))


def _pencil(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """A pencil drawing: grey, divided by itself blurred, so that edges stay on white paper."""
    grey = as_values(picture) @ _GREY
    blurred = gaussian_filter(grey, max(1.0, 0.02 * min(picture.size)), mode="nearest")
    drawn = 255 * ((grey + 1) / (blurred + 1)).clip(0, 1) ** 2
    return Image.blend(picture, as_image(np.repeat(drawn[..., None], 3, axis=2)), share)


def _cartoon(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """Smooth areas in few levels, with dark lines where brightness changes."""
    values = _smoothed(as_values(picture), max(1, round(0.015 * min(picture.size))), 40.0)
    flat = np.rint(values / 255 * (_CARTOON_LEVELS - 1)) / (_CARTOON_LEVELS - 1) * 255
    grey = gaussian_filter(values @ _GREY, max(0.8, 0.004 * min(picture.size)), mode="nearest")
    down, across = (np.diff(grey, axis=axis, append=grey.take([-1], axis)) for axis in (0, 1))
    lines = (np.hypot(down, across) / 12).clip(0, 1)[..., None]
    return Image.blend(picture, as_image(flat * (1 - lines)), share)


def _blocks(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """Square blocks of one colour, up to a sixteenth of the shorter side."""
    side = max(1.0, share * min(picture.size) / 16)
    small = picture.resize(sides_px(picture, 1 / side), Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.NEAREST)


def _dither(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """Black dots on white, as an old printer sets them."""
    return Image.blend(picture, picture.convert("1").convert("RGB"), share)


def _relief(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """Grey relief, lit from a corner."""
    return Image.blend(picture, picture.convert("L").filter(ImageFilter.EMBOSS).convert("RGB"), share)


STYLE = (
    Edit("paint", "style", "brush dabs of 2 % of the shorter side", _paint),
    Edit("median", "style", "median of 11x11 pixels", _median),
    Edit("smooth", "style", "edges kept, the rest smoothed over 3 % of the shorter side", _smooth),
    Edit("pencil", "style", "a grey pencil drawing", _pencil),
    Edit("cartoon", "style", "six levels a channel and dark lines", _cartoon),
    Edit("blocks", "style", "sixteen blocks across the shorter side", _blocks),
    Edit("dither", "style", "black dots on white", _dither),
    Edit("relief", "style", "grey relief", _relief),
)
"""Edits that redraw the picture."""
