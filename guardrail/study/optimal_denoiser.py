"""The exactly overfitted diffusion model: the optimal denoiser of a finite training set, in closed form.

A network trained to perfection on N images, and on nothing else, would predict at every noise level the posterior mean
over those images. That mean can be written down, so a memorising pipeline needs no training, and what it gives back is
known to be a training image.
"""

import torch
from diffusers import DDIMPipeline, DDIMScheduler, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput

__all__ = ["OptimalDenoiser", "overfitted_pipeline"]


class OptimalDenoiser(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Predicts the noise in an image as the best possible denoiser of its training images does.

    For x = sqrt(a) w + sqrt(1 - a) e, with w drawn evenly from the training images and e standard normal noise, the
    mean of w given x weighs every training image by softmax(-|x - sqrt(a) w|^2 / (2 (1 - a))).

    Args:
        images: how many training images there are.
        sample_size: their side in pixels.
        in_channels, out_channels: 3 and 3.
        num_train_timesteps, beta_start, beta_end: the linear schedule the timesteps refer to.

    Source: the posterior mean of a Gaussian mixture; Karras et al. 2022, appendix B.3, equation 57, write it for their
    own noise levels; ours are those of DDPM.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        images: int = 1,
        sample_size: int = 64,
        in_channels: int = 3,
        out_channels: int = 3,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
    ) -> None:
        super().__init__()
        betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float64)
        self.register_buffer("alphas", torch.cumprod(1 - betas, dim=0).float(), persistent=False)
        self.works = torch.nn.Parameter(torch.zeros(images, in_channels, sample_size, sample_size), requires_grad=False)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor | float, return_dict: bool = True) -> object:
        """Predict the noise.

        Args:
            sample: float (B, 3, H, W), noisy images.
            timestep: one timestep for the batch, or (B,) of them.
            return_dict: whether to return a `UNet2DOutput` or a tuple.

        Returns:
            The predicted noise, float (B, 3, H, W), as `sample` or as the first of a tuple.
        """
        at = torch.as_tensor(timestep, device=sample.device).long().expand(len(sample))
        kept = self.alphas[at].double()[:, None]
        noisy, works = sample.flatten(1).double(), self.works.flatten(1).double()
        squared = (noisy**2).sum(1, keepdim=True) - 2 * kept.sqrt() * (noisy @ works.T) + kept * (works**2).sum(1)
        weights = torch.softmax(-squared / (2 * (1 - kept)), dim=1)
        noise = ((noisy - kept.sqrt() * (weights @ works)) / (1 - kept).sqrt()).view_as(sample).to(sample.dtype)
        return UNet2DOutput(sample=noise) if return_dict else (noise,)


def overfitted_pipeline(works: torch.Tensor) -> DDIMPipeline:
    """A stock `DDIMPipeline` that can do nothing but give its training images back.

    Args:
        works: float (N, 3, S, S) in -1..1.
    """
    denoiser = OptimalDenoiser(images=len(works), sample_size=works.shape[-1])
    denoiser.works.data.copy_(works)
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    return DDIMPipeline(unet=denoiser, scheduler=scheduler)
