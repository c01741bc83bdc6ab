"""LTX-2, which makes films with sound, what was built on it (Sana's world model), and Kandinsky 6."""

from functools import partial
from typing import Any

import diffusers
import torch

from .parts_transformers import (
    assembled,
    clip_text,
    eager_flex,
    gemma2,
    gemma3,
    qwen25_vl,
)
from .parts_transformers_tokens import (
    clip_tokenizer,
    gemma_tokenizer,
    qwen2_vl_processor,
)
from .parts_transformers_vae import flow, hunyuan_video_vae
from .specimen import generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]


def _vae(channels: int = 4) -> Any:
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=channels,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        patch_size=1,
        decoder_causal=False,
    )
    vae.use_framewise_encoding = False
    vae.use_framewise_decoding = False
    return vae


_WIDTHS = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
    "audio_in_channels": 4,
    "audio_out_channels": 4,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 4,
    "audio_cross_attention_dim": 8,
    "num_layers": 1,
    "caption_channels": 16,
    "rope_double_precision": False,
    "rope_type": "split",
}


def _transformer(**said: Any) -> Any:
    return diffusers.LTX2VideoTransformer3DModel(**_WIDTHS, **said)


def _sound() -> dict[str, Any]:
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    return {
        "audio_vae": diffusers.AutoencoderKLLTX2Audio(
            base_channels=4, ch_mult=(1,), num_res_blocks=1, resolution=32, latent_channels=2, mel_bins=8
        ),
        "vocoder": LTX2Vocoder(
            in_channels=16,
            hidden_channels=8,
            upsample_kernel_sizes=[4, 4],
            upsample_factors=[2, 2],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1, 3, 5]],
            output_sampling_rate=16000,
        ),
    }


def _ltx2(**more: Any) -> dict[str, Any]:
    from diffusers.pipelines.ltx2 import LTX2TextConnectors

    heads = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "num_learnable_registers": None}
    return {
        "scheduler": flow(),
        "vae": _vae(),
        "text_encoder": gemma3(),
        "tokenizer": gemma_tokenizer(),
        "connectors": LTX2TextConnectors(
            caption_channels=16,
            text_proj_in_factor=3,  # the layers of the text encoder and its embedding
            **{f"{stream}_connector_{name}": value for stream in ("video", "audio") for name, value in heads.items()},
            connector_rope_base_seq_len=32,
            rope_double_precision=False,
            rope_type="split",
        ),
        "transformer": _transformer(),
        **_sound(),
        **more,
    }


def _keyed(**more: Any) -> dict[str, Any]:
    """With the transformer that knows keyframes."""
    model = _transformer(vae_scale_factors=(2, 2, 2), use_keyframes_abs_pos_embedding=True)
    torch.nn.init.normal_(model.keyframes_abs_pos_embedding, std=0.1)  # it starts at zero and would do nothing
    return _ltx2(transformer=model, **more)


def _upsampler(**said: Any) -> Any:
    from diffusers.pipelines.ltx2 import LTX2LatentUpsamplerModel

    return LTX2LatentUpsamplerModel(in_channels=4, mid_channels=32, num_blocks_per_stage=1, **said)


def _refine() -> dict[str, Any]:
    return _keyed(
        scheduler=diffusers.LTXEulerAncestralRFScheduler(eta=0.5),
        temporal_latent_upsampler=_upsampler(spatial_upsample=False, temporal_upsample=True),
    )


def _call(**more: Any) -> dict[str, Any]:
    return {
        "prompt": "a red fox",
        "negative_prompt": "",
        "height": 32,
        "width": 32,
        "num_frames": 5,
        "frame_rate": 25.0,
        "num_inference_steps": 2,
        "guidance_scale": 2.0,
        "max_sequence_length": 16,
        "generator": generator(),
        **more,
    }


def _plain(**more: Any) -> dict[str, Any]:
    """Without the guidance that skips blocks by their number: the transformer has one block."""
    return _call(
        stg_scale=0.0, audio_stg_scale=0.0, spatio_temporal_guidance_blocks=None, use_cross_timestep=False, **more
    )


