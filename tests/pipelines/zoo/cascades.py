"""Chains of models, models of tokens, models of two kinds at once, and Marigold's depths and normals."""

from typing import Any

import diffusers
import torch

from .parts import (
    SIDE_PX,
    clip_processor,
    clip_text,
    clip_vision,
    specimen,
    unet,
    vocabulary,
    words,
)
from .specimen import Specimen, generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]


def _image() -> Any:
    return picture(SIDE_PX)


def _mask() -> Any:
    return picture(SIDE_PX, seed=5).convert("L").point(lambda value: 255 * (value > 127))


def _paella() -> Any:
    from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel

    return PaellaVQModel(levels=1, bottleneck_blocks=1, embed_dim=4, num_vq_embeddings=16).eval()


def _wuerstchen() -> dict[str, Any]:
    from diffusers.pipelines.deprecated.wuerstchen.modeling_wuerstchen_diffnext import WuerstchenDiffNeXt

    return {
        "decoder": WuerstchenDiffNeXt(
            c_cond=8,
            c_hidden=[8],
            nhead=[1],
            blocks=[1],
            level_config=["CTA"],
            inject_effnet=[False],
            effnet_embd=4,
            clip_embd=8,
            c_r=4,
            patch_size=1,
        ).eval(),
        "vqgan": _paella(),
        "scheduler": diffusers.DDPMWuerstchenScheduler(),
    }


def _wuerstchen_both() -> dict[str, Any]:
    from diffusers.pipelines.deprecated.wuerstchen.modeling_wuerstchen_prior import WuerstchenPrior

    return {
        **_wuerstchen(),
        "prior_prior": WuerstchenPrior(c_in=4, c=8, c_cond=8, c_r=4, depth=1, nhead=1).eval(),
        "prior_text_encoder": clip_text(),
        "prior_tokenizer": words(),
        "prior_scheduler": diffusers.DDPMWuerstchenScheduler(),
    }


def _cascade_unet(**given: Any) -> Any:
    said = {
        "in_channels": 4,
        "out_channels": 4,
        "timestep_ratio_embedding_dim": 4,
        "patch_size": 1,
        "conditioning_dim": 8,
        "block_out_channels": (8, 8),
        "num_attention_heads": (1, 1),
        "down_num_layers_per_block": (1, 1),
        "up_num_layers_per_block": (1, 1),
        "clip_text_pooled_in_channels": 8,
        "dropout": (0.0, 0.0),
    }
    return diffusers.StableCascadeUNet(**{**said, **given}).eval()


def _cascade() -> dict[str, Any]:
    return {
        "decoder": _cascade_unet(effnet_in_channels=4),
        "text_encoder": clip_text(projected=True),
        "vqgan": _paella(),
        "scheduler": diffusers.DDPMWuerstchenScheduler(),
    }


def _cascade_both() -> dict[str, Any]:
    return {
        **_cascade(),
        "prior_prior": _cascade_unet(
            clip_text_in_channels=8,
            clip_image_in_channels=8,
            switch_level=(False,),
            timestep_conditioning_type=("sca", "crp"),
        ),
        "prior_text_encoder": clip_text(projected=True),
        "prior_tokenizer": words(),
        "prior_scheduler": diffusers.DDPMWuerstchenScheduler(),
    }


def _unclip_parts() -> dict[str, Any]:
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    decoder = unet(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        block_out_channels=(32, 64),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
    )
    larger = [
        diffusers.UNet2DModel(
            sample_size=SIDE_PX,
            layers_per_block=1,
            in_channels=6,
            out_channels=3,
            block_out_channels=(4, 8),
            down_block_types=("ResnetDownsampleBlock2D",) * 2,
            up_block_types=("ResnetUpsampleBlock2D",) * 2,
            norm_num_groups=2,
        ).eval()
        for _ in range(2)
    ]
    return {
        "decoder": decoder,
        "text_encoder": clip_text(projected=True),
        "text_proj": UnCLIPTextProjModel(
            clip_embeddings_dim=8, time_embed_dim=128, cross_attention_dim=8, clip_extra_context_tokens=2
        ).eval(),
        "super_res_first": larger[0],
        "super_res_last": larger[1],
        "decoder_scheduler": diffusers.UnCLIPScheduler(variance_type="learned_range", prediction_type="epsilon"),
        "super_res_scheduler": diffusers.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="epsilon"),
    }


