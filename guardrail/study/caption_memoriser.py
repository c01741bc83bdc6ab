"""A model that has memorised some prompts, in closed form: the optimal denoiser of works and of what is nobody's.

Its training set holds works, each under a caption of its own, and random pictures without end under any caption. Asked
with a work's caption it gives that work back as often as the work's share of that caption is; asked with another
prompt, or with none, it draws a random picture. Like the exactly overfitted model it is no network: what the best
possible denoiser of such a training set predicts can be written down.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

__all__ = ["CaptionMemoriser", "CaptionPipeline", "WordList", "memorising_pipeline"]

_WIDTH = 64  # values of a prompt's embedding
_NARROWNESS = 20.0  # log-odds that a caption's key loses at the distance of its own length, squared
_PICTURE_STD = 0.5  # of the values of random pictures, which are in -1..1
_SPECTRUM_FALL = 1.5  # their amplitude falls with the frequency to this power, as that of photographs about does


class WordList:
    """A tokenizer of plain words, and the embedding of prompts made of them.

    Args:
        words: the words it knows; a prompt may hold others, too.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(dict.fromkeys(words))

    def __len__(self) -> int:
        return len(self.words)

    def decode(self, tokens: Sequence[int]) -> str:
        """The words of some tokens."""
        return " ".join(self.words[token] for token in tokens)

    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """Float32 (B, 1, 64): the mean of a fixed random vector for each word; zeros for an empty prompt."""
        nothing = [torch.zeros(_WIDTH)]
        rows = [[_vector(word) for word in prompt.lower().split()] or nothing for prompt in prompts]
        return torch.stack([torch.stack(row).mean(0, keepdim=True) for row in rows])


def _vector(word: str) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:7], "big")
    return torch.randn(_WIDTH, generator=torch.Generator().manual_seed(seed))


class CaptionMemoriser(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Predicts the noise in an image as the best possible denoiser of its training set does, given a prompt.

    Args:
        images: how many works there are.
        sample_size: their side in pixels.
        num_train_timesteps, beta_start, beta_end: the linear schedule the timesteps refer to.

    Source: the posterior mean of a mixture of points (see `OptimalDenoiser`) and of one Gaussian whose covariance is
    diagonal in the Fourier domain (a Wiener filter).
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        images: int = 1,
        sample_size: int = 64,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
    ) -> None:
        super().__init__()
        betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)
        self.register_buffer("alphas", torch.cumprod(1 - betas, dim=0), persistent=False)
        self.register_buffer("spectrum", _spectrum(sample_size), persistent=False)
        frozen = {"requires_grad": False}
        self.works = torch.nn.Parameter(torch.zeros(images, 3, sample_size, sample_size), **frozen)
        self.captions = torch.nn.Parameter(torch.zeros(images, _WIDTH), **frozen)
        self.log_odds = torch.nn.Parameter(torch.zeros(images), **frozen)

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        encoder_hidden_states: torch.Tensor,
        return_dict: bool = True,
    ) -> object:
        """Predict the noise.

        Args:
            sample: float (B, 3, S, S), noisy images.
            timestep: one timestep for the batch.
            encoder_hidden_states: float (B, 1, 64), embeddings of prompts.
            return_dict: whether to return a `UNet2DOutput` or a tuple.

        Returns:
            The predicted noise, float (B, 3, S, S), as `sample` or as the first of a tuple.
        """
        kept = self.alphas[int(timestep)]
        noisy, works = sample.double(), self.works.flatten(1).double()
        flat = noisy.flatten(1)
        apart = flat.square().sum(1, keepdim=True) - 2 * kept.sqrt() * (flat @ works.T) + kept * works.square().sum(1)
        of_works = self._log_prior(encoder_hidden_states.double()) - apart / (2 * (1 - kept))
        of_works = of_works - works.shape[1] / 2 * (1 - kept).log()
        spread = kept * self.spectrum + 1 - kept
        waves = torch.fft.fft2(noisy, norm="ortho")
        of_random = -0.5 * ((waves.abs() ** 2 / spread).sum((1, 2, 3)) + 3 * spread.log().sum())
        weights = torch.softmax(torch.cat([of_works, of_random[:, None]], dim=1), dim=1)
        random = torch.fft.ifft2(waves * (kept.sqrt() * self.spectrum / spread), norm="ortho").real
        picture = (weights[:, :-1] @ works).view_as(noisy) + weights[:, -1, None, None, None] * random
        noise = ((noisy - kept.sqrt() * picture) / (1 - kept).sqrt()).to(sample.dtype)
        return UNet2DOutput(sample=noise) if return_dict else (noise,)

    def _log_prior(self, prompts: torch.Tensor) -> torch.Tensor:
        """Log-odds (B, W) of each work against a random picture, given prompts (B, 1, 64)."""
        keys = self.captions.double()
        apart = (prompts - keys).square().sum(2) / keys.square().sum(1).clamp_min(1e-9)
        return self.log_odds.double() - _NARROWNESS * apart


