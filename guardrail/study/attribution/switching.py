"""A pipeline with adapters and a picture in, what each adapter had in it out: asked with and without, same noise."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.attribution_errors import AttributionImpossible
from guardrail.records import AdapterShare
from guardrail.study.attribution.access import PipelineAccess
from guardrail.study.attribution.draws import Draws, drawn_for
from guardrail.study.attribution.functions import Noising
from guardrail.study.attribution.shapley import ShapleyRule, Subset, shapley

__all__ = ["AdapterShares", "AskedAt", "Credited", "Pictured", "Switches", "WorthAt", "adapter_shares", "knowledge"]

_DENOISERS = ("unet", "transformer")
_IMAGE_DIMS = 3  # (C, H, W)
_WEIGHT_DIGITS = 6  # of weights: scaling over (alpha / rank) has the rounding of two divisions


class Pictured(NamedTuple):
    """A picture: uint8 (S, S, 3), RGB, as large as the pipeline makes them; and its caption or label."""

    pixels: NDArray[np.uint8]
    caption: str | None = None
    label: int | None = None


class Credited(NamedTuple):
    """Whose adapter it is: its digest, where it could be read, and its holder, where it is registered."""

    sha256: str | None = None
    holder: str = ""


@dataclass(frozen=True, slots=True)
class AskedAt:
    """Where a picture is asked.

    Attributes:
        draws: K pairs of timestep and noise, the timesteps spread over the schedule.
        seed: of the noise.
        device: where the pipeline runs.
    """

    draws: int = 32
    seed: int = 0
    device: str = "cpu"


class AdapterShares(NamedTuple):
    """Shares of adapters and of the base model in one picture, which add up to 1; and how many subsets were asked."""

    adapters: tuple[AdapterShare, ...]
    base_share: float
    asked: int


class Switches:
    """The adapters that are on in a pipeline, to be switched off and on again in their layers.

    Understood is whatever PEFT lays over layers (LoRA, LoHa, LoKr, DoRA, ...), of any part of the pipeline; one that
    lies over two parts is one. IP-Adapters, ControlNets and textual inversions are taken for a part of the base model.

    Args:
        pipeline: without a guard around it.
        weights: those of the run, by name, where the pipeline has others now. Adapters that it leaves out are off.

    Raises:
        AttributionImpossible: adapters are fused into the weights, or one of `weights` is not there.
    """

    def __init__(self, pipeline: Any, weights: Mapping[str, float] | None = None) -> None:
        self._parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
        self._name = type(pipeline).__name__
        self._layers: list[tuple[str, Any]] = [
            (part, layer)
            for part, module in self._parts.items()
            for layer in module.modules()
            if hasattr(layer, "adapter_layer_names") and hasattr(layer, "base_layer")
        ]
        self._weights = weights
        self._require_unfused(pipeline)
        self.names: tuple[str, ...] = self._those_on() if weights is None else self._those_named(weights)

    @property
    def over_text(self) -> bool:
        """Whether one lies over a part besides the denoiser, so that captions mean another thing without it."""
        return any(part not in _DENOISERS and set(self.names) & set(_laid_in(layer)) for part, layer in self._layers)

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each adapter that is on, as `set_adapters` takes it.

        Raises:
            AttributionImpossible: one's differs between layers, or is of a kind that has none.
        """
        found: dict[str, float] = {}
        for name in self.names:
            laid = {_weight_of(layer, name) for _, layer in self._layers if name in _laid_in(layer)}
            weight = next(iter(laid)) if len(laid) == 1 else None
            if weight is None:
                raise AttributionImpossible(
                    self._name,
                    f"an adapter {name!r} without one weight",
                    "the same in all layers",
                    "set it with set_adapters()",
                )
            found[name] = weight
        return found

    @contextmanager
    def only(self, names: Collection[str]) -> Iterator[None]:
        """Within, of the adapters that are on these alone are; afterwards, and after an error, all is as it was."""
        before = [
            (layer, layer._active_adapter, layer._disable_adapters, dict(_scaling(layer))) for _, layer in self._layers
        ]
        training = [(module, module.training) for part in self._parts.values() for module in part.modules()]
        try:
            for part in self._parts.values():
                part.eval()  # no dropout: the same picture is asked again
            for _, layer in self._layers:
                self._switch(layer, [name for name in self.names if name in names])
            yield
        finally:
            for layer, active, disabled, scaling in before:
                layer._active_adapter, layer._disable_adapters = active, disabled
                _scaling(layer).update(scaling)
            for module, was in training:
                module.training = was

    def _switch(self, layer: Any, names: list[str]) -> None:
        """Leave some on in a layer; gradients are let alone, which PEFT's own switch would turn on."""
        if self._weights is not None:
            layer._disable_adapters = False
            layer._active_adapter = names
            for name in names:
                layer.set_scale(name, self._weights[name])
        elif not layer.disable_adapters:
            layer._active_adapter = [name for name in layer.active_adapters if name in names]

    def _those_on(self) -> tuple[str, ...]:
        on = {
            name
            for _, layer in self._layers
            if not layer.disable_adapters
            for name in layer.active_adapters
            if name in _laid_in(layer) and _scaling(layer).get(name) != 0
        }
        return tuple(sorted(on))

    def _those_named(self, weights: Mapping[str, float]) -> tuple[str, ...]:
        there = {name for _, layer in self._layers for name in _laid_in(layer)}
        fixed = {name for _, layer in self._layers if not hasattr(layer, "set_scale") for name in layer.active_adapters}
        missing = sorted(set(weights) - (there - fixed))
        if missing:
            raise AttributionImpossible(
                self._name,
                f"no adapter {missing[0]!r} whose weight can be set among {', '.join(sorted(there)) or 'none'}",
                "those of the run",
                "load them under the names that they had",
            )
        return tuple(sorted(name for name, weight in weights.items() if weight))

    def _require_unfused(self, pipeline: Any) -> None:
        merged = {name for _, layer in self._layers for name in layer.merged_adapters}
        fused = sorted(merged | set(getattr(pipeline, "fused_loras", None) or ()))
        if fused:
            raise AttributionImpossible(
                self._name,
                f"adapters that are fused into the weights ({', '.join(fused)})",
                "adapters that can be switched off",
                "call unfuse_lora(), or load the pipeline anew without fusing",
            )


