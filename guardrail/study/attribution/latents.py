"""A picture in, the latents or pixels that a pipeline's denoiser was trained on out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.attribution_errors import AttributionImpossible

__all__ = ["encoded", "side_to_latent"]

_IMAGE = 3  # dimensions of (C, H, W)
_PACK_PX = 2  # latents along each side of a token, of Flux and its kin
_GREY = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


@torch.no_grad()
def encoded(pipeline: Any, pixels: NDArray[np.uint8], shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """A picture as the denoiser of a pipeline is given it.

    Args:
        pipeline: a diffusers pipeline.
        pixels: uint8 (S, S, 3), RGB.
        shape: what the denoiser is given, (C, H, W) or packed (L, C).
        device: where it is wanted.

    Returns:
        float32 (C, H, W) or (L, C).

    Raises:
        AttributionImpossible: its VAE, or how it packs latents, is not understood.
    """
    values = (torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 127.5 - 1).to(device)
    vae = _vae(pipeline)
    if vae is None:
        return (
            (torch.tensor(_GREY, device=device) @ values.flatten(1)).view(1, *values.shape[1:])
            if shape[0] == 1
            else values
        )
    dtype = next(vae.parameters()).dtype
    batch = values[None].to(vae.device, dtype)
    films = hasattr(
        vae.config, "temperal_downsample"
    )  # as diffusers spells it; Qwen's takes a picture as a film of one
    found = _latents(pipeline, vae.encode(batch[:, :, None] if films else batch)).float()
    clean = _scaled(vae, found)[:, :, 0] if films else _scaled(vae, found)
    if len(shape) != _IMAGE:
        clean = _packed(pipeline, clean)
    return clean[0].to(device)


def side_to_latent(pipeline: Any, shape: tuple[int, ...]) -> int:
    """The side in pixels of the square picture whose latents have a shape.

    Raises:
        AttributionImpossible: they are of no square.
    """
    scale = _scale_of(pipeline)
    if len(shape) == _IMAGE and shape[1] == shape[2]:
        return int(shape[1] * scale)
    if len(shape) != _IMAGE:
        side = round(shape[0] ** 0.5)
        if side * side == shape[0]:
            return int(side * scale * _PACK_PX)
    raise AttributionImpossible(
        type(pipeline).__name__, f"pictures of shape {shape}", "square ones", "name a side with side_px"
    )


def _vae(pipeline: Any) -> Any:
    found = getattr(pipeline, "vae", None)
    return found if found is not None else getattr(pipeline, "vqvae", None)


def _scale_of(pipeline: Any) -> int:
    """How many pixels a latent covers along a side."""
    vae = _vae(pipeline)
    if vae is None:
        return 1
    said = getattr(pipeline, "vae_scale_factor", None)
    if isinstance(said, int):
        return said
    channels = getattr(vae.config, "block_out_channels", None)
    return int(2 ** (len(channels) - 1)) if channels else 8


def _latents(pipeline: Any, found: Any) -> torch.Tensor:
    """What a VAE says, without chance."""
    if hasattr(found, "latent_dist"):
        return torch.as_tensor(found.latent_dist.mode())
    for name in ("latents", "latent"):
        if isinstance(getattr(found, name, None), torch.Tensor):
            return torch.as_tensor(getattr(found, name))
    raise AttributionImpossible(
        type(pipeline).__name__, f"a VAE that gives {type(found).__name__}", "latents", "give another pipeline"
    )


def _scaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents at the size at which the denoiser was trained on them."""
    config = vae.config
    factor = float(getattr(config, "scaling_factor", None) or 1.0)
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and deviation is not None:
        each = (1, -1, *(1,) * (latents.ndim - 2))
        return (
            (latents - torch.tensor(mean).to(latents).view(each))
            * factor
            / torch.tensor(deviation).to(latents).view(each)
        )
    return (latents - float(getattr(config, "shift_factor", None) or 0.0)) * factor


def _packed(pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
    pack = getattr(pipeline, "_pack_latents", None)
    if pack is None:
        raise AttributionImpossible(
            type(pipeline).__name__, "tokens that it says no packing of", "_pack_latents", "give another pipeline"
        )
    return torch.as_tensor(pack(latents, *latents.shape))
