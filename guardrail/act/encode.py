"""Pixels in, one PNG file out: losslessly, once, with nothing in it but the pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["encode_png"]


def encode_png(pixels: torch.Tensor | NDArray[np.uint8]) -> bytes:
    """Encode a picture as PNG without any text, EXIF, XMP or colour profile: chunks IHDR, IDAT and IEND only.

    Args:
        pixels: RGB 0..255; a torch tensor uint8 (3, H, W) on any device, or an array uint8 (H, W, 3); H and W >= 1.

    Returns:
        The file; decoding it gives the same pixels. Same pixels, same Pillow: same bytes.

    Raises:
        ValueError: another type of values or another shape.
    """
    rows = pixels if isinstance(pixels, np.ndarray) else _rows(pixels)
    if rows.dtype != np.uint8 or rows.ndim != 3 or rows.shape[2] != 3 or 0 in rows.shape:
        raise ValueError(f"found {rows.dtype} {rows.shape}, expected uint8 (height, width, 3) with no empty side")
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rows)).save(file, "PNG")
    return file.getvalue()


def _rows(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """The only transfer to host memory: (3, H, W) on any device to (H, W, 3) in it."""
    if pixels.ndim != 3:
        raise ValueError(f"found a tensor of shape {tuple(pixels.shape)}, expected uint8 (3, height, width)")
    return pixels.detach().permute(1, 2, 0).cpu().numpy()
