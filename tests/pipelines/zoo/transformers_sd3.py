"""Stable Diffusion 3, with ControlNet and perturbed attention."""

from functools import partial
from typing import Any

import diffusers

from .parts_transformers import (
    assembled,
    clip_text_projected,
    t5,
)
from .parts_transformers_tokens import (
    clip_tokenizer,
    t5_tokenizer,
)
from .parts_transformers_vae import flow, kl
from .specimen import generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]

_DEEP = {
    "sample_size": 16,
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "caption_projection_dim": 16,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
    "out_channels": 16,
    "pos_embed_max_size": 16,
}


def _sd3(layers: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(16),
        "text_encoder": clip_text_projected(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": clip_text_projected(),
        "tokenizer_2": clip_tokenizer(),
        "text_encoder_3": t5(32),
        "tokenizer_3": t5_tokenizer(),
        "transformer": diffusers.SD3Transformer2DModel(**{**_DEEP, "num_layers": layers}),
        **more,
    }


def _plain() -> dict[str, Any]:
    return _sd3(image_encoder=None, feature_extractor=None)


def _controlnet(extra: int = 0) -> dict[str, Any]:
    net = diffusers.SD3ControlNetModel(**_DEEP, extra_conditioning_channels=extra)
    for block in net.controlnet_blocks:
        block.reset_parameters()  # they start at zero, and a control that does nothing shows nothing
    return _sd3(controlnet=net)


def _pag() -> dict[str, Any]:
    return _sd3(layers=2, pag_applied_layers=["blocks.0"])


def _call(**more: Any) -> dict[str, Any]:
    return {
        "prompt": "a red fox",
        "negative_prompt": "",
        "height": 32,
        "width": 32,
        "num_inference_steps": 2,
        "guidance_scale": 5.0,
        "max_sequence_length": 16,
        "generator": generator(),
        **more,
    }


def _from_picture(**more: Any) -> dict[str, Any]:
    return _call(image=picture(), strength=0.9, **more)


SPECIMENS = (
    assembled("StableDiffusion3Pipeline", _plain, _call),
    assembled("StableDiffusion3Img2ImgPipeline", _plain, _from_picture),
    assembled(
        "StableDiffusion3InpaintPipeline", _plain, lambda: _from_picture(mask_image=picture(seed=5).convert("L"))
    ),
    assembled("StableDiffusion3ControlNetPipeline", _controlnet, lambda: _call(control_image=picture())),
    assembled(
        "StableDiffusion3ControlNetInpaintingPipeline",
        partial(_controlnet, extra=1),
        lambda: _call(control_image=picture(), control_mask=picture(seed=5).convert("L")),
    ),
    assembled("StableDiffusion3PAGPipeline", _pag, lambda: _call(pag_scale=0.7)),
    assembled("StableDiffusion3PAGImg2ImgPipeline", _pag, lambda: _from_picture(pag_scale=0.7)),
)
NOT_BUILT: dict[str, str] = {}
