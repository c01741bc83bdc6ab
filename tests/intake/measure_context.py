"""Measure what reading a context costs: run it by hand (`python tests/intake/measure_context.py`); it is no test."""

import time

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig

from guardrail.intake import read_context

TRIES = 30


class Pipeline(DiffusionPipeline):
    """SDXL's arguments over a UNet alone."""

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    __call__ = StableDiffusionXLPipeline.__call__


def unet_like_sdxls():
    """As many tensors in as many modules as SDXL's UNet, a tenth as wide."""
    return UNet2DConditionModel(
        sample_size=8,
        norm_num_groups=8,
        block_out_channels=(32, 64, 128),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10],
        attention_head_dim=[2, 4, 8],
        cross_attention_dim=64,
    )


def best_ms(pipe):
    """The quickest of some readings, after one that fills what is kept."""
    said = {"generator": torch.Generator().manual_seed(0)}
    read_context(pipe, pipe.__call__, ("a fox",), said)
    spent = []
    for _ in range(TRIES):
        started = time.perf_counter()
        read_context(pipe, pipe.__call__, ("a fox",), said)
        spent.append(time.perf_counter() - started)
    return min(spent) * 1000


if __name__ == "__main__":
    torch.set_num_threads(1)
    unet = unet_like_sdxls()
    pipe = Pipeline(unet, DDIMScheduler())
    print(f"{len(list(unet.parameters()))} tensors: {best_ms(pipe):.2f} ms")
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=4, target_modules=targets, init_lora_weights=False), adapter_name="a")
    layers = sum(hasattr(one, "lora_A") for one in unet.modules())
    print(f"with a LoRA in {layers} layers: {best_ms(pipe):.2f} ms")
