"""Tiny networks and pipelines that gradients are taken of: random weights, from configs."""

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

SIDE = 16


def tiny_unet(seed=0, **more):
    """A UNet of about 12,000 parameters, the same for the same seed."""
    torch.manual_seed(seed)
    said = {
        "sample_size": SIDE,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
        "attention_head_dim": 4,
    }
    return UNet2DModel(**{**said, **more})


def tiny_pipeline(seed=0, scheduler=None, **more):
    """A pipeline of pixels around it."""
    pipeline = DDPMPipeline(unet=tiny_unet(seed, **more), scheduler=scheduler or DDPMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pictures(count, seed=0, side=SIDE):
    """Smooth random pictures: uint8 (count, side, side, 3)."""
    rough = np.random.default_rng(seed).uniform(0, 255, (count, 4, 4, 3))
    return np.repeat(np.repeat(rough, side // 4, 1), side // 4, 2).astype(np.uint8)
