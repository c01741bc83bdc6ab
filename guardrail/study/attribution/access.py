"""A diffusers pipeline in; its denoiser, pictures and conditions as the denoiser is given them out.

Conditions come from the pipeline itself: it is called, and stopped before its denoiser runs, so that prompts, sizes and
labels are prepared as for a picture.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.functions import Noising, noising_of
from guardrail.study.attribution.gradients import predictor_of
from guardrail.study.attribution.latents import encoded, side_to_latent

__all__ = ["PipelineAccess"]

_SAMPLES = ("hidden_states", "sample", "x")  # what networks call the noisy image they are given
_TIMES = ("timestep", "timesteps", "t")
_KEPT_CONDITIONS = 256  # captions whose conditions are kept: 250 MB at 77 x 2048 numbers
_STEPS = 2  # the call is stopped before the first; some schedulers refuse a single one
_SCALES = (1.0, 1e-3)  # by which pipelines multiply a timestep before the network is given it
_SCALE_WITHIN = 0.02
_TOKENS, _IMAGE = 3, 4  # dimensions of a batch


class _Stopped(Exception):
    """Raised before the denoiser runs: no error, the pipeline did all that was wanted."""


class _Given(NamedTuple):
    """What a denoiser was given by its pipeline."""

    sample: torch.Tensor
    sample_name: str
    time_name: str
    time_scale: float
    time_floats: bool
    conditions: dict[str, Any]


class _Asked(torch.nn.Module):
    """A denoiser that is called as `network(noisy, steps, return_dict=False, **conditions)` whatever it calls them."""

    def __init__(self, network: torch.nn.Module, given: _Given) -> None:
        super().__init__()
        self.network, self._given = network, given

    def forward(self, noisy: torch.Tensor, steps: torch.Tensor, **conditions: Any) -> Any:
        """Ask it.

        Raises:
            AttributionImpossible: it takes no other batch than its pipeline's.
        """
        at = (steps * self._given.time_scale).to(noisy) if self._given.time_floats else steps
        try:
            return self.network(**{self._given.sample_name: noisy, self._given.time_name: at, **conditions})
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise AttributionImpossible(
                type(self.network).__name__,
                f"{type(error).__name__} when it was asked about several noisy images ({error})",
                "a denoiser that takes any batch without guidance",
                "take out what guides it, such as perturbed attention (PAG)",
            ) from error


class PipelineAccess:
    """The denoiser of a diffusers pipeline that makes still pictures, with pictures and conditions as it is given them.

    Understood are a `unet` or `transformer` that denoises pixels, latents (B, C, H, W) or, as Flux, tokens (B, L, C),
    whose scheduler adds noise by `alphas_cumprod` or is a flow. Guidance is off: the denoiser is asked with the
    condition alone.

    Args:
        pipeline: without a guard around it, since it is called; afterwards it is as it was.
        device: where it runs.
        side_px: of the square pictures it is asked about; default: what the pipeline makes unasked.

    Raises:
        AttributionImpossible: it is of a kind that is not understood.
    """

    def __init__(self, pipeline: Any, device: str = "cpu", side_px: int | None = None) -> None:
        self._pipeline, self._device, self._asked_px = pipeline, torch.device(device), side_px
        self._taken = inspect.signature(type(pipeline).__call__).parameters
        self._kept: dict[tuple[str | None, int | None], dict[str, Any]] = {}
        self.network = self._denoiser()
        self.noising: Noising = noising_of(getattr(pipeline, "scheduler", None))
        given = self._given("" if "prompt" in self._taken else None, 0 if "class_labels" in self._taken else None)
        self._shape = tuple(given.sample.shape[1:])
        self.asked = _Asked(self.network, given)
        self._side_px = side_px or side_to_latent(pipeline, self._shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image as the network is given it: (C, H, W), or (L, C) where it is given tokens."""
        return self._shape

    @property
    def side_px(self) -> int:
        """The side of the square pictures that `encode` takes."""
        return self._side_px

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self._device

    @property
    def name(self) -> str:
        """Of the pipeline, for messages."""
        return type(self._pipeline).__name__

    def encode(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """A picture as the network is given it, the same every time: by the mode of what a VAE says, not by a draw.

        Args:
            pixels: uint8 (S, S, 3), RGB; S is `side_px`.

        Returns:
            float32 of `shape`, on the device.

        Raises:
            AttributionImpossible: the pipeline turns pictures of that size into another shape.
        """
        try:
            clean = encoded(self._pipeline, pixels, self._shape, self._device)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            found = f"{type(error).__name__} when a picture was encoded ({error})"
            raise self._refused(found, "a VAE that takes one", "give another pipeline") from error
        if tuple(clean.shape) != self._shape:
            raise self._refused(
                f"pictures of {pixels.shape[0]} px that become {tuple(clean.shape)}",
                f"{self._shape}, as the denoiser is given",
                "name the side it was trained at with side_px",
            )
        return clean

    def conditions(self, caption: str | None = None, label: int | None = None) -> dict[str, Any]:
        """What the denoiser is given besides the noisy image and the timestep, as for a batch of one.

        Args:
            caption: what the picture was made from or is described by; None: the empty one.
            label: its class; None: class 0, where there are classes.
        """
        key = (caption, label)
        if key not in self._kept:
            if len(self._kept) >= _KEPT_CONDITIONS:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = self._given(caption, label).conditions
        return self._kept[key]

    @torch.no_grad()
    def predict(self, noisy: torch.Tensor, steps: torch.Tensor, conditions: Mapping[str, Any]) -> torch.Tensor:
        """What the denoiser predicts, as it was trained to, without guidance.

        Args:
            noisy: float (K, *shape).
            steps: timesteps (K,), as `noising.at` gives them.
            conditions: of `conditions`.

        Returns:
            float32 (K, *shape), and further channels where the variance is predicted, too.
        """
        return predictor_of(self.asked, len(noisy), conditions)(noisy.to(self._device), steps.to(self._device)).float()

    def weights_sha256(self, parameters: Mapping[str, torch.nn.Parameter]) -> str:
        """sha256 over names, shapes and values of parameters; the same in half precision as in float32, if exact."""
        digest = hashlib.sha256()
        for name, parameter in sorted(parameters.items()):
            digest.update(f"{name}:{tuple(parameter.shape)}:".encode())
            digest.update(parameter.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        return digest.hexdigest()

    # --- calling the pipeline, and stopping it ----------------------------------------------------------------------

    def _given(self, caption: str | None, label: int | None) -> _Given:
        """What the denoiser is given when the pipeline is called with a caption or label."""
        caught: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def stop(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            caught.append((args, kwargs))
            raise _Stopped

        processors = dict(getattr(self.network, "attn_processors", None) or {})
        hook = self.network.register_forward_pre_hook(stop, with_kwargs=True, prepend=True)
        try:
            self._pipeline(**self._call(caption, label))
        except _Stopped:
            pass
        except Exception as error:  # pipelines raise anything; whatever it was, it did not come to its denoiser
            raise self._refused(
                f"{type(error).__name__} when it was called ({error})",
                "a call with the caption or label alone",
                "try the same call by hand",
            ) from error
        finally:
            hook.remove()
            if processors and list(self.network.attn_processors.values()) != list(processors.values()):  # type: ignore[operator]
                self.network.set_attn_processor(processors)  # type: ignore[operator]  # which a whole call gives back
            if hasattr(self._pipeline, "maybe_free_model_hooks"):
                self._pipeline.maybe_free_model_hooks()  # as at the end of a call: text encoders leave the GPU
        if not caught:
            raise self._refused("a call that never came to its denoiser", "one that does", "give another pipeline")
        return self._named(*caught[0])

    def _call(self, caption: str | None, label: int | None) -> dict[str, Any]:
        """The smallest call that prepares everything: one picture, no guidance, nothing decoded."""
        said: dict[str, Any] = {
            "prompt": caption or "",
            "class_labels": [label or 0],
            "batch_size": 1,
            "num_inference_steps": _STEPS,
            "guidance_scale": 1.0,
            "pag_scale": 0.0,
            "height": self._asked_px,
            "width": self._asked_px,
            "output_type": "latent",
            "use_resolution_binning": False,
            "generator": torch.Generator().manual_seed(0),  # the caller's own noise is left alone
        }
        if "prompt" in self._taken:
            del said["batch_size"]
        return {name: one for name, one in said.items() if name in self._taken and one is not None}

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Given:
        """What was given, by name; of a pair for guidance, the half with the condition."""
        bound = inspect.signature(self.network.forward).bind(*args, **kwargs)
        given: dict[str, Any] = {**bound.arguments, **bound.arguments.get("kwargs", {})}
        given.pop("kwargs", None)
        sample_name, time_name = self._one_of(_SAMPLES, given), self._one_of(_TIMES, given)
        sample, at = given.pop(sample_name), given.pop(time_name)
        if not isinstance(sample, torch.Tensor) or sample.ndim not in (_TOKENS, _IMAGE):
            found = f"images of {tuple(sample.shape)}" if isinstance(sample, torch.Tensor) else type(sample).__name__
            raise self._refused(found, "(B, C, H, W) or tokens (B, L, C)", "films are not attributed yet")
        batch = len(sample)
        conditions = {name: _last_of(one, batch) for name, one in given.items() if name != "return_dict"}
        times = torch.as_tensor(at)
        scale = self._time_scale(float(times.flatten()[0]))
        floats = times.is_floating_point()
        return _Given(sample[-1:], sample_name, time_name, scale, floats, {**conditions, "return_dict": False})

    def _time_scale(self, found: float) -> float:
        first = float(self._pipeline.scheduler.timesteps[0])
        ratio = found / first if first else 1.0
        scale = next((one for one in _SCALES if abs(ratio / one - 1) <= _SCALE_WITHIN), None)
        if scale is None:
            raise self._refused(
                f"a denoiser that is given {found:g} for timestep {first:g}",
                "the timestep, or a thousandth",
                "none is known",
            )
        return scale

    def _one_of(self, names: tuple[str, ...], given: Mapping[str, Any]) -> str:
        found = next((name for name in names if name in given), None)
        if found is None:
            raise self._refused(
                f"a denoiser that takes {', '.join(given)}", " or ".join(names), "give another pipeline"
            )
        return found

    def _denoiser(self) -> torch.nn.Module:
        for name in ("unet", "transformer"):
            found = getattr(self._pipeline, name, None)
            if isinstance(found, torch.nn.Module):
                return found
        raise self._refused("no unet and no transformer", "one of them", "give a diffusers pipeline that denoises")

    def _refused(self, found: str, expected: str, do: str) -> AttributionImpossible:
        return AttributionImpossible(self.name, found, expected, do)


def _last_of(condition: Any, batch: int) -> Any:
    """The last of a batch: the half with the condition, where a pipeline asks without one, too."""
    if isinstance(condition, torch.Tensor):
        mine = batch > 1 and condition.ndim > 0 and len(condition) == batch
        return (condition[-1:] if mine else condition).detach()
    if isinstance(condition, dict):
        return {name: _last_of(one, batch) for name, one in condition.items()}
    if isinstance(condition, list | tuple):
        return type(condition)(_last_of(one, batch) for one in condition)
    return condition
