"""A small pipeline that really runs (a UNet of 30,000 weights under DDIM), with places for adapters and pictures."""

import warnings
from typing import ClassVar

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils.torch_utils import randn_tensor
from peft import LoraConfig

WORDS = 8  # tokens of the made-up prompt embedding


def small_unet(seed=0):
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=WORDS,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )


class SmallPipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    """Denoises 8x8 pictures; the last step adds noise from the generator, so that its state matters throughout."""

    _lora_loadable_modules: ClassVar = ["unet"]
    text_encoder = None

    def __init__(self, unet, scheduler, controlnet=None):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, controlnet=controlnet)

    @torch.no_grad()
    def __call__(
        self,
        prompt=None,
        image=None,
        strength=None,
        num_images_per_prompt=1,
        num_inference_steps=2,
        guidance_scale=1.5,
        generator=None,
        mask_image=None,
        control_image=None,
        ip_adapter_image=None,
        video=None,
        cross_attention_kwargs=None,
        **kwargs,
    ):
        count = num_images_per_prompt * (len(prompt) if isinstance(prompt, list) else 1)
        sample = randn_tensor((count, 3, 8, 8), generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        words = torch.zeros(count, 1, WORDS)
        for timestep in self.scheduler.timesteps:
            noise = self.unet(sample, timestep, words).sample
            sample = self.scheduler.step(noise, timestep, sample, eta=1.0, generator=generator).prev_sample
        return sample


def small_pipeline(seed=0):
    return SmallPipeline(small_unet(seed), DDIMScheduler())


def add_lora(pipe, name, seed=1, rank=2, alpha=4, rslora=False):
    torch.manual_seed(seed)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, init_lora_weights=False, use_rslora=rslora)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft wonders at a second adapter
        pipe.unet.add_adapter(config, adapter_name=name)