def adapter_shares(
    pipeline: Any,
    pictured: Pictured,
    asked_at: AskedAt | None = None,
    rule: ShapleyRule | None = None,
    credited: Mapping[str, Credited] | None = None,
    weights: Mapping[str, float] | None = None,
) -> AdapterShares:
    """The Shapley share of each adapter that is on, in one picture.

    What a subset of adapters is worth is how far the denoising loss of the picture lies below that of a predictor
    which knows nothing of pictures but that their values have mean 0 and variance 1; see `knowledge`.

    Args:
        pipeline: a diffusers pipeline without a guard around it, with its adapters; afterwards it is as it was.
        pictured: the picture.
        asked_at: where it is asked; the same for every subset.
        rule: how many subsets are asked.
        credited: by name of an adapter, whose it is.
        weights: of the run, by name; default: those that the pipeline has now.

    Returns:
        Shares by name of adapter. 2^n times K passes for n <= 6 adapters, without gradients.

    Raises:
        AttributionImpossible: no adapter is on, they are fused, or the model knows nothing of the picture.
    """
    switches = Switches(pipeline, weights)
    if not switches.names:
        raise AttributionImpossible(
            type(pipeline).__name__, "no adapter that is on", "one or more", "load and set them as in the run"
        )
    asker = WorthAt(pipeline, switches, pictured, asked_at or AskedAt())

    def worth(subset: Subset) -> NDArray[np.float64]:
        return asker([switches.names[at] for at in subset])

    found = shapley(len(switches.names), worth, rule)
    errors = found.standard_error
    known = credited or {}
    adapters = tuple(
        AdapterShare(
            name=name,
            sha256=known.get(name, Credited()).sha256,
            holder=known.get(name, Credited()).holder,
            share=float(found.shares[at]),
            standard_error=None if errors is None else float(errors[at]),
            draw_error=float(found.draw_error[at]) if np.isfinite(found.draw_error[at]) else None,
        )
        for at, name in enumerate(switches.names)
    )
    return AdapterShares(adapters, found.base_share, found.asked)


