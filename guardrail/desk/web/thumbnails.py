"""Small pictures for lists, and veiled ones for images that may be sensitive: made once, kept while there is room."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import Literal

from PIL import Image

__all__ = ["Thumbnails", "Veil", "small_picture", "veiled_picture"]

Veil = Literal["none", "blur", "grey"]

_SIDE_PX, _QUALITY = 176, 80  # twice the 88 px of a list's thumbnail, for dense screens
_VEILED_PX = 480  # longest side of a veiled picture
_BLURRED_PX = 10  # a picture of so few pixels shows colours and no forms
_KEPT = 4000  # pictures of about 6 kB each


def small_picture(content: bytes, veil: Veil) -> bytes:
    """A picture for lists, at most 176 px a side, as JPEG.

    Args:
        content: an image file.
        veil: as it is, blurred, or grey.

    Raises:
        OSError: it cannot be read.
    """
    return _encoded(_veiled(_opened(content, _SIDE_PX), veil))


def veiled_picture(content: bytes, veil: Veil) -> bytes:
    """A picture to be shown before it was asked for, at most 480 px a side, as JPEG; arguments as `small_picture`.

    Raises:
        OSError: it cannot be read.
    """
    return _encoded(_veiled(_opened(content, _VEILED_PX), veil))


def _opened(content: bytes, side_px: int) -> Image.Image:
    with Image.open(io.BytesIO(content)) as opened:
        image = opened.convert("RGB")
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return image


def _veiled(image: Image.Image, veil: Veil) -> Image.Image:
    if veil == "grey":
        return image.convert("L")
    if veil == "blur":
        scale = _BLURRED_PX / max(image.size)
        tiny = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(tiny, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
    return image


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


class Thumbnails:
    """Small pictures by what they are of; those that were not asked for longest go first. Usable in threads."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._made: OrderedDict[tuple[str, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._made)

    def find(self, key: tuple[str, ...]) -> bytes | None:
        """The picture kept under a key; None where it has to be made."""
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
            return self._made.get(key)

    def keep(self, key: tuple[str, ...], content: bytes) -> None:
        """Keep a picture under a key."""
        with self._lock:
            self._made[key] = content
            self._made.move_to_end(key)
            while len(self._made) > self._kept:
                self._made.popitem(last=False)
