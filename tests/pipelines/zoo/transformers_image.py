"""Transformers that make images from text: PixArt, Sana, Lumina, AuraFlow, CogView, Hunyuan DiT, HiDream, OmniGen."""

from functools import partial
from typing import Any

import diffusers

from .parts_transformers import (
    assembled,
    bert,
    clip_text_projected,
    gemma,
    gemma2,
    glm,
    llama,
    t5,
    umt5,
)
from .parts_transformers_tokens import (
    bert_tokenizer,
    clip_tokenizer,
    gemma_tokenizer,
    llama_tokenizer,
    t5_tokenizer,
)
from .parts_transformers_vae import dc, dpm, flow, kl
from .specimen import generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]


def _call(**more: Any) -> dict[str, Any]:
    return {
        "prompt": "a red fox",
        "negative_prompt": "",
        "height": 32,
        "width": 32,
        "num_inference_steps": 2,
        "guidance_scale": 5.0,
        "generator": generator(),
        **more,
    }


def _short(**more: Any) -> dict[str, Any]:
    return _call(max_sequence_length=16, **more)


def _pixart(scheduler: Any = dpm, **more: Any) -> dict[str, Any]:
    return {
        "scheduler": scheduler(),
        "vae": kl(),
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
        "transformer": diffusers.PixArtTransformer2DModel(
            sample_size=16,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_channels=16,
            in_channels=4,
            cross_attention_dim=16,
            out_channels=8,
        ),
        **more,
    }


def _sana(scheduler: Any = flow, layers: int = 1, guidance: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "scheduler": scheduler(),
        "vae": dc(),
        "text_encoder": gemma2(),
        "tokenizer": gemma_tokenizer(),
        "transformer": diffusers.SanaTransformer2DModel(
            **_SANA,
            num_layers=layers,
            guidance_embeds=guidance,
            qk_norm="rms_norm_across_heads" if guidance else None,
        ),
        **more,
    }


_SANA = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 8,
    "cross_attention_dim": 16,
    "caption_channels": 16,
    "sample_size": 16,
}


def _sana_call(**more: Any) -> dict[str, Any]:
    return _short(use_resolution_binning=False, complex_human_instruction=None, **more)


def _sprint() -> dict[str, Any]:
    return _sana(diffusers.SCMScheduler, guidance=True)


def _sprint_call(**more: Any) -> dict[str, Any]:
    said = _sana_call(**more)
    del said["negative_prompt"]
    return said


def _sana_controlnet() -> dict[str, Any]:
    net = diffusers.SanaControlNetModel(**_SANA, num_layers=1)
    for block in (net.input_block, *net.controlnet_blocks):
        block.reset_parameters()  # they start at zero, and a control that does nothing shows nothing
    return _sana(layers=2, controlnet=net)


def _lumina() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(levels=4),
        "text_encoder": gemma(),
        "tokenizer": gemma_tokenizer(),
        "transformer": diffusers.LuminaNextDiT2DModel(
            sample_size=16,
            in_channels=4,
            hidden_size=16,
            num_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            cross_attention_dim=16,
        ),
    }


def _lumina2() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(levels=4),
        "text_encoder": gemma2(),
        "tokenizer": gemma_tokenizer(length=256),
        "transformer": diffusers.Lumina2Transformer2DModel(
            sample_size=16,
            in_channels=4,
            hidden_size=16,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            axes_dim_rope=(4, 2, 2),
            cap_feat_dim=16,
        ),
    }


def _aura() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(),
        "text_encoder": umt5(),
        "tokenizer": t5_tokenizer(),
        "transformer": diffusers.AuraFlowTransformer2DModel(
            sample_size=16,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            caption_projection_dim=16,
            pos_embed_max_size=256,
        ),
    }


_COGVIEW = {
    "patch_size": 2,
    "out_channels": 4,
    "num_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "text_embed_dim": 16,
    "time_embed_dim": 8,
    "condition_dim": 4,
    "pos_embed_max_size": 16,
    "sample_size": 16,
}


def _cogview3() -> dict[str, Any]:
    return {
        "scheduler": diffusers.CogVideoXDPMScheduler(),
        "vae": kl(),
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
        "transformer": diffusers.CogView3PlusTransformer2DModel(in_channels=4, **_COGVIEW),
    }


def _cogview4(in_channels: int = 4) -> dict[str, Any]:
    return {
        "scheduler": flow(base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True),
        "vae": kl(),
        "text_encoder": glm(),
        "tokenizer": llama_tokenizer(),
        "transformer": diffusers.CogView4Transformer2DModel(
            in_channels=in_channels, rope_axes_dim=(16, 16), **_COGVIEW
        ),
    }


