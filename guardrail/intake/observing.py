"""Stand inside one pipeline call: every scheduler step and every finished image embedding, told to whoever watches."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.carriers import ImageBatch, Step, Unread
from guardrail.intake.denoiser import gap_of
from guardrail.intake.steps import pictures_of, predicted_start, sigma_of
from guardrail.intake.swapping import taking_part
from guardrail.records import Neighbour

__all__ = ["Change", "LeftEarly", "Looks", "Observer", "components_of"]

_NOTHING = Unread("an embedding has no pair of predictions")
_EMBEDDING_AXES = 2  # (B, D)
Found = tuple[tuple[Neighbour, ...], ...]
_Given = tuple[torch.Tensor, Any, torch.Tensor]  # model output, timestep and sample


class LeftEarly(Exception):
    """A watched call that is left, because the pipeline has no other way to be stopped."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a watcher asks for after a step; what it leaves out stays as it is.

    Attributes:
        latents: (B, ...), in place of those the scheduler's step gave.
        guidance: the guidance scale from the next step on; without effect where the pipeline keeps none.
        stop: why the run is to end here.
    """

    latents: torch.Tensor | None = None
    guidance: float | None = None
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Looks:
    """What predicted pictures and embeddings can be looked up with; None: nothing.

    Attributes:
        pictures: the works nearest to each picture of a batch.
        embeddings: the works nearest to float32 (B, D), unit length vectors, by the index's CLIP embedder.
        embedder: that embedder's name, empty where the index has none.
    """

    pictures: Callable[[ImageBatch], Any] | None = None
    embeddings: Callable[[NDArray[np.float32]], Any] | None = None
    embedder: str = ""


@dataclass(slots=True)
class Observer:
    """Sees the methods it stands around while it is `present`, and leaves what they return as it is unless told.

    Attributes:
        pipe: the pipeline.
        said: the arguments of its call, by name.
        stages: the pipeline's schedulers, by the id of the object, with the name of the component.
        looks: for look-ups.
        told: called with every step; returns what to change.
        failed: called with an error in looking at the run, which goes on.
    """

    pipe: Any
    said: Mapping[str, Any]
    stages: Mapping[int, str]
    looks: Looks
    told: Callable[[Step], Change | None]
    failed: Callable[[Exception], None]
    heard: list[torch.Tensor] = field(default_factory=list)
    numbers: Counter[str] = field(default_factory=Counter)
    leave: bool = False

    def around(self, target: Any, method: str, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a scheduler's step, or a prior's last touch on an embedding, and tell of it."""
        if method != "step":
            return self._finished(original(*args, **kwargs))
        stage = self.stages.get(id(target))
        given = _given(original, args, kwargs)
        if stage is None or given is None:
            return original(*args, **kwargs)
        if self.leave:  # it was asked to stop and goes on
            raise LeftEarly
        sigma = self._tried(lambda: sigma_of(target, given[1]))
        returned = original(*args, **kwargs)
        step = self._tried(lambda: self._step(target, stage, given, sigma, returned[0]))
        return returned if step is None else self._changed(returned, self._tell(step))

    def _tried(self, look: Callable[[], Any]) -> Any:
        """What a look at the run gives; where it fails the run goes on, and that is told. None then."""
        try:
            with taking_part(None), torch.no_grad():
                return look()
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller's run is not to end by it
            self.failed(error)
            return None

    def _step(self, scheduler: Any, stage: str, given: _Given, sigma: float | None, after: torch.Tensor) -> Step:
        noise, timestep, latents = given
        heard, self.heard = self.heard, []
        number = self.numbers[stage]
        self.numbers[stage] += 1
        return Step(
            stage=stage,
            number=number,
            total=self._total(scheduler, stage),
            timestep=timestep,
            latents=latents,
            after=after,
            noise=noise,
            gap=gap_of(self.pipe, heard, latents),
            guidance=_number(getattr(self.pipe, "_guidance_scale", None)),
            embedding=None,
            embedder=self.looks.embedder,
            predict=(predict := functools.cache(lambda: predicted_start(scheduler, noise, timestep, latents, sigma))),
            pictures=(pictures := functools.cache(lambda: self._pictures(predict()))),
            look=functools.cache(lambda: self._look(pictures())),
        )

    def _tell(self, step: Step) -> Change | None:
        with taking_part(None), torch.no_grad():
            return self.told(step)

    def _changed(self, returned: Any, change: Change | None) -> Any:
        if change is None or change.latents is None:
            return returned
        latents = change.latents.to(returned[0])
        if isinstance(returned, tuple):
            return (latents, *returned[1:])
        return type(returned)(**{**returned, "prev_sample": latents})

    def _total(self, scheduler: Any, stage: str) -> int | None:
        """How many steps the stage makes: fewer than the scheduler has where a strength leaves some out."""
        said = getattr(self.pipe, "_num_timesteps", None)
        if stage == "scheduler" and isinstance(said, int):
            return said
        timesteps = getattr(scheduler, "timesteps", None)
        return None if timesteps is None else len(timesteps)

    def _pictures(self, start: torch.Tensor | Unread) -> ImageBatch | Unread:
        if isinstance(start, Unread):
            return start
        return pictures_of(self.pipe, start, self.said)

    def _look(self, batch: ImageBatch | Unread) -> Found | Unread:
        if isinstance(batch, Unread):
            return batch
        if self.looks.pictures is None:
            return Unread("there is no index to look it up in")
        return tuple(tuple(near) for near in self.looks.pictures(batch))

    # --- embeddings ------------------------------------------------------------------------------------------

    def _finished(self, embedding: torch.Tensor) -> torch.Tensor:
        """An image embedding, before any pixel: told like a step, and handed on as it is."""
        if not isinstance(embedding, torch.Tensor) or embedding.ndim != _EMBEDDING_AXES:
            return embedding
        none = Unread("an embedding is no picture")
        step = Step(
            stage="prior",
            number=0,
            total=None,
            timestep=0,
            latents=embedding,
            after=embedding,
            noise=None,
            gap=_NOTHING,
            guidance=_number(getattr(self.pipe, "_guidance_scale", None)),
            embedding=embedding,
            embedder=self.looks.embedder,
            predict=lambda: none,
            pictures=lambda: none,
            look=functools.cache(lambda: self._look_embedding(embedding)),
        )
        self._tell(step)
        if self.leave:
            raise LeftEarly
        return embedding

    def _look_embedding(self, embedding: torch.Tensor) -> Found | Unread:
        if self.looks.embeddings is None or not self.looks.embedder:
            return Unread("the index keeps no CLIP vectors")
        vectors = torch.nn.functional.normalize(embedding.float(), dim=1).cpu().numpy()
        return tuple(tuple(near) for near in self.looks.embeddings(vectors))


def components_of(pipe: Any) -> Mapping[str, Any]:
    """The components of a pipeline, those of pipelines inside it too; of any other callable its attributes."""
    held = {name: one for name, one in getattr(pipe, "__dict__", {}).items() if not name.startswith("_")}
    try:
        found = dict(getattr(pipe, "components", held))
    except (AttributeError, ValueError):  # a class whose arguments and components do not agree
        found = held
    for inner in list(found.values()):
        if hasattr(inner, "components") and hasattr(inner, "scheduler"):
            found = {**components_of(inner), **found}
    return found


def _given(step: Callable[..., Any], args: Any, kwargs: Any) -> _Given | None:
    """Model output, timestep and sample of a scheduler's step; None where it has none of the kind."""
    try:
        bound = inspect.signature(step).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return None
    noise, latents = bound.get("model_output"), bound.get("sample")
    if not isinstance(noise, torch.Tensor) or not isinstance(latents, torch.Tensor) or latents.ndim == 0:
        return None
    return noise, bound.get("timestep"), latents


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
