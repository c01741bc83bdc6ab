"""Modular pipelines, put together from the components of the classic ones beside them."""

import importlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import diffusers
import torch

from .parts_transformers import at_32_px, qwen3_vl
from .parts_transformers_vae import flow, unipc_flow
from .specimen import Specimen, generator, picture

__all__ = ["MODULAR", "NOT_BUILT", "SPECIMENS"]

_HOMES = ("flux", "sd3", "qwen", "z_image", "more", "wan", "video", "hunyuan", "ltx2", "cosmos")


@cache
def _classics() -> dict[str, Specimen]:
    """The classic pipelines, by the name of their class."""
    homes = [importlib.import_module(f"{__package__}.transformers_{home}") for home in _HOMES]
    homes.append(importlib.import_module(f"{__package__}.sdxl"))
    return {specimen.name: specimen for home in homes for specimen in home.SPECIMENS}


def _modular(
    name: str,
    classic: str,
    call: Callable[[], dict[str, Any]],
    more: Callable[[], dict[str, Any]] = dict,
    **said: Any,
) -> Specimen:
    """A modular pipeline with the components of a classic one, and more that it has not."""

    def build() -> Any:
        pipe = getattr(diffusers, name)()
        found = {**_classics()[classic].build().components, **more()}
        known = (*pipe._component_specs, *pipe._config_specs)
        pipe.update_components(**{part: found[part] for part in known if found.get(part) is not None})
        if hasattr(pipe, "disable_safety_checker"):
            pipe.disable_safety_checker()
        if "qwenimage" in type(pipe).__module__:
            at_32_px("diffusers.modular_pipelines.qwenimage.encoders")
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval()
        return pipe

    return Specimen(name, build, call, **said)


def _call(**more: Any) -> dict[str, Any]:
    return {
        "prompt": "a red fox",
        "height": 32,
        "width": 32,
        "num_inference_steps": 2,
        "generator": generator(),
        **more,
    }


def _short(**more: Any) -> dict[str, Any]:
    return _call(max_sequence_length=16, **more)


def _film(**more: Any) -> dict[str, Any]:
    return _short(num_frames=5, **more)


def _stepless(**more: Any) -> dict[str, Any]:
    return {name: value for name, value in _film(**more).items() if name != "num_inference_steps"}


def _chunked(**more: Any) -> dict[str, Any]:
    return _film(num_latent_frames_per_chunk=2, history_sizes=[4, 2, 1], **more)


def _pyramid() -> dict[str, Any]:
    return _stepless(
        num_latent_frames_per_chunk=2, history_sizes=[4, 2, 1], pyramid_num_inference_steps_list=[1, 1, 1]
    ) | {
        "height": 64,
        "width": 64,
    }


def _sizeless(**more: Any) -> dict[str, Any]:
    return {name: value for name, value in _call(**more).items() if name not in ("height", "width")}


def _unipc() -> dict[str, Any]:
    return {"scheduler": unipc_flow()}


def _second(kind: str = "WanTransformer3DModel") -> dict[str, Any]:
    """The second transformer of Wan 2.2, like the first."""
    classic = {"WanTransformer3DModel": "WanPipeline", "WanVACETransformer3DModel": "WanVACEPipeline"}[kind]
    return {**_unipc(), "transformer_2": _classics()[classic].build().components["transformer"]}


def _like(classic: str, **said: Any) -> Any:
    """The transformer of a classic pipeline with some of its config said otherwise."""
    model = _classics()[classic].build().components["transformer"]
    return type(model).from_config({**model.config, **said})


def _both_seeing() -> dict[str, Any]:
    """Both transformers take the latents of a picture and its mask beside their own."""
    models = {name: _like("WanPipeline", in_channels=36) for name in ("transformer", "transformer_2")}
    return {**_unipc(), **models}


def _distilled() -> dict[str, Any]:
    return {"scheduler": diffusers.HeliosDMDScheduler(gamma=0.25)}


def _few_steps() -> dict[str, Any]:
    return {"scheduler": flow(), "distilled_sigmas": [1.0, 0.5]}


def _deep_reader() -> dict[str, Any]:
    """A text encoder with every layer that the blocks read."""
    from diffusers.modular_pipelines.krea2.encoders import KREA2_TEXT_ENCODER_SELECT_LAYERS as READ

    return {
        "text_encoder": qwen3_vl(layers=max(READ) + 1, kind="Qwen3VLModel"),
        "transformer": _like("Krea2Pipeline", num_text_layers=len(READ)),
    }


