"""Image pipelines whose prompts a Qwen model reads: Qwen-Image, Krea 2, Ovis, LongCat, Nucleus, JoyImage, ..."""

from functools import partial
from typing import Any

import diffusers
from diffusers.pipelines.joyimage import image_processor as joy

from .parts_transformers import (
    assembled,
    at_32_px,
    qwen3,
    qwen3_vl,
    qwen25_vl,
)
from .parts_transformers_tokens import (
    qwen2_tokenizer,
    qwen2_vl_processor,
    qwen3_vl_processor,
)
from .parts_transformers_vae import flow, flux2_vae, kl, qwen_vae, wan_vae
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


def _true_cfg(**more: Any) -> dict[str, Any]:
    return _call(true_cfg_scale=2.0, max_sequence_length=16, **more)


def _guided(**more: Any) -> dict[str, Any]:
    return _call(guidance_scale=2.0, **more)


def _sizeless(said: dict[str, Any]) -> dict[str, Any]:
    """Of a call whose size is that of its picture."""
    return {name: value for name, value in said.items() if name not in ("height", "width")}


def _masked(**more: Any) -> dict[str, Any]:
    return _true_cfg(image=picture(), mask_image=picture(seed=5).convert("L"), strength=0.9, **more)


_DEEP = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "axes_dims_rope": (8, 4, 4),
}


def _qwen(transformer: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": qwen_vae(),
        "text_encoder": qwen25_vl(),
        "tokenizer": qwen2_tokenizer(),
        "transformer": diffusers.QwenImageTransformer2DModel(**{**_DEEP, **(transformer or {})}),
        **more,
    }


def _edit(**transformer: Any) -> dict[str, Any]:
    return _qwen(transformer, processor=qwen2_vl_processor())


def _layered() -> dict[str, Any]:
    parts = _edit(in_channels=32, out_channels=8, use_additional_t_cond=True, use_layer3d_rope=True)
    return {**parts, "vae": qwen_vae(8, input_channels=4)}  # with 4 channels RGBA pictures would pass as latents


def _controlnet(extra: int = 0) -> dict[str, Any]:
    net = diffusers.QwenImageControlNetModel(**_DEEP, extra_condition_channels=extra)
    for block in (net.controlnet_x_embedder, *net.controlnet_blocks):
        block.reset_parameters()  # they start at zero, and a control that does nothing shows nothing
    return _qwen(controlnet=net)


def _at_32_px(pipe: Any) -> None:
    at_32_px(type(pipe).__module__)


_SMALL = {"after": _at_32_px, "note": "works at 32 x 32 px in place of about a million pixels"}


def _krea() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": qwen_vae(),
        "text_encoder": qwen3_vl(kind="Qwen3VLModel"),
        "tokenizer": qwen2_tokenizer(),
        "text_encoder_select_layers": (0, 1, 2),
        "transformer": diffusers.Krea2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            num_key_value_heads=1,
            intermediate_size=16,
            timestep_embed_dim=8,
            text_hidden_dim=16,
            num_text_layers=3,
            text_num_attention_heads=2,
            text_num_key_value_heads=1,
            text_intermediate_size=16,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=(4, 2, 2),
        ),
    }


def _nucleus() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": qwen_vae(),
        "text_encoder": qwen3_vl(layers=8),
        "processor": qwen3_vl_processor(),
        "transformer": diffusers.NucleusMoEImageTransformer2DModel(
            **{**_DEEP, "num_attention_heads": 4}, moe_enabled=False, capacity_factors=[8.0]
        ),
    }


def _ovis() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(),
        "text_encoder": qwen3(),
        "tokenizer": qwen2_tokenizer(),
        "transformer": diffusers.OvisImageTransformer2DModel(
            in_channels=16,
            out_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 4, 8),
        ),
    }


def _longcat() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(16),
        "text_encoder": qwen25_vl(),
        "tokenizer": qwen2_tokenizer(),
        "text_processor": qwen2_vl_processor(),
        "transformer": diffusers.LongCatImageTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=[4, 4, 8],
        ),
    }


def _joy(kind: str) -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": wan_vae(),
        "text_encoder": qwen3_vl(),
        "tokenizer": qwen2_tokenizer(),
        "processor": qwen3_vl_processor(),
        "transformer": getattr(diffusers, kind)(
            in_channels=16, hidden_size=16, num_attention_heads=1, text_dim=16, num_layers=1, rope_dim_list=[4, 6, 6]
        ),
    }


def _joy_small(pipe: Any, name: str) -> None:
    """Let it work at 32 x 32 px; it knows sizes of about a million pixels only."""
    joy.BUCKETS.setdefault(32, [(32, 32)])
    getattr(pipe, name).register_to_config(basesize=32)


