"""One file in, one picture out; a file that cannot be read becomes a picture with a failure, never an exception."""

import hashlib
import io
import stat
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from guardrail.carriers import Picture
from guardrail.errors import ImageUnreadable
from guardrail.intake.pixels import bare_colours, from_pillow, require_side
from guardrail.records import CheckFailed

__all__ = [
    "FORMATS",
    "LARGEST_FILE_BYTES",
    "LARGEST_IMAGE_PX",
    "read_content",
    "read_picture",
    "shown_path",
    "unread_picture",
]

Image.init()
FORMATS = tuple(
    name
    for name in ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
    if name in Image.OPEN
)
"""What is decoded: formats that Pillow reads itself; EPS and the like would start other programs on hostile bytes."""

LARGEST_FILE_BYTES = 2**30
LARGEST_IMAGE_PX = 64_000_000


def read_picture(path: Path, largest_px: int = LARGEST_IMAGE_PX) -> Picture:
    """Read an image file, as a viewer would show it (orientation applied, transparency on white).

    Args:
        path: a regular file of any format Pillow reads.
        largest_px: width x height above which the file is not decoded.

    Returns:
        A picture with uint8 (3, H, W) pixels on the CPU; or with a failure that names the file and the reason.
    """
    return _read(shown_path(path), lambda: _content(path), largest_px)


def read_content(name: str, content: bytes, largest_px: int = LARGEST_IMAGE_PX) -> Picture:
    """Read an image file whose bytes are at hand: what `read_picture` gives for a file of these bytes.

    Args:
        name: what the picture is called.
        content: the whole file.
        largest_px: width x height above which it is not decoded.
    """
    return _read(_printable(name), lambda: _require_some(name, content), largest_px)


def _read(name: str, content: Callable[[], bytes], largest_px: int) -> Picture:
    try:
        whole = content()
        digest = hashlib.sha256(whole).hexdigest()
        pixels, bare = _decode(name, whole, largest_px)
        return Picture(name, pixels=pixels, file_sha256=digest, bare=bare)
    except (OSError, ImageUnreadable) as error:
        reason = error.args[1] if isinstance(error, ImageUnreadable) else str(error)
    except Exception as error:  # noqa: BLE001 - decoders raise anything on hostile bytes, and none may stop the batch
        reason = f"{type(error).__name__}: {error}"
    return unread_picture(name, str(reason))


def unread_picture(name: str, reason: str) -> Picture:
    """A picture that could not be read, and why."""
    return Picture(name, failure=CheckFailed(check="read_file", image=name, error=_printable(reason)))


def _require_some(name: str, content: bytes) -> bytes:
    if not content:
        raise ImageUnreadable(name, "an empty file")
    return content


def shown_path(path: Path) -> str:
    """A path as text that can be printed and stored, whatever bytes its name is made of."""
    return _printable(str(path))


def _printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _content(path: Path) -> bytes:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ImageUnreadable(str(path), "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file")
    if facts.st_size > LARGEST_FILE_BYTES:
        raise ImageUnreadable(str(path), f"a file of {facts.st_size} bytes, more than {LARGEST_FILE_BYTES}")
    return _require_some(str(path), path.read_bytes())


def _decode(name: str, content: bytes, largest_px: int) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    most_px = min(largest_px, Image.MAX_IMAGE_PIXELS or largest_px)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:  # warns of what the next line refuses
                if image.width * image.height > most_px:
                    raise ImageUnreadable(name, f"{image.width}x{image.height} pixels, more than {most_px} in all")
                require_side(name, image.height, image.width)
                warnings.simplefilter("error", Image.DecompressionBombWarning)  # of frames larger than the head says
                image.load()
                upright = ImageOps.exif_transpose(image) if _has_one_frame(image) else image
                return from_pillow(name, upright), bare_colours(upright)
        except UnidentifiedImageError as error:
            raise ImageUnreadable(name, "no picture of a format that is read") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageUnreadable(name, f"a decompression bomb, of far more than {most_px} pixels") from error


def _has_one_frame(image: Image.Image) -> bool:
    return getattr(image, "n_frames", 1) == 1
