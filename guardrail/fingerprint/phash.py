"""pHash, the 64-bit perceptual hash of `imagehash.phash`, for whole batches as torch operations.

`imagehash` shrinks with Pillow, whose Lanczos filter works in fixed point and rounds to 8 bits between the two passes.
Both passes are matrix products of whole numbers, which float64 holds exactly, so the 32x32 picture is Pillow's own.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.fingerprint.views import TURNS, Turn, packed_bits
from guardrail.records import VIEWS

__all__ = ["hash_phash", "lanczos_matrix", "phash_dct_matrix", "shrunk_grey"]

_SMALL_SIDE = 32  # imagehash: hash_size 8 times highfreq_factor 4
_HASH_SIDE = 8
_PRECISION_BITS = 22  # Pillow, Resample.c: 32 - 8 - 2
_GREY_WEIGHTS = (19595, 38470, 7471)  # Pillow, Convert.c: ITU-R 601 luma in 65536ths
_LANCZOS_LOBES = 3
_TIE_STEP = 2.0**-12  # coefficients nearer than this are equal: far above float64's rounding, far below one grey level


def hash_phash(pixels: torch.Tensor) -> torch.Tensor:
    """Hash pictures of one size, in the eight dihedral views.

    Args:
        pixels: uint8 (N, 3, H, W), RGB 0..255; N pictures of height H and width W, each at least 1.

    Returns:
        uint8 (N, 8, 8) on the same device; entry v is the hash of the picture after Pillow's `Image.Transpose` named
        `VIEWS[v]`, packed as `numpy.packbits(imagehash.phash(picture).hash.flatten())`.

    The identity equals `imagehash.phash` but where coefficients tie with the median to float rounding (flat and
    mirror-symmetric pictures): there `imagehash` gives the noise of its FFT and we give zeros. The other views are made
    from the same 32x32 pixels; Pillow would have rounded them in the other order, which moves at most a few bits. Needs
    float64, which MPS has not. Takes 12 bytes a pixel and picture.

    Source: Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010, section 3.2.1, as in
    `imagehash` 4.3.
    """
    frequencies = phash_dct_matrix()
    dct = torch.tensor(frequencies, dtype=torch.float64, device=pixels.device)
    coefficients = (dct @ shrunk_grey(pixels) @ dct.T / _TIE_STEP).round()
    return packed_bits(torch.stack([_bits(_turned(coefficients, TURNS[view])) for view in VIEWS], dim=1))


def shrunk_grey(pixels: torch.Tensor) -> torch.Tensor:
    """What Pillow's `convert("L").resize((32, 32), LANCZOS)` gives.

    Args:
        pixels: uint8 (N, 3, H, W), RGB 0..255.

    Returns:
        float64 (N, 32, 32), whole numbers 0..255, equal to Pillow's.
    """
    red, green, blue = pixels.unbind(1)
    grey = red.to(torch.float32).mul_(_GREY_WEIGHTS[0])  # sums stay under 2**24, so float32 is exact
    grey.add_(green, alpha=_GREY_WEIGHTS[1]).add_(blue, alpha=_GREY_WEIGHTS[2])
    grey = grey.add_(2.0**15).mul_(2.0**-16).floor_().to(torch.float64)
    across = _eight_bits(grey @ _lanczos_tensor(pixels.shape[3], pixels.device).T)
    return _eight_bits(_lanczos_tensor(pixels.shape[2], pixels.device) @ across)


@lru_cache(maxsize=64)
def lanczos_matrix(size: int) -> NDArray[np.float64]:
    """Pillow's fixed-point Lanczos weights from `size` samples to 32: float64 (32, size), whole numbers.

    Source: Pillow, `src/libImaging/Resample.c`, precompute_coeffs and normalize_coeffs_8bpc.
    """
    scale = size / _SMALL_SIDE
    stretch = max(scale, 1.0)
    matrix = np.zeros((_SMALL_SIDE, size))
    for row in range(_SMALL_SIDE):
        centre = (row + 0.5) * scale
        first = max(int(centre - _LANCZOS_LOBES * stretch + 0.5), 0)
        last = min(int(centre + _LANCZOS_LOBES * stretch + 0.5), size)
        offset = (np.arange(first, last) - centre + 0.5) / stretch
        weights = np.where(np.abs(offset) < _LANCZOS_LOBES, np.sinc(offset) * np.sinc(offset / _LANCZOS_LOBES), 0.0)
        fixed = weights / weights.sum() * 2.0**_PRECISION_BITS
        matrix[row, first:last] = np.trunc(fixed + np.copysign(0.5, fixed))
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=1)
def phash_dct_matrix() -> NDArray[np.float64]:
    """Frequencies 0..7 of scipy's unscaled DCT-II over 32 samples: float64 (8, 32)."""
    frequency = np.arange(_HASH_SIDE)[:, None]
    sample = np.arange(_SMALL_SIDE)[None, :]
    matrix: NDArray[np.float64] = 2 * np.cos(np.pi / (2 * _SMALL_SIDE) * frequency * (2 * sample + 1))
    return matrix


@lru_cache(maxsize=64)
def _lanczos_tensor(size: int, device: torch.device) -> torch.Tensor:
    return torch.tensor(lanczos_matrix(size), dtype=torch.float64, device=device)


def _eight_bits(total: torch.Tensor) -> torch.Tensor:
    """Fixed-point sums to 0..255 as Pillow's clip8 does, in place: add a half, shift right, clip."""
    return total.add_(2.0 ** (_PRECISION_BITS - 1)).mul_(2.0**-_PRECISION_BITS).floor_().clamp_(0, 255)


def _turned(coefficients: torch.Tensor, turn: Turn) -> torch.Tensor:
    """The DCT (N, 8, 8) of a view: mirroring an axis negates its odd frequencies."""
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64, device=coefficients.device).repeat(_HASH_SIDE // 2)
    if turn.mirror_rows:
        coefficients = coefficients * signs[:, None]
    if turn.mirror_columns:
        coefficients = coefficients * signs
    return coefficients.transpose(1, 2) if turn.transpose else coefficients


def _bits(coefficients: torch.Tensor) -> torch.Tensor:
    """Whether each coefficient is above the median (the mean of the two middle ones): bool (N, 64)."""
    flat = coefficients.flatten(1)
    middle = flat.sort(dim=1).values[:, flat.shape[1] // 2 - 1 : flat.shape[1] // 2 + 1]
    return 2 * flat > middle.sum(dim=1, keepdim=True)
