"""A denoiser and pictures in, the same trained on without some of them out; its own weights come back afterwards.

Two trainings differ by nothing but the pictures that were left out: places of a batch are offered the same pictures in
the same order, and take the first that is not left out; timesteps and noise are those of the place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.errors import AuditImpossible
from guardrail.extras import need
from guardrail.study.attribution.draws import Draws
from guardrail.study.attribution.functions import Noising, function_of
from guardrail.study.attribution.gradients import predictor_of

__all__ = [
    "Asked",
    "Lessons",
    "Recipe",
    "chance_of",
    "denoising_loss",
    "lora_on",
    "loss_over",
    "random_groups",
    "retrained",
    "weights_kept",
]

_TRIES = 64  # pictures offered to a place of a batch; with half of all left out, 2^-64 is how often none is kept
_CLIP = 1.0  # norm of a step's gradient, at most
_WARM_UP = 10  # steps until the full rate
_SEEDS = 2**63
_IMAGES_DIMS = 4  # (B, C, H, W)
_LORA_NAME = "guardrail_audit"
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # projections, as diffusers names them

Progress = Callable[[int, int], None]
Conditions = Mapping[str, Any]


class Asked(Protocol):
    """What is needed of a pipeline's denoiser; `access.PipelineAccess` has it."""

    @property
    def network(self) -> torch.nn.Module:
        """The denoiser, whose weights are trained."""

    @property
    def asked(self) -> torch.nn.Module:
        """The same, as it is called: `asked(noisy, steps, return_dict=False, **conditions)`."""

    @property
    def noising(self) -> Noising:
        """How it sees noise."""


class Lessons(NamedTuple):
    """What a denoiser is trained on.

    Attributes:
        clean: float32 (N, *shape), images as it is given them.
        conditions: N, what the denoiser is given besides, each as for a batch of one; of equal captions one object.
    """

    clean: torch.Tensor
    conditions: tuple[Conditions, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How it is trained on.

    Attributes:
        steps: of AdamW, >= 1; the rate falls to 0 as half a cosine.
        batch: images a step, >= 1.
        rate: learning rate, > 0.
        seed: of images, timesteps and noise; of the weights, too, where these are drawn anew.
        fresh: whether training starts from weights drawn anew, not from those that are there.
    """

    steps: int = 300
    batch: int = 16
    rate: float = 1e-4
    seed: int = 0
    fresh: bool = False


@contextmanager
def retrained(
    asked: Asked,
    parameters: Mapping[str, torch.nn.Parameter],
    lessons: Lessons,
    recipe: Recipe,
    left_out: NDArray[np.bool_],
    progress: Progress = lambda done, total: None,
) -> Iterator[None]:
    """Within, the denoiser was trained on without some images; afterwards its weights are as they were.

    Args:
        asked: the denoiser.
        parameters: what is trained, by name: of `gradients.chosen_parameters`, or of `lora_on`.
        lessons: N images.
        recipe: how.
        left_out: bool (N,), not all.
        progress: called with (done, total) steps.

    Raises:
        AuditImpossible: all are left out, training diverged, or weights cannot be drawn anew.

    Deterministic on a CPU with one thread.
    """
    if left_out.all():
        raise AuditImpossible("the group", "all pictures in it", "some that stay", "name a smaller group")
    with weights_kept(parameters):
        if recipe.fresh:
            _draw_anew(asked.network, parameters, recipe.seed)
        with torch.enable_grad(), _trainable(asked.network, parameters):
            _train(asked, list(parameters.values()), lessons, recipe, left_out, progress)
        yield


@contextmanager
def weights_kept(parameters: Mapping[str, torch.nn.Parameter]) -> Iterator[None]:
    """Give these parameters their values back afterwards, to the bit; the copy lies on the CPU."""
    before = {name: parameter.detach().to("cpu", copy=True) for name, parameter in parameters.items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(before[name])


@contextmanager
def lora_on(network: torch.nn.Module, rank: int, seed: int) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Lay a LoRA over the denoiser that changes nothing yet; gives what it adds, by name; taken off afterwards.

    It lies over the projections of attention, and over all linear layers and convolutions where there is no attention.

    Args:
        network: the denoiser; one that has adapters is refused.
        rank: >= 1.
        seed: of its weights.

    Raises:
        ExtraMissing: peft is not installed.
        AuditImpossible: there are adapters already.
    """
    peft = need("peft", extra="lora", purpose="train a LoRA")
    from diffusers.utils.peft_utils import recurse_remove_peft_layers

    if any("lora_" in name for name, _ in network.named_parameters()):
        raise AuditImpossible("the model", "an adapter on it", "none", "train the adapter itself: --train '*lora_*'")
    settings = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=_targets(network))
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed % _SEEDS)
            peft.inject_adapter_in_model(settings, network, adapter_name=_LORA_NAME)
        yield {name: parameter for name, parameter in network.named_parameters() if "lora_" in name}
    finally:
        recurse_remove_peft_layers(network)
        vars(network).pop("peft_config", None)
        for parameter, was in flags:
            parameter.requires_grad_(was)


