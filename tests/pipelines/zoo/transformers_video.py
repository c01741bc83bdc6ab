"""Film transformers with autoencoders of their own: CogVideoX, ConsisID, LTX, Mochi, Allegro, Latte, EasyAnimate."""

from functools import partial
from typing import Any

import diffusers
import torch

from .parts_transformers import (
    assembled,
    qwen25_vl,
    t5,
)
from .parts_transformers_tokens import (
    qwen2_tokenizer,
    t5_tokenizer,
)
from .parts_transformers_vae import cogvideox_vae, flow, kl, ltx_vae
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


def _film(frames: int = 5) -> list[Any]:
    return [picture(seed=seed) for seed in range(frames)]


# --- CogVideoX ----------------------------------------------------------------------------------------------------

_COG = {
    "num_attention_heads": 4,
    "attention_head_dim": 8,
    "out_channels": 4,
    "time_embed_dim": 8,
    "text_embed_dim": 16,
    "num_layers": 1,
    "sample_width": 4,
    "sample_height": 4,
    "sample_frames": 5,
    "max_text_seq_length": 16,
}


def _cog(in_channels: int = 4) -> dict[str, Any]:
    return {
        "scheduler": diffusers.CogVideoXDDIMScheduler(),
        "vae": cogvideox_vae(),
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
        "transformer": diffusers.CogVideoXTransformer3DModel(in_channels=in_channels, **_COG),
    }


def _consisid() -> dict[str, Any]:
    model = diffusers.ConsisIDTransformer3DModel(
        in_channels=8,
        **_COG,
        is_train_face=True,
        cross_attn_interval=1,
        cross_attn_dim_head=1,
        cross_attn_num_heads=1,
        LFE_id_dim=2,
        LFE_vit_dim=2,
        LFE_depth=5,
        LFE_dim_head=8,
        LFE_num_heads=2,
        LFE_num_id_token=1,
        LFE_num_querie=1,
        LFE_output_dim=21,
        LFE_ff_mult=1,
        LFE_num_scale=1,
    )
    return {**_cog(), "transformer": model}


def _consisid_call() -> dict[str, Any]:
    return _call(image=picture(), id_vit_hidden=[torch.ones(1, 2, 2)], id_cond=torch.ones(1, 2))


# --- Latte, Allegro, Mochi, EasyAnimate ---------------------------------------------------------------------------


def _latte() -> dict[str, Any]:
    return {
        "scheduler": diffusers.DDIMScheduler(),
        "vae": kl(),
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
        "transformer": diffusers.LatteTransformer3DModel(
            sample_size=16,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_channels=16,
            in_channels=4,
            cross_attention_dim=16,
            out_channels=8,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            video_length=2,
        ),
    }


def _latte_call() -> dict[str, Any]:
    return {**_without(_call(clean_caption=False), "num_frames", "max_sequence_length"), "video_length": 2}


def _allegro() -> dict[str, Any]:
    vae = diffusers.AutoencoderKLAllegro(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2, sample_size=32
    )
    vae.enable_tiling()  # it decodes in no other way
    vae.kernel, vae.stride = (8, 32, 32), (8, 32, 32)  # frames and pixels of a tile
    return {
        "scheduler": diffusers.EulerAncestralDiscreteScheduler(),
        "vae": vae,
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
        "transformer": diffusers.AllegroTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=1,
            cross_attention_dim=24,
            sample_width=4,
            sample_height=4,
            sample_frames=2,
            caption_channels=16,
        ),
    }


def _allegro_call() -> dict[str, Any]:
    return {**_call(clean_caption=False), "num_frames": 8}


def _mochi() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": diffusers.AutoencoderKLMochi(
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
        ),
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
        "transformer": diffusers.MochiTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=1,
            pooled_projection_dim=16,
            text_embed_dim=16,
            time_embed_dim=4,
            max_sequence_length=16,
        ),
    }


