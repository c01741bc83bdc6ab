"""Z-Image, and the images of Kandinsky 5."""

from functools import partial
from typing import Any

import diffusers
import torch

from .parts_transformers import (
    assembled,
    clip_text,
    qwen3,
    qwen25_vl,
    siglip2,
    siglip2_processor,
)
from .parts_transformers_tokens import (
    clip_tokenizer,
    qwen2_tokenizer,
    qwen2_vl_processor,
)
from .parts_transformers_vae import flow, kl
from .specimen import generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]


def _call(**more: Any) -> dict[str, Any]:
    return {
        "prompt": "a red fox",
        "negative_prompt": "grey",
        "height": 32,
        "width": 32,
        "num_inference_steps": 2,
        "generator": generator(),
        **more,
    }


def _guided(**more: Any) -> dict[str, Any]:
    return _call(guidance_scale=2.0, **more)


_Z = {"dim": 32, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2}


def _z(siglip_width: int | None = None, **more: Any) -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(16),
        "text_encoder": qwen3(),
        "tokenizer": qwen2_tokenizer(),
        "transformer": diffusers.ZImageTransformer2DModel(
            **_Z,
            n_layers=2,
            cap_feat_dim=16,
            siglip_feat_dim=siglip_width,
            axes_dims=[8, 4, 4],
            axes_lens=[256, 32, 32],
        ),
        **more,
    }


def _z_control(channels: int) -> dict[str, Any]:
    net = diffusers.ZImageControlNetModel(
        **_Z, control_layers_places=[0], control_refiner_layers_places=[0], control_in_dim=channels
    )
    for block in net.control_layers:
        block.after_proj.reset_parameters()  # it starts at zero, and a control that does nothing shows nothing
    return _z(controlnet=net)


def _z_omni() -> dict[str, Any]:
    parts = _z(16, siglip=siglip2(), siglip_processor=siglip2_processor())
    parts["vae"].to(torch.bfloat16)
    return parts


def _z_call(**more: Any) -> dict[str, Any]:
    return _guided(max_sequence_length=64, **more)


def _kandinsky5(channels: int) -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(levels=4),
        "text_encoder": qwen25_vl(),
        "tokenizer": qwen2_vl_processor(),
        "text_encoder_2": clip_text(),
        "tokenizer_2": clip_tokenizer(),
        "transformer": diffusers.Kandinsky5Transformer3DModel(
            in_visual_dim=4,
            in_text_dim=16,
            in_text_dim2=16,
            time_dim=16,
            out_visual_dim=4,
            model_dim=16,
            ff_dim=16,
            num_text_blocks=1,
            num_visual_blocks=1,
            axes_dims=(4, 2, 2),
            visual_cond=channels > 4,
        ),
    }


def _kandinsky_small(pipe: Any) -> None:
    pipe.resolutions = [(32, 32)]  # it knows sizes of about a million pixels only


SPECIMENS = (
    assembled("ZImagePipeline", _z, _z_call),
    assembled("ZImageImg2ImgPipeline", _z, lambda: _z_call(image=picture(), strength=0.9)),
    assembled(
        "ZImageInpaintPipeline",
        _z,
        lambda: _z_call(image=picture(), mask_image=picture(seed=5).convert("L"), strength=0.9),
    ),
    assembled("ZImageControlNetPipeline", partial(_z_control, 16), lambda: _z_call(control_image=picture())),
    assembled(
        "ZImageControlNetInpaintPipeline",
        partial(_z_control, 33),
        lambda: _z_call(image=picture(), mask_image=picture(seed=5).convert("L"), control_image=picture(seed=4)),
    ),
    assembled(
        "ZImageOmniPipeline",
        _z_omni,
        lambda: _z_call(image=[picture(64)]),
        note="the autoencoder is in bfloat16, as the pipeline takes it to be",
    ),
    assembled("Kandinsky5T2IPipeline", partial(_kandinsky5, 4), _guided, _kandinsky_small),
    assembled("Kandinsky5I2IPipeline", partial(_kandinsky5, 9), lambda: _guided(image=picture()), _kandinsky_small),
)
NOT_BUILT: dict[str, str] = {}
