"""Wan and what shares its autoencoder: SkyReels, ChronoEdit, AnyFlow, Lucy, Helios, Motif, Sana-Video."""

from functools import partial
from typing import Any

import diffusers

from .parts_transformers import (
    assembled,
    clip_image_processor,
    clip_vision,
    clip_vision_projected,
    eager_flex,
    gemma2,
    siglip_processor,
    t5gemma2,
    umt5,
)
from .parts_transformers_tokens import (
    gemma_tokenizer,
    t5_tokenizer,
)
from .parts_transformers_vae import flow, unipc_flow, wan_vae
from .specimen import generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]

_DEEP = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 16,
    "num_layers": 1,
    "rope_max_seq_len": 32,
}
_SEES = {"in_channels": 36, "image_dim": 16, "added_kv_proj_dim": 24}  # latents, those of a picture, and its mask


def _wan(kind: str = "WanTransformer3DModel", scheduler: Any = flow, **said: Any) -> dict[str, Any]:
    return {
        "scheduler": scheduler(),
        "vae": wan_vae(),
        "text_encoder": umt5(),
        "tokenizer": t5_tokenizer(),
        "transformer": getattr(diffusers, kind)(**{**_DEEP, **said}),
    }


def _seeing(kind: str = "WanTransformer3DModel", scheduler: Any = flow, encoder: Any = clip_vision) -> dict[str, Any]:
    return {
        **_wan(kind, scheduler, **_SEES),
        "image_encoder": encoder(),
        "image_processor": clip_image_processor(),
    }


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


def _animate() -> dict[str, Any]:
    model = diffusers.WanAnimateTransformer3DModel(
        **{**_DEEP, **_SEES, "num_layers": 2},
        motion_encoder_channel_sizes={"4": 8, "8": 8, "16": 8},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=8,
        face_encoder_hidden_dim=8,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    return {**_seeing(scheduler=unipc_flow), "transformer": model}


def _animate_call() -> dict[str, Any]:
    said = _call(image=picture(), pose_video=_film(), face_video=[picture(16, seed) for seed in range(5)])
    return {**_without(said, "num_frames"), "segment_frame_length": 5}


def _vace() -> dict[str, Any]:
    return _wan("WanVACETransformer3DModel", vace_layers=[0], vace_in_channels=96)


def _flow_map(kind: str, **said: Any) -> dict[str, Any]:
    model = getattr(diffusers, kind)(**_DEEP, **said)
    return {**_wan(), "scheduler": diffusers.FlowMapEulerDiscreteScheduler(), "transformer": model}


_HELIOS = {name: value for name, value in _DEEP.items() if name != "rope_max_seq_len"}


def _helios(pyramid: bool = False) -> dict[str, Any]:
    stages = {"gamma": 0.25} if pyramid else {"stages": 1, "stage_range": [0, 1]}
    scheduler = diffusers.HeliosScheduler(**stages)
    model = diffusers.HeliosTransformer3DModel(**_HELIOS, rope_dim=(4, 4, 4))
    return {**_wan(), "scheduler": scheduler, "transformer": model}


def _helios_call(**more: Any) -> dict[str, Any]:
    return _call(num_latent_frames_per_chunk=2, history_sizes=[4, 2, 1], **more)


def _motif(image: bool = False) -> dict[str, Any]:
    return {
        "scheduler": flow(shift=7.0),
        "vae": wan_vae(),
        "text_encoder": t5gemma2(),
        "tokenizer": t5_tokenizer(),
        "feature_extractor": siglip_processor(16),
        "guider": diffusers.AdaptiveProjectedGuidance(),
        "transformer": diffusers.MotifVideoTransformer3DModel(
            in_channels=33,
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=1,
            num_single_layers=1,
            patch_size=1,
            text_embed_dim=16,
            image_embed_dim=16 if image else None,
            rope_axes_dim=(4, 4, 4),
        ),
    }


def _motif_call(**more: Any) -> dict[str, Any]:
    return _without(_call(**more), "guidance_scale")


def _sana() -> dict[str, Any]:
    return {
        "scheduler": flow(shift=8.0),
        "vae": wan_vae(),
        "text_encoder": gemma2(),
        "tokenizer": gemma_tokenizer(),
        "transformer": diffusers.SanaVideoTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            num_layers=1,
            num_cross_attention_heads=2,
            cross_attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=16,
            sample_size=4,
            rope_max_seq_len=32,
        ),
    }


def _sana_call(**more: Any) -> dict[str, Any]:
    said = _call(use_resolution_binning=False, complex_human_instruction=None, frames=5, **more)
    return _without(said, "num_frames")


_SKY = "SkyReelsV2Transformer3DModel"


def _forcing(**more: Any) -> dict[str, Any]:
    return _call(base_num_frames=5, **more)


_film_of = partial(assembled, returns="frames")
SPECIMENS = (
    _film_of("WanPipeline", _wan, _call),
    _film_of("WanImageToVideoPipeline", _seeing, lambda: _call(image=picture())),
    _film_of("WanVideoToVideoPipeline", _wan, lambda: _without(_call(video=_film(), strength=0.9), "num_frames")),
    _film_of("WanVACEPipeline", _vace, lambda: _call(video=_film(), mask=[picture(seed=5).convert("L")] * 5)),
    _film_of("WanAnimatePipeline", _animate, _animate_call),
    _film_of("LucyEditPipeline", partial(_wan, in_channels=32), lambda: _call(video=_film())),
    _film_of("ChronoEditPipeline", partial(_seeing, "ChronoEditTransformer3DModel"), lambda: _call(image=picture())),
    _film_of("AnyFlowPipeline", partial(_flow_map, "AnyFlowTransformer3DModel"), _call),
    _film_of(
        "AnyFlowFARPipeline",
        partial(_flow_map, "AnyFlowFARTransformer3DModel", chunk_partition=(1, 1)),
        _call,
        eager_flex,
    ),
    _film_of("SkyReelsV2Pipeline", partial(_wan, _SKY, unipc_flow), _call),
    _film_of(
        "SkyReelsV2ImageToVideoPipeline",
        partial(_seeing, _SKY, unipc_flow, clip_vision_projected),
        lambda: _call(image=picture()),
    ),
    _film_of("SkyReelsV2DiffusionForcingPipeline", partial(_wan, _SKY, unipc_flow), _forcing),
    _film_of(
        "SkyReelsV2DiffusionForcingImageToVideoPipeline",
        partial(_wan, _SKY, unipc_flow),
        lambda: _forcing(image=picture()),
    ),
    _film_of(
        "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
        partial(_wan, _SKY, unipc_flow),
        lambda: _call(video=_film(), base_num_frames=5, overlap_history=1) | {"num_frames": 9},
    ),
    _film_of("HeliosPipeline", _helios, _helios_call),
    _film_of(
        "HeliosPyramidPipeline",
        partial(_helios, True),
        lambda: _without(
            _helios_call(height=64, width=64, pyramid_num_inference_steps_list=[1, 1, 1]), "num_inference_steps"
        ),
    ),
    _film_of("MotifVideoPipeline", _motif, _motif_call),
    _film_of("MotifVideoImage2VideoPipeline", partial(_motif, True), lambda: _motif_call(image=picture())),
    _film_of("SanaVideoPipeline", _sana, _sana_call),
    _film_of("SanaImageToVideoPipeline", _sana, lambda: _sana_call(image=picture())),
)
NOT_BUILT: dict[str, str] = {}
