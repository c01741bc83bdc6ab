"""Edits of light and colour: every pixel stays where it is."""

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from guardrail.study.edits.base import Edit, as_image, as_values, either

__all__ = ["PHOTOMETRIC"]

_LEAST_LEVELS = 2  # a channel that is only dark or light
_MOST_LEVELS = 256  # all that eight bits hold
_NOISE_DEVIATION = 60.0  # of 255, standard deviation at full intensity
_BLUR_SHARE = 0.025  # standard deviation of the blur, of the shorter side


def _brightness(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(1 + either(random) * 0.7 * share)


def _contrast(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(picture).enhance(1 + (2.0 * share if either(random) > 0 else -0.85 * share))


def _gamma(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    exponent = 3.0 ** (either(random) * share)
    table = [round(255 * (value / 255) ** exponent) for value in range(256)]
    return picture.point(table * 3)


def _saturation(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Color(picture).enhance(1 + (3.0 * share if either(random) > 0 else -share))


def _hue(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    values = np.array(picture.convert("HSV"))
    values[..., 0] += np.uint8(round(either(random) * 128 * share) % 256)  # uint8 wraps round as the circle does
    return Image.fromarray(values, "HSV").convert("RGB")


def _tint(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    colour = random.integers(0, 256, 3)
    return Image.blend(picture, Image.new("RGB", picture.size, tuple(map(int, colour))), 0.7 * share)


def _greyscale(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Color(picture).enhance(1 - share)


def _posterise(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    steps = _LEAST_LEVELS * (_MOST_LEVELS / _LEAST_LEVELS) ** ((1 - share) ** 2) - 1
    steps = max(round(steps), _LEAST_LEVELS - 1)
    table = [round(round(value / 255 * steps) / steps * 255) for value in range(256)]
    return picture.point(table * 3)


def _solarise(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return ImageOps.solarize(picture, threshold=round(256 * (1 - share)))


def _equalise(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return Image.blend(picture, ImageOps.equalize(picture), share)


def _channels(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    red, green, blue = picture.split()
    orders = ((green, blue, red), (blue, red, green), (blue, green, red))
    return Image.blend(picture, Image.merge("RGB", orders[int(random.integers(len(orders)))]), share)


def _vignette(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    down, across = (np.linspace(-1, 1, side, dtype=np.float32) ** 2 for side in (picture.height, picture.width))
    darkness = 1 - np.exp(-(down[:, None] + across[None]) * 2)
    return as_image(as_values(picture) * (1 - share * darkness[..., None]))


def _noise(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    values = as_values(picture)
    return as_image(values + random.standard_normal(values.shape, np.float32) * _NOISE_DEVIATION * share)


def _blur(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(_BLUR_SHARE * share * min(picture.size)))


def _sharpen(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return picture.filter(ImageFilter.UnsharpMask(radius=3, percent=round(600 * share), threshold=0))


PHOTOMETRIC = (
    Edit("brightness", "photometric", "times 0.3 or 1.7", _brightness),
    Edit("contrast", "photometric", "times 0.15 or 3 about the mean", _contrast),
    Edit("gamma", "photometric", "exponent 3 or 1/3", _gamma),
    Edit("saturation", "photometric", "none, or four times as much", _saturation),
    Edit("hue", "photometric", "the opposite of every colour's hue", _hue),
    Edit("tint", "photometric", "seven tenths of one flat colour", _tint),
    Edit("greyscale", "photometric", "no colour", _greyscale),
    Edit("posterise", "photometric", "two levels a channel", _posterise),
    Edit("solarise", "photometric", "the negative", _solarise),
    Edit("equalise", "photometric", "flat histograms", _equalise),
    Edit("channels", "photometric", "channels change places", _channels),
    Edit("vignette", "photometric", "corners nearly black", _vignette),
    Edit("noise", "photometric", "normal noise of standard deviation 60 of 255", _noise),
    Edit("blur", "photometric", "Gaussian of 2.5 % of the shorter side", _blur),
    Edit("sharpen", "photometric", "unsharp mask of 600 % at 3 px", _sharpen),
)
"""Edits of light and colour."""
