"""Both hashes in plain NumPy, slow and short: what the torch versions are tested against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["pdq_reference", "phash_reference"]


def pdq_reference(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
    """PDQ of one picture, as its paper tells it.

    Args:
        picture: uint8 (H, W, 3), RGB 0..255.

    Returns:
        uint8 (32,), the hash, highest frequency first; and its quality, 0..100.

    Source: "PDQ and TMK+PDQF", Facebook, 2019; sums in float64.
    """
    if min(picture.shape[:2]) < 5:
        return np.zeros(32, np.uint8), 0
    luma = picture @ np.array([0.299, 0.587, 0.114])
    for axis in (1, 0, 1, 0):
        luma = np.apply_along_axis(_box, axis, luma)
    rows, columns = (((np.arange(64) + 0.5) * side / 64).astype(int) for side in luma.shape)
    blocks = luma[np.ix_(rows, columns)]
    gradients = sum(np.abs(np.trunc(np.diff(blocks, axis=axis) * 100 / 255)).sum() for axis in (0, 1))
    frequency, sample = np.arange(1, 17)[:, None], np.arange(64)
    dct = np.sqrt(2 / 64) * np.cos(np.pi / 128 * frequency * (2 * sample + 1))
    coefficients = (dct @ blocks @ dct.T).flatten()
    bits = coefficients > np.sort(coefficients)[127]
    return np.packbits(bits[::-1]), min(int(gradients) // 90, 100)


def phash_reference(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pHash of one picture: grey, shrunk to 32x32 by Pillow's fixed-point Lanczos, DCT, median.

    Args:
        picture: uint8 (H, W, 3), RGB 0..255.

    Returns:
        uint8 (8,), the hash, lowest frequency first.

    Source: `imagehash` 4.3, and Pillow's `Resample.c`.
    """
    grey = (picture @ np.array([19595, 38470, 7471]) + 0x8000) >> 16
    small = _lanczos(_lanczos(grey.T).T)
    frequency, sample = np.arange(8)[:, None], np.arange(32)
    dct = 2 * np.cos(np.pi / 64 * frequency * (2 * sample + 1))
    coefficients = np.round(dct @ small @ dct.T, 3)
    return np.packbits(coefficients.flatten() > np.median(coefficients))


def _box(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean around each sample, over 1/128 of the length; windows shrink at the ends."""
    window = -(-len(samples) // 128)
    ahead = (window + 2) // 2
    return np.array([samples[max(i - window + ahead, 0) : i + ahead].mean() for i in range(len(samples))])


def _lanczos(samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pillow's resize of the first axis to 32 samples, in 22-bit fixed point, rounded to 0..255."""
    size = len(samples)
    scale, stretch = size / 32, max(size / 32, 1.0)
    shrunk = np.zeros((32, *samples.shape[1:]), np.int64)
    for row in range(32):
        centre = (row + 0.5) * scale
        taps = np.arange(max(int(centre - 3 * stretch + 0.5), 0), min(int(centre + 3 * stretch + 0.5), size))
        offset = (taps + 0.5 - centre) / stretch
        weights = np.sinc(offset) * np.sinc(offset / 3) * (np.abs(offset) < 3)
        fixed = np.round(weights / weights.sum() * (1 << 22)).astype(np.int64)
        shrunk[row] = np.clip((fixed @ samples[taps] + (1 << 21)) >> 22, 0, 255)
    return shrunk
