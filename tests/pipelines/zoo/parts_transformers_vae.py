"""Autoencoders and schedulers for the transformer era, as small as their classes let them be."""

from typing import Any

import diffusers

__all__ = [
    "cogvideox_vae",
    "dc",
    "dpm",
    "flow",
    "flux2_vae",
    "hunyuan_video_vae",
    "kl",
    "ltx_vae",
    "qwen_vae",
    "unipc_flow",
    "wan22_vae",
    "wan_vae",
]


def kl(channels: int = 4, levels: int = 2, **said: Any) -> Any:
    """The image autoencoder of most: `levels` halves height and width `levels - 1` times."""
    return diffusers.AutoencoderKL(
        **{
            "block_out_channels": (4,) * levels,
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "layers_per_block": 1,
            "latent_channels": channels,
            "norm_num_groups": 1,
            "sample_size": 32,
            "scaling_factor": 1.5,
            "shift_factor": 0.06,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
            **said,
        }
    )


def flux2_vae(channels: int = 4, levels: int = 2) -> Any:
    return diffusers.AutoencoderKLFlux2(
        block_out_channels=(4,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=1,
        sample_size=32,
    )


def dc(channels: int = 4) -> Any:
    return diffusers.AutoencoderDC(
        latent_channels=channels,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )


def wan_vae(**said: Any) -> Any:
    """Eight pixels a latent and four frames a latent, as in the real one."""
    return diffusers.AutoencoderKLWan(
        **{
            "base_dim": 2,
            "z_dim": 16,
            "dim_mult": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "temperal_downsample": [False, True, True],
            **said,
        }
    )


def wan22_vae() -> Any:
    """Sixteen pixels a latent, as in the autoencoder of Wan 2.2 and Bria Fibo: 2 x 2 px are one before it begins."""
    return wan_vae(is_residual=True, in_channels=12, out_channels=12, patch_size=2, scale_factor_spatial=16)


def qwen_vae(channels: int = 4, **said: Any) -> Any:
    """Eight pixels a latent."""
    return diffusers.AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=channels,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * channels,
        latents_std=[1.0] * channels,
        **said,
    )


def hunyuan_video_vae(channels: int = 4) -> Any:
    """Eight pixels and four frames a latent."""
    return diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=channels,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=1,
        norm_num_groups=2,
        mid_block_add_attention=True,
    )


def cogvideox_vae() -> Any:
    """Eight pixels and four frames a latent."""
    return diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        sample_height=16,
        sample_width=16,
    )


def ltx_vae(**said: Any) -> Any:
    vae = diffusers.AutoencoderKLLTXVideo(
        **{
            "latent_channels": 8,
            "block_out_channels": (8, 8, 8, 8),
            "decoder_block_out_channels": (8, 8, 8, 8),
            "layers_per_block": (1, 1, 1, 1, 1),
            "decoder_layers_per_block": (1, 1, 1, 1, 1),
            "spatio_temporal_scaling": (True, True, False, False),
            "decoder_spatio_temporal_scaling": (True, True, False, False),
            "decoder_inject_noise": (False,) * 5,
            "upsample_residual": (False,) * 4,
            "upsample_factor": (1, 1, 1, 1),
            "patch_size": 1,
            "encoder_causal": True,
            "decoder_causal": False,
            **said,
        }
    )
    vae.use_framewise_encoding = False
    vae.use_framewise_decoding = False
    return vae


def flow(**said: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**said)


def unipc_flow(**said: Any) -> Any:
    return diffusers.UniPCMultistepScheduler(
        **{"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0, **said}
    )


def dpm(**said: Any) -> Any:
    return diffusers.DPMSolverMultistepScheduler(**said)