def denoising_loss(asked: Asked, clean: torch.Tensor, draws: Draws, conditions: Conditions) -> float:
    """The training loss of one image: the mean over draws and values of the squared error.

    Args:
        asked: the denoiser.
        clean: float (*shape), as the denoiser is given it.
        draws: K of them; they go through it as one batch.
        conditions: of the image.
    """
    with torch.inference_mode():
        return float(loss_over(asked, clean, draws, conditions))


def loss_over(asked: Asked, clean: torch.Tensor, draws: Draws, conditions: Conditions) -> torch.Tensor:
    """`denoising_loss` as a scalar that can be differentiated."""
    predict = predictor_of(asked.asked, len(draws.times), conditions)
    return function_of(predict, asked.noising, clean, draws, "loss") / clean.numel()


def random_groups(group: NDArray[np.bool_], count: int, seed: int) -> tuple[NDArray[np.bool_], ...]:
    """Random groups as large as a group and without any of its members.

    Args:
        group: bool (N,), with 1 to N / 2 members.
        count: how many groups; they may share members with each other.
        seed: of the first; each next one takes the next, so that more groups begin with the same ones.

    Returns:
        `count` masks, bool (N,).

    Raises:
        AuditImpossible: the group is empty, or the others are fewer than it.
    """
    size, others = int(group.sum()), np.flatnonzero(~group)
    if not 0 < size <= len(others):
        found = f"{size} pictures in it and {len(others)} others"
        raise AuditImpossible("the group", found, "at least one, and as many others", "name another group")
    drawn = []
    for number in range(count):
        mask = np.zeros(len(group), np.bool_)
        mask[np.random.default_rng([seed, number]).choice(others, size, replace=False)] = True
        drawn.append(mask)
    return tuple(drawn)


def chance_of(own: float, others: Sequence[float]) -> float:
    """How often a random group moves an image at least as far: (1 + those that do) / (1 + all), in 0..1.

    Source: Phipson and Smyth 2010, "Permutation p-values should never be zero".
    """
    return (1 + sum(other >= own for other in others)) / (1 + len(others))


def _train(
    asked: Asked,
    parameters: list[torch.nn.Parameter],
    lessons: Lessons,
    recipe: Recipe,
    left_out: NDArray[np.bool_],
    progress: Progress,
) -> None:
    stepper = torch.optim.AdamW(parameters, recipe.rate, weight_decay=0)
    falling = torch.optim.lr_scheduler.LambdaLR(stepper, lambda step: _rate(step, recipe.steps))
    generator = torch.Generator().manual_seed(recipe.seed % _SEEDS)
    chance = np.random.default_rng(recipe.seed)
    for step in range(recipe.steps):
        rows = _rows(chance.integers(0, len(left_out), (recipe.batch, _TRIES)), left_out)
        times = torch.rand(recipe.batch, generator=generator, dtype=torch.float64)
        noise = torch.randn((recipe.batch, *lessons.clean.shape[1:]), generator=generator)
        stepper.zero_grad()
        loss = _step(asked, lessons, rows, Draws(times, noise))
        if not np.isfinite(loss):
            raise AuditImpossible(
                "the model", f"a loss of {loss} at step {step}", "a number", "train at a lower --rate"
            )
        torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
        stepper.step()
        falling.step()
        progress(step + 1, recipe.steps)
    stepper.zero_grad()


