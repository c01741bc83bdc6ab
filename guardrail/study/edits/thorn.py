"""The eleven edits of Thorn's perceptual-hashing benchmark, with the parameters that its page gives.

Source: the image hashing example in the documentation of the Python package `perception` (Thorn), where each edit is
written with OpenCV or imgaug. The page says: a word of 20 % of the width in black, blur of deviation 2 px, a Gaussian
vignette of half the sides, gamma 2, JPEG compression 95, padding of 20 % of the height above and below, a crop of 5 %
on each side, noise of deviation 0.2 x 255, a turn of 4 degrees, half the size (in its table only), and the picture
itself, brought to a longer side of 256 px first. Edits are made from that small picture and stored as JPEG.

Where the page leaves room we read imgaug's documented defaults: padding and corners are black, the noise is the same in
all channels, compression 95 is JPEG quality 5. The word is set in another face than OpenCV's, and where the page is
silent on the stored JPEG's quality we use 95, OpenCV's default. The picture's size is the caller's business:
the benchmark brings it to 256 px for this suite.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from guardrail.study.edits.base import Edit, as_image, as_values, sides_px

__all__ = ["THORN", "THORN_SIDE_PX"]

THORN_SIDE_PX = 256  # longer side of every picture of that benchmark, works and copies

_STORED_QUALITY = 95  # of the JPEG each copy is kept as; OpenCV's default
_BLUR_DEVIATION_PX = 2.0
_PAD = 0.2  # of the height, above and below
_CROP = 0.05  # of each side
_NOISE_DEVIATION = 0.2 * 255  # of 255
_TURN_DEGREES = 4.0
_COMPRESSED_QUALITY = 5  # imgaug's compression 95
_WORD_WIDTH = 0.2  # of the picture's width
_WORD_OPACITY = 200 / 255
_FONT_PX = 40.0  # any size from which the word's width is scaled


def _stored(picture: Image.Image, quality: int = _STORED_QUALITY) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as read:
        return read.convert("RGB")


def _noop(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return _stored(picture)


def _watermark(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    wide = ImageFont.load_default(_FONT_PX).getlength("TEST")
    font = ImageFont.load_default(max(4.0, _FONT_PX * _WORD_WIDTH * picture.width / wide))
    mask = Image.new("L", picture.size)
    height = font.getbbox("TEST")[3]
    ImageDraw.Draw(mask).text((height, picture.height - height), "TEST", round(255 * _WORD_OPACITY), font, "ls")
    return _stored(Image.composite(Image.new("RGB", picture.size), picture, mask))


def _blur(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return _stored(picture.filter(ImageFilter.GaussianBlur(_BLUR_DEVIATION_PX)))


def _vignette(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    curves = []
    for side in (picture.height, picture.width):
        places = np.arange(side) - (side - 1) / 2
        curves.append(np.exp(-(places**2) / (2 * (side / 2) ** 2)))
    light = np.outer(*curves)
    return _stored(as_image(as_values(picture) * (light / light.max())[..., None]))


def _gamma(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return _stored(picture.point([round(255 * (value / 255) ** 2) for value in range(256)] * 3))


def _compressed(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return _stored(_stored(picture, _COMPRESSED_QUALITY))


def _pad(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    band = round(_PAD * picture.height)
    ground = Image.new("RGB", (picture.width, picture.height + 2 * band))
    ground.paste(picture, (0, band))
    return _stored(ground)


def _crop(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    across, down = round(_CROP * picture.width), round(_CROP * picture.height)
    return _stored(picture.crop((across, down, picture.width - across, picture.height - down)))


def _noise(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    values = as_values(picture)
    return _stored(as_image(values + random.normal(0, _NOISE_DEVIATION, (*values.shape[:2], 1))))


def _resize(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return _stored(picture.resize(sides_px(picture, 0.5), Image.Resampling.BICUBIC))


def _rotate(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return _stored(picture.rotate(-_TURN_DEGREES, Image.Resampling.BILINEAR))


THORN = (
    Edit("thorn_noop", "thorn", "the picture, stored as JPEG", _noop, graded=False),
    Edit("thorn_watermark", "thorn", "a word over a fifth of the width", _watermark, graded=False),
    Edit("thorn_blur", "thorn", "Gaussian of 2 px", _blur, graded=False),
    Edit("thorn_vignette", "thorn", "Gaussian of half the sides", _vignette, graded=False),
    Edit("thorn_gamma", "thorn", "exponent 2", _gamma, graded=False),
    Edit("thorn_jpeg", "thorn", "JPEG quality 5", _compressed, graded=False),
    Edit("thorn_pad", "thorn", "20 % of the height above and below", _pad, graded=False),
    Edit("thorn_crop", "thorn", "5 % off each side", _crop, graded=False),
    Edit("thorn_noise", "thorn", "grey noise of deviation 51 of 255", _noise, graded=False),
    Edit("thorn_resize", "thorn", "half of each side", _resize, graded=False),
    Edit("thorn_rotate", "thorn", "4 degrees on black", _rotate, graded=False),
)
"""The eleven edits of Thorn's benchmark."""
