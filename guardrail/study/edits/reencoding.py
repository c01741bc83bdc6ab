"""Edits that an encoder makes: JPEG, WebP, few colours, few pixels, few latent values."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn, idctn

from guardrail.study.edits.base import Edit, as_image, as_values, sides_px

__all__ = ["REENCODING"]

_BLOCK_PX = 8  # side of the block that one latent place stands for, as in the autoencoders of latent diffusion
_LEAST_KEPT = 4  # values kept of each block at full intensity: the four channels of Stable Diffusion 1's latent
_COARSEST_STEP = 24.0  # of a coefficient of an orthonormal 8x8 DCT, at full intensity
_SHIFTS = ((0, 0), (0, 4), (4, 0), (4, 4))  # pixels; block grids whose outcomes are averaged, so that no edge shows
_MOST_COLOURS = 256
_LEAST_COLOURS = 4


def _encoded(picture: Image.Image, kind: str, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=quality)
    with Image.open(buffer) as read:
        return read.convert("RGB")


def _jpeg(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return _encoded(picture, "JPEG", round(95 - 92 * share))


def _webp(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    return _encoded(picture, "WEBP", round(95 - 95 * share))


def _down_up(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    small = picture.resize(sides_px(picture, 1 / 12**share), Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def _palette(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    colours = round(_LEAST_COLOURS * (_MOST_COLOURS / _LEAST_COLOURS) ** (1 - share))
    return picture.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB")


def _latent(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """What a linear autoencoder with a latent of one place in 8x8 pixels would keep.

    Each 8x8 block of luma and chroma becomes its cosine coefficients; of all 192 only the largest few (on average over
    the picture, luma and chroma together) are kept, in coarse steps, then the block is made again. Four block grids are
    averaged. At intensity 100 four values a block are left, as many as Stable Diffusion 1's latent has channels.

    Source: our own approximation, measured against no real autoencoder: a trained one spends its values better and
    invents texture, which this does not; the shapes that survive are of the same coarseness.
    """
    values = np.asarray(picture.convert("YCbCr"), np.float32)
    blocks = 3 * _BLOCK_PX**2
    kept = max(_LEAST_KEPT, round(blocks * (_LEAST_KEPT / blocks) ** share))
    made = np.mean([_round_trip(values, shift, kept, _COARSEST_STEP * share) for shift in _SHIFTS], axis=0)
    rounded = np.rint(made.clip(0, 255)).astype(np.uint8)
    return Image.fromarray(rounded, "YCbCr").convert("RGB")


def _round_trip(values: NDArray[np.float32], shift: tuple[int, int], kept: int, step: float) -> NDArray[np.float32]:
    """(H, W, 3) through the block transform and back, with `kept` of 192 places for coefficients, on a shifted grid."""
    height, width, _ = values.shape
    below, right = (-(side + begun) % _BLOCK_PX for side, begun in zip((height, width), shift, strict=True))
    padded = np.pad(values, ((shift[0], below), (shift[1], right), (0, 0)), mode="symmetric")
    rows, columns = padded.shape[0] // _BLOCK_PX, padded.shape[1] // _BLOCK_PX
    cut = padded.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX, 3)
    coefficients = dctn(cut, axes=(1, 3), norm="ortho")
    strength = np.mean(coefficients**2, axis=(0, 2))  # of each place in the block and channel: (8, 8, 3)
    weakest = np.sort(strength.ravel())[-kept]
    coefficients *= (strength >= weakest)[None, :, None]
    if step:
        coefficients = np.rint(coefficients / step) * step
    whole = idctn(coefficients, axes=(1, 3), norm="ortho").reshape(padded.shape)
    return np.asarray(whole[shift[0] : shift[0] + height, shift[1] : shift[1] + width], np.float32)


def _noisy_latent(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """A latent round trip of a picture with a little noise: what a weak image-to-image pass does."""
    values = as_values(picture)
    noisy = as_image(values + random.standard_normal(values.shape, np.float32) * 40 * share)
    return _latent(noisy, share, random)


REENCODING = (
    Edit("jpeg", "reencoding", "quality 3", _jpeg),
    Edit("webp", "reencoding", "quality 0", _webp),
    Edit("down_up", "reencoding", "down to a twelfth of each side, and up again", _down_up),
    Edit("palette", "reencoding", "four colours, dithered", _palette),
    Edit("latent", "reencoding", "four values for each block of 8x8 pixels (an approximation of a VAE)", _latent),
    Edit("noisy_latent", "reencoding", "the same after noise of deviation 40 of 255", _noisy_latent),
)
"""Edits that an encoder makes."""
