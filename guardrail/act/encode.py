"""Pixels in, one image file out, once, with nothing in it but the pixels; and back."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from guardrail.errors import ImageUnreadable

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from guardrail.records import ImageMime

__all__ = ["decode_image", "encode_image", "encode_png"]

_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_WEBP_METHOD = 4  # of 0..6, libwebp's own default; fixed, so that the same pixels give the same bytes
_FULL_COLOUR = 0  # Pillow's name for JPEG 4:4:4: colour is kept for each pixel, as pixels are judged


def encode_image(pixels: torch.Tensor | NDArray[np.uint8], mime: ImageMime, quality: int = 95) -> bytes:
    """Encode a picture as PNG, JPEG or WebP without any text, EXIF, XMP or colour profile.

    Args:
        pixels: RGB 0..255; a torch tensor uint8 (3, H, W) on any device, or an array uint8 (H, W, 3); H and W >= 1.
        mime: PNG is lossless; JPEG is baseline with full colour (4:4:4); WebP is lossy.
        quality: of JPEG and WebP, 1..100.

    Returns:
        The file. Same pixels, same Pillow: same bytes.

    Raises:
        ValueError: another type of values, shape, file type or quality; or more pixels a side than the type can hold
            (65,535 for JPEG, 16,383 for WebP).
    """
    if mime not in _FORMATS or not 1 <= quality <= 100:
        raise ValueError(f"found {mime!r} at quality {quality}, expected one of {sorted(_FORMATS)} at 1..100")
    rows = pixels if isinstance(pixels, np.ndarray) else _rows(pixels)
    if rows.dtype != np.uint8 or rows.ndim != 3 or rows.shape[2] != 3 or 0 in rows.shape:
        raise ValueError(f"found {rows.dtype} {rows.shape}, expected uint8 (height, width, 3) with no empty side")
    said: dict[str, dict[str, Any]] = {
        "image/png": {},
        "image/jpeg": {"quality": quality, "subsampling": _FULL_COLOUR},
        "image/webp": {"quality": quality, "method": _WEBP_METHOD, "lossless": False, "exact": False},
    }
    file = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(rows)).save(file, _FORMATS[mime], **said[mime])
    except (OSError, ValueError) as error:
        raise ValueError(f"found uint8 {rows.shape}, expected a size that {mime} can hold: {error}") from error
    return file.getvalue()


def encode_png(pixels: torch.Tensor | NDArray[np.uint8]) -> bytes:
    """Encode a picture as PNG: chunks IHDR, IDAT and IEND only; decoding gives the same pixels (see `encode_image`)."""
    return encode_image(pixels, "image/png")


def decode_image(content: bytes, mime: ImageMime) -> NDArray[np.uint8]:
    """Decode one still picture of a known type, and no other.

    Args:
        content: the whole file.
        mime: what it has to be.

    Returns:
        Its pixels, uint8 (H, W, 3), RGB 0..255, writable and ours; transparency and palettes are not accepted.

    Raises:
        ImageUnreadable: it is another type, cut short, broken, animated, not plain RGB of 8 bits, or larger than Pillow
            takes for safe.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=(_FORMATS[mime],)) as picture:
                if picture.mode != "RGB" or getattr(picture, "n_frames", 1) != 1:
                    raise ValueError(f"{picture.mode} in {getattr(picture, 'n_frames', 1)} frames, expected RGB in one")  # noqa: TRY301
                return np.array(picture, dtype=np.uint8)
    except Exception as error:  # decoders raise anything on broken bytes; whatever it is, there is no picture
        raise ImageUnreadable(f"<{len(content)} bytes of {mime}>", repr(error)) from error


def _rows(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """The only transfer to host memory: (3, H, W) on any device to (H, W, 3) in it."""
    if pixels.ndim != 3:
        raise ValueError(f"found a tensor of shape {tuple(pixels.shape)}, expected uint8 (3, height, width)")
    return pixels.detach().permute(1, 2, 0).cpu().numpy()
