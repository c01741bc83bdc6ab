"""Pictures of works in the space a pipeline denoises in: pixels, a VAE's latents, or those packed into tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import interpolate

from guardrail.intake.remedies.unfit import RemedyUnfit

__all__ = ["VIEWS_OF", "turned_like", "works_like"]

_RGB = 3
_COARSE_SIDE_PX = 16  # enough to tell a picture from its mirror image
_PACK = 2  # side of the latents that are packed into one token, as in diffusers' pipelines for packed latents

VIEWS_OF = tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4))
"""The eight dihedral views: quarter turns, and whether mirrored first."""


def turned_like(work: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """The dihedral view of a work that is most like an image.

    Args:
        work: uint8 (H, W, 3).
        image: uint8 (3, H', W').

    Returns:
        Uint8 (H'', W'', 3).
    """
    wanted = _coarse(image.permute(1, 2, 0))
    views = [torch.rot90(work.flip(1) if mirrored else work, turns, (0, 1)) for turns, mirrored in VIEWS_OF]
    return max(views, key=lambda view: float((_coarse(view) * wanted).sum()))


def _coarse(picture: torch.Tensor) -> torch.Tensor:
    """Float (3, 16, 16), mean-removed by channel, of length 1."""
    small = _resized(picture, (_COARSE_SIDE_PX, _COARSE_SIDE_PX))
    small -= small.mean((1, 2), keepdim=True)
    return torch.as_tensor(small / small.norm().clamp_min(1e-6))


def works_like(pipe: Any, works: Sequence[torch.Tensor], sample: torch.Tensor) -> torch.Tensor:
    """Pictures of works as the pipeline would hold them while it denoises.

    Args:
        pipe: the pipeline.
        works: uint8 (H, W, 3), RGB, in host memory; they are squashed to the sample's shape.
        sample: float (B, C, h, w), or (B, N, C) where latents are packed.

    Returns:
        Float (W, ...), one for each work, shaped as one item of `sample`, on its device, in its dtype.

    Raises:
        RemedyUnfit: it denoises in a space that pictures cannot be brought into.
    """
    vae = getattr(pipe, "vae", None)
    if vae is None and sample.ndim == 4 and sample.shape[1] == _RGB and not _has_decoder(pipe):
        pixels = torch.stack([_resized(work, (sample.shape[2], sample.shape[3])) for work in works])
        return (pixels / 127.5 - 1).to(sample.device, sample.dtype)
    if vae is None or not callable(getattr(vae, "encode", None)):
        raise RemedyUnfit("the pipeline has no VAE that brings pictures into its latent space")
    if sample.ndim == 4:
        height, width = int(sample.shape[2]), int(sample.shape[3])
        found = torch.cat([_latents(pipe, vae, work, height, width) for work in works])
    elif sample.ndim == 3 and callable(getattr(pipe, "_pack_latents", None)):
        found = torch.cat([_packed(pipe, vae, work, sample) for work in works])
    else:
        raise RemedyUnfit(f"pictures cannot be brought into samples of {sample.ndim} axes")
    if found.shape[1:] != sample.shape[1:]:
        raise RemedyUnfit("the VAE's latents have another shape than the sample")
    return found.to(sample.device, sample.dtype)


def _has_decoder(pipe: Any) -> bool:
    return any(getattr(pipe, name, None) is not None for name in ("vqvae", "movq", "vqgan", "image_encoder"))


def _resized(picture: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A uint8 (H, W, 3) picture as float (3, *size), 0..255."""
    batch = picture.permute(2, 0, 1)[None].float()
    return torch.as_tensor(interpolate(batch, size, mode="bilinear", antialias=True)[0])


def _latents(pipe: Any, vae: Any, work: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """One work in the VAE's latent space, scaled as the pipeline scales it: float (1, C, height, width)."""
    factor = int(getattr(pipe, "vae_scale_factor", 0) or 2 ** (len(vae.config.block_out_channels) - 1))
    pixels = _resized(work, (height * factor, width * factor))[None] / 127.5 - 1
    parameter = next(vae.parameters())
    encoded = vae.encode(pixels.to(parameter.device, parameter.dtype))
    latents = _mean_of(encoded).float()
    config = vae.config
    mean, std = (getattr(config, name, None) for name in ("latents_mean", "latents_std"))
    scaling = float(getattr(config, "scaling_factor", None) or 1.0)
    if mean is not None and std is not None:
        across = [torch.tensor(one, device=latents.device).view(1, -1, 1, 1) for one in (mean, std)]
        return (latents - across[0]) * scaling / across[1]
    return (latents - float(getattr(config, "shift_factor", None) or 0.0)) * scaling


def _mean_of(encoded: Any) -> torch.Tensor:
    """The latents that an encoder's answer means: the mean of a distribution, or themselves."""
    distribution = getattr(encoded, "latent_dist", None)
    if distribution is not None:
        return torch.as_tensor(distribution.mode())
    latents = getattr(encoded, "latents", getattr(encoded, "latent", None))
    if latents is None:
        raise RemedyUnfit(f"a VAE that answers with a {type(encoded).__name__} is not known")
    return torch.as_tensor(latents)


def _packed(pipe: Any, vae: Any, work: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
    """One work as packed latents; their height and width are those of the square that has so many tokens."""
    tokens = int(sample.shape[1])
    side = round(tokens**0.5)
    if side * side != tokens:
        raise RemedyUnfit("latents that are packed into tokens are known for square images only")
    latents = _latents(pipe, vae, work, side * _PACK, side * _PACK)
    try:
        packed = pipe._pack_latents(latents, 1, latents.shape[1], side * _PACK, side * _PACK)
    except (TypeError, RuntimeError, ValueError) as error:
        raise RemedyUnfit(f"the pipeline packs its latents in its own way: {error}") from error
    return torch.as_tensor(packed)
