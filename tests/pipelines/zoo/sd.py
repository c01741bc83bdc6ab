"""Stable Diffusion 1 and 2 and what was built on their UNet."""

from typing import Any

import diffusers
import torch
import transformers

from .parts import (
    SIDE_PX,
    assembled,
    clip_processor,
    clip_text,
    clip_vision,
    ddim,
    specimen,
    unet,
    vae,
    words,
    xl_parts,
)
from .specimen import Specimen, generator, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]


def _mask() -> Any:
    return picture(SIDE_PX, seed=5).convert("L").point(lambda value: 255 * (value > 127))


def _depth() -> dict[str, Any]:
    config = transformers.DPTConfig(
        image_size=32,
        patch_size=16,
        num_channels=3,
        hidden_size=8,
        fusion_hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=4,
        backbone_out_indices=(0, 1, 2, 3),
        num_attention_heads=2,
        neck_hidden_sizes=[4, 4, 8, 8],
        is_decoder=False,
        initializer_range=0.02,
        is_hybrid=False,
    )
    processor = transformers.DPTImageProcessor(size={"height": 32, "width": 32})
    return {
        "unet": unet(in_channels=5),
        "depth_estimator": transformers.DPTForDepthEstimation(config).eval(),
        "feature_extractor": processor,
    }


def _upscale() -> dict[str, Any]:
    return {
        "unet": unet(in_channels=7, num_class_embeds=1000),
        "low_res_scheduler": diffusers.DDPMScheduler(),
        "scheduler": ddim(prediction_type="v_prediction"),
        "vae": vae(scaling_factor=0.08333),
    }


def _latent_upscale() -> dict[str, Any]:
    denoiser = unet(
        act_fn="gelu",
        in_channels=8,
        out_channels=5,
        time_cond_proj_dim=136,
        conv_in_kernel=1,
        conv_out_kernel=1,
        time_embedding_type="fourier",
        timestep_post_act="gelu",
        resnet_time_scale_shift="scale_shift",
        mid_block_type=None,
        only_cross_attention=False,
        down_block_types=("KDownBlock2D", *("KCrossAttnDownBlock2D",) * 3),
        up_block_types=(*("KCrossAttnUpBlock2D",) * 3, "KUpBlock2D"),
        block_out_channels=(32, 32, 64, 64),  # its normalisation has a group for every 32 channels
        attention_head_dim=8,
        cross_attention_dim=8,
    )
    return {
        "unet": denoiser,
        "scheduler": diffusers.EulerDiscreteScheduler(prediction_type="sample"),
    }


def _variation() -> dict[str, Any]:
    return {"image_encoder": clip_vision(), "feature_extractor": clip_processor()}


def _lcm() -> dict[str, Any]:
    return {
        "unet": unet(time_cond_proj_dim=8),
        "scheduler": diffusers.LCMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False
        ),
    }


def _normalizer() -> dict[str, Any]:
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

    return {
        "image_normalizer": StableUnCLIPImageNormalizer(embedding_dim=8),
        "image_noising_scheduler": diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        "unet": unet(class_embed_type="projection", projection_class_embeddings_input_dim=16),
    }


def _prior_transformer(**given: Any) -> Any:
    said = {"num_attention_heads": 2, "attention_head_dim": 4, "embedding_dim": 8, "num_layers": 1}
    return diffusers.PriorTransformer(**{**said, **given})


def _stable_unclip() -> dict[str, Any]:
    return {
        **_normalizer(),
        "prior_tokenizer": words(),
        "prior_text_encoder": clip_text(projected=True),
        "prior": _prior_transformer(),
        "prior_scheduler": diffusers.DDPMScheduler(
            variance_type="fixed_small_log",
            prediction_type="sample",
            num_train_timesteps=1000,
            clip_sample=True,
            clip_sample_range=5.0,
            beta_schedule="squaredcos_cap_v2",
        ),
    }


def _stable_unclip_image() -> dict[str, Any]:
    return {**_normalizer(), **_variation()}


def _alt() -> dict[str, Any]:
    from diffusers.pipelines.deprecated.alt_diffusion.modeling_roberta_series import (
        RobertaSeriesConfig,
        RobertaSeriesModelWithTransformation,
    )

    config = RobertaSeriesConfig(
        hidden_size=8,
        project_dim=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=64,
    )
    return {"text_encoder": RobertaSeriesModelWithTransformation(config).eval()}


def _latents_mask() -> torch.Tensor:
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:12, 4:12] = 1
    return mask


def _t2i() -> dict[str, Any]:
    return {
        "adapter": diffusers.T2IAdapter(
            in_channels=3, channels=[4, 8], num_res_blocks=1, downscale_factor=2, adapter_type="full_adapter"
        ),
        "unet": unet(
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")
        ),
    }


def _gligen() -> dict[str, Any]:
    return {"unet": unet(attention_type="gated", cross_attention_dim=8)}


def _gligen_image() -> dict[str, Any]:
    from diffusers.pipelines.stable_diffusion.clip_image_project_model import CLIPImageProjection

    return {
        "unet": unet(attention_type="gated-text-image", cross_attention_dim=8),
        "image_encoder": clip_vision(),
        "processor": transformers.CLIPProcessor(clip_processor(), words()),
        "image_project": CLIPImageProjection(hidden_size=8),
    }


