"""A scheduler's step in; the image the model is heading for, in the latents' space and as pictures, out."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from guardrail.carriers import ImageBatch, Picture, Unread

__all__ = ["pictures_of", "predicted_start", "sigma_of"]

# Sigma-scaled: the sample is the image plus sigma times noise, whatever sigma is.
_SIGMA_SCALED = {
    "DPMSolverSDEScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
}
_IN_HALVES = {"DPMSolverSDEScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler"}
# Straight lines between image and noise: the sample is (1 - sigma) image + sigma noise, the model predicts their slope.
_FLOWS = {
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
    "LTXEulerAncestralRFScheduler",
}
# Variance-preserving, but on sigmas of their own instead of whole training timesteps.
_MULTISTEP = {
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
}
# Variance-preserving at whole training timesteps.
_TRAINED_STEPS = {
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UnCLIPScheduler",
}
_PIXEL_CHANNELS = 3
_PACKED_AXES = 3  # (B, patches, channels)


def sigma_of(scheduler: Any, timestep: Any) -> float | None:
    """The scheduler's sigma at a timestep; to be asked before the step, which moves on.

    None for schedulers without sigmas, and half way through a step of two halves, which lies at a sigma of its own.
    """
    if not hasattr(scheduler, "index_for_timestep") or getattr(scheduler, "sigmas", None) is None:
        return None
    if type(scheduler).__name__ in _IN_HALVES and not getattr(scheduler, "state_in_first_order", True):
        return None
    at = getattr(scheduler, "step_index", None)
    if at is None:
        at = getattr(scheduler, "begin_index", None)
    if at is None:
        at = scheduler.index_for_timestep(timestep)
    return float(scheduler.sigmas[int(at)])


def predicted_start(
    scheduler: Any, noise: torch.Tensor, timestep: Any, latents: torch.Tensor, sigma: float | None
) -> torch.Tensor | Unread:
    """The image that a model output says the latents come from, as the scheduler itself would work it out.

    Args:
        scheduler: of diffusers.
        noise: (B, ...), the model output, of whatever kind the scheduler's `prediction_type` says.
        timestep: of the step.
        latents: (B, ...), before the step.
        sigma: see `sigma_of`.

    Returns:
        float32, as `latents`, on their device; or why it cannot be said.

    Source: the definitions of the samples in diffusers' schedulers: Ho et al. 2020, equation 15 (epsilon); Salimans and
    Ho 2022, section 4 (v); Karras et al. 2022, section 5 (sigma-scaled); Lipman et al. 2023, example II (flows).
    """
    name, kind = type(scheduler).__name__, scheduler.config.get("prediction_type", "epsilon")
    if noise.ndim > 2 and noise.ndim == latents.ndim and noise.shape[1] == 2 * latents.shape[1]:
        noise = noise[:, : latents.shape[1]]  # the rest is a predicted variance
    if noise.shape != latents.shape:
        return Unread(f"a model output of shape {tuple(noise.shape)} for latents of shape {tuple(latents.shape)}")
    model, sample = noise.float(), latents.float()
    if name in _TRAINED_STEPS:
        kept = float(scheduler.alphas_cumprod[int(timestep)])
        return _start(kind, model, sample, math.sqrt(kept), math.sqrt(1 - kept))
    if sigma is None or name not in _SIGMA_SCALED | _FLOWS | _MULTISTEP:
        return Unread(f"what {name} predicts is not known")
    if name in _FLOWS:
        return sample - sigma * model
    if name in _SIGMA_SCALED:
        scale = 1 / math.sqrt(1 + sigma**2)
        return _start(kind, model, sample * scale, scale, sigma * scale)
    if kind == "flow_prediction":
        return sample - sigma * model
    alpha, spread = scheduler._sigma_to_alpha_sigma_t(torch.tensor(sigma))
    return _start(kind, model, sample, float(alpha), float(spread))


def _start(kind: str, model: torch.Tensor, sample: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor | Unread:
    """The image in a variance-preserving sample, alpha image + sigma noise."""
    if kind == "epsilon":
        return (sample - sigma * model) / alpha
    if kind == "v_prediction":
        return alpha * sample - sigma * model
    if kind == "sample":
        return model
    return Unread(f"a model that predicts {kind!r}")


@torch.no_grad()
def pictures_of(pipe: Any, start: torch.Tensor, said: Mapping[str, Any]) -> ImageBatch | Unread:
    """The pictures that predicted images stand for: decoded by the pipeline's own autoencoder, or pixels as they are.

    Args:
        pipe: the pipeline.
        start: float (B, C, H, W), or (B, N, C) packed in patches, in the space of its latents.
        said: the arguments of the call, by name, for height and width of packed ones.

    Returns:
        B pictures, uint8 (3, H, W), on the device of `start`; or why they cannot be had. Draws no random number.
    """
    vae = getattr(pipe, "vae", None) or getattr(pipe, "vqvae", None)
    if vae is None:
        if getattr(pipe, "movq", None) is not None or start.ndim != 4 or start.shape[1] != _PIXEL_CHANNELS:
            return Unread(f"predictions of shape {tuple(start.shape)} and no autoencoder that decodes them")
        return _batch(start)
    unpacked = _unpacked(pipe, start, said) if start.ndim == _PACKED_AXES else start
    if isinstance(unpacked, Unread):
        return unpacked
    config = vae.config
    if unpacked.ndim != 4 or "scaling_factor" not in config or unpacked.shape[1] != config.get("latent_channels"):
        return Unread(f"predictions of shape {tuple(unpacked.shape)}, which {type(vae).__name__} does not decode alone")
    if config.get("force_upcast") and vae.dtype == torch.float16:
        return Unread("the autoencoder decodes in float32 only and is in float16")
    mean, std = (_of_channels(config.get(name), unpacked) for name in ("latents_mean", "latents_std"))
    scaled = unpacked / config["scaling_factor"]
    scaled = scaled * std + mean if mean is not None and std is not None else scaled + (config.get("shift_factor") or 0)
    return _batch(vae.decode(scaled.to(vae.dtype), return_dict=False)[0].float())


def _unpacked(pipe: Any, start: torch.Tensor, said: Mapping[str, Any]) -> torch.Tensor | Unread:
    """Latents out of patches, (B, C, H, W), by the pipeline's own method."""
    unpack, factor = getattr(pipe, "_unpack_latents", None), getattr(pipe, "vae_scale_factor", None)
    side = (getattr(pipe, "default_sample_size", None) or 0) * (factor or 0)
    height, width = said.get("height") or side, said.get("width") or side
    if unpack is None or not height or not width:
        return Unread("predictions in patches, and no way known to put them together")
    try:
        unpacked: torch.Tensor = unpack(start, int(height), int(width), factor)
    except (TypeError, RuntimeError, ValueError) as error:
        return Unread(f"predictions in patches that could not be put together: {error}")
    return unpacked


def _of_channels(values: Any, latents: torch.Tensor) -> torch.Tensor | None:
    if not values:
        return None
    return torch.tensor(values, device=latents.device, dtype=latents.dtype).view(1, -1, 1, 1)


def _batch(images: torch.Tensor) -> ImageBatch | Unread:
    """Pictures of float (B, 3, H, W) in -1..1; unread where one of them holds no numbers."""
    if images.ndim != 4 or images.shape[1] != _PIXEL_CHANNELS:
        return Unread(f"predictions decode to shape {tuple(images.shape)}, which are no RGB pictures")
    if not bool(torch.isfinite(images).all()):
        return Unread("a prediction holds values that are no numbers")
    pixels = (images.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return ImageBatch(tuple(Picture(f"predicted[{at}]", pixels=one) for at, one in enumerate(pixels)))
