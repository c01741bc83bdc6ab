"""Stand between a pipeline's denoiser and its scheduler for one call, and leave no trace."""

import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from guardrail.intake.remedies.unfit import RemedyUnfit

__all__ = ["SchedulerStep", "altered_steps", "scheduler_of"]


@dataclass(frozen=True, slots=True)
class SchedulerStep:
    """One step as the scheduler is asked for it.

    Attributes:
        scheduler: which is asked, before it steps.
        number: of this call's steps, from 0.
        total: how many steps this call will make.
        timestep: the scheduler's own name of the noise level.
        predicted: float (B, C, ...), the denoiser's prediction, guidance applied.
        sample: float (B, C, ...), the noisy sample.
    """

    scheduler: Any
    number: int
    total: int
    timestep: Any
    predicted: torch.Tensor
    sample: torch.Tensor

    def is_in_first(self, share: float) -> bool:
        """Whether the step is in the first part of the call, `share` (0..1) of its steps; the first one always is."""
        return self.number == 0 or self.number < share * self.total


def scheduler_of(pipe: Any) -> Any:
    """The scheduler that a pipeline steps with.

    Raises:
        RemedyUnfit: it has none that steps from a prediction and a sample.
    """
    scheduler = getattr(pipe, "scheduler", None)
    if scheduler is None or not callable(getattr(scheduler, "step", None)):
        raise RemedyUnfit("the pipeline has no scheduler to stand beside")
    if not {"model_output", "timestep", "sample"} <= set(inspect.signature(scheduler.step).parameters):
        raise RemedyUnfit(f"a {type(scheduler).__name__} does not step from a prediction and a sample")
    return scheduler


@contextmanager
def altered_steps(scheduler: Any, alter: Callable[[SchedulerStep], torch.Tensor]) -> Iterator[None]:
    """While it lasts, the scheduler gets `alter`'s prediction in place of the denoiser's, in this thread.

    The instance gets a subclass of its own class under the same name, and its class back in the end. It works below a
    watch on the same call, which may stand around the same method. Copies that the pipeline makes of the scheduler step
    as they always do.
    """
    plain: Any = type(scheduler)
    owner, number, totals = threading.get_ident(), itertools.count(), list[int]()
    original = plain.step

    @functools.wraps(original)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self is not scheduler or threading.get_ident() != owner:
            return original(self, *args, **kwargs)
        bound = inspect.signature(original).bind(self, *args, **kwargs)
        said = bound.arguments
        if not totals:
            totals.append(_steps_ahead(self, said["timestep"]))
        timestep, predicted, sample = said["timestep"], said["model_output"], said["sample"]
        said["model_output"] = alter(SchedulerStep(self, next(number), totals[0], timestep, predicted, sample))
        return original(*bound.args, **bound.kwargs)

    said = {name: getattr(plain, name) for name in ("__module__", "__qualname__", "__doc__")}
    scheduler.__class__ = type(plain)(plain.__name__, (plain,), {"step": step} | said)
    try:
        yield
    finally:
        scheduler.__class__ = plain


def _steps_ahead(scheduler: Any, timestep: Any) -> int:
    """How many steps are left from a timestep on, this one among them (image to image begins in the middle)."""
    timesteps = torch.as_tensor(scheduler.timesteps).flatten().cpu()
    first = torch.as_tensor(timestep).flatten()[:1].cpu().to(timesteps.dtype)
    places = (timesteps == first).nonzero()
    return len(timesteps) - int(places[0]) if len(places) else len(timesteps)