def _step(asked: Asked, lessons: Lessons, rows: NDArray[np.int64], draws: Draws) -> float:
    """Add the gradient of a batch, caption by caption, because a denoiser is asked under one at a time."""
    by_caption: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        by_caption.setdefault(id(lessons.conditions[row]), []).append(place)
    total, device = 0.0, next(asked.network.parameters()).device
    for places in by_caption.values():
        clean = lessons.clean[torch.from_numpy(rows[places])].to(device)
        some = Draws(draws.times[places], draws.noise[places].to(device))
        loss = _batch_loss(asked, clean, some, lessons.conditions[rows[places[0]]]) * (len(places) / len(rows))
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _batch_loss(asked: Asked, clean: torch.Tensor, draws: Draws, conditions: Conditions) -> torch.Tensor:
    """The training loss of B images (B, *shape), each at a draw of its own, all under one condition."""
    steps, image, added = asked.noising.at(draws.times)
    each = (-1, *(1,) * (clean.ndim - 1))
    image, added = image.to(clean).view(each), added.to(clean).view(each)
    predict = predictor_of(asked.asked, len(clean), conditions)
    predicted = predict(image * clean + added * draws.noise, steps.to(clean.device))
    predicted = predicted[:, : clean.shape[1]] if clean.ndim == _IMAGES_DIMS else predicted  # some add the variance
    return (predicted.float() - asked.noising.target(clean, draws.noise, image, added)).square().mean()


def _rows(offered: NDArray[np.int64], left_out: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of the images offered to each place, (B, T), the first that is kept: (B,)."""
    kept = ~left_out
    first = offered[np.arange(len(offered)), kept[offered].argmax(axis=1)]
    return np.asarray(np.where(kept[first], first, kept.argmax()), np.int64)


def _rate(step: int, steps: int) -> float:
    return float(min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1 + np.cos(np.pi * step / steps)))


def _draw_anew(network: torch.nn.Module, parameters: Mapping[str, torch.nn.Parameter], seed: int) -> None:
    """Give the parameters values of a network that is made anew from the same configuration."""
    make = getattr(type(network), "from_config", None)
    if make is None or {*parameters} != {name for name, _ in network.named_parameters()}:
        raise AuditImpossible(
            "the model", "a part of it to be drawn anew", "all of a network of diffusers", "leave out --fresh"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed % _SEEDS)
        drawn = dict(make(network.config).named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(drawn[name])


def _targets(network: torch.nn.Module) -> list[str]:
    layers = [name for name, one in network.named_modules() if isinstance(one, torch.nn.Linear | torch.nn.Conv2d)]
    attention = [name for name in layers if name.endswith(_ATTENTION)]
    return attention or layers


@contextmanager
def _trainable(network: torch.nn.Module, parameters: Mapping[str, torch.nn.Parameter]) -> Iterator[None]:
    """Have gradients for these parameters alone, and no dropout, so that chance is the same in every training."""
    wanted = {id(parameter) for parameter in parameters.values()}
    before = [(parameter, parameter.requires_grad, parameter.grad) for parameter in network.parameters()]
    training = [(module, module.training) for module in network.modules()]
    try:
        for parameter, _, _ in before:
            parameter.requires_grad_(id(parameter) in wanted)
        network.eval()
        yield
    finally:
        for parameter, was, gradient in before:
            parameter.requires_grad_(was)
            parameter.grad = gradient
        for module, mode in training:
            module.training = mode
