"""An image in, what a denoiser forgets of its training images when it is made to forget that image out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.errors import AuditImpossible
from guardrail.study.attribution.draws import Draws
from guardrail.study.attribution.retraining import Asked, Conditions, Lessons, denoising_loss, loss_over, weights_kept

__all__ = ["Ascent", "Disputed", "Unlearned", "loss_rises", "unlearned"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Ascent:
    """How an image is unlearned.

    Attributes:
        steps: of gradient ascent, at most, >= 1.
        share: length of a step, of the length of all weights that are changed, > 0.
        rise: of the image's own loss at which no further step is taken, of what it was before, > 0.
    """

    steps: int = 20
    share: float = 1e-3
    rise: float = 0.5


class Unlearned(NamedTuple):
    """How far the image was unlearned: steps taken, and its own loss before and after."""

    steps: int
    loss_before: float
    loss_after: float


class Disputed(NamedTuple):
    """The image that is unlearned: float (*shape) as the denoiser is given it, where it is asked, and under what."""

    clean: torch.Tensor
    draws: Draws
    conditions: Conditions


@contextmanager
def unlearned(
    asked: Asked, parameters: Mapping[str, torch.nn.Parameter], disputed: Disputed, ascent: Ascent
) -> Iterator[Unlearned]:
    """Within, the denoiser unlearned one image; afterwards its weights are as they were, to the bit.

    Steps of one length are taken up the gradient of the image's own loss, until that loss has risen as far as asked.

    Args:
        asked: the denoiser.
        parameters: what is changed, by name.
        disputed: the image.
        ascent: how far.

    Raises:
        AuditImpossible: no weight has a say in the image's loss, or the loss is no number any more.
    """
    before = after = denoising_loss(asked, disputed.clean, disputed.draws, disputed.conditions)
    chosen, taken = list(parameters.values()), 0
    with weights_kept(parameters):
        length = ascent.share * _length([one.detach() for one in chosen])
        while taken < ascent.steps and after < (1 + ascent.rise) * before:
            _climb(asked, chosen, disputed, length)
            taken, after = taken + 1, denoising_loss(asked, disputed.clean, disputed.draws, disputed.conditions)
        if not np.isfinite(after):
            raise AuditImpossible("the image", f"a loss of {after}", "a number", "unlearn by shorter steps")
        yield Unlearned(taken, before, after)


def loss_rises(
    asked: Asked,
    parameters: Mapping[str, torch.nn.Parameter],
    disputed: Disputed,
    lessons: Lessons,
    ascent: Ascent | None = None,
    progress: Progress = lambda done, total: None,
) -> tuple[NDArray[np.float64], Unlearned]:
    """How far the loss of each training image rises when an image is unlearned: most where it was made of most.

    Args:
        asked: the denoiser; its weights are as they were afterwards.
        parameters: what is changed, by name.
        disputed: the image. Training images are asked at its timesteps and noise, so that rises can be compared.
        lessons: N training images, the candidates.
        ascent: how far it is unlearned.
        progress: called with (done, total); each image is asked twice.

    Returns:
        float64 (N,), loss after less loss before, and how far the image itself was unlearned. Deterministic on a CPU
        with one thread. N x 2 passes over K draws, and no gradients but of the one image.

    Source: Wang, Efros, Zhu, Hertzmann and Zhang 2024, "Data attribution for text-to-image models by unlearning
    synthesized images"; we differ in leaving out the Fisher information (steps of one length, stopped by the image's
    own loss, stand for it), because it takes the gradients of the whole training set, and in asking candidates only.
    """
    count = len(lessons.conditions)

    def losses(done: int) -> NDArray[np.float64]:
        found = []
        for at, (clean, conditions) in enumerate(zip(lessons.clean, lessons.conditions, strict=True)):
            found.append(denoising_loss(asked, clean.to(disputed.clean), disputed.draws, conditions))
            progress(done + at + 1, 2 * count)
        return np.array(found, np.float64)

    before = losses(0)
    with unlearned(asked, parameters, disputed, ascent or Ascent()) as how:
        return losses(count) - before, how


def _climb(asked: Asked, parameters: list[torch.nn.Parameter], disputed: Disputed, length: float) -> None:
    """One step of a length up the gradient of the image's loss."""
    flags = [one.requires_grad for one in parameters]
    try:
        for one in parameters:
            one.requires_grad_(True)
        with torch.enable_grad():
            loss = loss_over(asked, disputed.clean, disputed.draws, disputed.conditions)
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
    finally:
        for one, was in zip(parameters, flags, strict=True):
            one.requires_grad_(was)
    steep = _length([part for part in found if part is not None])
    if not (np.isfinite(steep) and steep > 0):
        raise AuditImpossible("the image", f"a gradient of length {steep}", "one above 0", "change other weights")
    with torch.no_grad():
        for one, part in zip(parameters, found, strict=True):
            if part is not None:
                one.add_(part, alpha=length / steep)


def _length(parts: list[torch.Tensor]) -> float:
    """Of all values together, in float64."""
    return float(sum(part.double().square().sum().item() for part in parts) ** 0.5)