def _stage(**more: Any) -> dict[str, Any]:
    said = _call(sigmas=[1.0, 0.5], use_cross_timestep=False, **more)
    return {
        name: value
        for name, value in said.items()
        if name not in ("num_inference_steps", "negative_prompt", "guidance_scale")
    } | {"num_frames": 9}


def _refine_call() -> dict[str, Any]:
    seeded = generator(1)
    return _stage(
        latents=torch.randn(1, 4, 5, 16, 16, generator=seeded),
        keyframes_latents=torch.randn(1, 4, 1, 16, 16, generator=seeded),
        keyframe_positions=[8],
        audio_latents=torch.randn(1, 2, 8, 2, generator=seeded),
    ) | {"sigmas": [0.75, 0.25]}


def _condition(kind: str, **more: Any) -> Any:
    from diffusers.pipelines import ltx2

    pixels = torch.rand(1, 3, 32, 32, generator=generator())
    return getattr(ltx2, kind)(frames=pixels, strength=1.0, **more)


def _decode() -> dict[str, Any]:
    return {
        "diffusion_decoder": diffusers.LTX2VideoDiffusionDecoderModel(
            latent_channels=4,
            patch_size=2,
            decoder_head_dim=8,
            decoder_stage_channels=(32, 16, 8, 8, 8),
            decoder_stage_depths=(1, 1, 1, 1, 1),
            decoder_stage_kernels=((3, 3, 3),) * 4,
            decoder_upsample_channel_reductions=(2, 2, 1, 1),
            decoder_stage5_kernel=(3, 3, 3),
            decoder_t_emb_dim=16,
            spatial_compression_ratio=16,
            temporal_compression_ratio=8,
        ),
        "scheduler": flow(),
    }


def _kandinsky6() -> dict[str, Any]:
    return {
        "scheduler": flow(shift=7.0),
        "vae": hunyuan_video_vae(),
        "text_encoder": qwen25_vl(),
        "tokenizer": qwen2_vl_processor(),
        "text_encoder_2": clip_text(),
        "tokenizer_2": clip_tokenizer(),
        "audio_vae": diffusers.MMAudioVAE(
            mel_bins=8,
            latent_channels=4,
            hidden_channels=8,
            channel_multipliers=(1, 2),
            layers_per_block=1,
            sample_rate=64,
            n_fft=16,
            hop_length=4,
        ),
        "vocoder": diffusers.MMAudioVocoder(
            num_mels=8,
            upsample_initial_channel=8,
            upsample_rates=(2, 2),
            upsample_kernel_sizes=(4, 4),
            resblock_kernel_sizes=(3,),
            resblock_dilation_sizes=((1, 3),),
        ),
        "transformer": diffusers.Kandinsky6Transformer3DModel(
            in_visual_dim=4,
            out_visual_dim=4,
            in_text_dim=16,
            in_text_dim2=16,
            time_dim=16,
            model_dim=16,
            ff_dim=16,
            num_text_blocks=1,
            num_visual_blocks=1,
            axes_dims=(4, 2, 2),
            in_audio_dim=4,
            out_audio_dim=4,
            visual_token_type_num_embeddings=2,
        ),
    }


def _kandinsky6_call() -> dict[str, Any]:
    said = _call()
    del said["frame_rate"]
    return said


def _sharper() -> dict[str, Any]:
    return {
        "scheduler": flow(shift=3.5),
        "vae": diffusers.Kandinsky6SRVAE(
            latent_channels=4,
            encoder_block_out_channels=(4, 8, 8),
            decoder_block_out_channels=(4, 8, 8),
            layers_per_block=1,
            temporal_compression_start_level=0,
        ),
        "latent_upscaler": diffusers.Kandinsky6SRLatentUpscalerBank(
            in_channels=4,
            stage_channels=(8, 8, 4),
            num_pre_blocks=1,
            num_mid_blocks=1,
            num_post_blocks=1,
            num_x2_adapter_blocks=1,
            scales=(2, 4),
        ),
        "transformer": diffusers.Kandinsky6SRTransformer3DModel(
            in_visual_dim=4,
            out_visual_dim=4,
            time_dim=16,
            model_dim=24,
            ff_dim=32,
            num_visual_blocks=1,
            axes_dims=(4, 4, 4),
            tile_sizes=((32, 32), (32, 64), (64, 32)),
        ),
    }


