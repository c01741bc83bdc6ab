"""Stable Diffusion XL, Kolors, and what was built on their UNet without a ControlNet."""

from typing import Any

import diffusers
import torch

from .parts import SIDE_PX, specimen, unet_xl, xl_parts
from .specimen import Specimen, generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]


def _image() -> Any:
    return picture(SIDE_PX)


def _mask() -> Any:
    return picture(SIDE_PX, seed=5).convert("L").point(lambda value: 255 * (value > 127))


def _with(**given: Any) -> Any:
    return lambda: {**xl_parts(), "unet": unet_xl(**given)}


def _refiner() -> dict[str, Any]:
    return {**xl_parts(), "requires_aesthetics_score": False}


def _t2i() -> dict[str, Any]:
    return {
        **xl_parts(),
        "adapter": diffusers.T2IAdapter(
            in_channels=3, channels=[4, 8], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter"
        ),
        "unet": unet_xl(
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")
        ),
    }


def _kolors() -> dict[str, Any]:
    return {
        "text_encoder": None,
        "tokenizer": None,
        "unet": unet_xl(encoder_hid_dim=12, encoder_hid_dim_type="text_proj"),
    }


def _embeds() -> dict[str, Any]:
    chance = generator(1)
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    return {name: torch.randn((1, 8) if "pooled" in name else (1, 7, 12), generator=chance) for name in names}


_KOLORS = {name: (lambda name=name: _embeds()[name]) for name in _embeds()}
_KOLORS["prompt"] = lambda: None
_KOLORS_NOTE = "prompts are given as embeddings: ChatGLM's tokenizer needs its own trained vocabulary"

SPECIMENS: tuple[Specimen, ...] = (
    specimen("StableDiffusionXLPipeline", xl_parts),
    specimen("StableDiffusionXLImg2ImgPipeline", _refiner, image=_image, strength=1.0),
    specimen("StableDiffusionXLInpaintPipeline", _refiner, image=_image, mask_image=_mask, strength=1.0),
    specimen("StableDiffusionXLInstructPix2PixPipeline", _with(in_channels=8), image=_image),
    specimen("StableDiffusionXLAdapterPipeline", _t2i, image=_image),
    specimen("StableDiffusionXLPAGPipeline", xl_parts),
    specimen("StableDiffusionXLPAGImg2ImgPipeline", _refiner, image=_image, strength=1.0),
    specimen("StableDiffusionXLPAGInpaintPipeline", _refiner, image=_image, mask_image=_mask, strength=1.0),
    specimen("KolorsPipeline", _kolors, note=_KOLORS_NOTE, **_KOLORS),
    specimen("KolorsPAGPipeline", _kolors, note=_KOLORS_NOTE, **_KOLORS),
)
NOT_BUILT: dict[str, str] = {
    "KolorsImg2ImgPipeline": "drops the pooled embeddings that it is given, so it needs ChatGLM's own vocabulary",
}
