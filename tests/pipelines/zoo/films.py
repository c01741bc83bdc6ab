"""Films from UNets: AnimateDiff, PIA, Stable Video Diffusion, I2VGen-XL, text-to-video and its kin."""

from typing import Any

import diffusers

from .parts import SIDE_PX, clip_processor, clip_vision, controlnet, specimen, unet, xl_parts
from .specimen import Specimen, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]

_FRAMES = 2


def _film() -> list[Any]:
    return [picture(SIDE_PX, seed=at) for at in range(_FRAMES)]


def _image() -> Any:
    return picture(SIDE_PX)


def _motion(**given: Any) -> Any:
    said = {
        "block_out_channels": (4, 8),
        "motion_layers_per_block": 1,
        "motion_norm_num_groups": 2,
        "motion_num_attention_heads": 2,
        "motion_max_seq_length": 8,
    }
    return diffusers.MotionAdapter(**{**said, **given}).eval()


def _moving() -> dict[str, Any]:
    return {"motion_adapter": _motion()}


def _moving_beside() -> dict[str, Any]:
    return {"motion_adapter": _motion(), "controlnet": controlnet()}


def _moving_xl() -> dict[str, Any]:
    return {**xl_parts(), "motion_adapter": _motion(use_motion_mid_block=False)}


def _sparse() -> dict[str, Any]:
    control = diffusers.SparseControlNetModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        in_channels=4,
        conditioning_channels=3,
        down_block_types=("DownBlockMotion", "CrossAttnDownBlockMotion"),
        cross_attention_dim=8,
        num_attention_heads=2,
        motion_num_attention_heads=2,
        motion_max_seq_length=8,
        norm_num_groups=2,
        conditioning_embedding_out_channels=(2, 4),
        concat_conditioning_mask=False,
        use_simplified_condition_embedding=False,
    )
    return {"motion_adapter": _motion(), "controlnet": control.eval()}


def _pia() -> dict[str, Any]:
    return {"motion_adapter": _motion(conv_in_channels=9), "unet": unet()}


def _stable_video() -> dict[str, Any]:
    denoiser = diffusers.UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),  # its normalisation has 32 groups
        layers_per_block=1,
        sample_size=16,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=8,
        num_attention_heads=(2, 2),
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    )
    decoder = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4
    )
    return {
        "unet": denoiser.eval(),
        "vae": decoder.eval(),
        "image_encoder": clip_vision(side_px=224),  # the pipeline resizes to this
        "feature_extractor": clip_processor(224),
        "scheduler": diffusers.EulerDiscreteScheduler(
            prediction_type="v_prediction",
            use_karras_sigmas=True,
            sigma_min=0.002,
            sigma_max=700.0,
            timestep_spacing="leading",
            timestep_type="continuous",
        ),
    }


def _unet_3d() -> dict[str, Any]:
    denoiser = diffusers.UNet3DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=16,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    return {"unet": denoiser.eval()}


def _i2vgen() -> dict[str, Any]:
    denoiser = diffusers.I2VGenXLUNet(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=16,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        num_attention_heads=None,
        norm_num_groups=2,
    )
    return {"unet": denoiser.eval(), "image_encoder": clip_vision(), "feature_extractor": clip_processor()}


SPECIMENS: tuple[Specimen, ...] = (
    specimen("AnimateDiffPipeline", _moving, returns="frames", num_frames=_FRAMES),
    specimen(
        "AnimateDiffControlNetPipeline", _moving_beside, returns="frames", num_frames=_FRAMES, conditioning_frames=_film
    ),
    specimen("AnimateDiffSDXLPipeline", _moving_xl, returns="frames", num_frames=_FRAMES),
    specimen(
        "AnimateDiffSparseControlNetPipeline",
        _sparse,
        returns="frames",
        num_frames=_FRAMES,
        conditioning_frames=_film,
        controlnet_frame_indices=[0, 1],
    ),
    specimen("AnimateDiffVideoToVideoPipeline", _moving, returns="frames", video=_film, strength=1.0),
    specimen(
        "AnimateDiffVideoToVideoControlNetPipeline",
        _moving_beside,
        returns="frames",
        video=_film,
        conditioning_frames=_film,
        strength=1.0,
    ),
    specimen(
        "AnimateDiffPAGPipeline",
        lambda: {**_moving(), "pag_applied_layers": ["mid_block.*attn1"]},
        returns="frames",
        num_frames=_FRAMES,
    ),
    specimen("PIAPipeline", _pia, returns="frames", num_frames=_FRAMES, image=_image),
    specimen(
        "StableVideoDiffusionPipeline",
        _stable_video,
        returns="frames",
        num_frames=_FRAMES,
        image=_image,
        decode_chunk_size=1,
    ),
    specimen(
        "I2VGenXLPipeline",
        _i2vgen,
        returns="frames",
        num_frames=_FRAMES,
        image=_image,
        clip_skip=None,
        note="without clip_skip: for it diffusers 0.42 needs transformers 4",
    ),
    specimen("TextToVideoSDPipeline", _unet_3d, returns="frames", num_frames=_FRAMES),
    specimen("VideoToVideoSDPipeline", _unet_3d, returns="frames", video=_film, strength=1.0),
    specimen("TextToVideoZeroPipeline", returns="frames", video_length=_FRAMES, t0=0, t1=1),
    specimen(
        "TextToVideoZeroSDXLPipeline", xl_parts, returns="frames", video_length=_FRAMES, t0=0, t1=1, output_type="np"
    ),
)
NOT_BUILT: dict[str, str] = {}