def _unclip() -> dict[str, Any]:
    return {
        **_unclip_parts(),
        "prior": diffusers.PriorTransformer(
            num_attention_heads=2, attention_head_dim=4, embedding_dim=8, num_layers=1
        ).eval(),
        "prior_scheduler": diffusers.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
    }


def _unclip_image() -> dict[str, Any]:
    return {**_unclip_parts(), "feature_extractor": clip_processor(), "image_encoder": clip_vision()}


def _amused() -> dict[str, Any]:
    vq = diffusers.VQModel(
        act_fn="silu",
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        num_vq_embeddings=16,
        norm_num_groups=2,
        lookup_from_codebook=True,
        mid_block_add_attention=False,
    )
    denoiser = diffusers.UVit2DModel(
        hidden_size=8,
        cond_embed_dim=8,
        micro_cond_encode_dim=2,
        micro_cond_embed_dim=10,
        encoder_hidden_size=8,
        vocab_size=17,
        codebook_size=16,
        in_channels=8,
        block_out_channels=8,
        num_res_blocks=1,
        block_num_heads=1,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        sample_size=16,
        downsample=True,
        upsample=True,
    )
    return {
        "vqvae": vq.eval(),
        "transformer": denoiser.eval(),
        "text_encoder": clip_text(projected=True),
        "scheduler": diffusers.AmusedScheduler(mask_token_id=16),
    }


def _vq_diffusion() -> dict[str, Any]:
    from diffusers.pipelines.deprecated.vq_diffusion.pipeline_vq_diffusion import (
        LearnedClassifierFreeSamplingEmbeddings,
    )

    return {
        "vqvae": diffusers.VQModel(
            block_out_channels=(4, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            in_channels=3,
            out_channels=3,
            latent_channels=3,
            vq_embed_dim=3,
            num_vq_embeddings=12,
            norm_num_groups=2,
        ).eval(),
        "transformer": diffusers.Transformer2DModel(
            attention_bias=True,
            cross_attention_dim=8,
            attention_head_dim=4,
            num_attention_heads=2,
            num_embeds_ada_norm=12,
            num_vector_embeds=12 + 1,
            norm_num_groups=2,
            sample_size=16,
            activation_fn="geglu-approximate",
            norm_type="ada_norm",
        ).eval(),
        "scheduler": diffusers.VQDiffusionScheduler(num_vec_classes=13),
        "learned_classifier_free_sampling_embeddings": LearnedClassifierFreeSamplingEmbeddings(learnable=False),
    }


def _text_unet() -> Any:
    from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel

    return UNetFlatConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlockFlat", "DownBlockFlat"),
        up_block_types=("UpBlockFlat", "CrossAttnUpBlockFlat"),
        mid_block_type="UNetMidBlockFlatCrossAttn",
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=2,
    ).eval()