_HUNYUAN = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 4,
    "patch_size": 2,
    "sample_size": 16,
    "hidden_size": 16,
    "cross_attention_dim": 16,
    "cross_attention_dim_t5": 16,
    "pooled_projection_dim": 16,
}


def _hunyuandit(**more: Any) -> dict[str, Any]:
    return {
        "scheduler": diffusers.DDPMScheduler(),
        "vae": kl(levels=4),
        "text_encoder": bert(),
        "tokenizer": bert_tokenizer(),
        "text_encoder_2": t5(),
        "tokenizer_2": t5_tokenizer(256),
        "transformer": diffusers.HunyuanDiT2DModel(num_layers=2, **_HUNYUAN),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
        **more,
    }


def _hunyuandit_controlnet() -> dict[str, Any]:
    net = diffusers.HunyuanDiT2DControlNetModel(transformer_num_layers=2, **_HUNYUAN)
    for block in net.controlnet_blocks:
        block.reset_parameters()  # they start at zero, and a control that does nothing shows nothing
    return _hunyuandit(controlnet=net)


def _hidream() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(),
        "text_encoder": clip_text_projected(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": clip_text_projected(),
        "tokenizer_2": clip_tokenizer(),
        "text_encoder_3": t5(),
        "tokenizer_3": t5_tokenizer(),
        "text_encoder_4": llama(kind="LlamaForCausalLM"),
        "tokenizer_4": llama_tokenizer(),
        "transformer": diffusers.HiDreamImageTransformer2DModel(
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_channels=[16, 16],
            text_emb_dim=32,
            axes_dims_rope=(4, 2, 2),
            max_resolution=(32, 32),
            llama_layers=(0, 1),
        ),
    }


def _omnigen() -> dict[str, Any]:
    return {
        "scheduler": flow(invert_sigmas=True, num_train_timesteps=1),
        "vae": kl(levels=4),
        "tokenizer": llama_tokenizer(),
        "transformer": diffusers.OmniGenTransformer2DModel(
            hidden_size=16,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=16,
            num_layers=1,
            time_step_dim=4,
            pad_token_id=3,
            vocab_size=400,
            rope_scaling={"long_factor": [1, 2, 3, 4], "short_factor": [1, 2, 3, 4]},
        ),
    }


def _omnigen_call() -> dict[str, Any]:
    said = _call()
    del said["negative_prompt"]
    return said


_BINS = {"use_resolution_binning": False}
SPECIMENS = (
    assembled("PixArtAlphaPipeline", _pixart, lambda: _short(**_BINS)),
    assembled("PixArtSigmaPipeline", _pixart, lambda: _short(**_BINS)),
    assembled(
        "PixArtSigmaPAGPipeline",
        partial(_pixart, pag_applied_layers=["blocks.1"]),
        lambda: _short(pag_scale=3.0, **_BINS),
    ),
    assembled("SanaPipeline", _sana, _sana_call),
    assembled(
        "SanaPAGPipeline",
        partial(_sana, layers=2, pag_applied_layers=["transformer_blocks.0"]),
        lambda: _sana_call(pag_scale=3.0),
    ),
    assembled("SanaControlNetPipeline", _sana_controlnet, lambda: _sana_call(control_image=picture())),
    assembled("SanaSprintPipeline", _sprint, _sprint_call),
    assembled("SanaSprintImg2ImgPipeline", _sprint, lambda: _sprint_call(image=picture(), strength=0.9)),
    assembled("LuminaPipeline", _lumina, _short),
    assembled("Lumina2Pipeline", _lumina2, partial(_short, system_prompt="draw")),
    assembled("AuraFlowPipeline", _aura, _short),
    assembled("CogView3PlusPipeline", _cogview3, _short),
    assembled("CogView4Pipeline", _cogview4, _short),
    assembled("CogView4ControlPipeline", partial(_cogview4, 8), lambda: _short(control_image=picture())),
    assembled("HunyuanDiTPipeline", _hunyuandit, lambda: _call(**_BINS)),
    assembled(
        "HunyuanDiTPAGPipeline",
        partial(_hunyuandit, pag_applied_layers=["blocks.1"]),
        lambda: _call(pag_scale=3.0, **_BINS),
    ),
    assembled("HunyuanDiTControlNetPipeline", _hunyuandit_controlnet, lambda: _call(control_image=picture(), **_BINS)),
    assembled("HiDreamImagePipeline", _hidream, _short, after=lambda pipe: setattr(pipe, "default_sample_size", 16)),
    assembled("OmniGenPipeline", _omnigen, _omnigen_call),
)
NOT_BUILT: dict[str, str] = {}
