"""Image transformers of families of one or two: Bria, Hunyuan Image, GLM-Image, PRX, ERNIE-Image, Flux 2."""

from functools import partial
from typing import Any

import diffusers
import torch

from .parts_transformers import (
    assembled,
    mistral3,
    qwen3,
    qwen3_vl,
    qwen25_vl,
    smollm3,
    t5,
    t5gemma,
)
from .parts_transformers_tokens import (
    byt5_tokenizer,
    gemma_tokenizer,
    llama_tokenizer,
    pixtral_processor,
    qwen2_tokenizer,
    qwen3_vl_processor,
    t5_tokenizer,
)
from .parts_transformers_vae import dc, flow, flux2_vae, kl, wan22_vae
from .specimen import generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]


def _call(**more: Any) -> dict[str, Any]:
    return {
        "prompt": "a red fox",
        "height": 32,
        "width": 32,
        "num_inference_steps": 2,
        "generator": generator(),
        **more,
    }


def _guided(**more: Any) -> dict[str, Any]:
    return _call(negative_prompt="grey", guidance_scale=3.0, **more)


_BRIA = {
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "axes_dims_rope": [0, 4, 4],
}


def _bria() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(shift_factor=None),
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
        "transformer": diffusers.BriaTransformer2DModel(in_channels=16, joint_attention_dim=16, **_BRIA),
        "image_encoder": None,
        "feature_extractor": None,
    }


def _fibo() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": wan22_vae(),
        "text_encoder": smollm3(),
        "tokenizer": llama_tokenizer(3000),
        "transformer": diffusers.BriaFiboTransformer2DModel(
            in_channels=16, joint_attention_dim=32, text_encoder_dim=16, **_BRIA
        ),
    }


def _fibo2() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": flux2_vae(),
        "text_encoder": qwen3_vl(layers=36),
        "processor": qwen3_vl_processor(),
        "transformer": diffusers.BriaFibo2Transformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            cap_feat_dim=48,
            injection_layer_ids=(1,),
            perceiver_num_layers=1,
            min_num_gist_tokens=4,
            max_num_gist_tokens=8,
            gist_step=4,
            gist_min_text_len=4,
            gist_max_text_len=16,
            axes_dims=(4, 6, 6),
            axes_lens=(64, 32, 32),
        ),
    }


def _hunyuan_transformer(**said: Any) -> Any:
    return diffusers.HunyuanImageTransformer2DModel(
        **{
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": 1,
            "num_single_layers": 1,
            "num_refiner_layers": 1,
            "text_embed_dim": 16,
            **said,
        }
    )


def _hunyuan() -> dict[str, Any]:
    return {
        "scheduler": flow(shift=7.0),
        "vae": diffusers.AutoencoderKLHunyuanImage(
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            block_out_channels=(32, 32, 32, 32),
            layers_per_block=1,
            spatial_compression_ratio=8,
            sample_size=32,
            scaling_factor=0.476986,
        ),
        "text_encoder": qwen25_vl(),
        "tokenizer": qwen2_tokenizer(),
        "text_encoder_2": t5(),
        "tokenizer_2": byt5_tokenizer(),
        "transformer": _hunyuan_transformer(in_channels=4, text_embed_2_dim=16, rope_axes_dim=(4, 4)),
        "guider": diffusers.AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=2),
        "ocr_guider": diffusers.AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=3),
    }


def _refiner() -> dict[str, Any]:
    return {
        "scheduler": flow(shift=7.0),
        "vae": diffusers.AutoencoderKLHunyuanImageRefiner(
            latent_channels=4,
            block_out_channels=(16, 16, 16, 16, 16),
            layers_per_block=1,
            spatial_compression_ratio=16,
            temporal_compression_ratio=4,
        ),
        "text_encoder": qwen25_vl(),
        "tokenizer": qwen2_tokenizer(),
        "transformer": _hunyuan_transformer(
            in_channels=16, out_channels=8, patch_size=(1, 1, 1), rope_axes_dim=(4, 2, 2), guidance_embeds=True
        ),
        "guider": diffusers.AdaptiveProjectedMixGuidance(),
    }


def _glm() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(levels=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4),
        "text_encoder": t5(),
        "tokenizer": byt5_tokenizer(),
        "processor": None,
        "vision_language_encoder": None,
        "transformer": diffusers.GlmImageTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            text_embed_dim=16,
            time_embed_dim=8,
            condition_dim=4,
            prior_vq_quantizer_codebook_size=16,
        ),
    }


def _glm_call() -> dict[str, Any]:
    prior = torch.randint(0, 16, (1, 4), generator=generator())  # 32 x 32 px in patches of 16
    return _call(guidance_scale=1.5, max_sequence_length=16, prior_token_ids=prior)


def _prx_transformer(**said: Any) -> Any:
    return diffusers.PRXTransformer2DModel(
        context_in_dim=16, hidden_size=16, mlp_ratio=2.0, num_heads=2, depth=1, axes_dim=[4, 4], **said
    )


def _prx() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": dc(),
        "text_encoder": t5gemma(),
        "tokenizer": gemma_tokenizer(),
        "transformer": _prx_transformer(in_channels=4, patch_size=1),
    }


def _prx_pixel() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "text_encoder": qwen3(),
        "tokenizer": qwen2_tokenizer(),
        "transformer": _prx_transformer(in_channels=3, patch_size=4, bottleneck_size=8, resolution_embeds=True),
    }


def _ernie() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": flux2_vae(),
        "text_encoder": mistral3(kind="Mistral3Model"),
        "tokenizer": qwen2_tokenizer(),
        "transformer": diffusers.ErnieImageTransformer2DModel(
            hidden_size=16,
            num_attention_heads=2,
            num_layers=1,
            ffn_hidden_size=16,
            in_channels=16,
            out_channels=16,
            text_in_dim=16,
            rope_axes_dim=(4, 2, 2),
        ),
    }


def _flux2() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": flux2_vae(),
        "text_encoder": mistral3(),
        "tokenizer": pixtral_processor(),
        "transformer": diffusers.Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
        ),
    }


SPECIMENS = (
    assembled("BriaPipeline", _bria, partial(_guided, max_sequence_length=16)),
    assembled("BriaFiboPipeline", _fibo, partial(_guided, max_sequence_length=64)),
    assembled(
        "BriaFiboEditPipeline",
        _fibo,
        lambda: _guided(
            **{"prompt": '{"edit_instruction": "make it blue"}', "image": picture(), "_auto_resize": False}
        ),
    ),
    assembled("BriaFibo2Pipeline", _fibo2, lambda: _guided(**{"prompt": '{"short_description": "a red fox"}'})),
    assembled("HunyuanImagePipeline", _hunyuan, partial(_call, negative_prompt="grey")),
    assembled("HunyuanImageRefinerPipeline", _refiner, lambda: _call(image=picture(), distilled_guidance_scale=3.0)),
    assembled(
        "GlmImagePipeline",
        _glm,
        _glm_call,
        several=False,
        note="without its language model: the prior tokens it would write are given",
    ),
    assembled("PRXPipeline", _prx, partial(_guided, use_resolution_binning=False)),
    assembled("PRXPixelPipeline", _prx_pixel, partial(_guided, use_resolution_binning=False)),
    assembled("ErnieImagePipeline", _ernie, partial(_guided, use_pe=False)),
    assembled("Flux2Pipeline", _flux2, partial(_call, max_sequence_length=64, text_encoder_out_layers=(1, 2, 3))),
)
NOT_BUILT: dict[str, str] = {}
