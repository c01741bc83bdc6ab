"""Pictures in, unit vectors out: what all embedders share, and `mini`, the one that ships with its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from torch import nn
from torch.nn import functional

from guardrail.errors import WeightsUnusable
from guardrail.fingerprint.devices import exact_arithmetic, resolve_device, to_host
from guardrail.records import EmbedderSpec, SimilarityLimit

__all__ = ["MINI_WEIGHTS", "MINI_WEIGHTS_SHA256", "MiniEmbedder", "chunks", "generalised_mean", "squashed"]

MINI_WEIGHTS = Path(__file__).parent / "weights" / "mini.safetensors"
MINI_WEIGHTS_SHA256 = "7af3b075180bd39ef835f345b4af1fb2906923f96f8c5f53460fc1c3a19ef464"  # from tools/convert_mini.py
_MINI_SIDE_PX = 224  # the side the network was trained at
_MINI_MEAN = _MINI_STD = 0.5  # of 0..1; timm's and TensorFlow's values for the lite networks
_MINI_POOLING_POWER = 3.0  # generalised mean: Radenovic et al. 2018 learn values near 3
_MINI_CHUNK = 4  # pictures in one forward pass
_SMALLEST_ACTIVATION = 1e-6  # keeps the gradient-free power finite, as in Radenovic et al.


class MiniEmbedder:
    """EfficientNet-Lite0 features, generalised-mean pooled: small, offline, and quick on a CPU.

    The weights ship with the package and are checked against a pinned digest. What it separates and what not stands in
    docs/models/mini.md.

    Source: Liu, EfficientNet-Lite, 2020 (weights, Apache-2.0); Radenovic, Tolias, Chum, "Fine-tuning CNN image
    retrieval with no human annotation", 2018, equation 2 (pooling); we differ in fixing p = 3 instead of learning it.
    """

    shipped_limit = SimilarityLimit(flag_above=0.715, block_above=0.80)
    """Reached by 1 % and by none of 1,433 clean drawings and photos, against the 70 works of indexes/demo.

    Measured by tools/measure_limits.py on 2026-11-22; command, data and recall stand in docs/models/mini.md.
    """

    def __init__(self, device: str = "auto", weights: Path = MINI_WEIGHTS) -> None:
        """Load the network.

        Args:
            device: a torch device name, or `auto`.
            weights: another copy of the pinned file.

        Raises:
            WeightsUnusable: the file is missing or is not the pinned one.
            SettingsInvalid: there is no such device.
        """
        self._device = torch.device(resolve_device(device))
        self._network = _mini_network(weights).to(self._device)
        self.spec = EmbedderSpec(
            name="mini",
            weights_sha256=MINI_WEIGHTS_SHA256,
            preprocessing=f"squash-{_MINI_SIDE_PX}-bilinear-antialias,mean-{_MINI_MEAN},std-{_MINI_STD},gem-{_MINI_POOLING_POWER:g}",
            dimensions=self._network.num_features,
        )

    def embed(self, pictures: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Embed pictures.

        Args:
            pictures: N tensors, uint8 (3, H, W), RGB 0..255; sizes may differ; any device.

        Returns:
            float32 (N, 1280), each row of unit length, in host memory. Rows agree to 1e-6 whatever the batch.
        """
        rows = [np.empty((0, self.spec.dimensions), np.float32)]
        with exact_arithmetic(self._device):
            for chunk in chunks(pictures, _MINI_CHUNK):
                inputs = squashed(chunk, (_MINI_SIDE_PX, _MINI_SIDE_PX), self._device).sub_(_MINI_MEAN).div_(_MINI_STD)
                pooled = generalised_mean(self._network(inputs), _MINI_POOLING_POWER)
                rows.append(to_host(functional.normalize(pooled, dim=1)))
        return np.concatenate(rows)


def squashed(pictures: Sequence[torch.Tensor], size_px: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Resize pictures to one size, whatever their shape: no corner of a picture escapes the look.

    Args:
        pictures: N tensors, uint8 (3, H, W), RGB 0..255; sizes may differ; any device.
        size_px: (height, width) to come out.
        device: where to work.

    Returns:
        float32 (N, 3, height, width), 0..1, a new tensor on `device`. Bilinear with antialiasing, each picture by
        itself, so that a row does not depend on the batch.
    """
    resized = [
        functional.interpolate(
            picture.to(device).contiguous()[None].to(torch.float32),
            size=size_px,
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        for picture in pictures
    ]
    return torch.cat(resized).div_(255)


def generalised_mean(features: torch.Tensor, power: float) -> torch.Tensor:
    """Pool a feature map by the generalised mean: (N, C, H, W) to (N, C); power 1 is the mean, infinity the maximum."""
    return features.clamp(min=_SMALLEST_ACTIVATION).pow(power).mean((2, 3)).pow(1 / power)


def chunks(pictures: Sequence[torch.Tensor], size: int) -> Iterator[Sequence[torch.Tensor]]:
    """Cut a sequence into pieces of at most `size`, in order."""
    return (pictures[start : start + size] for start in range(0, len(pictures), size))


def _mini_network(weights: Path) -> nn.Module:
    """The features of EfficientNet-Lite0 in float32 on the CPU, checked against the pinned digest."""
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise WeightsUnusable(str(weights), error.strerror or str(error), "the file shipped with guardrail") from error
    found = hashlib.sha256(content).hexdigest()
    if found != MINI_WEIGHTS_SHA256:
        raise WeightsUnusable(str(weights), f"sha256 {found}", MINI_WEIGHTS_SHA256)
    with torch.random.fork_rng(devices=[]):  # making a network draws random numbers: the caller's seed must not feel it
        network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0, global_pool="")
    network.load_state_dict(load_tensors(content), strict=False)
    return network.float().eval().requires_grad_(False)