def _sharper_call() -> dict[str, Any]:
    return {
        "video": torch.rand(5, 3, 16, 16, generator=generator()),
        "resolution_scale": 2,
        "num_inference_steps": 2,
        "min_overlap": 0.2,
        "generator": generator(),
    }


def _sana_world() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": _vae(),
        "text_encoder": gemma2(),
        "tokenizer": gemma_tokenizer(512),
        "transformer": diffusers.SanaWMTransformer3DModel(
            in_channels=4,
            num_layers=1,
            hidden_size=48,
            num_attention_heads=2,
            linear_head_dim=24,
            chunk_plucker_channels=12,  # six numbers of a ray, for each of the two frames of a latent
            image_size=32,
            caption_channels=16,
        ),
    }


def _sana_world_call() -> dict[str, Any]:
    return {
        "image": picture(),
        "prompt": "a red fox",
        "action": "w-4",
        "intrinsics": [32.0, 32.0, 16.0, 16.0],
        "height": 32,
        "width": 32,
        "num_frames": 5,
        "num_inference_steps": 2,
        "max_sequence_length": 16,
        "generator": generator(),
    }


def _sana_refiner() -> dict[str, Any]:
    parts = _ltx2()
    model = diffusers.SanaWMLTX2RefinerTransformer3DModel(**_WIDTHS)
    names = ("scheduler", "vae", "text_encoder", "tokenizer", "connectors")
    return {**{name: parts[name] for name in names}, "transformer": model, "text_max_sequence_length": 16}


def _sana_refiner_call() -> dict[str, Any]:
    return {
        "sana_latent": torch.randn(1, 4, 3, 8, 8, generator=generator(1)),
        "prompt": "a red fox",
        "fps": 16.0,
        "generator": generator(),
    }


_film_of = partial(assembled, returns="frames")
SPECIMENS = (
    _film_of("LTX2Pipeline", _ltx2, _plain),
    _film_of("LTX2ImageToVideoPipeline", _ltx2, lambda: _plain(image=picture(), image_crf=0)),
    _film_of(
        "LTX2ConditionPipeline", _ltx2, lambda: _plain(conditions=_condition("LTX2VideoCondition", index=0, crf=0))
    ),
    _film_of(
        "LTX2InContextPipeline", _ltx2, lambda: _call(conditions=_condition("LTX2VideoCondition", index=0, crf=0))
    ),
    _film_of("LTX2HDRPipeline", _ltx2, lambda: _call(reference_conditions=_condition("LTX2HDRReferenceCondition"))),
    _film_of("LTX2DFRPipeline", _keyed, _stage),
    _film_of("LTX2DFRTemporalRefinePipeline", _refine, _refine_call),
    _film_of(
        "LTX2LatentUpsamplePipeline",
        lambda: {"vae": _vae(), "latent_upsampler": _upsampler()},
        lambda: {
            "video": [picture(seed=seed) for seed in range(5)],
            "num_frames": 5,
            "height": 32,
            "width": 32,
            "generator": generator(),
        },
    ),
    _film_of(
        "LTX2VideoDiffusionDecodePipeline",
        _decode,
        lambda: {"latents": torch.randn(1, 4, 2, 3, 3, generator=generator(1)), "generator": generator()},
        eager_flex,
        several=False,
    ),
    _film_of("SanaWMPipeline", _sana_world, _sana_world_call, several=False),
    _film_of("SanaWMLTX2Refiner", _sana_refiner, _sana_refiner_call, several=False),
    _film_of("Kandinsky6TI2VAPipeline", _kandinsky6, _kandinsky6_call),
    _film_of("Kandinsky6SRPipeline", _sharper, _sharper_call, eager_flex),
)
NOT_BUILT: dict[str, str] = {}
