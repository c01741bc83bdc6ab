"""Read how a model is run: before the call from pipeline and arguments, after it from what the pipeline kept.

What cannot be read is named in `unread` with the reason; nothing is guessed.
"""

import hashlib
import inspect
import weakref
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from PIL import Image

from guardrail.errors import ImageUnreadable
from guardrail.intake.pixels import from_pillow
from guardrail.records import Adapter, GenerationContext

__all__ = ["finish_context", "read_context"]

_PROMPTS = ("prompt", "prompt_2", "prompt_3", "negative_prompt", "negative_prompt_2", "negative_prompt_3")
_DENOISERS = ("unet", "transformer", "prior", "decoder")
_LIBRARIES = ("diffusers", "torch", "transformers", "peft")
_LARGEST_DIGESTED_BYTES = 2**30  # above this, reading all weights would be felt in every first call

_digests: "weakref.WeakKeyDictionary[torch.nn.Module, tuple[int, str]]" = weakref.WeakKeyDictionary()


def read_context(
    pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> GenerationContext:
    """What is known of a run before it begins.

    Args:
        pipe: the pipeline.
        call: its own `__call__`, bound, by whose signature positional arguments are named.
        args: what the caller passed in order.
        kwargs: what the caller passed by name.
    """
    unread: list[str] = []
    said = _arguments(call, args, kwargs, unread)
    config = getattr(pipe, "config", {})
    return GenerationContext(
        pipeline=type(pipe).__name__,
        model_id=str(config.get("_name_or_path") or "") or None,
        scheduler=type(pipe.scheduler).__name__ if getattr(pipe, "scheduler", None) is not None else None,
        weights_sha256=_weights_digest(pipe, unread),
        adapters=_adapters(pipe, unread),
        prompts={name: _texts(said[name]) for name in _PROMPTS if said.get(name)},
        guidance_scale=_number(said.get("guidance_scale")),
        steps=int(said["num_inference_steps"]) if isinstance(said.get("num_inference_steps"), int) else None,
        strength=_number(said.get("strength")),
        seed=_seed(said.get("generator"), unread),
        init_image_sha256=_image_digest(said.get("image"), unread),
        versions={name: found for name in _LIBRARIES if (found := _version(name))},
        unread=tuple(unread),
    )


def finish_context(context: GenerationContext, pipe: Any) -> GenerationContext:
    """The same run, with what is only known afterwards: the steps really taken."""
    timesteps = getattr(getattr(pipe, "scheduler", None), "timesteps", None)
    if context.steps is not None or timesteps is None:
        return context
    return context.model_copy(update={"steps": len(timesteps)})


def _arguments(
    call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], unread: list[str]
) -> Mapping[str, Any]:
    try:
        bound = inspect.signature(call).bind(*args, **kwargs)
        bound.apply_defaults()
    except (TypeError, ValueError) as error:
        unread.append(f"arguments: {error}")
        return kwargs
    return {**bound.arguments, **bound.arguments.get("kwargs", {})}


def _texts(value: Any) -> str | tuple[str, ...]:
    return tuple(str(text) for text in value) if isinstance(value, list | tuple) else str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _seed(generator: Any, unread: list[str]) -> int | None:
    """The seed of one generator. It names the run only while nothing was drawn from the generator before."""
    if isinstance(generator, torch.Generator):
        return generator.initial_seed()
    unread.append("seed: several generators" if generator else "seed: no generator was passed")
    return None


def _image_digest(image: Any, unread: list[str]) -> str | None:
    """Digest of the RGB pixels of one input image."""
    if image is None:
        return None
    try:
        if isinstance(image, Image.Image):
            pixels = from_pillow("init image", image)
            head = f"{pixels.shape[2]}x{pixels.shape[1]}:".encode()
            return hashlib.sha256(head + pixels.permute(1, 2, 0).contiguous().numpy().tobytes()).hexdigest()
    except (ImageUnreadable, OSError) as error:
        unread.append(f"init image: {error}")
        return None
    unread.append(f"init image: a {type(image).__name__}")
    return None


def _weights_digest(pipe: Any, unread: list[str]) -> str | None:
    """Digest over names, shapes and bytes of the denoiser's weights, kept until a weight changes."""
    module = next(
        (found for name in _DENOISERS if isinstance(found := getattr(pipe, name, None), torch.nn.Module)), None
    )
    if module is None:
        unread.append(f"weights: the pipeline has none of {', '.join(_DENOISERS)}")
        return None
    state = module.state_dict()
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > _LARGEST_DIGESTED_BYTES:
        unread.append(f"weights: {size} bytes are more than are digested at each run")
        return None
    if any(tensor.is_meta for tensor in state.values()):
        unread.append("weights: offloaded")
        return None
    changes = _changes(state)
    kept = _digests.get(module)
    if kept is None or kept[0] != changes:
        digest = hashlib.sha256()
        for name, tensor in sorted(state.items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        kept = (changes, digest.hexdigest())
        _digests[module] = kept
    return kept[1]


def _changes(state: Mapping[str, torch.Tensor]) -> int:
    """A number that differs when weights do: torch's own change counts, and values sampled from each tensor."""
    sampled = [tuple(tensor.reshape(-1)[:: max(1, tensor.numel() // 8)].tolist()) for tensor in state.values()]
    return hash((sum(tensor._version for tensor in state.values()), tuple(sampled)))


def _adapters(pipe: Any, unread: list[str]) -> tuple[Adapter, ...]:
    """Adapters that are on, read from the PEFT layers themselves (the pipeline's own list forgets some)."""
    weights: dict[str, float | None] = {}
    for component in getattr(pipe, "components", {}).values():
        if isinstance(component, torch.nn.Module) and getattr(component, "peft_config", None):
            for module in component.modules():
                if not getattr(module, "disable_adapters", True):
                    weights |= _weights_of(module)
    if getattr(pipe, "fused_loras", None):
        unread.append(f"fused adapters: {', '.join(sorted(pipe.fused_loras))}")
    if weights:
        unread.append("adapters: their sha256")
    return tuple(Adapter(name=name, weight=weight) for name, weight in sorted(weights.items()))


def _weights_of(layer: Any) -> dict[str, float | None]:
    """Weight of each active adapter of one LoRA layer: its scaling over the trained one (alpha / rank)."""
    found: dict[str, float | None] = {}
    for name in getattr(layer, "active_adapters", ()):
        rank, alpha = getattr(layer, "r", {}).get(name), getattr(layer, "lora_alpha", {}).get(name)
        scaling = getattr(layer, "scaling", {}).get(name)
        found[name] = round(scaling / (alpha / rank), 6) if rank and alpha and scaling is not None else None
    return found


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
