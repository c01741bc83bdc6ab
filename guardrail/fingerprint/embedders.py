"""Pictures in, unit vectors out: what all embedders share, and `mini`, the one that ships with its weights."""

from __future__ import annotations

import hashlib
import json
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

__all__ = ["MINI_CONFIG", "MINI_WEIGHTS", "MINI_WEIGHTS_SHA256", "MiniEmbedder", "chunks", "squashed"]

MINI_WEIGHTS = Path(__file__).parent / "weights" / "mini.safetensors"
MINI_CONFIG = Path(__file__).parent / "weights" / "mini.json"
MINI_WEIGHTS_SHA256 = "18031b42620455b1230aab92880f5b0ff99f9f42d1ff08837707ca23917b18c2"  # from tools/mini/export.py
_CONFIG = json.loads(MINI_CONFIG.read_text(encoding="utf-8"))
_TRUNK = "visual.trunk."  # open_clip's prefix of the image tower
_MINI_SIDE_PX = _CONFIG["vision_cfg"]["image_size"]
_MINI_MEAN = _MINI_STD = 0.5  # of 0..1; timm's and TensorFlow's values for the lite networks
_MINI_CHUNK = 4  # pictures in one forward pass


class MiniEmbedder:
    """EfficientNet-Lite0 trained for copy detection, with a small text tower: offline, and quick on a CPU.

    The weights are an open_clip checkpoint for the config `mini.json`; they ship with the package and are checked
    against a pinned digest. How they were trained, what they separate and what not stands in docs/models/mini.md.

    Source: Liu, EfficientNet-Lite, 2020 (network and first weights, Apache-2.0); Pizzi et al., "A self-supervised
    descriptor for image copy detection", 2022 (strong edits, contrast); we differ in network, in data, and in fixed
    targets: the untrained network's own vectors of the plain pictures.
    """

    shipped_limit = SimilarityLimit(flag_above=0.71, block_above=0.80)
    """Reached by 1 % and by none of 1,433 clean drawings and photos, against the 70 works of indexes/demo.

    Measured by tools/measure_limits.py on 2026-11-22; command, data and recall stand in docs/models/mini.md.
    """

    shipped_tile_limit = SimilarityLimit(flag_above=0.76, block_above=0.85)
    """Reached by 1 % and by none of 116 clean portraits, against 117 others by the same artists; see there."""

    def __init__(self, device: str = "auto", weights: Path = MINI_WEIGHTS) -> None:
        """Load the image tower.

        Args:
            device: a torch device name, or `auto`.
            weights: another copy of the pinned file.

        Raises:
            WeightsUnusable: the file is missing or is not the pinned one.
            SettingsInvalid: there is no such device.
        """
        self._device = torch.device(resolve_device(device))
        self._weights = weights
        self._network = _image_tower(weights).to(self._device)
        self.spec = EmbedderSpec(
            name="mini",
            weights_sha256=MINI_WEIGHTS_SHA256,
            preprocessing=f"squash-{_MINI_SIDE_PX}-bilinear-antialias,mean-{_MINI_MEAN},std-{_MINI_STD}",
            dimensions=_CONFIG["embed_dim"],
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
                rows.append(to_host(functional.normalize(self._network(inputs), dim=1)))
        return np.concatenate(rows)

    def embed_words(self, words: Sequence[str]) -> NDArray[np.float32]:
        """Embed words into the space of the pictures, so that an index can be searched by them.

        Args:
            words: N short descriptions in English; what goes beyond some twenty words is cut off.

        Returns:
            float32 (N, 1280), each row of unit length, in host memory.

        Raises:
            WeightsUnusable: the file is missing or is not the pinned one.
        """
        import open_clip  # only for words: pictures do without it, and it takes a second to load

        _pinned(self._weights)
        open_clip.add_model_config(MINI_CONFIG)
        with torch.random.fork_rng(devices=[]):
            model = open_clip.create_model(MINI_CONFIG.stem, pretrained=str(self._weights))
        tokens = open_clip.SimpleTokenizer()(list(words), _CONFIG["text_cfg"]["context_length"])
        with torch.inference_mode():
            return to_host(functional.normalize(model.float().eval().encode_text(tokens), dim=1))


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


def chunks(pictures: Sequence[torch.Tensor], size: int) -> Iterator[Sequence[torch.Tensor]]:
    """Cut a sequence into pieces of at most `size`, in order."""
    return (pictures[start : start + size] for start in range(0, len(pictures), size))


def _pinned(weights: Path) -> bytes:
    """The bytes of the weights, once their digest is the pinned one."""
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise WeightsUnusable(str(weights), error.strerror or str(error), "the file shipped with guardrail") from error
    found = hashlib.sha256(content).hexdigest()
    if found != MINI_WEIGHTS_SHA256:
        raise WeightsUnusable(str(weights), f"sha256 {found}", MINI_WEIGHTS_SHA256)
    return content


def _image_tower(weights: Path) -> nn.Module:
    """The image tower in float32 on the CPU: what open_clip would build, without its text tower."""
    tensors = load_tensors(_pinned(weights))
    vision = _CONFIG["vision_cfg"]
    with torch.random.fork_rng(devices=[]):  # making a network draws random numbers: the caller's seed must not feel it
        network: nn.Module = timm.create_model(
            vision["timm_model_name"],
            pretrained=False,
            num_classes=0,
            global_pool=vision["timm_pool"],
        )
    trunk = {name.removeprefix(_TRUNK): tensor for name, tensor in tensors.items() if name.startswith(_TRUNK)}
    network.load_state_dict(trunk, strict=False)  # counters of batches are no weights
    return network.float().eval().requires_grad_(False)
