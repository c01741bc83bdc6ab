"""PDQ, the 256-bit perceptual hash of ThreatExchange, for whole batches as torch operations on any device.

Everything between luma and DCT is linear along each axis: two box filters, then picking 64 rows. So an axis of n pixels
becomes one matrix (`axis_matrix`), made once for each n, and a picture is hashed by one matrix product on either
side. The same product gives the mirrored picture, so all eight views are those of really transposed pictures.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.fingerprint.views import TURNS, Turn, packed_bits
from guardrail.records import VIEWS

__all__ = ["PDQ_SMALLEST_SIDE_PX", "axis_matrix", "dct_matrix", "hash_pdq"]

PDQ_SMALLEST_SIDE_PX = 5  # pdqhashing.cpp's MIN_HASHABLE_DIM: below it the hash is zero and so is the quality
_BLOCK_SIDE = 64  # rows and columns that PDQ's downsampling keeps
_DCT_SIDE = 16  # frequencies 1..16 of either axis, the constant left out
_LUMA_THOUSANDTHS = (299, 587, 114)  # ITU-R BT.601, as in pdqhashing.cpp
_QUALITY_DIVISOR = 90  # pdqImageDomainQualityMetric's heuristic scale


def hash_pdq(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Hash pictures of one size, in the eight dihedral views.

    Args:
        pixels: uint8 (N, 3, H, W), RGB 0..255; N pictures of height H and width W, each at least 1.

    Returns:
        hashes: uint8 (N, 8, 32) on the same device; entry v is the hash of the picture after Pillow's
            `Image.Transpose` named `VIEWS[v]`. Bit 255 - (16 i + j) from the left stands for row frequency i + 1 and
            column frequency j + 1: the order of PDQ's hex text and of `numpy.packbits(pdqhash.compute(picture)[0])`.
        quality: int64 (N,), 0..100; how much gradient the picture holds. ThreatExchange distrusts hashes below 50.

    A side under 5 px gives zero hashes of quality 0, as `pdqhash` does. A flat picture gives a zero hash of quality 0;
    `pdqhash` gives float rounding noise there, also of quality 0. A mirror-symmetric picture has frequencies of zero,
    so some of its bits are rounding noise in either program. Computed in float32: call it under
    `devices.exact_arithmetic`, which switches TF32 and autocast off. Takes 4 bytes a pixel and picture; on a CPU
    hand in 1 to 4 pictures at a time.

    Source: ThreatExchange, `pdq/cpp/hashing/pdqhashing.cpp`, and its paper "PDQ and TMK+PDQF" (Facebook, 2019). We
    differ in adding up luma and box filter by exact weights, where the original keeps a running float32 sum.
    """
    count, _, height, width = pixels.shape
    if min(height, width) < PDQ_SMALLEST_SIDE_PX:
        nothing = torch.zeros(count, len(VIEWS), _DCT_SIDE * _DCT_SIDE // 8, dtype=torch.uint8, device=pixels.device)
        return nothing, torch.zeros(count, dtype=torch.int64, device=pixels.device)
    down, across = _axis_tensor(height, pixels.device), _axis_tensor(width, pixels.device)
    both = down @ _luma(pixels) @ across.T
    bits = torch.stack([_bits(_coefficients(both, TURNS[view])) for view in VIEWS], dim=1)
    return packed_bits(bits.flip(-1)), _quality(both[:, :_BLOCK_SIDE, :_BLOCK_SIDE] / 1000)


@lru_cache(maxsize=64)
def axis_matrix(size: int) -> NDArray[np.float64]:
    """PDQ's downsampling of one axis: two box filters, then 64 of the `size` samples.

    Args:
        size: pixels along the axis, at least 1.

    Returns:
        float64 (64, size); each row sums to 1. Cached; not writable.
    """
    window = -(-size // (2 * _BLOCK_SIDE))
    ahead = (window + 2) // 2
    behind = window - ahead
    starts = np.maximum(np.arange(size) - behind, 0)
    ends = np.minimum(np.arange(size) + ahead, size)
    matrix = np.zeros((_BLOCK_SIDE, size))
    for row in range(_BLOCK_SIDE):
        centre = int((row + 0.5) * size / _BLOCK_SIDE)
        share = 1.0 / (ends[centre] - starts[centre])
        for sample in range(starts[centre], ends[centre]):
            matrix[row, starts[sample] : ends[sample]] += share / (ends[sample] - starts[sample])
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=1)
def dct_matrix() -> NDArray[np.float64]:
    """Frequencies 1..16 of the orthonormal DCT-II over 64 samples: float64 (16, 64)."""
    frequency = np.arange(1, _DCT_SIDE + 1)[:, None]
    sample = np.arange(_BLOCK_SIDE)[None, :]
    waves: NDArray[np.float64] = np.cos(np.pi / (2 * _BLOCK_SIDE) * frequency * (2 * sample + 1))
    waves *= np.sqrt(2 / _BLOCK_SIDE)
    return waves


@lru_cache(maxsize=64)
def _axis_tensor(size: int, device: torch.device) -> torch.Tensor:
    """Float32 (96, size): 64 rows of downsampling, 16 of its DCT, 16 of the DCT of the mirrored axis."""
    plain = axis_matrix(size)
    stacked = np.concatenate([plain, dct_matrix() @ plain, dct_matrix() @ plain[:, ::-1]])
    return torch.tensor(stacked, dtype=torch.float32, device=device)


def _luma(pixels: torch.Tensor) -> torch.Tensor:
    """Thousandths of luma less that of each picture's first pixel: float32 (N, H, W), whole numbers, so exact."""
    red, green, blue = pixels.unbind(1)
    luma = red.to(torch.float32).mul_(_LUMA_THOUSANDTHS[0])
    luma.add_(green, alpha=_LUMA_THOUSANDTHS[1]).add_(blue, alpha=_LUMA_THOUSANDTHS[2])
    return luma.sub_(luma[:, :1, :1].clone())


def _coefficients(both: torch.Tensor, turn: Turn) -> torch.Tensor:
    """The 16x16 DCT of one view, cut from the product of the stacked axes: float32 (N, 16, 16)."""
    top = _BLOCK_SIDE + _DCT_SIDE * turn.mirror_rows
    left = _BLOCK_SIDE + _DCT_SIDE * turn.mirror_columns
    cut = both[:, top : top + _DCT_SIDE, left : left + _DCT_SIDE]
    return cut.transpose(1, 2) if turn.transpose else cut


def _bits(coefficients: torch.Tensor) -> torch.Tensor:
    """Whether each coefficient is above the lower median (PDQ's choice of the two middle ones): bool (N, 256)."""
    flat = coefficients.flatten(1)
    return flat > flat.median(dim=1, keepdim=True).values


def _quality(blocks: torch.Tensor) -> torch.Tensor:
    """PDQ's quality of downsampled pictures (N, 64, 64), luma 0..255 less a constant: int64 (N,), 0..100."""
    down, across = (blocks.diff(dim=axis).mul(100 / 255).trunc().abs().sum((1, 2)) for axis in (1, 2))
    return ((down + across).to(torch.int64) // _QUALITY_DIVISOR).clamp(max=100)
