"""Guidance away from the matched works: while the picture forms, what is of them is taken out of its prediction.

Only the first part of the steps is led away; the rest is the model's own. A picture that has to be held apart from a
work to the end would be the work with a disguise, so where the model returns to it, the image is blocked again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from guardrail.carriers import Unread
from guardrail.intake.remedies.spaces import works_like
from guardrail.intake.remedies.stepping import SchedulerStep, altered_steps, scheduler_of
from guardrail.intake.remedies.unfit import RemedyUnfit
from guardrail.intake.steps import predicted_start, sigma_of

__all__ = ["AwayFromWorks"]

_LED_UNTIL = 0.6  # share of the steps that are led away; measured in docs/remedies.md
_MOST_LIKENESS = 0.0  # correlation of the predicted picture with a work that is left, -1..1; measured there too


class AwayFromWorks:
    """Leads the predicted pictures of one call away from the works that the blocked ones matched.

    At each of the first steps the predicted picture is compared with each work by mean-removed correlation. Where it is
    above a limit, just so much of the work is subtracted that the limit is met, and the denoiser's prediction is
    changed to say so: exact for predictions of noise, of velocity and of flows.

    Source: Chen, Liu, Xu 2024, "Towards memorization-free diffusion models", dissimilarity guidance: the gradient of
    the likeness to the nearest training image, while it is above a limit. We differ in the likeness (a correlation in
    the model's own space, whose gradient needs no network), in meeting the limit in one step instead of by a strength
    to be tuned, in leading away from the works that a verdict named, and in letting the last steps be.

    Args:
        pipe: the pipeline.
        works: by item of the new output, pictures of its works: uint8 (H, W, 3), RGB, turned as they were copied.
        count: how many items the new output has.
    """

    def __init__(self, pipe: Any, works: Mapping[int, list[torch.Tensor]], count: int) -> None:
        if not any(works.values()):
            raise RemedyUnfit("no picture of a matched work is kept")
        self._pipe, self._works, self._count = pipe, works, count
        self._scheduler = scheduler_of(pipe)
        self._directions: dict[int, torch.Tensor] = {}
        self._led = 0

    def said(self) -> str:
        """What was changed, for the record."""
        works = sum(map(len, self._works.values()))
        return f"led away from {works} works in {self._led} steps"

    @contextmanager
    def around(self) -> Iterator[None]:
        """For one call, stand between denoiser and scheduler.

        Raises:
            RemedyUnfit: out of the first step, where pictures are in a space that works cannot be brought into.
        """
        with altered_steps(self._scheduler, self._alter):
            yield

    def _alter(self, step: SchedulerStep) -> torch.Tensor:
        if not step.is_in_first(_LED_UNTIL):
            return step.predicted
        if not self._directions:
            self._directions = self._directions_like(step.sample)
        channels = step.sample.shape[1]
        predicted = step.predicted[:, :channels]
        pictures, per_picture = _reading(step, predicted)
        shift = torch.zeros_like(pictures)
        for item, works in self._directions.items():
            shift[item] = _away(pictures[item].flatten(1), works).view_as(shift[item])
        if not shift.any() or per_picture == 0:
            return step.predicted
        self._led += 1
        moved = (predicted + shift / per_picture).to(predicted.dtype)
        return torch.cat([moved, step.predicted[:, channels:]], dim=1)

    def _directions_like(self, sample: torch.Tensor) -> dict[int, torch.Tensor]:
        """By item, the works as float (W, C, N): each without its channel means, of length 1."""
        if len(sample) != self._count:
            raise RemedyUnfit("the scheduler does not step once for each item of the batch")
        found = {}
        for item, pictures in self._works.items():
            if pictures:
                works = works_like(self._pipe, pictures, sample).flatten(2).float()
                works = works - works.mean(2, keepdim=True)
                found[item] = works / works.flatten(1).norm(dim=1).clamp_min(1e-6)[:, None, None]
        return found


def _reading(step: SchedulerStep, predicted: torch.Tensor) -> tuple[torch.Tensor, float]:
    """What the scheduler takes a prediction for: the pictures, and how much a prediction that is 1 higher moves them.

    The second is known from two predictions, because the pictures are linear in the prediction for all schedulers.

    Raises:
        RemedyUnfit: what this scheduler takes a prediction for is not known.
    """
    sigma = sigma_of(step.scheduler, step.timestep)
    low = torch.zeros_like(step.sample[:1, ..., :1])
    readings = [
        predicted_start(step.scheduler, noise, step.timestep, sample, sigma)
        for noise, sample in ((predicted, step.sample), (low, low), (low + 1, low))
    ]
    for reading in readings:
        if isinstance(reading, Unread):
            raise RemedyUnfit(reading.reason)
    pictures, without, with_one = (torch.as_tensor(reading) for reading in readings)
    return pictures, float((with_one - without).flatten()[0])


def _away(picture: torch.Tensor, works: torch.Tensor) -> torch.Tensor:
    """What to add to a picture so that it is no more like any work than the limit.

    Args:
        picture: float (C, N).
        works: float (W, C, N), mean-removed by channel, of length 1.

    Returns:
        Float (C, N); zero where it is not like any of them.
    """
    centred = picture - picture.mean(1, keepdim=True)
    left = centred
    for work in works:
        along = (left * work).sum()
        rest = left - along * work
        most = _MOST_LIKENESS / (1 - _MOST_LIKENESS**2) ** 0.5 * rest.norm()
        left = torch.where(along > most, rest + most * work, left)
    return left - centred
