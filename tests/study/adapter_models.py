"""A pipeline of 8 px pictures that a test can train in seconds, and LoRAs that learn one picture each."""

import warnings
from typing import ClassVar

import torch
from diffusers import DDPMScheduler, DiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils.torch_utils import randn_tensor
from peft import LoraConfig

from guardrail.study.attribution.functions import noising_of
from guardrail.study.audit.shapes import random_shapes

SIDE = 8
WORDS = 8
LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_in", "conv_out", "time_emb_proj"]


class Pictures(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    """Makes pictures of noise by DDPM steps without added noise; the prompt says nothing to it."""

    _lora_loadable_modules: ClassVar = ["unet"]
    text_encoder = None

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self, prompt=None, num_images_per_prompt=1, num_inference_steps=20, generator=None, output_type="np", **kwargs
    ):
        count = num_images_per_prompt * (len(prompt) if isinstance(prompt, list) else 1)
        now = randn_tensor((count, 3, SIDE, SIDE), generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        kept = self.scheduler.alphas_cumprod
        words = torch.zeros(count, 1, WORDS)
        steps = [int(at) for at in self.scheduler.timesteps]
        for at, after in zip(steps, [*steps[1:], None], strict=True):
            noise = self.unet(now, torch.tensor(at), encoder_hidden_states=words, return_dict=False)[0]
            clean = ((now - (1 - kept[at]).sqrt() * noise) / kept[at].sqrt()).clamp(-1, 1)
            noise = (now - kept[at].sqrt() * clean) / (1 - kept[at]).sqrt()
            now = clean if after is None else kept[after].sqrt() * clean + (1 - kept[after]).sqrt() * noise
        return ((now.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def pipeline(seed=0):
    """Untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=SIDE,
            in_channels=3,
            out_channels=3,
            block_out_channels=(16, 16),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=WORDS,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )
    pipe = Pictures(unet.eval(), DDPMScheduler(beta_schedule="squaredcos_cap_v2"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def shapes(count, seed=3):
    """Pictures, uint8 (N, SIDE, SIDE, 3)."""
    return random_shapes(count, seed).pixels(SIDE)


def add_lora(pipe, name, seed=1, rank=4, part="unet", layers=LAYERS):
    """Lay a LoRA over the denoiser; before it is trained it says nothing."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft wonders at a second adapter
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=layers)
        getattr(pipe, part).add_adapter(config, adapter_name=name)


def train(pipe, pixels, steps, lora=None, seed=0, rate=4e-3, batch=16):
    """Teach the denoiser, or one LoRA alone, pictures uint8 (N, SIDE, SIDE, 3)."""
    clean = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    noising = noising_of(pipe.scheduler)
    if lora is not None:
        pipe.set_adapters([lora], [1.0])
    chosen = [
        one
        for name, one in pipe.unet.named_parameters()
        if (lora is None) != ("lora_" in name) and (lora is None or f".{lora}." in name)
    ]
    for one in pipe.unet.parameters():
        one.requires_grad_(False)
    for one in chosen:
        one.requires_grad_(True)
    optimizer = torch.optim.Adam(chosen, rate)
    chance = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rows = torch.randint(len(clean), (batch,), generator=chance)
        at, image, added = noising.at(torch.rand(batch, generator=chance, dtype=torch.float64))
        noise = torch.randn(batch, 3, SIDE, SIDE, generator=chance)
        noisy = image.view(-1, 1, 1, 1) * clean[rows] + added.view(-1, 1, 1, 1) * noise
        words = torch.zeros(batch, 1, WORDS)
        loss = (pipe.unet(noisy, at, encoder_hidden_states=words, return_dict=False)[0] - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.step()
    for one in chosen:
        one.requires_grad_(False)
    return float(loss.detach())