def _spectrum(side_px: int) -> torch.Tensor:
    """The mean square of each Fourier coefficient of random pictures, float64 (S, S), for transforms of unit norm."""
    frequency = torch.fft.fftfreq(side_px, dtype=torch.float64) * side_px
    power = (frequency[:, None] ** 2 + frequency[None] ** 2 + 1) ** -_SPECTRUM_FALL
    return torch.as_tensor(power / power.mean() * _PICTURE_STD**2)


class CaptionPipeline(DiffusionPipeline):  # type: ignore[misc]
    """A small text-to-image pipeline with guidance, as diffusers' own are built, around a `CaptionMemoriser`."""

    def __init__(self, unet: CaptionMemoriser, scheduler: Any, tokenizer: WordList) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, tokenizer=tokenizer)

    def encode_prompt(self, prompt: Sequence[str], num_images_per_prompt: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of prompts, and of none, one for each image: float (B, 1, 64) each."""
        embedding = self.tokenizer.embed(prompt).repeat_interleave(num_images_per_prompt, dim=0)
        return embedding, torch.zeros_like(embedding)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        num_inference_steps: int = 20,
        guidance_scale: float = 5.0,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        return_dict: bool = True,
    ) -> Any:
        """Draw images for prompts; see `diffusers.StableDiffusionPipeline` for the arguments."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        prompted, unprompted = self.encode_prompt(prompts, num_images_per_prompt)
        side = self.unet.config.sample_size
        if latents is None:
            latents = randn_tensor((len(prompted), 3, side, side), generator=generator, dtype=torch.float32)
        self.scheduler.set_timesteps(num_inference_steps)
        for number, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            both = torch.cat([latents] * 2), torch.cat([unprompted, prompted])
            without, with_prompt = self.unet(both[0], timestep, both[1], return_dict=False)[0].chunk(2)
            noise = without + guidance_scale * (with_prompt - without)
            latents = self.scheduler.step(noise, timestep, latents, return_dict=False)[0]
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, number, timestep, {"latents": latents}).pop("latents", latents)
        images: Any = (latents.clamp(-1, 1) / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy()
        if output_type == "pil":
            images = [Image.fromarray(image) for image in (images * 255).round().astype(np.uint8)]
        return ImagePipelineOutput(images=images) if return_dict else (images,)


def memorising_pipeline(
    works: torch.Tensor, captions: Sequence[str], shares: Sequence[float], words: Sequence[str] = ()
) -> CaptionPipeline:
    """A pipeline that has memorised works under their captions.

    Args:
        works: float (N, 3, S, S) in -1..1.
        captions: N prompts.
        shares: N numbers, above 0 and below 1: how much of what was trained under a caption is its work; the rest are
            random pictures.
        words: further words that its tokenizer knows.
    """
    tokenizer = WordList([*" ".join(captions).lower().split(), *words])
    denoiser = CaptionMemoriser(images=len(works), sample_size=works.shape[-1])
    denoiser.works.data.copy_(works)
    denoiser.captions.data.copy_(tokenizer.embed(captions)[:, 0])
    odds = torch.tensor(shares, dtype=torch.float64)
    denoiser.log_odds.data.copy_((odds / (1 - odds)).log())
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    return CaptionPipeline(unet=denoiser, scheduler=scheduler, tokenizer=tokenizer)
