"""RivaGAN's two networks, run by onnxruntime: 32 bits into an image's pixels, and out of them again."""

from __future__ import annotations

import hashlib
import io
import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from guardrail.errors import WeightsUnusable
from guardrail.extras import need

__all__ = ["RIVAGAN_ALGORITHM", "RIVAGAN_PRESENT_BITS", "RivaGan", "open_rivagan"]

RIVAGAN_ALGORITHM = "invisible-watermark.rivaGan"
"""Its name here; it stands in no list of C2PA's."""

RIVAGAN_PRESENT_BITS = 27
"""Bits of 32 from which the mark counts as present: evenly drawn bits agree in so many once in 17,700 times."""

_PACKAGE = "imwatermark"  # of the distribution invisible-watermark; never imported, for it brings its own OpenCV
_PINNED = {  # sha256, of invisible-watermark 0.2.0
    "rivagan_encoder.onnx": "66bc7814fadac7d686105c8ab26c6cf2cc8e40deb83e67bb6ef5b9de9b8ece0d",
    "rivagan_decoder.onnx": "6b006690cf352fa50a91a0b6d6241dbcded0a9957969e2c0665cf9a7011b3880",
}
_SIDE_PX = 256  # of the square that every image is squashed to: what is resized or squeezed reads as before
_MIDDLE = 127.5  # the networks take -1..1
_ONE_ABOVE = 0.5  # of the decoder's outputs, which were trained towards 0 and 1
_STRENGTHS = (1.0, 1.5, 2.0)  # of the residual; the weakest that lasts is taken
_LASTS_BITS = 29  # of 32, read through the compression below
_LASTS_QUALITY = 50  # of JPEG
_QUIET = 3  # onnxruntime's log level: errors only


class RivaGan:
    """Marks images of any size, and reads their marks.

    An image is squashed to a square, what the encoder would change there is stretched to the image's size and added;
    the decoder reads the square as well. So any scale and shape reads alike, at one cost. The residual is made
    stronger until the mark is read through JPEG at quality 50, as far as twice as strong.

    Source: Zhang et al., "Robust Invisible Video Watermarking with Attention", 2019, as trained and exported in
    invisible-watermark 0.2.0 (MIT); we differ in the square and in the strength, because at an image's own size no
    mark outlasts a halving of it (docs/watermark.md).
    """

    def __init__(self, folder: Path) -> None:
        """Load both networks.

        Args:
            folder: where `rivagan_encoder.onnx` and `rivagan_decoder.onnx` lie.

        Raises:
            ExtraMissing: onnxruntime is not installed.
            WeightsUnusable: a file is missing, or is not the pinned one.
        """
        onnxruntime = need("onnxruntime", extra="onnx", purpose="put the watermark RivaGAN into images")
        self._encoder, self._decoder = (
            _session(onnxruntime, _content(folder / name, digest)) for name, digest in _PINNED.items()
        )

    def mark(self, pixels: NDArray[np.uint8], bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Put bits into an image.

        Args:
            pixels: uint8 (H, W, 3), RGB, at least 1 x 1; it is not written to.
            bits: bool (32,).

        Returns:
            uint8 (H, W, 3). Deterministic; on a CPU about a second whatever the size. Whether the bits can be read
            in it is for `read` to say: in small or flat images they often cannot.
        """
        square = _frame(pixels)
        (made,) = self._encoder.run(None, {"frame": square, "data": bits[None].astype(np.float32)})
        residual = _stretched((made - square)[0, :, 0] * _MIDDLE, pixels.shape[:2])
        marked = pixels
        for strength in _STRENGTHS:
            marked = np.rint(np.clip(pixels + strength * residual, 0, 255)).astype(np.uint8)
            if np.sum(self.read(_compressed(marked)) == bits) >= _LASTS_BITS:
                break
        return marked

    def read(self, pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """The bits that an image seems to hold, marked or not: bool (32,).

        Args:
            pixels: uint8 (H, W, 3), RGB, at least 1 x 1.
        """
        (found,) = self._decoder.run(None, {"frame": _frame(pixels)})
        return np.asarray(found[0] > _ONE_ABOVE, np.bool_)


def open_rivagan(folder: Path | None = None) -> RivaGan:
    """The networks, loaded once in each process: a session does not outlive a fork.

    Args:
        folder: where the weights lie; default: in the installed package invisible-watermark.

    Raises:
        ExtraMissing: onnxruntime is not installed.
        WeightsUnusable: the weights are missing or are others.
    """
    return _opened(folder or _installed(), os.getpid())


@lru_cache(maxsize=2)
def _opened(folder: Path, process_id: int) -> RivaGan:
    return RivaGan(folder)


def _installed() -> Path:
    """The folder of the package that carries the weights."""
    found = find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        wanted = "the package invisible-watermark 0.2, which carries them (pip install --no-deps invisible-watermark)"
        raise WeightsUnusable("rivagan_encoder.onnx", "no such file", f"{wanted}, or the setting watermark.weights")
    return Path(found.submodule_search_locations[0])


def _content(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        wanted = "an ONNX file of invisible-watermark 0.2.0"
        raise WeightsUnusable(str(path), error.strerror or str(error), wanted) from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise WeightsUnusable(str(path), f"sha256 {found[:12]}", f"{digest[:12]}, of invisible-watermark 0.2.0")
    return content


def _session(onnxruntime: Any, content: bytes) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _QUIET
    settings.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])


def _frame(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An image squashed to the square as the networks take it: float32 (1, 3, 1, S, S), -1..1."""
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC)
    values = np.asarray(image, np.float32) / _MIDDLE - 1
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None, :, None])


def _stretched(residual: NDArray[np.float32], sides_px: tuple[int, ...]) -> NDArray[np.float32]:
    """A residual (3, S, S) at an image's height and width: float32 (H, W, 3)."""
    height, width = sides_px
    planes = (Image.fromarray(np.ascontiguousarray(plane)) for plane in residual)
    resized = [plane.resize((width, height), Image.Resampling.BICUBIC) for plane in planes]
    return np.stack([np.asarray(plane, np.float32) for plane in resized], axis=-1)


def _compressed(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image after JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_LASTS_QUALITY)
    with Image.open(buffer) as read:
        return np.asarray(read.convert("RGB"))
