"""Hunyuan Video, and the films of Kandinsky 5."""

from functools import partial
from typing import Any

import diffusers

from .parts_transformers import (
    assembled,
    clip_image_processor,
    clip_text,
    llama,
    llava,
    qwen2_vl_text,
    qwen25_vl,
    siglip,
    siglip_processor,
    t5,
)
from .parts_transformers_tokens import (
    byt5_tokenizer,
    clip_tokenizer,
    llama_tokenizer,
    qwen2_tokenizer,
    qwen2_vl_processor,
)
from .parts_transformers_vae import flow, hunyuan_video_vae
from .specimen import generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]


def _call(**more: Any) -> dict[str, Any]:
    return {
        "prompt": "a red fox",
        "negative_prompt": "grey",
        "height": 32,
        "width": 32,
        "num_frames": 5,
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "max_sequence_length": 16,
        "generator": generator(),
        **more,
    }


def _without(said: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name not in names}


_HUNYUAN = {
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 10,
    "num_layers": 1,
    "num_single_layers": 1,
    "num_refiner_layers": 1,
    "patch_size": 1,
    "text_embed_dim": 16,
    "pooled_projection_dim": 16,
    "rope_axes_dim": (2, 4, 4),
}


def _hunyuan(in_channels: int = 4, kind: str = "", **said: Any) -> dict[str, Any]:
    model = getattr(diffusers, f"HunyuanVideo{kind}Transformer3DModel")
    return {
        "scheduler": flow(shift=7.0),
        "vae": hunyuan_video_vae(),
        "text_encoder": llama(),
        "tokenizer": llama_tokenizer(256),
        "text_encoder_2": clip_text(),
        "tokenizer_2": clip_tokenizer(),
        "transformer": model(in_channels=in_channels, **{**_HUNYUAN, **said}),
    }


def _hunyuan_i2v() -> dict[str, Any]:
    parts = _hunyuan(9, guidance_embeds=False, image_condition_type="latent_concat")
    return {**parts, "text_encoder": llava(), "image_processor": clip_image_processor()}


def _framepack() -> dict[str, Any]:
    parts = _hunyuan(kind="Framepack", patch_size=2, has_image_proj=True, image_proj_dim=16, has_clean_x_embedder=True)
    return {**parts, "image_encoder": siglip(), "feature_extractor": siglip_processor()}


_TEMPLATE = {"template": "{}", "crop_start": 0}


def _hunyuan_call(**more: Any) -> dict[str, Any]:
    return _without(_call(prompt_template=_TEMPLATE, **more), "negative_prompt")


def _hunyuan_i2v_call() -> dict[str, Any]:
    template = "<|end_header_id|><image>{}<|end_header_id|>abcd<|end_header_id|>"
    places = {"crop_start": 3, "image_emb_len": 4, "image_emb_start": 2, "image_emb_end": 6}  # of its letters
    return _call(image=picture(), prompt_template={"template": template, **places}) | {
        "max_sequence_length": 32,
        "num_frames": 9,
    }


def _hunyuan15(image: bool = False) -> dict[str, Any]:
    parts = {
        "scheduler": flow(shift=7.0),
        "vae": diffusers.AutoencoderKLHunyuanVideo15(
            latent_channels=4, block_out_channels=(16, 16, 16, 16, 16), layers_per_block=1
        ),
        "text_encoder": qwen2_vl_text(),
        "tokenizer": qwen2_tokenizer(),
        "text_encoder_2": t5(),
        "tokenizer_2": byt5_tokenizer(),
        "guider": diffusers.ClassifierFreeGuidance(guidance_scale=2.0),
        "transformer": diffusers.HunyuanVideo15Transformer3DModel(
            in_channels=9,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=1,
            num_refiner_layers=1,
            text_embed_dim=16,
            text_embed_2_dim=16,
            image_embed_dim=16,
            rope_axes_dim=(2, 2, 4),
            target_size=32,
            task_type="i2v" if image else "t2v",
        ),
    }
    return {**parts, "image_encoder": siglip(), "feature_extractor": siglip_processor()} if image else parts


def _kandinsky5(seeing: bool = False) -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": hunyuan_video_vae(),
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
            visual_cond=seeing,
        ),
    }


_film_of = partial(assembled, returns="frames")
SPECIMENS = (
    _film_of("HunyuanVideoPipeline", _hunyuan, _hunyuan_call),
    _film_of("HunyuanVideoImageToVideoPipeline", _hunyuan_i2v, _hunyuan_i2v_call),
    _film_of("HunyuanSkyreelsImageToVideoPipeline", partial(_hunyuan, 8), lambda: _hunyuan_call(image=picture())),
    _film_of(
        "HunyuanVideoFramepackPipeline",
        _framepack,
        lambda: _hunyuan_call(image=picture(64), latent_window_size=2) | {"height": 64, "width": 64},
    ),
    _film_of("HunyuanVideo15Pipeline", _hunyuan15, lambda: _without(_call(), "guidance_scale", "max_sequence_length")),
    _film_of(
        "HunyuanVideo15ImageToVideoPipeline",
        partial(_hunyuan15, True),
        lambda: _without(_call(image=picture()), "guidance_scale", "max_sequence_length", "height", "width"),
    ),
    _film_of("Kandinsky5T2VPipeline", _kandinsky5, _call),
    _film_of("Kandinsky5I2VPipeline", partial(_kandinsky5, True), lambda: _call(image=picture()) | {"num_frames": 17}),
)
NOT_BUILT: dict[str, str] = {}