_of_film = partial(_modular, returns="frames")
MODULAR = (
    _modular("FluxModularPipeline", "FluxPipeline", partial(_short, guidance_scale=3.0)),
    _modular(
        "FluxKontextModularPipeline",
        "FluxKontextPipeline",
        lambda: _short(image=picture(), guidance_scale=3.0, max_area=32 * 32, _auto_resize=False),
    ),
    _modular("Flux2ModularPipeline", "Flux2Pipeline", partial(_short, text_encoder_out_layers=(1, 2, 3))),
    _modular("Flux2KleinModularPipeline", "Flux2KleinPipeline", partial(_short, text_encoder_out_layers=(1, 2, 3))),
    _modular("Flux2KleinBaseModularPipeline", "Flux2KleinPipeline", partial(_short, text_encoder_out_layers=(1, 2, 3))),
    _modular("StableDiffusion3ModularPipeline", "StableDiffusion3Pipeline", _short),
    _modular("StableDiffusionXLModularPipeline", "StableDiffusionXLPipeline", _call),
    _modular("QwenImageModularPipeline", "QwenImagePipeline", _short),
    _modular("QwenImageEditModularPipeline", "QwenImageEditPipeline", lambda: _call(image=picture())),
    _modular("QwenImageEditPlusModularPipeline", "QwenImageEditPlusPipeline", lambda: _call(image=[picture()])),
    _modular(
        "QwenImageLayeredModularPipeline",
        "QwenImageLayeredPipeline",
        lambda: _sizeless(image=picture().convert("RGBA"), layers=2),
    ),
    _modular("QwenImage21ModularPipeline", "QwenImage21Pipeline", _call),
    _modular("QwenImage21TurboModularPipeline", "QwenImage21Pipeline", _call),
    _modular("Krea2ModularPipeline", "Krea2Pipeline", _short, _deep_reader),
    _modular("Krea2TurboModularPipeline", "Krea2Pipeline", _short, _deep_reader),
    _modular(
        "Ideogram4ModularPipeline",
        "Ideogram4Pipeline",
        partial(_call, max_sequence_length=256, guidance_schedule=[4.0, 4.0]),
    ),
    _modular("ErnieImageModularPipeline", "ErnieImagePipeline", _call),
    _modular("ZImageModularPipeline", "ZImagePipeline", partial(_call, max_sequence_length=64)),
    _of_film("WanModularPipeline", "WanPipeline", _film, _unipc),
    _of_film("WanImage2VideoModularPipeline", "WanImageToVideoPipeline", lambda: _film(image=picture()), _unipc),
    _of_film("Wan22ModularPipeline", "WanPipeline", _film, _second),
    _of_film("Wan22Image2VideoModularPipeline", "WanPipeline", lambda: _film(image=picture()), _both_seeing),
    _of_film(
        "Wan22VaceModularPipeline",
        "WanVACEPipeline",
        lambda: _film(video=[picture(seed=seed) for seed in range(5)]),
        partial(_second, "WanVACETransformer3DModel"),
    ),
    _of_film("LTXModularPipeline", "LTXPipeline", lambda: _film() | {"num_frames": 9}),
    _of_film("LTX2ModularPipeline", "LTX2Pipeline", _film),
    _of_film("EchoModularPipeline", "LTX2Pipeline", _stepless),
    _of_film("HunyuanVideo15ModularPipeline", "HunyuanVideo15Pipeline", partial(_call, num_frames=5)),
    _of_film("HeliosModularPipeline", "HeliosPipeline", _chunked),
    _of_film(
        "HeliosPyramidModularPipeline",
        "HeliosPyramidPipeline",
        _pyramid,
    ),
    _of_film(
        "HeliosPyramidDistilledModularPipeline",
        "HeliosPyramidPipeline",
        _pyramid,
        _distilled,
    ),
    _of_film("Cosmos3OmniModularPipeline", "Cosmos3OmniPipeline", lambda: _call(num_frames=5)),
    _of_film("Cosmos3DistilledModularPipeline", "Cosmos3OmniPipeline", lambda: _call(num_frames=5), _few_steps),
)
SPECIMENS: tuple[Specimen, ...] = ()
NOT_BUILT = {
    "AnimaModularPipeline": "modular; its text conditioner has no tiny twin here yet",
    "Flux3DistilledModularPipeline": "modular; Flux 3 has no classic pipeline and no tiny parts here yet",
    "Flux3ModularPipeline": "modular; Flux 3 has no classic pipeline and no tiny parts here yet",
    "LTX25ModularPipeline": "modular; its diffusion decoder needs larger films than are quick to make",
    "MiniMaxH3ModularPipeline": "modular; it has no classic pipeline and no tiny parts here yet",
    "MiniMaxMusic3ModularPipeline": "returns audio",
    "WanAnimate2DistilledModularPipeline": "modular; Wan Animate 2 has no classic pipeline and no tiny parts here yet",
    "WanAnimate2ModularPipeline": "modular; Wan Animate 2 has no classic pipeline and no tiny parts here yet",
}
