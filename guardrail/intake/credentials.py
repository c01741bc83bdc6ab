"""An input picture of a call in, the file behind it out, where that carries credentials and shows the very same pixels.

Nothing is taken on trust: a picture only names its file, so the file's own pixels must be those the call was given.
"""

from __future__ import annotations

import io
import logging
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageOps

from guardrail.carriers import ParentFile
from guardrail.intake.files import LARGEST_IMAGE_PX, shown_path
from guardrail.intake.pixels import from_pillow

if TYPE_CHECKING:
    from guardrail.records import ImageMime

__all__ = ["LARGEST_PARENT_BYTES", "StoreOf", "file_behind", "open_input"]

LARGEST_PARENT_BYTES = 2**26  # 64 MiB: it is held until the images made from it are signed
_FORMATS = ("PNG", "JPEG", "WEBP")  # what credentials can be read from and kept in (`records.ImageMime`)
_BEGINNINGS: dict[ImageMime, tuple[bytes, bytes]] = {  # the first four bytes, and the four from the eighth on
    "image/png": (b"\x89PNG", b""),
    "image/jpeg": (b"\xff\xd8\xff", b""),
    "image/webp": (b"RIFF", b"WEBP"),
}
log = logging.getLogger("guardrail.intake")

StoreOf = Callable[[bytes, str], bytes]
"""Gives the manifest store of a file (content, mime), empty where there is none; `act` has one."""


def file_behind(
    value: Any, pixels: torch.Tensor, store_of: StoreOf, largest_px: int = LARGEST_IMAGE_PX
) -> ParentFile | None:
    """The file that an input picture was read from, if it carries credentials and shows just these pixels.

    Call it when the pipeline is called: the file may be another one later. Pillow keeps the name of a file only on what
    `Image.open` gave; `convert`, `resize`, `copy` and diffusers' `load_image` lose it, `open_input` keeps it.

    Args:
        value: what the call was given: a Pillow image that names its file, or the path itself.
        pixels: uint8 (3, H, W), RGB, what was copied of it; on any device.
        store_of: tells whether a file carries credentials.
        largest_px: files of more pixels are not decoded.

    Returns:
        The whole file; None where there is none, it is larger than 64 MiB, of another type than PNG, JPEG and WebP,
        without credentials, of other pixels, or cannot be read (which is logged).
    """
    path = _named(value)
    if path is None:
        return None
    try:
        content = _content(path)
        mime = _mime(content)
        if mime is None or not store_of(content, mime):
            return None
        if any(torch.equal(seen, pixels.cpu()) for seen in _as_seen(content, largest_px)):
            return ParentFile(content, mime)
        log.info("%s has credentials, but the picture that was given is not the one in it", shown_path(path))
    except Exception as error:  # noqa: BLE001 - decoders raise anything on hostile bytes, and the call goes on without
        log.warning("credentials of %s cannot be kept: %s: %s", shown_path(path), type(error).__name__, error)
    return None


def open_input(path: str | os.PathLike[str]) -> Image.Image:
    """Read an image file for a pipeline, as diffusers' `load_image` does, so that it still names its file.

    Args:
        path: any format Pillow reads.

    Returns:
        An RGB image, orientation applied, with the attribute `filename`.

    Raises:
        OSError: it cannot be read.
    """
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.filename = str(Path(path).absolute())  # type: ignore[attr-defined]
    return upright


def _named(value: Any) -> Path | None:
    name = getattr(value, "filename", None) if isinstance(value, Image.Image) else value
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if not isinstance(name, str | os.PathLike) or not str(name) or "\0" in str(name):
        return None
    path = Path(name)
    try:
        return path if stat.S_ISREG(path.stat().st_mode) else None
    except OSError:  # a URL, or a file that is gone: no file to keep anything of
        return None


def _content(path: Path) -> bytes:
    """The file, if it is not too large; empty otherwise."""
    with path.open("rb") as file:
        content = file.read(LARGEST_PARENT_BYTES + 1)
    return content if len(content) <= LARGEST_PARENT_BYTES else b""


def _mime(content: bytes) -> ImageMime | None:
    for mime, (first, then) in _BEGINNINGS.items():
        if content.startswith(first) and content[8:].startswith(then):
            return mime
    return None


def _as_seen(content: bytes, largest_px: int) -> Iterator[torch.Tensor]:
    """The pixels of a file as pipelines may be given them: as it is, upright, and with transparency dropped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > largest_px:
                raise ValueError(f"{image.width}x{image.height} pixels, more than {largest_px} in all")
            yield from_pillow("file", image)
            for other in (ImageOps.exif_transpose(image), image.convert("RGB")):
                yield from_pillow("file", other)
            yield from_pillow("file", ImageOps.exif_transpose(image).convert("RGB"))
