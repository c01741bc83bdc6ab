"""Any open_clip model as an embedder: a hub tag, or a checkpoint on this machine."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch.nn import functional

from guardrail.errors import EmbedderUnknown, WeightsUnusable
from guardrail.fingerprint.devices import exact_arithmetic, resolve_device, to_host
from guardrail.fingerprint.embedders import chunks, squashed
from guardrail.fingerprint.model_files import WHERE_MODELS_LIE
from guardrail.records import EmbedderSpec, SimilarityLimit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OpenClipEmbedder"]

_CLIP_CHUNK = 8  # pictures in one forward pass


class OpenClipEmbedder:
    """The image tower of an open_clip model, with the mean, deviation and size its weights were trained with.

    Pictures are squashed to the model's size, where open_clip would crop: nothing at the edges may go unseen.
    """

    shipped_limit = SimilarityLimit()
    """Never reached: CLIP similarities differ from model to model, so there is no limit before a calibration."""

    shipped_tile_limit = SimilarityLimit()
    """As for whole pictures."""

    def __init__(self, named: str, device: str = "auto") -> None:
        """Load a model.

        Args:
            named: `<arch>/<tag>` or `<arch>/<path of a checkpoint>`: `ViT-B-32/laion2b_s34b_b79k`,
                `ViT-B-32//models/mine.safetensors`. A file of that path is taken before a tag of that name.
            device: a torch device name, or `auto`.

        Raises:
            EmbedderUnknown: open_clip has no such architecture, or no weights were named.
            WeightsUnusable: no such tag or file, it could not be fetched, or it does not fit the architecture.
            SettingsInvalid: there is no such device.
        """
        architecture, _, weights = named.partition("/")
        if not weights or architecture not in open_clip.list_models():
            raise EmbedderUnknown(f"clip:{named}", "clip:<arch>/<tag or path>, arch one of open_clip.list_models()")
        self._architecture = architecture
        self._device = torch.device(resolve_device(device))
        checkpoint, tag_settings = _checkpoint(architecture, weights)
        self._model = _loaded(architecture, checkpoint, tag_settings).to(self._device)
        settings = self._model.visual.preprocess_cfg
        self._mean = torch.tensor(settings["mean"], dtype=torch.float32, device=self._device)[:, None, None]
        self._std = torch.tensor(settings["std"], dtype=torch.float32, device=self._device)[:, None, None]
        side = settings["size"]
        self._size_px: tuple[int, int] = (side, side) if isinstance(side, int) else tuple(side)
        height, width = self._size_px
        described = f"squash-{height}x{width}-bilinear-antialias,mean-{settings['mean']},std-{settings['std']}"
        digest, dimensions = _file_digest(checkpoint), len(self._vectors([torch.zeros(3, 8, 8, dtype=torch.uint8)])[0])
        self.spec = EmbedderSpec(
            name=f"clip:{architecture}/{Path(weights).name if checkpoint == Path(weights) else weights}",
            weights_sha256=digest,
            preprocessing=described.replace(" ", ""),
            dimensions=dimensions,
        )

    def embed(self, pictures: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Embed pictures.

        Args:
            pictures: N tensors, uint8 (3, H, W), RGB 0..255; sizes may differ; any device.

        Returns:
            float32 (N, D), each row of unit length, in host memory. Rows agree to 1e-6 whatever the batch.
        """
        rows = [np.empty((0, self.spec.dimensions), np.float32)]
        return np.concatenate(rows + [to_host(self._vectors(chunk)) for chunk in chunks(pictures, _CLIP_CHUNK)])

    def embed_words(self, words: Sequence[str]) -> NDArray[np.float32]:
        """Embed N short descriptions, cut to the context length: float32 (N, D), unit length, in host memory."""
        tokens = open_clip.get_tokenizer(self._architecture)(list(words)).to(self._device)
        with exact_arithmetic(self._device):
            return to_host(functional.normalize(self._model.encode_text(tokens).to(torch.float32), dim=1))

    def _vectors(self, pictures: Sequence[torch.Tensor]) -> torch.Tensor:
        """Unit vectors of one chunk: float32 (N, D) on the device."""
        with exact_arithmetic(self._device):
            inputs = squashed(pictures, self._size_px, self._device).sub_(self._mean).div_(self._std)
            return functional.normalize(self._model.encode_image(inputs).to(torch.float32), dim=1)


def _checkpoint(architecture: str, weights: str) -> tuple[Path, dict[str, Any]]:
    """The checkpoint file of a path or tag, and what open_clip knows of the tag (nothing, for a path)."""
    if Path(weights).is_file():
        return Path(weights), {}
    settings = open_clip.get_pretrained_cfg(architecture, weights)
    if not settings:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise WeightsUnusable(
            weights, "neither a file nor a tag", f"a checkpoint, {WHERE_MODELS_LIE}, or a tag of {architecture}: {tags}"
        )
    try:
        return Path(open_clip.download_pretrained(settings)), settings
    except Exception as error:  # the hub, the network and the cache fail in many ways; all mean there are no weights
        raise WeightsUnusable(weights, f"no way to fetch it ({error})", "a download, or a checkpoint's path") from error


def _loaded(architecture: str, checkpoint: Path, tag_settings: dict[str, Any]) -> Any:
    """The model with these weights, float32, on the CPU; the caller's random seed is left as it was."""
    known = ("mean", "std", "interpolation", "resize_mode", "fill_color", "size")
    try:
        with torch.random.fork_rng(devices=[]), _without_advice():
            model = open_clip.create_model(
                architecture,
                pretrained=str(checkpoint),
                force_quick_gelu=bool(tag_settings.get("quick_gelu", False)),
                force_preprocess_cfg={name: tag_settings[name] for name in known if name in tag_settings},
                require_pretrained=True,
            )
    except Exception as error:  # torch, safetensors and open_clip each have their own for a file that does not fit
        found = f"{type(error).__name__}: {error}"
        raise WeightsUnusable(str(checkpoint), found, f"weights of {architecture}") from error
    return model.float().eval().requires_grad_(False)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep open_clip from logging advice on the root logger while it loads."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