def _easy(in_channels: int = 4, **transformer: Any) -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": diffusers.AutoencoderKLMagvit(
            latent_channels=4,
            block_out_channels=(4, 4, 4, 4),
            layers_per_block=1,
            norm_num_groups=2,
            spatial_group_norm=False,
        ),
        "text_encoder": qwen25_vl(),
        "tokenizer": qwen2_tokenizer(),
        "transformer": diffusers.EasyAnimateTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=in_channels,
            out_channels=4,
            patch_size=2,
            sample_width=4,
            sample_height=4,
            num_layers=1,
            mmdit_layers=1,
            time_embed_dim=8,
            text_embed_dim=16,
            **transformer,
        ),
    }


def _easy_inpaint() -> dict[str, Any]:
    parts = _easy(9)
    parts["vae"].register_to_config(cache_mag_vae=True)
    return parts


def _easy_call(**more: Any) -> dict[str, Any]:
    return _without(_call(**more), "max_sequence_length")


def _strip(frames: int = 5, channels: int = 3) -> torch.Tensor:
    """A film as a tensor: 1 x channels x frames x 32 x 32, in 0..1."""
    return torch.rand(1, channels, frames, 32, 32, generator=generator())


# --- LTX ----------------------------------------------------------------------------------------------------------


def _ltx() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": ltx_vae(),
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
        "transformer": diffusers.LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=1,
            caption_channels=16,
        ),
    }


def _ltx_upsample() -> dict[str, Any]:
    from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel

    return {
        "vae": ltx_vae(),
        "latent_upsampler": LTXLatentUpsamplerModel(in_channels=8, mid_channels=32, num_blocks_per_stage=1),
    }


def _ltx_long() -> dict[str, Any]:
    said = _call(cond_image=picture(), temporal_tile_size=16, temporal_overlap=8, output_type="pil")
    return {**said, "decode_horizontal_tiles": 1, "decode_vertical_tiles": 1, "decode_overlap": 1}


_film_of = partial(assembled, returns="frames")
SPECIMENS = (
    _film_of("CogVideoXPipeline", _cog, _call),
    _film_of("CogVideoXImageToVideoPipeline", partial(_cog, 8), lambda: _call(image=picture())),
    _film_of("CogVideoXVideoToVideoPipeline", _cog, lambda: _without(_call(video=_film(), strength=0.9), "num_frames")),
    _film_of(
        "CogVideoXFunControlPipeline",
        partial(_cog, 8),
        lambda: _without(_call(control_video=_film()), "num_frames"),
    ),
    _film_of("ConsisIDPipeline", _consisid, _consisid_call, note="the face features it is given are ones"),
    _film_of("LattePipeline", _latte, _latte_call),
    _film_of("AllegroPipeline", _allegro, _allegro_call),
    _film_of("MochiPipeline", _mochi, partial(_call, num_frames=7)),
    _film_of("EasyAnimatePipeline", _easy, _easy_call),
    _film_of(
        "EasyAnimateInpaintPipeline",
        _easy_inpaint,
        lambda: _easy_call(video=_strip(), mask_video=_strip(channels=1)),
        note="cache_mag_vae=True is written into the autoencoder's config, where the pipeline reads it",
    ),
    _film_of("LTXPipeline", _ltx, partial(_call, num_frames=9)),
    _film_of("LTXImageToVideoPipeline", _ltx, lambda: _call(image=picture(), num_frames=9)),
    _film_of("LTXConditionPipeline", _ltx, lambda: _call(image=picture(), num_frames=9)),
    _film_of("LTXI2VLongMultiPromptPipeline", _ltx, lambda: {**_ltx_long(), "num_frames": 17}),
    _film_of(
        "LTXLatentUpsamplePipeline",
        _ltx_upsample,
        lambda: {"video": _film(9), "height": 32, "width": 32, "generator": generator()},
    ),
)
NOT_BUILT = {
    "EasyAnimateControlPipeline": "cannot run in diffusers 0.42.1: it gives its own encode_prompt() an argument that "
    "function does not take (text_encoder_index)",
}
