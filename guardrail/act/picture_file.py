"""A path in, the bytes and the pixels of a picture file out; or why it is none."""

import hashlib
import io
import re
import stat
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail.errors import ImageUnreadable
from guardrail.records import ImageMime

__all__ = [
    "LARGEST_FILE_BYTES",
    "LARGEST_IMAGE_PX",
    "MOST_PARTS",
    "mime_of",
    "pixels_in",
    "pixels_sha256",
    "read_picture_file",
]

LARGEST_FILE_BYTES = 2**28
"""256 MiB: the whole file is read into memory."""
LARGEST_IMAGE_PX = 64_000_000
"""Pictures of more pixels are not decoded: 192 MB of them."""
MOST_PARTS = 50_000
"""Chunks or segments of one file; a PNG of 256 MiB in the usual 8 KiB has 32,768, and millions take c2pa minutes."""

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # of a JPEG's segment; others stand in coded pixels or fill up
_MARKERS_ALONE = frozenset({0x01, 0xD8})  # TEM, SOI: no length follows
_END_OF_JPEG = 0xD9


def read_picture_file(path: Path) -> tuple[bytes, ImageMime]:
    """The whole file and its type, by its first bytes, whatever its name says.

    Raises:
        ImageUnreadable: it is no regular file, too large, no PNG, JPEG or WebP, of too many chunks, or cannot be read.
    """
    content = _content(path)
    mime = mime_of(path, content)
    parts = _jpeg_parts(content) if mime == "image/jpeg" else _chunks(content, mime)
    if parts > MOST_PARTS:
        raise ImageUnreadable(str(path), f"more than {MOST_PARTS} chunks or segments")
    return content, mime


def mime_of(path: Path, content: bytes) -> ImageMime:
    """The type of a file by its first bytes.

    Raises:
        ImageUnreadable: no PNG, JPEG or WebP file begins like this.
    """
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    raise ImageUnreadable(str(path), "not a PNG, JPEG or WebP file" if content else "an empty file")


def pixels_in(path: Path, content: bytes, largest_px: int = LARGEST_IMAGE_PX) -> NDArray[np.uint8]:
    """What a file shows: uint8 (H, W, 3), RGB; what is transparent lies on white.

    Raises:
        ImageUnreadable: it cannot be decoded, or has more pixels than that.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as image:
                if image.width * image.height > largest_px:
                    raise ValueError(f"{image.width}x{image.height} pixels, more than {largest_px}")  # noqa: TRY301
                image.load()
                return np.array(_on_white(image))
    except Exception as error:  # decoders raise anything on hostile bytes, and each means the same here
        raise ImageUnreadable(str(path), f"{type(error).__name__}: {error}") from error


def pixels_sha256(pixels: NDArray[np.uint8]) -> str:
    """The digest of size and pixels that fingerprints, verdicts and releases name, for pixels in host memory.

    Args:
        pixels: uint8 (H, W, 3), RGB.

    Returns:
        64 hex digits: of the ASCII text `WxH:` and then three bytes a pixel, row by row.
    """
    height, width, _ = pixels.shape
    digest = hashlib.sha256(b"%dx%d:" % (width, height))
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ImageUnreadable(str(path), "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file")
        if facts.st_size > LARGEST_FILE_BYTES:
            raise ImageUnreadable(str(path), f"a file of {facts.st_size} bytes, more than {LARGEST_FILE_BYTES}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, ImageUnreadable):
            raise
        raise ImageUnreadable(str(path), str(error)) from error


def _chunks(content: bytes, mime: ImageMime) -> int:
    """How many chunks a PNG or a WebP has, as far as it matters."""
    png = mime == "image/png"
    at, parts = (8 if png else 12), 0
    while at < len(content) and parts <= MOST_PARTS:
        field = content[at : at + 4] if png else content[at + 4 : at + 8]
        length = int.from_bytes(field, "big" if png else "little")
        at += 12 + length if png else 8 + length + length % 2
        parts += 1
    return parts


def _jpeg_parts(content: bytes) -> int:
    """How many segments a JPEG has up to its end, and bytes that fill up between them, as far as it matters."""
    at, parts = 0, 0
    while (found := _MARKER.search(content, at)) and parts <= MOST_PARTS:
        parts += 1 + content.count(b"\xff\xff", at, found.start())
        marker, at = content[found.start() + 1], found.end()
        if marker == _END_OF_JPEG:
            return parts
        if marker not in _MARKERS_ALONE:
            at += max(int.from_bytes(content[at : at + 2], "big"), 2)
    return parts + content.count(b"\xff\xff", at)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" or not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    ground.alpha_composite(layer)
    return ground.convert("RGB")
