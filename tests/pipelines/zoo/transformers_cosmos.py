"""Cosmos, one to three: films and images of a world model."""

from functools import partial
from typing import Any

import diffusers
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config

from .parts_transformers import (
    assembled,
    qwen25_vl,
    t5,
)
from .parts_transformers_tokens import (
    qwen2_tokenizer,
    t5_tokenizer,
)
from .parts_transformers_vae import flow, unipc_flow, wan_vae
from .specimen import generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]

_UNCHECKED = "its own safety checker, a package of its own, is replaced by one that passes everything"


class _PassesEverything(diffusers.ModelMixin, ConfigMixin):
    """In place of the checker that the classes ask for; it is not in diffusers and has gigabytes of weights."""

    @register_to_config
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


_DEEP = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 1,
    "mlp_ratio": 1,
    "text_embed_dim": 16,
    "adaln_lora_dim": 4,
    "max_size": (4, 32, 32),
}


def _cosmos1(seeing: bool = False) -> dict[str, Any]:
    return {
        "scheduler": diffusers.EDMEulerScheduler(
            sigma_min=0.002, sigma_max=80, sigma_data=0.5, final_sigmas_type="sigma_min"
        ),
        "vae": diffusers.AutoencoderKLCosmos(
            latent_channels=4,
            encoder_block_out_channels=(8, 8, 8, 8),
            decode_block_out_channels=(8, 8, 8, 8),
            attention_resolutions=(8,),
            resolution=64,
            num_layers=1,
        ),
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
        "safety_checker": _PassesEverything(),
        "transformer": diffusers.CosmosTransformer3DModel(in_channels=5 if seeing else 4, out_channels=4, **_DEEP),
    }


def _cosmos2(seeing: bool = False) -> dict[str, Any]:
    return {
        "scheduler": flow(use_karras_sigmas=True),
        "vae": wan_vae(),
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
        "safety_checker": _PassesEverything(),
        "transformer": diffusers.CosmosTransformer3DModel(
            in_channels=17 if seeing else 16, out_channels=16, extra_pos_embed_type=None, **_DEEP
        ),
    }


_CROSS = {"use_crossattn_projection": True, "encoder_hidden_states_channels": 16}


def _cosmos25(**more: Any) -> dict[str, Any]:
    return {
        "scheduler": unipc_flow(),
        "vae": wan_vae(),
        "text_encoder": qwen25_vl(),
        "tokenizer": qwen2_tokenizer(),
        "safety_checker": _PassesEverything(),
        "transformer": diffusers.CosmosTransformer3DModel(
            in_channels=17,
            out_channels=16,
            **{**_DEEP, "text_embed_dim": 32},  # two layers of the text encoder, side by side
            **more,
        ),
    }


def _transfer() -> dict[str, Any]:
    seen = {"img_context_dim_in": 16, "img_context_dim_out": 32}
    said = {name: value for name, value in _DEEP.items() if name != "num_layers"}
    net = diffusers.CosmosControlNetModel(
        n_controlnet_blocks=1,
        in_channels=18,
        latent_channels=18,
        model_channels=32,
        extra_pos_embed_type="learnable",
        **{**said, "text_embed_dim": 32},
        **seen,
    )
    return {
        **_cosmos25(controlnet_block_every_n=1, img_context_num_tokens=4, **seen),
        "controlnet": net,
    }


def _cosmos3() -> dict[str, Any]:
    return {
        "transformer": diffusers.Cosmos3OmniTransformer(
            head_dim=6,
            hidden_act="relu2",
            hidden_size=6,
            intermediate_size=12,
            latent_channel=16,
            latent_patch_size=1,
            num_attention_heads=1,
            num_hidden_layers=1,
            num_key_value_heads=1,
            patch_latent_dim=16,
            qk_norm_for_text=False,
            rope_axes_dim=[1, 1, 1],
            vocab_size=400,
        ),
        "text_tokenizer": qwen2_tokenizer(),
        "vae": wan_vae(),
        "scheduler": diffusers.UniPCMultistepScheduler(),
        "sound_tokenizer": None,
        "safety_checker": None,
        "enable_safety_checker": False,
    }


def _call(**more: Any) -> dict[str, Any]:
    return {
        "prompt": "a red fox",
        "negative_prompt": "grey",
        "height": 32,
        "width": 32,
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "max_sequence_length": 16,
        "generator": generator(),
        **more,
    }


def _film_call(**more: Any) -> dict[str, Any]:
    return _call(num_frames=9, **more)


def _cosmos3_call() -> dict[str, Any]:
    said = _call(num_frames=5, use_system_prompt=False, add_resolution_template=False, add_duration_template=False)
    del said["max_sequence_length"]
    return said


def _controls() -> list[Any]:
    return [picture(seed=seed) for seed in range(5)]


_film_of = partial(assembled, returns="frames", note=_UNCHECKED)
SPECIMENS = (
    _film_of("CosmosTextToWorldPipeline", _cosmos1, _film_call),
    _film_of("CosmosVideoToWorldPipeline", partial(_cosmos1, True), lambda: _film_call(image=picture())),
    assembled("Cosmos2TextToImagePipeline", _cosmos2, _call, note=_UNCHECKED),
    _film_of("Cosmos2VideoToWorldPipeline", partial(_cosmos2, True), lambda: _film_call(image=picture())),
    _film_of("Cosmos2_5_PredictBasePipeline", _cosmos25, partial(_call, num_frames=5)),
    _film_of(
        "Cosmos2_5_TransferPipeline",
        _transfer,
        lambda: _call(controls=_controls(), num_frames=5, num_frames_per_chunk=5),
    ),
    assembled("Cosmos3OmniPipeline", _cosmos3, _cosmos3_call, returns="frames", several=False),
)
NOT_BUILT: dict[str, str] = {}