class WorthAt:
    """What a pipeline knows of one picture with some of its adapters on, at the same draws each time.

    Args:
        pipeline: without a guard.
        switches: of its adapters.
        pictured: the picture.
        asked_at: where it is asked.
    """

    def __init__(self, pipeline: Any, switches: Switches, pictured: Pictured, asked_at: AskedAt) -> None:
        self._pipeline, self._switches = pipeline, switches
        self._pictured, self._asked_at = pictured, asked_at
        self._access = PipelineAccess(pipeline, asked_at.device, len(pictured.pixels))
        self._clean = self._access.encode(pictured.pixels)
        self._draws = drawn_for(0, self._access.shape, asked_at.draws, asked_at.seed)

    def __call__(self, names: Collection[str]) -> NDArray[np.float64]:
        """With these on alone: float64 (K,)."""
        with self._switches.only(names):
            access = self._access
            if self._switches.over_text:  # what a caption was turned into is kept
                access = PipelineAccess(self._pipeline, self._asked_at.device, len(self._pictured.pixels))
            conditions = access.conditions(self._pictured.caption, self._pictured.label)
            return knowledge(access, self._clean, self._draws, conditions)


@torch.no_grad()
def knowledge(
    access: PipelineAccess, clean: torch.Tensor, draws: Draws, conditions: Mapping[str, Any]
) -> NDArray[np.float64]:
    """How far a model's denoising loss of a picture lies below that of knowing nothing, at each draw.

    Args:
        access: the model; its loss is that of training, in what it predicts, averaged over the values of an image.
        clean: float (C, H, W) or (L, C), the picture as it is given it.
        draws: K.
        conditions: what it is given besides.

    Returns:
        float64 (K,): 0 for a predictor that knows of pictures only that their values have mean 0 and variance 1 (of
        all linear predictors the best for such); below 0 for one that is worse.
    """
    noising: Noising = access.noising
    steps, image, added = noising.at(draws.times)
    each = (-1, *(1,) * clean.ndim)
    image, added = (one.to(clean).view(each) for one in (image, added))
    noise = draws.noise.to(clean)
    noisy = image * clean + added * noise
    target = noising.target(clean, noise, image, added).double()
    predicted = access.predict(noisy, steps, conditions)
    predicted = predicted[:, : clean.shape[0]] if clean.ndim == _IMAGE_DIMS else predicted
    spread = image**2 + added**2
    nothing = noising.target(image * noisy / spread, added * noisy / spread, image, added).double()
    below = (nothing - target).square() - (predicted.to(target) - target).square()
    found: NDArray[np.float64] = below.flatten(1).mean(dim=1).cpu().numpy()
    return found


def _scaling(layer: Any) -> dict[str, float]:
    """How much each adapter counts in a layer; of kinds that have no such thing, nothing."""
    found = getattr(layer, "scaling", None)
    return found if isinstance(found, dict) else {}


def _laid_in(layer: Any) -> set[str]:
    """The adapters of a layer, on or off."""
    held: list[Any] = [getattr(layer, name, None) for name in layer.adapter_layer_names]
    return {str(name) for one in held if hasattr(one, "keys") for name in one.keys()}  # noqa: SIM118 - torch's own


def _weight_of(layer: Any, name: str) -> float | None:
    """An adapter's weight in a layer: its scaling over the one that it was trained with; of other kinds None."""
    rank, alpha = getattr(layer, "r", {}).get(name), getattr(layer, "lora_alpha", {}).get(name)
    if not rank or not alpha or name not in _scaling(layer):
        return None
    trained: float = alpha / rank**0.5 if getattr(layer, "use_rslora", {}).get(name) else alpha / rank
    return round(_scaling(layer)[name] / trained, _WEIGHT_DIGITS)
