"""Latents that a caller asked for in, the pictures they decode to out: what is handed on undecoded is looked at too.

Latents of 1, 3 or 4 channels look like pictures, so it is the words of the call (`output_type`) and the value together
that say what came back: several classes ignore the words and return a finished picture.
"""

import dataclasses
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.utils import BaseOutput

from guardrail.errors import OutputNotUnderstood
from guardrail.intake.calls import BoundCall
from guardrail.intake.outputs import NO_PICTURES

__all__ = ["RandomState", "asked_for_latents", "decoded_latents", "latents_in", "put_into_latents"]

_CALLBACKS = ("callback_on_step_end", "callback")  # the caller's own
_LATENT_AXES = (3, 4, 5)  # packed, of a picture, of a video
log = logging.getLogger("guardrail.intake")


@dataclass(frozen=True, slots=True)
class RandomState:
    """Where random numbers stood: the generators of a call, torch's own on every device, NumPy's and Python's."""

    generators: tuple[tuple[torch.Generator, torch.Tensor], ...]
    cpu: torch.Tensor
    cuda: tuple[torch.Tensor, ...]
    numpy: Any
    python: Any

    @classmethod
    def now(cls, said: Mapping[str, Any]) -> "RandomState":
        """The state before (or after) a call with these arguments."""
        given = said.get("generator")
        generators = given if isinstance(given, list | tuple) else (given,)
        return cls(
            generators=tuple((one, one.get_state()) for one in generators if isinstance(one, torch.Generator)),
            cpu=torch.get_rng_state(),
            cuda=tuple(torch.cuda.get_rng_state_all()) if _uses_cuda() else (),
            numpy=np.random.get_state(),
            python=random.getstate(),
        )

    def restore(self) -> None:
        """Let every random number be drawn again."""
        for generator, state in self.generators:
            generator.set_state(state)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(list(self.cuda))
        np.random.set_state(self.numpy)
        random.setstate(self.python)


def _uses_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def asked_for_latents(said: Mapping[str, Any]) -> bool:
    """Whether the arguments of a call, defaults included, ask for latents."""
    word = said.get("output_type")
    return isinstance(word, str) and word.startswith("latent")


def latents_in(output: Any) -> torch.Tensor | None:
    """The latents in an output whose caller asked for them; None where it holds finished pictures.

    Args:
        output: what the pipeline returned: a diffusers output, a tuple, or the tensor itself.

    Raises:
        OutputNotUnderstood: there are several tensors, and nobody knows which are the latents.
    """
    tensors = [value for value in _shown_values(output) if isinstance(value, torch.Tensor)]
    if not tensors and not any(map(_holds_tensors, _shown_values(output))):
        return None
    if len(tensors) != 1 or tensors[0].ndim not in _LATENT_AXES or any(map(_holds_tensors, _shown_values(output))):
        raise OutputNotUnderstood(f"a {type(output).__name__}", "several tensors or none with a batch of latents")
    beside = [value for value in _shown_values(output) if value is not tensors[0]]
    if not all(map(_is_plain, beside)):
        raise OutputNotUnderstood(f"a {type(output).__name__}", "latents, and something else that may show a picture")
    return tensors[0]


def put_into_latents(output: Any, latents: torch.Tensor, withheld: Sequence[int]) -> Any:
    """The output, made anew with our own copy of its latents, those that are withheld set to zero.

    Args:
        output: what the pipeline returned; it is not written to.
        latents: (B, ...), the copy.
        withheld: places along the first axis.
    """
    kept = latents.clone()
    kept[list(withheld)] = 0
    if isinstance(output, BaseOutput):
        fresh = {name: kept if isinstance(value, torch.Tensor) else value for name, value in _fields(output)}
        return dataclasses.replace(output, **fresh)
    if isinstance(output, tuple | list):
        return type(output)(kept if isinstance(value, torch.Tensor) else value for value in output)
    return kept


def decoded_latents(asked: BoundCall, before: RandomState, latents: torch.Tensor) -> Any:
    """The pictures that latents stand for, one or more for each along their first axis.

    Latents of a plain KL autoencoder are decoded by it, as the pipeline would; for all others (packed, of videos, of
    other codecs) the call is made once more for pictures, with every random number as it was.

    Args:
        asked: the call.
        before: the random state before it; afterwards it is as it was when this was called.
        latents: what came back, (B, C, H, W) or any other shape with the batch first.

    Returns:
        float32 (B, 3, H, W) in 0..1, or an output of the pipeline.

    Raises:
        OutputNotUnderstood: the call has a callback of the caller's own, which may have changed these latents and
            need not do so again.
        Exception: whatever the pipeline raises when it is called again.
    """
    pictures = _by_autoencoder(asked.pipe, latents)
    if pictures is not None:
        return pictures
    if any(asked.said.get(name) for name in _CALLBACKS):
        raise OutputNotUnderstood("latents", "what the caller's own callback may have changed")
    log.info("latents of shape %s are looked at by making the call again for pictures", tuple(latents.shape))
    after = RandomState.now(asked.said)
    before.restore()
    try:
        return asked.changed(output_type="pil")
    finally:
        after.restore()


def _fields(output: BaseOutput) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in output.items() if name not in NO_PICTURES]


def _shown_values(output: Any) -> list[Any]:
    """The values of an output that may be latents."""
    if isinstance(output, BaseOutput):
        return [value for _, value in _fields(output)]
    return list(output) if isinstance(output, tuple | list) else [output]


def _is_plain(value: Any) -> bool:
    """Whether a value beside latents shows nothing: flags, numbers, a word or two."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | np.bool_)


def _holds_tensors(value: Any) -> bool:
    """Whether tensors lie deeper in a value, where they are not looked for."""
    if isinstance(value, list | tuple):
        return any(isinstance(item, torch.Tensor) or _holds_tensors(item) for item in value)
    return isinstance(value, dict) and any(_holds_tensors([item]) for item in value.values())


@torch.inference_mode()
def _by_autoencoder(pipe: Any, latents: torch.Tensor) -> torch.Tensor | None:
    vae = getattr(pipe, "vae", None)
    if not isinstance(vae, AutoencoderKL) or latents.ndim != 4 or latents.shape[1] != vae.config.latent_channels:
        return None
    config, dtype = vae.config, vae.dtype
    mean, std = (_of_channels(getattr(config, name, None), latents) for name in ("latents_mean", "latents_std"))
    scaled = latents / config.scaling_factor
    if mean is not None and std is not None:
        scaled = scaled * std + mean
    elif getattr(config, "shift_factor", None):
        scaled = scaled + config.shift_factor
    if dtype == torch.float16 and getattr(config, "force_upcast", False):
        return None  # the pipeline knows how to change its type and back
    decoded = vae.decode(scaled.to(dtype)).sample.float()
    free = getattr(pipe, "maybe_free_model_hooks", None)
    if callable(free):
        free()
    return (decoded / 2 + 0.5).clamp(0, 1) if bool(torch.isfinite(decoded).all()) else None


def _of_channels(values: Any, latents: torch.Tensor) -> torch.Tensor | None:
    if values is None:
        return None
    return torch.tensor(values, device=latents.device, dtype=latents.dtype).view(1, -1, 1, 1)