def _example() -> dict[str, Any]:
    from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder

    config = transformers.CLIPVisionConfig(
        hidden_size=8,
        projection_dim=8,
        intermediate_size=16,
        num_hidden_layers=5,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    return {
        "image_encoder": PaintByExampleImageEncoder(config).eval(),
        "feature_extractor": clip_processor(),
        "unet": unet(in_channels=9),
    }


def _pix2pix_zero() -> dict[str, Any]:
    return {
        "inverse_scheduler": diffusers.DDIMInverseScheduler(),
        "caption_generator": None,
        "caption_processor": None,
    }


def _parallel() -> dict[str, Any]:
    return {"scheduler": diffusers.DDIMParallelScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)}


def _sag() -> dict[str, Any]:
    return {"image_encoder": None}


def _inverted(name: str, parts: Any) -> Specimen:
    def build() -> Any:
        pipe = assembled(name, **parts(), scheduler=_edit_friendly())
        pipe.set_progress_bar_config(disable=True)
        pipe.invert(
            picture(SIDE_PX), num_inversion_steps=2, skip=0.0, generator=generator(), height=SIDE_PX, width=SIDE_PX
        )
        return pipe

    return Specimen(
        name,
        build,
        lambda: {"editing_prompt": ["a dog"], "use_intersect_mask": False, "generator": generator()},
        several=False,
        note="the picture that it edits is inverted when it is built; masks of attention need a larger one",
    )


def _edit_friendly() -> Any:
    return diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", solver_order=2, steps_offset=1)


IMAGE = lambda: picture(SIDE_PX)  # noqa: E731

SPECIMENS: tuple[Specimen, ...] = (
    specimen("StableDiffusionPipeline"),
    specimen("StableDiffusionImg2ImgPipeline", image=IMAGE, strength=1.0),
    specimen("StableDiffusionInpaintPipeline", lambda: {"unet": unet(in_channels=9)}, image=IMAGE, mask_image=_mask),
    specimen("StableDiffusionDepth2ImgPipeline", _depth, image=IMAGE, strength=1.0),
    specimen("StableDiffusionUpscalePipeline", _upscale, image=IMAGE),
    specimen("StableDiffusionLatentUpscalePipeline", _latent_upscale, image=IMAGE),
    specimen("StableDiffusionInstructPix2PixPipeline", lambda: {"unet": unet(in_channels=8)}, image=IMAGE),
    specimen("StableDiffusionImageVariationPipeline", _variation, image=IMAGE),
    specimen("StableUnCLIPPipeline", _stable_unclip, prior_num_inference_steps=2),
    specimen("StableUnCLIPImg2ImgPipeline", _stable_unclip_image, image=IMAGE),
    specimen("LatentConsistencyModelPipeline", _lcm),
    specimen("LatentConsistencyModelImg2ImgPipeline", _lcm, image=IMAGE),
    specimen("StableDiffusionAdapterPipeline", _t2i, image=IMAGE),
    specimen("StableDiffusionPipelineSafe"),
    specimen("StableDiffusionSAGPipeline", _sag),
    specimen("StableDiffusionPanoramaPipeline", width=48),
    specimen(
        "StableDiffusionLDM3DPipeline",
        lambda: {"vae": vae(in_channels=6, out_channels=6)},
        output_type="np",
        note="arrays: diffusers 0.42 cannot make Pillow depth maps with Pillow 13",
    ),
    specimen("SemanticStableDiffusionPipeline"),
    specimen("StableDiffusionAttendAndExcitePipeline", token_indices=[2, 5], max_iter_to_alter=1, attn_res=(8, 8)),
    specimen("StableDiffusionModelEditingPipeline"),
    specimen("StableDiffusionParadigmsPipeline", _parallel, parallel=2),
    specimen(
        "StableDiffusionPix2PixZeroPipeline",
        _pix2pix_zero,
        source_embeds=lambda: torch.zeros(1, 77, 8),
        target_embeds=lambda: torch.ones(1, 77, 8),
        note="captions are given, not generated",
    ),
    specimen("CycleDiffusionPipeline", image=IMAGE, source_prompt="a fox", eta=0.1, strength=0.8),
    specimen("StableDiffusionInpaintPipelineLegacy", image=IMAGE, mask_image=_mask, strength=1.0),
    specimen("AltDiffusionPipeline", _alt),
    specimen("AltDiffusionImg2ImgPipeline", _alt, image=IMAGE, strength=1.0),
    specimen("StableDiffusionGLIGENPipeline", _gligen, gligen_phrases=["a fox"], gligen_boxes=[[0.1, 0.1, 0.6, 0.6]]),
    specimen(
        "StableDiffusionGLIGENTextImagePipeline",
        _gligen_image,
        gligen_phrases=["a fox"],
        gligen_images=lambda: [picture(SIDE_PX)],
        gligen_boxes=[[0.1, 0.1, 0.6, 0.6]],
    ),
    specimen(
        "StableDiffusionDiffEditPipeline",
        lambda: {"inverse_scheduler": diffusers.DDIMInverseScheduler()},
        mask_image=_latents_mask,
        image_latents=lambda: torch.zeros(1, 2, 4, 16, 16),
        inpaint_strength=1.0,
    ),
    _inverted("LEditsPPPipelineStableDiffusion", dict),
    _inverted("LEditsPPPipelineStableDiffusionXL", xl_parts),
    specimen("PaintByExamplePipeline", _example, example_image=IMAGE, image=IMAGE, mask_image=_mask),
)
NOT_BUILT: dict[str, str] = {}
