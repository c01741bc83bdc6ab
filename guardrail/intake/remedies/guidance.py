"""Delayed guidance: the first steps follow the prompt's own prediction, and guidance sets in later.

Works for every pipeline whose denoiser predicts with and without the prompt, in one batch or in two calls, and whose
scheduler gets `without + scale * (with - without)`: the two are recognised by that equation, at every step.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from guardrail.intake.denoiser import denoisers_of, listen_to
from guardrail.intake.observing import components_of
from guardrail.intake.remedies.stepping import SchedulerStep, altered_steps, scheduler_of
from guardrail.intake.remedies.unfit import RemedyUnfit

__all__ = ["DelayedGuidance"]

_GUIDED_FROM = 0.4  # share of the steps without guidance; measured in docs/remedies.md
_SAME_WITHIN = 0.02  # root mean square, of that of the guided difference: half precision and its rounding
_TOO_LITTLE = 0.01  # of a guidance scale: so near 1 guidance is off


class DelayedGuidance:
    """Takes guidance off the first steps of one call.

    Source: Jain, Kobayashi, Shibata, Takida, Memon, Togelius, Mitsufuji 2024, "Classifier-free guidance inside the
    attraction basin may cause memorization": no guidance until the call has left the basin of a memorised work. We
    differ in setting in after a fixed share of the steps, because finding the turning point takes a second call.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._scheduler = scheduler_of(pipe)
        self._delayed = 0
        self._heard: list[torch.Tensor] = []
        self._owner = threading.get_ident()

    def said(self) -> str:
        """What was changed, for the record."""
        return f"guidance set in after {self._delayed} steps"

    @contextmanager
    def around(self) -> Iterator[None]:
        """For one call, hand the scheduler the prompt's own prediction at first.

        Raises:
            RemedyUnfit: out of the first step, where there is no guidance to delay.
        """
        stop = listen_to(denoisers_of(components_of(self._pipe) or vars(self._pipe)), self._hear)
        try:
            with altered_steps(self._scheduler, self._alter):
                yield
        finally:
            stop()

    def _hear(self, prediction: torch.Tensor) -> None:
        if threading.get_ident() == self._owner:  # not another thread's call of the same network
            self._heard.append(prediction)

    def _alter(self, step: SchedulerStep) -> torch.Tensor:
        heard = list(self._heard)
        self._heard.clear()
        if not step.is_in_first(_GUIDED_FROM):
            return step.predicted
        prompted = _prompted(heard, step)
        self._delayed += 1
        return prompted


def _prompted(heard: list[torch.Tensor], step: SchedulerStep) -> torch.Tensor:
    """The prediction with the prompt, of the two that a guided one was made of; in the guided one's shape.

    Args:
        heard: what the denoiser said since the last step: one batch of both, or both one after the other.
        step: with the guided prediction; where it has more channels than the sample (a learned variance), those stay.

    Raises:
        RemedyUnfit: the guided prediction was not made of two in the known way.
    """
    guided, channels = step.predicted, step.sample.shape[1]
    if len(heard) == 1 and len(heard[0]) == 2 * len(guided):
        one, other = heard[0].chunk(2)
    elif len(heard) == 2 and len(heard[0]) == len(heard[1]) == len(guided):
        one, other = heard
    else:
        raise RemedyUnfit("the denoiser does not predict with and without the prompt")
    one, other, wanted = (found[:, :channels].float() for found in (one, other, guided))
    if not one.shape == other.shape == wanted.shape:
        raise RemedyUnfit("the scheduler is given something of another shape than the denoiser predicts")
    apart = other - one
    length = float(apart.square().mean())
    if length == 0:  # the prompt makes no difference to any image at this step
        return guided
    scale = float(((wanted - one) * apart).mean()) / length
    unlike = float((wanted - one - scale * apart).square().mean() / max(scale**2 * length, 1e-30)) ** 0.5
    if unlike > _SAME_WITHIN:
        raise RemedyUnfit("how the pipeline guides is not known: what it makes of both predictions is another thing")
    if -_TOO_LITTLE <= scale <= 1 + _TOO_LITTLE:
        raise RemedyUnfit("no guidance is in force")
    prompted = (other if scale > 1 else one).to(guided.dtype)
    return torch.cat([prompted, guided[:, channels:]], dim=1)
