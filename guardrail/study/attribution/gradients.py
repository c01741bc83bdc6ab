"""One image in, the sketch of one gradient out: a single backward pass over a batch of draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.draws import Draws
from guardrail.study.attribution.functions import Function, Noising, Predictor, function_of
from guardrail.study.attribution.sketch import CountSketch

__all__ = ["Sketching", "chosen_parameters", "in_float32", "predictor_of"]

_BY_ADAPTERS = ".base_layer"  # what peft puts into the name of a weight that an adapter lies over
_ADAPTERS = "lora_"
_POSITIONS = frozenset({"img_ids", "txt_ids"})  # of Flux and its kin: where tokens lie, the same for a whole batch


def chosen_parameters(network: torch.nn.Module, names: Sequence[str] = ("*",)) -> dict[str, torch.nn.Parameter]:
    """The parameters whose gradient stands for an image, by name: all floating ones that fit one of the patterns.

    `*lora_*` chooses what a LoRA adds and nothing else, `mid_block*` one block. What a LoRA adds is chosen by patterns
    that name it alone, and names are those without adapters, so that `*` chooses the same with adapters as without.

    Raises:
        AttributionImpossible: none fits, or their numbers are not there (on the device `meta`).
    """
    named = {name.replace(_BY_ADAPTERS, ""): parameter for name, parameter in network.named_parameters()}
    chosen = {
        name: parameter for name, parameter in named.items() if parameter.is_floating_point() and _fits(name, names)
    }
    kind = type(network).__name__
    if not chosen:
        raise AttributionImpossible(
            kind, f"no parameter like {', '.join(names)}", f"some, such as {_some(named)}", "correct the pattern"
        )
    away = next((name for name, parameter in chosen.items() if parameter.is_meta), None)
    if away is not None:
        raise AttributionImpossible(
            kind,
            f"{away!r} without numbers, as sequential offloading leaves it",
            "weights in memory",
            "load the pipeline without enable_sequential_cpu_offload(); enable_model_cpu_offload() is fine",
        )
    return chosen


class Sketching:
    """Sketches the gradients of images.

    Args:
        network: the denoiser, called as `network(noisy, steps, return_dict=False, **conditions)`; its weights, modes
            and gradients are as they were afterwards.
        parameters: of `chosen_parameters`.
        noising: how it sees noise.
        sketch: over parameters of these sizes.
        function: whose gradient is taken.
        at_once: draws in one pass; fewer take less memory and give the same to rounding. None: all.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        parameters: Mapping[str, torch.nn.Parameter],
        noising: Noising,
        sketch: CountSketch,
        function: Function = "noise_norm",
        *,
        at_once: int | None = None,
    ) -> None:
        self._network, self._parameters = network, list(parameters.values())
        self._noising, self._sketch, self._function = noising, sketch, function
        self._at_once = at_once

    def __call__(self, clean: torch.Tensor, draws: Draws, **conditions: Any) -> torch.Tensor:
        """The sketched gradient of one image, float32 (k,).

        Args:
            clean: float (C, H, W) or (L, C), as the network is given it.
            draws: K of them; they go through the network as one batch, or `at_once` at a time.
            conditions: what the network is given besides, each as for a batch of one.
        """
        count = len(draws.times)
        each = self._at_once or count
        sketched = None
        for start in range(0, count, each):
            some = draws.part(slice(start, start + each))
            counted = self._sketch(self.gradient(clean, some, **conditions)) * (len(some.times) / count)
            sketched = counted if sketched is None else sketched + counted
        assert sketched is not None, "there is a draw"
        return sketched

    def gradient(self, clean: torch.Tensor, draws: Draws, **conditions: Any) -> tuple[torch.Tensor | None, ...]:
        """The gradient itself, a part for each parameter; None for one that has no say."""
        with torch.inference_mode(False), torch.enable_grad(), _only(self._network, self._parameters):
            predict = predictor_of(self._network, len(draws.times), conditions)
            value = function_of(predict, self._noising, clean.clone().float(), draws, self._function)
            return torch.autograd.grad(value, self._parameters, allow_unused=True)


def predictor_of(network: torch.nn.Module, count: int, conditions: Mapping[str, Any]) -> Predictor:
    """A network that is asked about `count` noisy images at once, all under one condition.

    Args:
        network: called as `network(noisy, steps, return_dict=False, **conditions)`.
        count: K.
        conditions: each as for a batch of one.
    """
    dtype = _computes_in(network)
    repeated = {name: _repeated(name, one, count, dtype) for name, one in conditions.items()}

    def predict(noisy: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = network(noisy.to(dtype), steps, **{"return_dict": False, **repeated})[0]
        return answer

    return predict


@contextmanager
def in_float32(network: torch.nn.Module) -> Iterator[None]:
    """Have a network's half-precision weights in float32, in which gradients do not vanish; afterwards as they were.

    A network with quantised weights stays as it is, and only its adapters' gradients can be asked for.
    """
    tensors = [*network.parameters(), *network.buffers()]
    if any(not one.is_floating_point() for one in network.parameters()):
        yield
        return
    halves = [(one, one.dtype) for one in tensors if one.dtype in (torch.float16, torch.bfloat16) and not one.is_meta]
    try:
        for one, _ in halves:
            one.data = one.data.float()
        yield
    finally:
        for one, dtype in halves:
            one.data = one.data.to(dtype)  # exactly what it was: float32 holds every number of the halves


def _fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern chooses a parameter; what an adapter adds has to be named by it."""
    return any(fnmatchcase(name, one) and (_ADAPTERS not in name or _ADAPTERS in one) for one in patterns)


def _some(named: Mapping[str, object]) -> str:
    return next(iter(named), "none")


def _repeated(name: str, condition: Any, count: int, dtype: torch.dtype) -> Any:
    """A condition for a batch of one, for a batch of `count`; tensors within others likewise."""
    if isinstance(condition, torch.Tensor):
        cast = condition.to(dtype) if condition.is_floating_point() else condition
        if name in _POSITIONS or cast.ndim == 0 or cast.shape[0] != 1:
            return cast
        return cast.expand(count, *cast.shape[1:]).contiguous()  # some networks look at it as another shape
    if isinstance(condition, dict):
        return {key: _repeated(str(key), one, count, dtype) for key, one in condition.items()}
    if isinstance(condition, list | tuple) and any(isinstance(one, torch.Tensor) for one in condition):
        return type(condition)(_repeated(name, one, count, dtype) for one in condition)
    return condition


def _computes_in(network: torch.nn.Module) -> torch.dtype:
    """The precision of what a network is given: that of its floating weights, the commonest of them."""
    sizes: dict[torch.dtype, int] = {}
    for parameter in network.parameters():
        if parameter.is_floating_point():
            sizes[parameter.dtype] = sizes.get(parameter.dtype, 0) + parameter.numel()
    return max(sizes, key=lambda dtype: sizes[dtype], default=torch.float32)


@contextmanager
def _only(network: torch.nn.Module, parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Have gradients for these parameters alone, and no dropout; afterwards all is as it was."""
    wanted = {id(parameter) for parameter in parameters}
    before = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    training = [(module, module.training) for module in network.modules()]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in wanted)
        network.eval()
        yield
    finally:
        for parameter, was in before:
            parameter.requires_grad_(was)
        for module, was in training:
            module.training = was