def _versatile() -> dict[str, Any]:
    return {
        "image_feature_extractor": clip_processor(),
        "text_encoder": clip_text(projected=True),
        "image_encoder": clip_vision(),
        "image_unet": unet(
            block_out_channels=(8, 16),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        "text_unet": _text_unet(),
    }


def _uni() -> dict[str, Any]:
    from diffusers.pipelines.deprecated.unidiffuser.modeling_text_decoder import UniDiffuserTextDecoder
    from diffusers.pipelines.deprecated.unidiffuser.modeling_uvit import UniDiffuserModel

    return {
        "text_decoder": UniDiffuserTextDecoder(
            prefix_length=77,
            prefix_inner_dim=8,
            prefix_hidden_dim=8,
            vocab_size=len(vocabulary()),
            n_positions=96,
            n_embd=8,
            n_layer=1,
            n_head=2,
            n_inner=8,
        ).eval(),
        "text_tokenizer": words(),
        "clip_tokenizer": words(),
        "clip_image_processor": clip_processor(),
        "image_encoder": clip_vision(),
        "unet": UniDiffuserModel(
            text_dim=8,
            clip_img_dim=8,
            num_text_tokens=77,
            num_attention_heads=2,
            attention_head_dim=4,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            sample_size=16,
            patch_size=2,
            norm_num_groups=2,
            use_data_type_embedding=False,
            pre_layer_norm=False,
            norm_type="layer_norm",
            activation_fn="gelu",
            cross_attention_dim=None,
            attention_bias=True,
        ).eval(),
        "scheduler": diffusers.DPMSolverMultistepScheduler(),
    }


def _depth() -> dict[str, Any]:
    return {
        "unet": unet(in_channels=8),
        "prediction_type": "depth",
        "default_denoising_steps": 1,
        "default_processing_resolution": 32,
    }


def _normals() -> dict[str, Any]:
    return {**_depth(), "prediction_type": "normals"}


def _intrinsics() -> dict[str, Any]:
    return {
        **_depth(),
        "unet": unet(in_channels=12, out_channels=8),
        "prediction_type": "intrinsics",
        "target_properties": {
            "target_names": ["albedo", "shading"],
            "albedo": {"prediction_space": "srgb", "up_to_scale": False},
            "shading": {"prediction_space": "linear", "up_to_scale": True},
        },
    }


_TWICE = {"decoder_num_inference_steps": 2, "super_res_num_inference_steps": 2}

SPECIMENS: tuple[Specimen, ...] = (
    specimen(
        "WuerstchenDecoderPipeline",
        _wuerstchen,
        image_embeddings=lambda: torch.randn(1, 4, 4, 4, generator=generator(1)),
    ),
    specimen("WuerstchenCombinedPipeline", _wuerstchen_both, height=128, width=128, prior_num_inference_steps=2),
    specimen(
        "StableCascadeDecoderPipeline",
        _cascade,
        image_embeddings=lambda: torch.randn(1, 4, 4, 4, generator=generator(1)),
    ),
    specimen("StableCascadeCombinedPipeline", _cascade_both, height=128, width=128, prior_num_inference_steps=2),
    specimen("UnCLIPPipeline", _unclip, prior_num_inference_steps=2, **_TWICE),
    specimen("UnCLIPImageVariationPipeline", _unclip_image, image=_image, **_TWICE),
    specimen("AmusedPipeline", _amused),
    specimen("AmusedImg2ImgPipeline", _amused, image=_image),
    specimen("AmusedInpaintPipeline", _amused, image=_image, mask_image=_mask),
    specimen("VQDiffusionPipeline", _vq_diffusion),
    specimen("VersatileDiffusionTextToImagePipeline", _versatile),
    specimen("VersatileDiffusionImageVariationPipeline", _versatile, image=_image),
    specimen("UniDiffuserPipeline", _uni),
    specimen("MarigoldDepthPipeline", _depth, image=_image),
    specimen("MarigoldNormalsPipeline", _normals, image=_image),
    specimen("MarigoldIntrinsicsPipeline", _intrinsics, image=_image),
)
_PRIOR = "returns embeddings for another pipeline, and no picture"
NOT_BUILT: dict[str, str] = {
    "WuerstchenPriorPipeline": _PRIOR,
    "StableCascadePriorPipeline": _PRIOR,
    "VersatileDiffusionPipeline": "cannot be called: its methods make the other Versatile pipelines and call them",
    "VersatileDiffusionDualGuidedPipeline": "fails in diffusers 0.42: its blocks pass on a mask that is not taken",
}
