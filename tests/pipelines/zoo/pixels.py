"""Pipelines that denoise pixels: unconditional ones, consistency models, DeepFloyd IF; and a few latent ones of old."""

from typing import Any

import diffusers
import transformers

from .parts import SIDE_PX, ddim, specimen, unet, vae
from .specimen import Specimen, picture

__all__ = ["NOT_BUILT", "SPECIMENS"]


def _image() -> Any:
    return picture(SIDE_PX)


def _half() -> Any:
    return picture(SIDE_PX // 2)


def _mask() -> Any:
    return picture(SIDE_PX, seed=5).convert("L").point(lambda value: 255 * (value > 127))


def _plain(**given: Any) -> Any:
    said = {
        "block_out_channels": (4, 8),
        "layers_per_block": 1,
        "sample_size": SIDE_PX,
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 2,
        "attention_head_dim": 4,
    }
    return diffusers.UNet2DModel(**{**said, **given}).eval()


def _with(scheduler: Any, **given: Any) -> Any:
    return lambda: {"unet": _plain(**given), "scheduler": scheduler()}


def _vq(**given: Any) -> Any:
    said = {
        "block_out_channels": (4, 8),
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 3,
        "num_vq_embeddings": 16,
        "norm_num_groups": 2,
    }
    return diffusers.VQModel(**{**said, **given}).eval()


def _latent() -> dict[str, Any]:
    return {"vqvae": _vq(), "unet": _plain(sample_size=16), "scheduler": ddim()}


def _bert() -> dict[str, Any]:
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    config = LDMBertConfig(
        vocab_size=64,
        max_position_embeddings=77,
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        head_dim=4,
        d_model=8,
        pad_token_id=0,
    )
    return {"vqvae": vae(), "bert": LDMBertModel(config).eval(), "unet": unet()}


def _super() -> dict[str, Any]:
    return {"vqvae": _vq(), "unet": _plain(in_channels=6, sample_size=16), "scheduler": ddim()}


def _deepfloyd(in_channels: int = 3, **given: Any) -> Any:
    return unet(
        in_channels=in_channels,
        out_channels=6,
        sample_size=SIDE_PX,
        block_out_channels=(32, 64),  # its attention has 32 groups
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        attention_head_dim=32,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        cross_attention_dim=32,
        encoder_hid_dim=8,
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        **given,
    )


def _t5() -> dict[str, Any]:
    config = transformers.T5Config(
        vocab_size=64, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0, decoder_start_token_id=0
    )
    letters = [(chr(code), -1.0) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *letters]
    return {
        "text_encoder": transformers.T5EncoderModel(config).eval(),
        "tokenizer": transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0),
        "unet": _deepfloyd(),
        "scheduler": _thresholding(),
    }


def _thresholding() -> Any:
    return diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.0,
        prediction_type="epsilon",
        variance_type="learned_range",
    )


def _t5_super() -> dict[str, Any]:
    return {
        **_t5(),
        "unet": _deepfloyd(6, class_embed_type="timestep", mid_block_scale_factor=1.414, time_embedding_act_fn="gelu"),
        "image_noising_scheduler": diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    }


def _dit() -> dict[str, Any]:
    return {
        "transformer": diffusers.DiTTransformer2DModel(
            sample_size=16,
            num_layers=1,
            patch_size=4,
            attention_head_dim=4,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8,
            num_embeds_ada_norm=1000,
        ).eval(),
    }


def _karras() -> Any:
    return diffusers.KarrasVeScheduler()


SPECIMENS: tuple[Specimen, ...] = (
    specimen("DDPMPipeline", _with(diffusers.DDPMScheduler), batch_size=1),
    specimen("DDIMPipeline", _with(diffusers.DDIMScheduler), batch_size=1),
    specimen("PNDMPipeline", _with(diffusers.PNDMScheduler), batch_size=1, num_inference_steps=4),
    specimen("ScoreSdeVePipeline", _with(diffusers.ScoreSdeVeScheduler), batch_size=1),
    specimen("KarrasVePipeline", _with(_karras), batch_size=1),
    specimen(
        "RePaintPipeline",
        _with(diffusers.RePaintScheduler),
        image=_image,
        mask_image=_mask,
        jump_length=1,
        jump_n_sample=1,
    ),
    specimen("ConsistencyModelPipeline", _with(diffusers.CMStochasticIterativeScheduler), batch_size=1),
    specimen("LDMPipeline", _latent, batch_size=1),
    specimen("LDMTextToImagePipeline", _bert, height=128, width=128),
    specimen("LDMSuperResolutionPipeline", _super, image=_image, several=False),
    specimen("DiTPipeline", _dit, class_labels=lambda: [1]),
    specimen("IFPipeline", _t5, clean_caption=False),
    specimen("IFImg2ImgPipeline", _t5, image=_image, clean_caption=False, strength=1.0),
    specimen("IFInpaintingPipeline", _t5, image=_image, mask_image=_mask, clean_caption=False),
    specimen("IFSuperResolutionPipeline", _t5_super, image=_half, clean_caption=False),
    specimen(
        "IFImg2ImgSuperResolutionPipeline",
        _t5_super,
        image=_half,
        original_image=_image,
        clean_caption=False,
        strength=1.0,
    ),
    specimen(
        "IFInpaintingSuperResolutionPipeline",
        _t5_super,
        image=_half,
        original_image=_image,
        mask_image=_mask,
        clean_caption=False,
        strength=1.0,
    ),
)
NOT_BUILT: dict[str, str] = {}
