"""Kandinsky 1 to 3, alone, combined with their priors, and the priors' neighbours."""

from typing import Any

import diffusers
import torch
import transformers

from .parts import SIDE_PX, clip_processor, clip_text, clip_vision, specimen, unet, vocabulary, words
from .specimen import Specimen, generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]


def _image() -> Any:
    return picture(SIDE_PX)


def _mask() -> Any:
    return picture(SIDE_PX, seed=5).convert("L").point(lambda value: 255 * (value > 127))


def _embeds() -> torch.Tensor:
    return torch.randn(1, 8, generator=generator(1))


def _hint() -> torch.Tensor:
    return torch.rand(1, 3, 4 * SIDE_PX, 4 * SIDE_PX, generator=generator(2))


def _movq() -> Any:
    return diffusers.VQModel(
        block_out_channels=(32, 32),  # its spatial normalisation has 32 groups
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        vq_embed_dim=4,
        num_vq_embeddings=16,
        norm_num_groups=32,
        norm_type="spatial",
    ).eval()


def _denoiser(**given: Any) -> Any:
    said = {
        "block_out_channels": (32, 64),  # its attention has 32 groups
        "in_channels": 4,
        "out_channels": 8,
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "resnet_time_scale_shift": "scale_shift",
        "attention_head_dim": 4,
        "encoder_hid_dim": 8,
        "class_embed_type": None,
    }
    return unet(**{**said, **given})


def _scheduler() -> Any:
    return diffusers.DDIMScheduler(
        beta_schedule="linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
        thresholding=False,
    )


def _first(**given: Any) -> Any:
    def make() -> dict[str, Any]:
        from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

        config = MCLIPConfig(
            numDims=8,
            transformerDimensions=8,
            hidden_size=8,
            intermediate_size=16,
            num_attention_heads=2,
            num_hidden_layers=2,
            vocab_size=64,
        )
        return {
            "text_encoder": MultilingualCLIP(config).eval(),
            "tokenizer": words(),
            "unet": _denoiser(
                addition_embed_type="text_image", encoder_hid_dim_type="text_image_proj", cross_attention_dim=8, **given
            ),
            "scheduler": _scheduler(),
            "movq": _movq(),
        }

    return make


def _second(**given: Any) -> Any:
    said = {"addition_embed_type": "image", "encoder_hid_dim_type": "image_proj", **given}
    return lambda: {"unet": _denoiser(**said), "scheduler": _scheduler(), "movq": _movq()}


def _hinted() -> dict[str, Any]:
    return _second(in_channels=8, addition_embed_type="image_hint")()


def _prior_parts() -> dict[str, Any]:
    return {
        "prior_prior": diffusers.PriorTransformer(
            num_attention_heads=2, attention_head_dim=4, embedding_dim=8, num_layers=1
        ).eval(),
        "prior_image_encoder": clip_vision(),
        "prior_text_encoder": clip_text(projected=True),
        "prior_tokenizer": words(),
        "prior_scheduler": diffusers.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=10.0
        ),
        "prior_image_processor": clip_processor(),
    }


def _both(parts: Any) -> Any:
    return lambda: {**parts(), **_prior_parts()}


def _third() -> dict[str, Any]:
    config = transformers.T5Config(vocab_size=len(vocabulary()), d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    return {
        "text_encoder": transformers.T5EncoderModel(config).eval(),
        "tokenizer": words(),
        "unet": diffusers.Kandinsky3UNet(
            in_channels=4,
            time_embedding_dim=8,
            groups=2,
            attention_head_dim=4,
            layers_per_block=2,
            block_out_channels=(8, 16),
            cross_attention_dim=8,
            encoder_hid_dim=8,
        ).eval(),
        "scheduler": diffusers.DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", clip_sample=True, thresholding=False, steps_offset=1
        ),
        "movq": _movq(),
    }


_GIVEN = {"image_embeds": _embeds, "negative_image_embeds": _embeds}
_SMALL_PRIOR = {"prior_num_inference_steps": 2}

SPECIMENS: tuple[Specimen, ...] = (
    specimen("KandinskyPipeline", _first(), **_GIVEN),
    specimen("KandinskyImg2ImgPipeline", _first(), image=_image, strength=1.0, **_GIVEN),
    specimen("KandinskyInpaintPipeline", _first(in_channels=9), image=_image, mask_image=_mask, **_GIVEN),
    specimen("KandinskyCombinedPipeline", _both(_first()), **_SMALL_PRIOR),
    specimen("KandinskyImg2ImgCombinedPipeline", _both(_first()), image=_image, strength=1.0, **_SMALL_PRIOR),
    specimen(
        "KandinskyInpaintCombinedPipeline", _both(_first(in_channels=9)), image=_image, mask_image=_mask, **_SMALL_PRIOR
    ),
    specimen("KandinskyV22Pipeline", _second(), **_GIVEN),
    specimen("KandinskyV22Img2ImgPipeline", _second(), image=_image, strength=1.0, **_GIVEN),
    specimen("KandinskyV22InpaintPipeline", _second(in_channels=9), image=_image, mask_image=_mask, **_GIVEN),
    specimen("KandinskyV22ControlnetPipeline", _hinted, hint=_hint, **_GIVEN),
    specimen("KandinskyV22ControlnetImg2ImgPipeline", _hinted, hint=_hint, image=_image, strength=1.0, **_GIVEN),
    specimen("KandinskyV22CombinedPipeline", _both(_second()), **_SMALL_PRIOR),
    specimen("KandinskyV22Img2ImgCombinedPipeline", _both(_second()), image=_image, strength=1.0, **_SMALL_PRIOR),
    specimen(
        "KandinskyV22InpaintCombinedPipeline",
        _both(_second(in_channels=9)),
        image=_image,
        mask_image=_mask,
        **_SMALL_PRIOR,
    ),
    specimen("Kandinsky3Pipeline", _third),
    specimen("Kandinsky3Img2ImgPipeline", _third, image=_image, strength=1.0),
)
_PRIOR = "returns embeddings for another pipeline, and no picture"
NOT_BUILT: dict[str, str] = {
    "KandinskyPriorPipeline": _PRIOR,
    "KandinskyV22PriorPipeline": _PRIOR,
    "KandinskyV22PriorEmb2EmbPipeline": _PRIOR,
}
