"""SSCD as Meta ships it: a TorchScript file of the user's, and the preprocessing its authors document."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from guardrail.errors import EmbedderUnknown, WeightsUnusable
from guardrail.fingerprint.devices import exact_arithmetic, resolve_device, to_host
from guardrail.fingerprint.embedders import chunks, squashed
from guardrail.fingerprint.model_files import read_model
from guardrail.records import EmbedderSpec, SimilarityLimit

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "SSCD_LIMIT", "SSCD_SIDE_PX", "SscdEmbedder"]

SSCD_SIDE_PX = 320  # the side of the square in SSCD's documentation (its "skew_320")
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of 0..1, red, green, blue; torchvision's values, and SSCD's
IMAGENET_STD = (0.229, 0.224, 0.225)
SSCD_LIMIT = SimilarityLimit(flag_above=0.5, block_above=0.75)
"""Flag: the replica limit of Somepalli et al. 2023. Block: of DISC21's pairs that near, nine in ten are copies."""
_SSCD_CHUNK = 8  # pictures in one forward pass


class SscdEmbedder:
    """Meta's self-supervised copy descriptor, from a TorchScript file.

    Its authors document two ways in: the shorter edge at 288 px, or the whole picture squashed to a square of 320 px.
    We take the square: neither crops, but a square costs the same for every shape and goes through in batches, and a
    picture that was stretched comes out as the same square.

    Source: Pizzi, Roy, Ravindra, Goyal, Douze, "A Self-Supervised Descriptor for Image Copy Detection", 2022, and the
    README of its repository.
    """

    shipped_limit = SSCD_LIMIT
    """Of `sscd_disc_mixup`, without score normalisation; docs/models/sscd.md says what they reach."""

    shipped_tile_limit = SSCD_LIMIT
    """Tiles go by the same limits until they are calibrated."""

    def __init__(self, named: str, device: str = "auto") -> None:
        """Load a model. A TorchScript file is a program: take it from its makers only.

        Args:
            named: the path of a TorchScript file, such as `models/sscd_disc_mixup.torchscript.pt`.
            device: a torch device name, or `auto`.

        Raises:
            EmbedderUnknown: no file was named.
            WeightsUnusable: there is no such file, or it is no TorchScript model that turns pictures into vectors.
            SettingsInvalid: there is no such device.
        """
        if not named:
            raise EmbedderUnknown("sscd:", "sscd:<TorchScript file>")
        self._device = torch.device(resolve_device(device))
        content, digest = read_model(Path(named), "a TorchScript model")
        self._model = _loaded(named, content, self._device)
        self._mean, self._std = (
            torch.tensor(constants, device=self._device)[:, None, None] for constants in (IMAGENET_MEAN, IMAGENET_STD)
        )
        described = f"squash-{SSCD_SIDE_PX}x{SSCD_SIDE_PX}-bilinear-antialias,mean-{IMAGENET_MEAN},std-{IMAGENET_STD}"
        self.spec = EmbedderSpec(
            name=f"sscd:{Path(named).name}",
            weights_sha256=digest,
            preprocessing=described.replace(" ", ""),
            dimensions=self._dimensions(named),
        )

    def embed(self, pictures: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Embed pictures.

        Args:
            pictures: N tensors, uint8 (3, H, W), RGB 0..255; sizes may differ; any device.

        Returns:
            float32 (N, D), each row of unit length, in host memory; D is 512, and 1024 for `sscd_disc_large`. Rows
            agree to 1e-6 whatever the batch.
        """
        rows = [np.empty((0, self.spec.dimensions), np.float32)]
        for chunk in chunks(pictures, _SSCD_CHUNK):
            with exact_arithmetic(self._device):
                rows.append(to_host(functional.normalize(self._outputs(chunk).to(torch.float32), dim=1)))
        return np.concatenate(rows)

    def _outputs(self, pictures: Sequence[torch.Tensor]) -> Any:
        """What the model says of one chunk."""
        inputs = squashed(pictures, (SSCD_SIDE_PX, SSCD_SIDE_PX), self._device)
        return self._model(inputs.sub_(self._mean).div_(self._std))

    def _dimensions(self, named: str) -> int:
        """The length of the model's vectors, once it has shown that it makes some."""
        expected = "a TorchScript model that turns (N, 3, H, W) into (N, D)"
        try:
            with exact_arithmetic(self._device):
                outputs = self._outputs([torch.zeros(3, 8, 8, dtype=torch.uint8)] * 2)
        except Exception as error:  # a TorchScript program raises whatever it was written to raise
            raise WeightsUnusable(named, f"{type(error).__name__}: {error}", expected) from error
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or len(outputs) != 2:
            shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise WeightsUnusable(named, f"an output {shape} for two pictures", expected)
        return int(outputs.shape[1])


def _loaded(named: str, content: bytes, device: torch.device) -> Any:
    """The TorchScript program in a file's content, ready on a device."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*torch\.jit", FutureWarning)  # its makers ship nothing newer
            return torch.jit.load(io.BytesIO(content), map_location=device).eval()  # type: ignore[no-untyped-call]
    except Exception as error:  # torch has several for a file that is none of its own
        first_line = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsUnusable(named, first_line, "a TorchScript model") from error
