"""Pixels in, the International Standard Content Code of the picture out."""

from __future__ import annotations

from base64 import b32decode, b64encode
from typing import TYPE_CHECKING

from PIL import Image

from guardrail.extras import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ISCC_ALGORITHM", "iscc_bytes", "picture_iscc"]

ISCC_ALGORITHM = "io.iscc.v0"
"""Its name in the list of soft binding algorithms that C2PA keeps."""

_SIDE_PX = 32  # the standard's: a picture of 32 x 32 grey values
_BITS = 256  # of the code; in soft bindings the ISCC Foundation asks for this width (IEP-0020)
_PREFIX = "ISCC:"


def picture_iscc(pixels: NDArray[np.uint8]) -> str:
    """The Image-Code of a picture, as `ISCC:` and Base32; close pictures have codes that differ in few bits.

    Args:
        pixels: uint8 (H, W, 3), RGB 0..255.

    Raises:
        ExtraMissing: the extra `iscc` is not installed.

    Source: ISO 24138:2024, Content-Code Image v0, computed by `iscc-core`; grey values and size as `iscc-sdk` makes
    them (Pillow's `L`, bicubic). 256 bits.
    """
    codes = need("iscc_core", extra="iscc", purpose="compute the ISCC of an image")
    grey = Image.fromarray(pixels).convert("L").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC)
    return str(codes.gen_image_code_v0(list(grey.tobytes()), bits=_BITS)["iscc"])


def iscc_bytes(iscc: str) -> str:
    """A code as a soft binding holds it: header and body (IEP-0020's ISCC-SEQ of one unit), Base64."""
    text = iscc.removeprefix(_PREFIX)
    return b64encode(b32decode(text + "=" * (-len(text) % 8))).decode()
