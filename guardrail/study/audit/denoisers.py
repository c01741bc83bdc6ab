"""The network inside a pipeline, asked for the noise it sees: pixel models, latent models, with prompts or labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.study.audit.asks import DenoiserAccess
from guardrail.study.audit.likeness import resized

__all__ = ["NetworkAccess", "access_to", "side_of"]

_DEFAULT_SIDE_PX = 64  # of a network that does not say


class NetworkAccess:
    """`DenoiserAccess` to the `unet` or `transformer` of a pipeline whose scheduler adds noise by `alphas_cumprod`.

    Args:
        pipeline: a diffusers pipeline for which `access_to` said that this holds.
        device: where it runs.
    """

    def __init__(self, pipeline: Any, device: str) -> None:
        self._pipeline, self._device = pipeline, torch.device(device)
        self._network = _network(pipeline)
        self._vae = getattr(pipeline, "vae", None)
        self._schedule = pipeline.scheduler.alphas_cumprod.detach().to("cpu", torch.float64)
        self._predicts = str(getattr(pipeline.scheduler.config, "prediction_type", "epsilon"))
        self._embedded: dict[str, torch.Tensor] = {}

    @property
    def side_px(self) -> int:
        """The side of the square pictures the network was made for."""
        return side_of(self._pipeline)

    @property
    def alphas(self) -> NDArray[np.float64]:
        """See `DenoiserAccess.alphas`."""
        return np.asarray(self._schedule.numpy(), np.float64)

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """See `DenoiserAccess.encode`."""
        square = torch.from_numpy(resized(pixels, self.side_px).copy())
        values = (square.permute(0, 3, 1, 2).float() / 127.5 - 1).to(self._device)
        if self._vae is None:
            return values
        clean = self._vae.encode(values.to(self._vae.dtype)).latent_dist.mode().float()
        return torch.as_tensor((clean - _shift_of(self._vae)) * float(self._vae.config.scaling_factor))

    @torch.inference_mode()
    def decode(self, clean: torch.Tensor) -> NDArray[np.uint8]:
        """See `DenoiserAccess.decode`."""
        values = clean
        if self._vae is not None:
            latents = clean / float(self._vae.config.scaling_factor) + _shift_of(self._vae)
            values = self._vae.decode(latents.to(self._vae.dtype)).sample
        levels = ((values.float().clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)
        return np.asarray(levels.permute(0, 2, 3, 1).numpy(), np.uint8)

    @torch.inference_mode()
    def predict_noise(
        self,
        noisy: torch.Tensor,
        timestep: int,
        captions: Sequence[str | None],
        labels: Sequence[int | None] = (),
    ) -> torch.Tensor:
        """See `DenoiserAccess.predict_noise`."""
        weights = next(iter(self._network.parameters())).dtype
        at = torch.full((len(noisy),), timestep, dtype=torch.long, device=self._device)
        said: dict[str, Any] = {"return_dict": False}
        if hasattr(self._pipeline, "encode_prompt"):
            said["encoder_hidden_states"] = self._words(captions).to(weights)
        if any(label is not None for label in labels):
            said["class_labels"] = torch.as_tensor([label or 0 for label in labels], device=self._device)
        predicted = self._network(noisy.to(self._device, weights), at, **said)[0].float()
        predicted = predicted[:, : noisy.shape[1]]  # some also predict the variance, as further channels
        return self._as_noise(predicted, noisy.to(self._device).float(), timestep)

    def _as_noise(self, predicted: torch.Tensor, noisy: torch.Tensor, timestep: int) -> torch.Tensor:
        """What the network predicts, whichever of the three it was trained to, as noise."""
        kept = float(self._schedule[timestep])
        if self._predicts == "v_prediction":
            return torch.as_tensor(kept**0.5 * predicted + (1 - kept) ** 0.5 * noisy)
        if self._predicts == "sample":
            return torch.as_tensor((noisy - kept**0.5 * predicted) / (1 - kept) ** 0.5)
        return predicted

    def _words(self, captions: Sequence[str | None]) -> torch.Tensor:
        """Text embeddings, each caption's once; float (B, L, D)."""
        for caption in {caption or "" for caption in captions} - set(self._embedded):
            found = self._pipeline.encode_prompt(caption, self._device, 1, False)
            self._embedded[caption] = found[0]
        return torch.cat([self._embedded[caption or ""] for caption in captions])


def access_to(pipeline: Any, device: str) -> DenoiserAccess | None:
    """The network of a pipeline; None where it is of a kind that is not understood, rather than asked wrongly.

    Understood are pixel and latent models with a `UNet2DModel`, `UNet2DConditionModel` or `DiTTransformer2DModel` (or
    a network that is called like the first), whose scheduler has `alphas_cumprod`; not those that need more
    conditions than a prompt or a label (SDXL's sizes, control pictures).
    """
    network, scheduler = _network(pipeline), getattr(pipeline, "scheduler", None)
    if network is None or not isinstance(getattr(scheduler, "alphas_cumprod", None), torch.Tensor):
        return None
    if getattr(network.config, "addition_embed_type", None) or not _is_known(network, pipeline):
        return None
    return NetworkAccess(pipeline, device)


def side_of(pipeline: Any) -> int:
    """The side in pixels of the square pictures that a pipeline was made for; 64 where it does not say."""
    config = getattr(_network(pipeline), "config", None)
    sample = getattr(config, "sample_size", None)
    first = sample if isinstance(sample, int) or not sample else sample[0]
    return int(first) * _scale_of(getattr(pipeline, "vae", None)) if first else _DEFAULT_SIDE_PX


def _is_known(network: Any, pipeline: Any) -> bool:
    kind = type(network).__name__
    if hasattr(pipeline, "encode_prompt"):
        in_channels, vae = getattr(network.config, "in_channels", None), getattr(pipeline, "vae", None)
        latents = getattr(getattr(vae, "config", None), "latent_channels", None)
        return kind == "UNet2DConditionModel" and in_channels == latents
    return kind in {"DiTTransformer2DModel", "Transformer2DModel"} or getattr(network.config, "in_channels", 0) == 3


def _network(pipeline: Any) -> Any:
    found = getattr(pipeline, "unet", None)
    return found if found is not None else getattr(pipeline, "transformer", None)


def _scale_of(vae: Any) -> int:
    """How many pixels a latent covers along a side."""
    channels = getattr(getattr(vae, "config", None), "block_out_channels", None)
    return int(2 ** (len(channels) - 1)) if channels else 1


def _shift_of(vae: Any) -> float:
    return float(getattr(vae.config, "shift_factor", None) or 0.0)
