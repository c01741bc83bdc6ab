"""Flux and what was made from it: text to image, image to image, control, fill, Kontext, Flux 2, Bria, Chroma."""

from functools import partial
from typing import Any

import diffusers

from .parts_transformers import (
    assembled,
    clip_text,
    qwen3,
    t5,
)
from .parts_transformers_tokens import (
    clip_tokenizer,
    qwen2_tokenizer,
    t5_tokenizer,
)
from .parts_transformers_vae import flow, flux2_vae, kl
from .specimen import generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]

_DEEP = {
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (4, 4, 8),
}


def _flux(in_channels: int = 16, out_channels: int = 16, guidance: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(),
        "text_encoder": clip_text(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5(),
        "tokenizer_2": t5_tokenizer(),
        "transformer": diffusers.FluxTransformer2DModel(
            in_channels=in_channels, out_channels=out_channels, guidance_embeds=guidance, **_DEEP
        ),
        **more,
    }


def _control() -> dict[str, Any]:
    return _flux(in_channels=32)


def _controlnet() -> dict[str, Any]:
    net = diffusers.FluxControlNetModel(in_channels=16, guidance_embeds=True, **_DEEP)
    for block in (*net.controlnet_blocks, *net.controlnet_single_blocks):
        block.reset_parameters()  # they start at zero, and a control that does nothing shows nothing
    return _flux(controlnet=net)


def _call(**more: Any) -> dict[str, Any]:
    return {
        "prompt": "a red fox",
        "height": 32,
        "width": 32,
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "max_sequence_length": 16,
        "generator": generator(),
        **more,
    }


def _from_picture(**more: Any) -> dict[str, Any]:
    return _call(image=picture(), strength=0.9, **more)


def _masked(**more: Any) -> dict[str, Any]:
    return _call(image=picture(), mask_image=picture(seed=5).convert("L"), **more)


def _kontext(**more: Any) -> dict[str, Any]:
    return _call(image=picture(), max_area=32 * 32, _auto_resize=False, **more)


def _flux2_transformer(guidance: bool, width: int) -> Any:
    return diffusers.Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=width,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    )


def _klein(distilled: bool = False) -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": flux2_vae(),
        "text_encoder": qwen3(layers=3, kind="Qwen3ForCausalLM"),
        "tokenizer": qwen2_tokenizer(),
        "transformer": _flux2_transformer(guidance=False, width=48),
        "is_distilled": distilled,
    }


def _klein_call(**more: Any) -> dict[str, Any]:
    return _call(text_encoder_out_layers=(1, 2, 3), **more)


def _klein_kv_call() -> dict[str, Any]:
    said = _klein_call(image=picture(64))
    del said["guidance_scale"]
    return said


def _chroma() -> dict[str, Any]:
    return {
        "scheduler": flow(),
        "vae": kl(),
        "text_encoder": t5(),
        "tokenizer": t5_tokenizer(),
        "transformer": diffusers.ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 4, 8),
            approximator_num_channels=8,
            approximator_hidden_dim=16,
            approximator_layers=1,
        ),
    }


def _chroma_inpaint() -> dict[str, Any]:
    parts = _chroma()
    parts["transformer"].register_to_config(guidance_embeds=False)  # the pipeline reads it, the model does not have it
    return parts


def _visualcloze() -> dict[str, Any]:
    return _flux(in_channels=48, resolution=32)


def _visualcloze_call(**more: Any) -> dict[str, Any]:
    return {
        "task_prompt": "each row shows a sketch and the painting",
        "content_prompt": "a red fox",
        "image": [[picture(seed=3), picture(seed=4)], [picture(seed=5), None]],
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "max_sequence_length": 16,
        "generator": generator(),
        **more,
    }


SPECIMENS = (
    assembled("FluxPipeline", _flux, _call),
    assembled("FluxImg2ImgPipeline", _flux, _from_picture),
    assembled("FluxInpaintPipeline", _flux, partial(_masked, strength=0.9)),
    assembled("FluxControlPipeline", _control, lambda: _call(control_image=picture())),
    assembled("FluxControlImg2ImgPipeline", _control, lambda: _from_picture(control_image=picture(seed=4))),
    assembled("FluxControlInpaintPipeline", _control, lambda: _masked(control_image=picture(seed=4), strength=0.9)),
    assembled("FluxControlNetPipeline", _controlnet, lambda: _call(control_image=picture())),
    assembled("FluxControlNetImg2ImgPipeline", _controlnet, lambda: _from_picture(control_image=picture(seed=4))),
    assembled(
        "FluxControlNetInpaintPipeline", _controlnet, lambda: _masked(control_image=picture(seed=4), strength=0.9)
    ),
    assembled("FluxFillPipeline", partial(_flux, in_channels=48), _masked),
    assembled("FluxKontextPipeline", _flux, _kontext),
    assembled("FluxKontextInpaintPipeline", _flux, lambda: _kontext(mask_image=picture(seed=5).convert("L"))),
    assembled("Flux2KleinPipeline", _klein, _klein_call),
    assembled("Flux2KleinKVPipeline", partial(_klein, True), _klein_kv_call),
    assembled(
        "Flux2KleinInpaintPipeline",
        _klein,
        lambda: _klein_call(image=picture(), mask_image=picture(seed=5).convert("L"), strength=0.9),
    ),
    assembled("ChromaPipeline", _chroma, _call),
    assembled("ChromaImg2ImgPipeline", _chroma, _from_picture),
    assembled(
        "ChromaInpaintPipeline",
        _chroma_inpaint,
        partial(_masked, strength=0.9),
        note="guidance_embeds=False is written into the transformer's config, where the pipeline reads it",
    ),
    assembled(
        "VisualClozePipeline", _visualcloze, lambda: _visualcloze_call(upsampling_height=32, upsampling_width=32)
    ),
    assembled("VisualClozeGenerationPipeline", _visualcloze, _visualcloze_call),
)
NOT_BUILT = {"FluxPriorReduxPipeline": "returns embeddings"}
