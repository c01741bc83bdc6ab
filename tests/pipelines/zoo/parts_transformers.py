"""Text and image encoders for the transformer era: real classes, tiny configs, random weights."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import diffusers
import torch
import transformers
from torch.nn.attention import flex_attention

from .specimen import Specimen

__all__ = [
    "WIDTH",
    "assembled",
    "at_32_px",
    "bert",
    "clip_image_processor",
    "clip_text",
    "clip_text_projected",
    "clip_vision",
    "clip_vision_projected",
    "eager_flex",
    "gemma",
    "gemma2",
    "gemma3",
    "glm",
    "llama",
    "llava",
    "mistral3",
    "qwen2_vl_text",
    "qwen3",
    "qwen3_vl",
    "qwen25_vl",
    "siglip",
    "siglip2",
    "siglip2_processor",
    "siglip_processor",
    "smollm3",
    "t5",
    "t5gemma",
    "t5gemma2",
    "umt5",
]

WIDTH = 16  # channels of every text encoder here, unless its family needs another number


def assembled(
    name: str,
    parts: Callable[[], dict[str, Any]],
    call: Callable[[], dict[str, Any]],
    after: Callable[[Any], None] = lambda pipe: None,
    **more: Any,
) -> Specimen:
    """A specimen of the class of that name, put together from parts that are made afresh every time.

    `after` may change what the class takes from no component, such as the size it works at.
    """

    def build() -> Any:
        pipe = getattr(diffusers, name)(**parts())
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()  # as from_pretrained() leaves them
        after(pipe)
        return pipe

    return Specimen(name, build, call, **more)


def at_32_px(module: str) -> None:
    """Let the pipelines of a module work at 32 x 32 px; they bring every picture to about a million pixels."""
    home = import_module(module)
    if not isinstance(home.calculate_dimensions, partial):
        home.calculate_dimensions = partial(_as_if_32_px, home.calculate_dimensions)


def _as_if_32_px(real: Callable[[int, float], Any], target_area: int, ratio: float) -> Any:
    return real(32 * 32, ratio)


def eager_flex(pipe: Any) -> None:
    """Let flexible attention run as it is written; torch would load its compiler for it, which takes seconds."""
    flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True


# --- text encoders ------------------------------------------------------------------------------------------------


def _clip_config(width: int) -> Any:
    return transformers.CLIPTextConfig(
        vocab_size=520,
        hidden_size=width,
        intermediate_size=width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def clip_text(width: int = WIDTH) -> Any:
    return transformers.CLIPTextModel(_clip_config(width))


def clip_text_projected(width: int = WIDTH) -> Any:
    return transformers.CLIPTextModelWithProjection(_clip_config(width))


def _t5_config(kind: Any, width: int, vocab: int = 400) -> Any:
    return kind(vocab_size=vocab, d_model=width, d_kv=8, d_ff=width, num_layers=1, num_heads=2)


def t5(width: int = WIDTH) -> Any:
    return transformers.T5EncoderModel(_t5_config(transformers.T5Config, width))


def umt5(width: int = WIDTH) -> Any:
    return transformers.UMT5EncoderModel(_t5_config(transformers.UMT5Config, width))


def bert(width: int = WIDTH) -> Any:
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=400,
            hidden_size=width,
            intermediate_size=width,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=256,
        )
    )


def _decoder(width: int, layers: int = 2, vocab: int = 400) -> dict[str, Any]:
    """What the configs of all decoders call the same."""
    return {
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 2048,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }


def gemma(width: int = WIDTH) -> Any:
    return transformers.GemmaModel(transformers.GemmaConfig(**_decoder(width)))


def gemma2(width: int = WIDTH) -> Any:
    return transformers.Gemma2Model(transformers.Gemma2Config(**_decoder(width), query_pre_attn_scalar=8))


def gemma3(width: int = WIDTH, layers: int = 2) -> Any:
    config = transformers.Gemma3Config(
        text_config={**_decoder(width, layers), "sliding_window": 64, "query_pre_attn_scalar": 8},
        vision_config={**_VISION, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=1,
        boi_token_index=5,
        eoi_token_index=6,
        image_token_index=7,
    )
    return transformers.Gemma3ForConditionalGeneration(config)


def t5gemma(width: int = WIDTH) -> Any:
    stack = {**_decoder(width), "query_pre_attn_scalar": 8}
    config = transformers.T5GemmaConfig(encoder=stack, decoder=dict(stack), is_encoder_decoder=False, vocab_size=400)
    return transformers.T5GemmaEncoderModel(config).encoder


def glm(width: int = WIDTH) -> Any:
    return transformers.GlmModel(transformers.GlmConfig(**_decoder(width)))


def llama(width: int = WIDTH, layers: int = 2, kind: str = "LlamaModel") -> Any:
    config = transformers.LlamaConfig(**_decoder(width, layers))
    return getattr(transformers, kind)(config)


def smollm3(width: int = WIDTH, layers: int = 2) -> Any:
    return transformers.SmolLM3ForCausalLM(transformers.SmolLM3Config(**_decoder(width, layers)))


def qwen3(width: int = WIDTH, layers: int = 2, kind: str = "Qwen3Model") -> Any:
    return getattr(transformers, kind)(transformers.Qwen3Config(**_decoder(width, layers)))


_MROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}  # sums to half a head
_VL_IDS = {
    "vision_start_token_id": 3,
    "vision_end_token_id": 4,
    "vision_token_id": 5,
    "image_token_id": 6,
    "video_token_id": 7,
}


def _qwen25_text(width: int) -> dict[str, Any]:
    said = _decoder(width)
    del said["head_dim"]
    return {**said, "rope_parameters": {**_MROPE, "mrope_section": [1, 1, width // 4 - 2]}}


def qwen25_vl(width: int = WIDTH) -> Any:
    config = transformers.Qwen2_5_VLConfig(
        text_config=_qwen25_text(width),
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": width,
            "fullatt_block_indexes": [0],
        },
        **_VL_IDS,
    )
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def qwen2_vl_text(width: int = WIDTH) -> Any:
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig

    return transformers.Qwen2_5_VLTextModel(Qwen2_5_VLTextConfig(**_qwen25_text(width)))


def qwen3_vl(width: int = WIDTH, layers: int = 2, kind: str = "Qwen3VLForConditionalGeneration") -> Any:
    config = transformers.Qwen3VLConfig(
        text_config={**_decoder(width, layers), "rope_parameters": {**_MROPE, "mrope_interleaved": True}},
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": width,
            "patch_size": 14,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        **{name: at for name, at in _VL_IDS.items() if name != "vision_token_id"},
    )
    return getattr(transformers, kind)(config)


def mistral3(width: int = WIDTH, layers: int = 3, kind: str = "Mistral3ForConditionalGeneration") -> Any:
    config = transformers.Mistral3Config(
        text_config=transformers.MistralConfig(**_decoder(width, layers)),
        vision_config=transformers.PixtralVisionConfig(**_VISION, head_dim=8),
        image_token_index=10,
    )
    return getattr(transformers, kind)(config)


def t5gemma2(width: int = WIDTH) -> Any:
    config = transformers.T5Gemma2EncoderConfig(
        text_config=transformers.T5Gemma2TextConfig(**_decoder(width), dropout_rate=0.0),
        vision_config=transformers.SiglipVisionConfig(**{**_VISION, "image_size": 16, "patch_size": 4}),
    )
    return transformers.T5Gemma2Encoder(config)


# --- image encoders -----------------------------------------------------------------------------------------------

_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}


def _clip_vision_config(width: int) -> Any:
    return transformers.CLIPVisionConfig(**{**_VISION, "hidden_size": width, "projection_dim": width})


def clip_vision(width: int = WIDTH) -> Any:
    return transformers.CLIPVisionModel(_clip_vision_config(width))


def clip_vision_projected(width: int = WIDTH) -> Any:
    return transformers.CLIPVisionModelWithProjection(_clip_vision_config(width))


def clip_image_processor(side_px: int = 32) -> Any:
    return transformers.CLIPImageProcessor(crop_size=side_px, size=side_px)


def siglip(width: int = WIDTH) -> Any:
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**{**_VISION, "hidden_size": width}))


def siglip2(width: int = WIDTH) -> Any:
    said = {name: value for name, value in _VISION.items() if name != "image_size"}
    return transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**{**said, "hidden_size": width}))


def siglip2_processor() -> Any:
    return transformers.Siglip2ImageProcessor(patch_size=16, max_num_patches=16)


def siglip_processor(side_px: int = 32) -> Any:
    return transformers.SiglipImageProcessor(size={"height": side_px, "width": side_px})


def llava(width: int = WIDTH) -> Any:
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**_decoder(width)),
        vision_config=transformers.CLIPVisionConfig(**_VISION),
        image_token_index=4,
        vision_feature_layer=-1,
        pad_token_id=3,
    )
    return transformers.LlavaForConditionalGeneration(config)