def _dreamlite() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        ),
        "text_encoder": qwen3_vl(),
        "tokenizer": qwen2_tokenizer(),
        "processor": qwen3_vl_processor(),
        "unet": diffusers.DreamLiteUNetModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            down_block_types=("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
            up_block_types=("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"),
            block_out_channels=(8, 16),
            cross_attention_dim=16,
            attention_head_dim=8,
            layers_per_block=1,
            norm_num_groups=4,
            transformer_layers_per_block=1,
        ),
    }


def _dreamlite_call(**more: Any) -> dict[str, Any]:
    return _guided(max_sequence_length=16, **more)


def _dreamlite_mobile_call() -> dict[str, Any]:
    said = _dreamlite_call()
    del said["negative_prompt"]
    return said


def _ideogram() -> dict[str, Any]:
    from diffusers.pipelines.ideogram4.pipeline_ideogram4 import QWEN3_VL_ACTIVATION_LAYERS as READ

    said = {
        "in_channels": 16,
        "num_layers": 1,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "adaln_dim": 16,
        "llm_features_dim": len(READ) * 16,
        "rope_theta": 10_000,
        "mrope_section": (2, 1, 1),
    }
    return {
        "scheduler": flow(),
        "vae": flux2_vae(),
        "text_encoder": qwen3_vl(layers=max(READ) + 1, kind="Qwen3VLModel"),
        "tokenizer": qwen2_tokenizer(),
        "transformer": diffusers.Ideogram4Transformer2DModel(**said),
        "unconditional_transformer": diffusers.Ideogram4Transformer2DModel(**said),
    }


def _ideogram_call() -> dict[str, Any]:
    said = _guided(guidance_schedule=None, max_sequence_length=256)
    del said["negative_prompt"]
    return said


def _qwen21() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": diffusers.AutoencoderKLQwenImage21(
            base_dim=2,
            decoder_base_dim=2,
            z_dim=8,
            dim_mult=[1, 1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[0.0] * 8,
            latents_std=[1.0] * 8,
        ),
        "text_encoder": qwen3_vl(),
        "processor": qwen3_vl_processor(),
        "transformer": diffusers.QwenImage21Transformer2DModel(
            in_channels=8,
            out_channels=8,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            context_in_dim=16,
            mlp_ratio=2,
            axes_dims_rope=(4, 6, 6),
        ),
    }


SPECIMENS = (
    assembled("QwenImagePipeline", _qwen, _true_cfg),
    assembled("QwenImageImg2ImgPipeline", _qwen, lambda: _true_cfg(image=picture(), strength=0.9)),
    assembled("QwenImageInpaintPipeline", _qwen, _masked),
    assembled("QwenImageEditPipeline", _edit, lambda: _true_cfg(image=picture()), **_SMALL),
    assembled("QwenImageEditPlusPipeline", _edit, lambda: _true_cfg(image=picture()), **_SMALL),
    assembled("QwenImageEditInpaintPipeline", _edit, _masked, **_SMALL),
    assembled(
        "QwenImageLayeredPipeline",
        _layered,
        lambda: _sizeless(_true_cfg(image=picture().convert("RGBA"), layers=2)),
        **_SMALL,
    ),
    assembled("QwenImageControlNetPipeline", _controlnet, lambda: _true_cfg(control_image=picture())),
    assembled(
        "QwenImageControlNetInpaintPipeline",
        partial(_controlnet, 4),
        lambda: _true_cfg(control_image=picture(), control_mask=picture(seed=5).convert("L")),
    ),
    assembled("QwenImage21Pipeline", _qwen21, partial(_call, true_cfg_scale=2.0)),
    assembled("Krea2Pipeline", _krea, partial(_guided, max_sequence_length=16)),
    assembled("NucleusMoEImagePipeline", _nucleus, partial(_guided, max_sequence_length=16, return_index=-1)),
    assembled("OvisImagePipeline", _ovis, partial(_guided, max_sequence_length=16)),
    assembled("LongCatImagePipeline", _longcat, partial(_guided, enable_prompt_rewrite=False)),
    assembled("LongCatImageEditPipeline", _longcat, lambda: _sizeless(_guided(image=picture())), **_SMALL),
    assembled(
        "JoyImageEditPipeline",
        partial(_joy, "JoyImageEditTransformer3DModel"),
        lambda: _guided(image=picture()),
        partial(_joy_small, name="vae_image_processor"),
        note="a size of 32 x 32 px is added to those it knows",
    ),
    assembled(
        "JoyImageEditPlusPipeline",
        partial(_joy, "JoyImageEditPlusTransformer3DModel"),
        lambda: _guided(images=[picture(), picture(seed=4)]),
        partial(_joy_small, name="image_processor"),
        several=False,
        note="a size of 32 x 32 px is added to those it knows",
    ),
    assembled("DreamLitePipeline", _dreamlite, _dreamlite_call),
    assembled("DreamLiteMobilePipeline", _dreamlite, _dreamlite_mobile_call),
    assembled("Ideogram4Pipeline", _ideogram, _ideogram_call),
)
NOT_BUILT: dict[str, str] = {}
