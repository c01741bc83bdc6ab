"""ControlNets of every make beside the UNets of Stable Diffusion and Stable Diffusion XL, and perturbed attention."""

from typing import Any

import diffusers

from .parts import SIDE_PX, controlnet, specimen, unet, unet_xl, xl_parts
from .specimen import Specimen, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]

_XL_CONTROL: dict[str, Any] = {
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "transformer_layers_per_block": (1, 2),
    "projection_class_embeddings_input_dim": 6 * 8 + 8,
    "cross_attention_dim": 16,
}


def _image() -> Any:
    return picture(SIDE_PX)


def _control() -> Any:
    return picture(SIDE_PX, seed=4)


def _mask() -> Any:
    return picture(SIDE_PX, seed=5).convert("L").point(lambda value: 255 * (value > 127))


def _beside() -> dict[str, Any]:
    return {"controlnet": controlnet()}


def _beside_inpainting() -> dict[str, Any]:
    return {"controlnet": controlnet(), "unet": unet(in_channels=9)}


def _beside_xl() -> dict[str, Any]:
    return {**xl_parts(), "controlnet": controlnet(**_XL_CONTROL)}


def _union() -> dict[str, Any]:
    said = {
        **_XL_CONTROL,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "conditioning_embedding_out_channels": (2, 4),
        "norm_num_groups": 2,
        "num_control_type": 6,
        "num_trans_channel": 8,
        "num_trans_head": 2,
        "num_proj_channel": 8,
        "attention_head_dim": (2, 4),
    }
    return {
        **xl_parts(),
        "unet": unet_xl(block_out_channels=(8, 16)),
        "controlnet": diffusers.ControlNetUnionModel(**said).eval(),
    }


def _small() -> dict[str, Any]:
    wide = unet(layers_per_block=2, use_linear_projection=True)
    return {
        "unet": wide,
        "controlnet": diffusers.ControlNetXSAdapter.from_unet(
            wide, size_ratio=1.0, conditioning_embedding_out_channels=(2, 4)
        ),
    }


def _small_xl() -> dict[str, Any]:
    parts = {**xl_parts(), "unet": unet_xl(layers_per_block=2)}
    adapter = diffusers.ControlNetXSAdapter.from_unet(
        parts["unet"], size_ratio=1.0, conditioning_embedding_out_channels=(2, 4)
    )
    return {**parts, "controlnet": adapter}


def _perturbed() -> dict[str, Any]:
    return {"pag_applied_layers": "mid"}


SPECIMENS: tuple[Specimen, ...] = (
    specimen("StableDiffusionControlNetPipeline", _beside, image=_control),
    specimen("StableDiffusionControlNetImg2ImgPipeline", _beside, image=_image, control_image=_control, strength=1.0),
    specimen(
        "StableDiffusionControlNetInpaintPipeline",
        _beside_inpainting,
        image=_image,
        mask_image=_mask,
        control_image=_control,
    ),
    specimen("StableDiffusionXLControlNetPipeline", _beside_xl, image=_control),
    specimen(
        "StableDiffusionXLControlNetImg2ImgPipeline", _beside_xl, image=_image, control_image=_control, strength=1.0
    ),
    specimen(
        "StableDiffusionXLControlNetInpaintPipeline", _beside_xl, image=_image, mask_image=_mask, control_image=_control
    ),
    specimen("StableDiffusionXLControlNetUnionPipeline", _union, control_image=_control, control_mode=[0]),
    specimen(
        "StableDiffusionXLControlNetUnionImg2ImgPipeline",
        _union,
        image=_image,
        control_image=_control,
        control_mode=[0],
        strength=1.0,
    ),
    specimen(
        "StableDiffusionXLControlNetUnionInpaintPipeline",
        _union,
        image=_image,
        mask_image=_mask,
        control_image=_control,
        control_mode=[0],
    ),
    specimen("StableDiffusionControlNetXSPipeline", _small, image=_control),
    specimen("StableDiffusionXLControlNetXSPipeline", _small_xl, image=_control),
    specimen("StableDiffusionPAGPipeline", _perturbed),
    specimen("StableDiffusionPAGImg2ImgPipeline", _perturbed, image=_image, strength=1.0),
    specimen(
        "StableDiffusionPAGInpaintPipeline", lambda: {"unet": unet(in_channels=9)}, image=_image, mask_image=_mask
    ),
    specimen("StableDiffusionControlNetPAGPipeline", _beside, image=_control),
    specimen(
        "StableDiffusionControlNetPAGInpaintPipeline",
        _beside_inpainting,
        image=_image,
        mask_image=_mask,
        control_image=_control,
    ),
    specimen("StableDiffusionXLControlNetPAGPipeline", _beside_xl, image=_control),
    specimen(
        "StableDiffusionXLControlNetPAGImg2ImgPipeline", _beside_xl, image=_image, control_image=_control, strength=1.0
    ),
)
NOT_BUILT: dict[str, str] = {}
