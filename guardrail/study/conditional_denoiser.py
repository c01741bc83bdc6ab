"""A text-to-image model in closed form whose memorised prompts are known: the optimal denoiser of a Gaussian a prompt.

A prompt that the training data showed with one picture only is memorised: the best possible model gives that picture
back for every seed. A prompt shown with many pictures gives a new one each time. Both are written down here exactly, so
signs of memorisation can be measured against the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler, ModelMixin, StableDiffusionPipeline
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

__all__ = ["ConditionalDenoiser", "PixelCodec", "prompt_embedding", "prompted_pipeline"]

_LEAST_VARIANCE = 1e-8  # of pixels in -1..1: below it a direction is rounding


class PixelCodec(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """An autoencoder that does nothing: latents are pixels, float (B, 3, H, W) in -1..1."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, latent_channels: int = 3, scaling_factor: float = 1.0, block_out_channels: Sequence[int] = (1,)
    ) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1), requires_grad=False)  # so that device and dtype can be asked

    def decode(self, z: torch.Tensor, return_dict: bool = True, generator: object = None) -> tuple[torch.Tensor]:
        """Latents as they are, as the first of a tuple."""
        del return_dict, generator
        return (z,)


class ConditionalDenoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Predicts the noise in an image as the best possible model of K prompts does.

    The images of prompt k are Gaussian: mean m_k, and covariance U_k diag(v_k) U_k' of rank R at most; a prompt with
    one image has v_k = 0. Without a prompt they are the mixture of all, weighted by how many images a prompt has.

    Args:
        prompts: K.
        rank: R.
        sample_size: side of the images in pixels.
        in_channels, out_channels: 3 and 3.
        num_train_timesteps, beta_start, beta_end: the linear schedule the timesteps refer to.
        time_cond_proj_dim: None; the pipeline asks for it.

    Source: the posterior mean of a Gaussian mixture (Bishop 2006, equations 2.113 to 2.117), for the noise levels of
    Ho et al. 2020.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        prompts: int = 1,
        rank: int = 1,
        sample_size: int = 16,
        in_channels: int = 3,
        out_channels: int = 3,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        time_cond_proj_dim: int | None = None,
    ) -> None:
        super().__init__()
        betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)
        values = in_channels * sample_size**2
        self.register_buffer("alphas", torch.cumprod(1 - betas, dim=0).float(), persistent=False)
        for name, shape in (("means", (values,)), ("directions", (values, rank)), ("variances", (rank,))):
            self.register_buffer(name, torch.zeros(prompts, *shape, dtype=torch.float64))
        self.weights = torch.nn.Parameter(torch.full((prompts,), 1 / prompts), requires_grad=False)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        encoder_hidden_states: torch.Tensor,
        return_dict: bool = True,
        **unused: Any,
    ) -> object:
        """Predict the noise.

        Args:
            sample: float (B, 3, H, W), noisy images.
            timestep: one timestep for the batch.
            encoder_hidden_states: float (B, 1, K), a one where the prompt is; all zeros for no prompt.
            return_dict: whether to return a `UNet2DConditionOutput` or a tuple.
            unused: what pipelines pass besides.

        Returns:
            The predicted noise, float (B, 3, H, W), as `sample` or as the first of a tuple.
        """
        del unused
        kept = self.alphas[int(timestep)].double()
        noisy, given = sample.flatten(1).double(), encoder_hidden_states[:, 0].double()
        means, likelihoods = self._by_prompt(noisy, kept)
        free = torch.softmax(likelihoods + self.weights.double().log(), dim=1)
        shares = torch.where(given.sum(1, keepdim=True) > 0, given, free)
        mean = (shares[:, :, None] * means).sum(1)
        noise = ((noisy - kept.sqrt() * mean) / (1 - kept).sqrt()).view_as(sample).to(sample.dtype)
        return UNet2DConditionOutput(sample=noise) if return_dict else (noise,)

    def _by_prompt(self, noisy: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For each image and prompt the posterior mean, (B, K, D), and the log likelihood less a constant, (B, K)."""
        means, directions, variances = self.means, self.directions, self.variances
        away = noisy[:, None] - kept.sqrt() * means
        along = torch.einsum("bkd,kdr->bkr", away, directions)
        spread = kept * variances + 1 - kept
        posterior = means + torch.einsum("bkr,kdr->bkd", along * kept.sqrt() * variances / spread, directions)
        beside = (away**2).sum(2) - (along**2).sum(2)
        squares = (along**2 / spread).sum(2) + beside / (1 - kept)
        return posterior, -0.5 * (squares + (spread / (1 - kept)).log().sum(1))


def prompted_pipeline(groups: Sequence[torch.Tensor]) -> StableDiffusionPipeline:
    """A stock `StableDiffusionPipeline` of K prompts; prompt k knows the images of group k: if it is one, by heart.

    It takes `prompt_embedding(k, K)` as `prompt_embeds`, and zeros as `negative_prompt_embeds`.

    Args:
        groups: K of them, float (N_k, 3, S, S) in -1..1, N_k >= 1.
    """
    rank = max(1, max(len(group) for group in groups) - 1)
    denoiser = ConditionalDenoiser(prompts=len(groups), rank=rank, sample_size=groups[0].shape[-1])
    for at, group in enumerate(groups):
        flat = group.flatten(1).double()
        denoiser.means[at] = flat.mean(0)
        _, lengths, directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
        variances = lengths**2 / len(flat)
        some = (variances > _LEAST_VARIANCE).nonzero()[:rank, 0]
        denoiser.directions[at][:, : len(some)] = directions[some].T
        denoiser.variances[at][: len(some)] = variances[some]
    counts = torch.tensor([len(group) for group in groups], dtype=torch.float64)
    denoiser.weights.data.copy_(counts / counts.sum())
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing", steps_offset=1)
    parts = {"text_encoder": None, "tokenizer": None, "safety_checker": None, "feature_extractor": None}
    pipe = StableDiffusionPipeline(
        vae=PixelCodec(), unet=denoiser, scheduler=scheduler, requires_safety_checker=False, **parts
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def prompt_embedding(prompt: int | None, prompts: int) -> torch.Tensor:
    """What the pipeline takes for a prompt: float (1, 1, K), a one where the prompt is; zeros for None."""
    embedding = torch.zeros(1, 1, prompts)
    if prompt is not None:
        embedding[0, 0, prompt] = 1.0
    return embedding
