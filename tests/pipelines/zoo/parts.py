"""Components of the UNet pipelines, as small as their classes allow, and how a pipeline is put together from them.

Tokenizers are real ones over a vocabulary of letters; text and image encoders are real ones with random weights.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import diffusers
import transformers

from .specimen import Specimen, generator

__all__ = [
    "SIDE_PX",
    "assembled",
    "clip_config",
    "clip_processor",
    "clip_text",
    "clip_vision",
    "controlnet",
    "ddim",
    "specimen",
    "unet",
    "unet_xl",
    "vae",
    "vocabulary",
    "words",
    "xl_parts",
]

SIDE_PX = 32  # of every picture that these pipelines make, unless a class cannot
_WIDTH = 8  # of text and image embeddings
_START, _END = "<|startoftext|>", "<|endoftext|>"
_CHANNELS = (4, 8)
_GROUPS = 2  # of group norms: both widths can be divided


@cache
def vocabulary() -> dict[str, int]:
    """Letters, letters that end a word, and CLIP's two special tokens."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    return {token: at for at, token in enumerate([*letters, *(f"{one}</w>" for one in letters), _START, _END])}


def words(length: int = 77) -> Any:
    """A CLIP tokenizer that spells."""
    return transformers.CLIPTokenizer(vocab=vocabulary(), merges=[], model_max_length=length)


def clip_config(width: int = _WIDTH, **given: Any) -> Any:
    """The configuration of a CLIP text encoder of one layer."""
    known = vocabulary()
    said = {
        "vocab_size": len(known),
        "hidden_size": width,
        "projection_dim": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "bos_token_id": known[_START],
        "eos_token_id": known[_END],
        "pad_token_id": known[_END],
    }
    return transformers.CLIPTextConfig(**{**said, **given})


def clip_text(width: int = _WIDTH, *, projected: bool = False, **given: Any) -> Any:
    """A CLIP text encoder, with its projection where asked for."""
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return kind(clip_config(width, **given)).eval()


def clip_vision(width: int = _WIDTH, *, side_px: int = SIDE_PX, **given: Any) -> Any:
    """A CLIP image encoder with its projection."""
    said = {
        "hidden_size": width,
        "projection_dim": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side_px,
        "patch_size": side_px // 2,
    }
    return transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**{**said, **given})).eval()


def clip_processor(side_px: int = SIDE_PX) -> Any:
    """What resizes a picture for `clip_vision`."""
    return transformers.CLIPImageProcessor(
        size={"shortest_edge": side_px}, crop_size={"height": side_px, "width": side_px}
    )


def vae(**given: Any) -> Any:
    """An autoencoder that halves the sides, with four latent channels."""
    said = {
        "block_out_channels": _CHANNELS,
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "norm_num_groups": _GROUPS,
        "sample_size": SIDE_PX,
    }
    return diffusers.AutoencoderKL(**{**said, **given}).eval()


def unet(**given: Any) -> Any:
    """A denoiser of latents of 16 x 16 with cross-attention."""
    said = {
        "block_out_channels": _CHANNELS,
        "layers_per_block": 1,
        "sample_size": SIDE_PX // 2,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": _WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": _GROUPS,
    }
    return diffusers.UNet2DConditionModel(**{**said, **given}).eval()


def unet_xl(**given: Any) -> Any:
    """A denoiser as `unet`, told sizes and a pooled prompt as Stable Diffusion XL's is."""
    said = {
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "transformer_layers_per_block": (1, 2),
        "projection_class_embeddings_input_dim": 6 * 8 + _WIDTH,
        "cross_attention_dim": 2 * _WIDTH,
    }
    return unet(**{**said, **given})


def controlnet(**given: Any) -> Any:
    """A ControlNet beside `unet`."""
    said = {
        "block_out_channels": _CHANNELS,
        "layers_per_block": 1,
        "in_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "cross_attention_dim": _WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": _GROUPS,
        "conditioning_embedding_out_channels": (2, 4),
    }
    return diffusers.ControlNetModel(**{**said, **given}).eval()


def ddim(**given: Any) -> Any:
    """A DDIM scheduler with Stable Diffusion's betas."""
    said = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    return diffusers.DDIMScheduler(**{**said, **given})


def xl_parts() -> dict[str, Any]:
    """What a Stable Diffusion XL pipeline has besides the parts of Stable Diffusion."""
    return {
        "unet": unet_xl(),
        "text_encoder_2": clip_text(projected=True),
        "tokenizer_2": words(),
        "add_watermarker": False,
    }


_USUAL: dict[str, Callable[[], Any]] = {
    "vae": vae,
    "text_encoder": clip_text,
    "tokenizer": words,
    "unet": unet,
    "scheduler": ddim,
    "safety_checker": lambda: None,
    "feature_extractor": lambda: None,
    "image_encoder": lambda: None,
    "watermarker": lambda: None,
    "requires_safety_checker": lambda: False,
}


def assembled(name: str, **given: Any) -> Any:
    """A pipeline of a class, from the parts given and the usual ones for what its `__init__` still asks for."""
    kind = getattr(diffusers, name)
    wanted = inspect.signature(kind.__init__).parameters
    usual = {part: make() for part, make in _USUAL.items() if part in wanted and part not in given}
    return kind(**usual, **{part: value for part, value in given.items() if part in wanted})


def specimen(name: str, parts: Callable[[], dict[str, Any]] = dict, **said: Any) -> Specimen:
    """A specimen whose call is the usual one.

    Args:
        name: of the class.
        parts: makes the parts that are not the usual ones.
        said: fields of `Specimen` by their names; all else are arguments of the call, made anew for each call where
            they can be called.
    """
    fields = {field: said.pop(field) for field in ("returns", "several", "note") if field in said}
    return Specimen(name, lambda: assembled(name, **parts()), lambda: _call(name, said), **fields)


def _call(name: str, said: dict[str, Any]) -> dict[str, Any]:
    wanted = inspect.signature(getattr(diffusers, name).__call__).parameters
    usual = {
        "prompt": "a red fox",
        "height": SIDE_PX,
        "width": SIDE_PX,
        "num_inference_steps": 2,
        "generator": generator(),
    }
    fresh = {argument: value() if callable(value) else value for argument, value in said.items()}
    return {**{argument: value for argument, value in usual.items() if argument in wanted}, **fresh}
