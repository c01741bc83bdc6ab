"""Whether words or numbers of an output spell out a picture: Base64 of a file, a data URL, rows of rows of numbers."""

import base64
import binascii
from typing import Any

__all__ = ["is_picture_in_numbers", "is_picture_in_words"]

_SHORTEST = 64  # characters of Base64: the smallest PNG has 67 bytes
_HEAD = 32  # characters of it that are decoded: the first bytes say what kind of file it is
_FILES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*", b"\x00\x00\x00")
# the first bytes of PNG, JPEG, GIF, WebP, BMP, TIFF (two), and of AVIF, HEIF and JPEG XL
_FEWEST_ROWS, _FEWEST_COLUMNS = 8, 8  # fewer show nothing of anybody's


def is_picture_in_words(text: str) -> bool:
    """Whether a text is, or holds in a data URL, the Base64 of a file of pictures (ordinary or URL-safe alphabet)."""
    head, mark, rest = text.lstrip()[:4096].partition("base64,")
    if text.lstrip()[:11].lower() == "data:image/" or (mark and head.lower().lstrip().startswith("data:")):
        return True
    if len(text) < _SHORTEST:
        return False
    start = "".join((rest if mark else text[:4096]).split())[:_HEAD].replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(start, validate=True)
    except (binascii.Error, ValueError):
        return False
    return decoded.startswith(_FILES)


def is_picture_in_numbers(value: Any) -> bool:
    """Whether nested lists hold rows of numbers, as many and as long as a picture's (`array.tolist()`)."""
    rows = value
    while isinstance(rows, list | tuple) and len(rows) == 1:
        rows = rows[0]
    if not isinstance(rows, list | tuple) or len(rows) < _FEWEST_ROWS:
        return _holds_pictures(rows)
    first = rows[0]
    return _is_row(first) or _holds_pictures(rows)


def _holds_pictures(value: Any) -> bool:
    """Whether the items of a list (channels, or pictures of a batch) are pictures in numbers themselves."""
    if not isinstance(value, list | tuple) or not value or not isinstance(value[0], list | tuple):
        return False
    first = value[0]
    return len(first) >= _FEWEST_ROWS and _is_row(first[0])


def _is_row(value: Any) -> bool:
    """Whether this is a row of pixels: numbers, or channels of one."""
    if not isinstance(value, list | tuple) or len(value) < _FEWEST_COLUMNS:
        return False
    pixel = value[0]
    pixel = pixel[0] if isinstance(pixel, list | tuple) and pixel else pixel
    return isinstance(pixel, int | float) and not isinstance(pixel, bool)
