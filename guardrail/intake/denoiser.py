"""The denoising networks of a pipeline: which they are, and the pair of predictions that guidance is made of."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from guardrail.carriers import Unread

__all__ = ["denoisers_of", "gap_of", "listen_to", "prediction_of"]

_NO_DENOISERS = ("controlnet", "adapter", "encoder", "vae", "vq", "safety", "upsampler", "enhancer")
_TIMES = {"timestep", "timesteps", "timestep_ratio", "t", "r"}  # how denoisers call the time in their forward
_TEXT_AND_IMAGE = {"DreamLitePipeline": (1, 2)}  # which thirds differ in the text alone; of all others the first two


def denoisers_of(components: Mapping[str, Any]) -> tuple[torch.nn.Module, ...]:
    """The networks among a pipeline's components that take a time: a U-Net, one or two transformers, a prior."""
    found = {
        id(module): module
        for name, module in components.items()
        if isinstance(module, torch.nn.Module) and not any(word in name for word in _NO_DENOISERS)
    }
    return tuple(module for module in found.values() if _takes_time(module))


def _takes_time(module: torch.nn.Module) -> bool:
    inner = getattr(module, "_orig_mod", module)  # of a compiled module
    try:
        return bool(_TIMES & set(inspect.signature(type(inner).forward).parameters))
    except (TypeError, ValueError):
        return False


def listen_to(modules: Sequence[torch.nn.Module], heard: Callable[[torch.Tensor], None]) -> Callable[[], None]:
    """Call `heard` with every prediction of some networks; returns what takes the hooks off again.

    The hooks return nothing, so that what the networks return stays as it is.
    """

    def hook(module: torch.nn.Module, given: Any, returned: Any) -> None:
        del module, given
        prediction = prediction_of(returned)
        if prediction is not None:
            heard(prediction)

    handles = [module.register_forward_hook(hook) for module in modules]

    def stop() -> None:
        for handle in handles:
            handle.remove()

    return stop


def prediction_of(returned: Any) -> torch.Tensor | None:
    """The prediction, (B, ...), in what a network returned: a tensor, an output object, a tuple or list of them."""
    if isinstance(returned, torch.Tensor):
        return returned
    if isinstance(returned, dict):
        returned = next(iter(returned.values()), None)
        return prediction_of(returned)
    if isinstance(returned, tuple) and returned:
        return prediction_of(returned[0])
    if isinstance(returned, list) and returned and all(isinstance(one, torch.Tensor) for one in returned):
        return torch.stack(returned) if len({one.shape for one in returned}) == 1 else None
    return None


def gap_of(pipe: Any, heard: Sequence[torch.Tensor], like: torch.Tensor) -> torch.Tensor | Unread:
    """How far the conditional prediction of each image lies from the unconditional one, at one step.

    Args:
        pipe: the pipeline, for which predictions it makes.
        heard: the predictions since the last step, in order: one of 2 B images, or of 3 B (text, image and neither, or
            text, neither and a perturbed one), or the first two of B.
        like: the latents of the step, (B, C, ...), float.

    Returns:
        float32 (B,), the Euclidean length of the difference over all values of an image, >= 0, on the device of the
        predictions; or why there is no pair.

    Source: Wen, Liu, Chen and Lyu, "Detecting, explaining, and mitigating memorization in diffusion models", 2024,
    section 3: the magnitude of the text-conditional noise prediction.
    """
    if not heard:
        return Unread("the network made no prediction that could be seen at this step")
    count = len(like)
    first = heard[0]
    if len(first) == count:
        if len(heard) < 2 or heard[1].shape != first.shape:
            return Unread("one prediction a step: guidance is off, or built into the model")
        return _length(first, heard[1], like)
    parts = len(first) // count if len(first) % count == 0 else 0
    if parts == 2 and _says(pipe, "do_perturbed_attention_guidance") and not _says(pipe, "do_classifier_free_guidance"):
        return Unread("the second prediction is of perturbed attention, not without the condition")
    if parts not in (2, 3):
        return Unread(f"a prediction of {len(first)} images at a step of {count}")
    chunks = first.chunk(parts)
    one, other = _TEXT_AND_IMAGE.get(type(pipe).__name__, (0, 1)) if parts == 3 else (0, 1)
    return _length(chunks[one], chunks[other], like)


def _says(pipe: Any, name: str) -> bool:
    return bool(getattr(pipe, name, False))


def _length(one: torch.Tensor, other: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The length of the difference, without a variance that is predicted beside the noise."""
    if one.ndim == like.ndim > 2 and one.shape[1] == 2 * like.shape[1]:
        one, other = one[:, : like.shape[1]], other[:, : like.shape[1]]
    length: torch.Tensor = torch.linalg.vector_norm((one - other).flatten(1).float(), dim=1)
    return length
