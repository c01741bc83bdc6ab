"""A pipeline's own call, watched step by step: what signs measured of it, and what was done about them."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guardrail.intake.callbacks import with_own_callbacks
from guardrail.intake.context import finish_context
from guardrail.intake.denoiser import denoisers_of, listen_to
from guardrail.intake.observing import Change, LeftEarly, Looks, Observer, components_of
from guardrail.intake.swapping import present, standing_around, taking_part
from guardrail.intake.tally import SignTally
from guardrail.records import CheckFailed, Evidence

if TYPE_CHECKING:
    import numpy as np
    import pluggy
    import torch
    from numpy.typing import NDArray

    from guardrail.carriers import ImageBatch, Step
    from guardrail.records import GenerationContext
    from guardrail.settings import Settings, SignSettings

__all__ = ["Stopped", "Watch", "Watched", "watched_call"]

_BARELY_GUIDED = 1.0001  # guidance just above 1: pipelines still make both predictions, and hardly add their difference
_STOPPED = "generation_stopped"
log = logging.getLogger("guardrail.intake")
_lock = threading.Lock()
_in_flight: Counter[int] = (
    Counter()
)  # how many calls of a pipeline run now, in whatever thread, by the id of the object


@contextmanager
def _counted(pipe: Any) -> Iterator[None]:
    """Count a call of a pipeline as running."""
    with _lock:
        _in_flight[id(pipe)] += 1
    try:
        yield
    finally:
        with _lock:
            _in_flight[id(pipe)] -= 1
            if not _in_flight[id(pipe)]:
                del _in_flight[id(pipe)]


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched in a call, and with what.

    Attributes:
        hooks: the plugins that look for signs.
        settings: which signs are on, and what is done about them.
        context: how the model is run.
        look: gives the works nearest to each picture of a batch (neighbours, whether they reach a limit or not); None
            where there is no index.
        look_embeddings: the same for float32 (B, D), unit length embeddings, by the index's CLIP vectors.
        clip_embedder: the name of the embedder that made those, empty where the index has none.
        outside: entered while the caller's own callback runs.
        watchers: called with every step; each may say what to change.
    """

    hooks: pluggy.PluginManager
    settings: Settings
    context: GenerationContext | None = None
    look: Callable[[ImageBatch], Any] | None = None
    look_embeddings: Callable[[NDArray[np.float32]], Any] | None = None
    clip_embedder: str = ""
    outside: Callable[[], AbstractContextManager[None]] = nullcontext
    watchers: Sequence[Callable[[Step], Change | None]] = ()


@dataclass(frozen=True, slots=True)
class Stopped:
    """A run that was ended early: by which sign (or watcher), after which step of how many, and why."""

    by: str
    step: int
    total: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.by} ended the run after step {self.step} of {self.total or 'some'}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Watched:
    """What a watched call gave.

    Attributes:
        output: what the pipeline returned; None where it had to be left.
        tally: what the signs measured.
        stopped: set where the run was ended early: its pictures are unfinished and must not be released.
    """

    output: Any
    tally: SignTally
    stopped: Stopped | None = None

    @property
    def rows(self) -> int:
        """How many images were seen in the making; 0 where nothing was watched."""
        return self.tally.rows

    def signs_for(self, at: int, of: int, image: str) -> tuple[Evidence, ...]:
        """The evidence on one picture of the output: its place, how many there are, and its name.

        Of a run that was ended early this holds a `CheckFailed`, which no policy accepts.
        """
        found: list[Evidence] = list(self.tally.evidence(at, of, image))
        if self.stopped is not None:
            found.append(CheckFailed(check=_STOPPED, image=image, error=str(self.stopped)))
        return tuple(found)


def watched_call(
    pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], watch: Watch
) -> Watched:
    """Run a pipeline's own call and watch its steps.

    Where no sign is on and nobody else watches, the call is simply made. Otherwise its denoisers get forward hooks,
    and its schedulers (and a prior, at its embedding) a same-named subclass, until the call is over; what they return
    is left as it is, so the output has the same bits. State belongs to the call: other threads and tasks, calls inside
    the call, and the caller's own callbacks do not see it. A run is stopped by the pipeline's own interruption where it
    is the only one of this pipeline object; where others run in other threads it is left, and returns nothing, because
    an interruption would end theirs too.

    Args:
        pipe: the pipeline.
        call: its own `__call__`, bound.
        args: what the caller passed in order.
        kwargs: what the caller passed by name; own callbacks are composed, never replaced.
        watch: what is watched.

    Raises:
        SettingsInvalid: the settings of a sign cannot be followed.
        Exception: whatever pipeline or callback raise, unchanged, after offloaded models were freed.
    """
    tally = SignTally(watch.hooks, watch.settings, watch.context)
    args, kwargs, has_own = with_own_callbacks(call, args, kwargs, watch.outside)
    if not tally.is_watching and not watch.watchers:
        plainly = functools.partial(call, *args, **kwargs)
        with _counted(pipe):
            return Watched(_freed_on_error(pipe, plainly) if has_own else plainly(), tally)
    run = _WatchedRun(pipe, tally, watch)
    with _counted(pipe):
        output = run.made(call, args, kwargs)
    if watch.context is not None:
        tally.context = finish_context(watch.context, pipe)  # digests that were made meanwhile: limits hang on them
    return Watched(output, tally, run.stopped)


class _WatchedRun:
    """One call that is watched, and what is done to it while it runs."""

    def __init__(self, pipe: Any, tally: SignTally, watch: Watch) -> None:
        self._pipe, self._tally, self._watch = pipe, tally, watch
        self._observer: Observer | None = None
        self._guided_at: float | None = None  # the pipeline's own guidance, while another one is in force
        self._guide_from: float = 0.0
        self._has_interrupted = False
        self.stopped: Stopped | None = None

    def made(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the call; None where it was left."""
        components = components_of(self._pipe)
        schedulers = {id(one): (name, one) for name, one in components.items() if _steps(one)}
        priors = {id(one): one for one in components.values() if hasattr(one, "post_process_latents")}
        stages = {key: name for key, (name, _) in schedulers.items()}
        looks = Looks(self._watch.look, self._watch.look_embeddings, self._watch.clip_embedder)
        self._observer = Observer(
            self._pipe, _said(call, args, kwargs), stages, looks, self._told, self._tally.note_failure
        )
        with ExitStack() as stack:
            stack.callback(self._restore)
            stack.callback(listen_to(denoisers_of(components), self._hear))
            for _, scheduler in schedulers.values():
                stack.enter_context(standing_around(scheduler, "step"))
            for prior in priors.values():
                stack.enter_context(standing_around(prior, "post_process_latents"))
            stack.enter_context(taking_part(self._observer))
            try:
                return _freed_on_error(self._pipe, lambda: call(*args, **kwargs))
            except LeftEarly:
                return None

    def _hear(self, prediction: torch.Tensor) -> None:
        if self._observer is not None and present() is self._observer:  # not another thread's call of the same network
            self._observer.heard.append(prediction)

    def _told(self, step: Step) -> Change | None:
        """What signs and watchers make of a step: the latents to go on with, if others."""
        self._guide_again(step)
        self._tally.take(step)
        for name, own, reached in self._tally.due(step):
            self._tally.note_action(name, step, self._act(name, own, reached, step))
        change = None
        for watcher in self._watch.watchers:
            asked = watcher(step)
            if asked is None:
                continue
            change = asked if asked.latents is not None else change
            if asked.guidance is not None:
                self._guide(asked.guidance)
            if asked.stop is not None:
                self._stop("watcher", asked.stop, step)
        return change

    def _act(self, name: str, own: SignSettings, reached: torch.Tensor, step: Step) -> str:
        """Do what a sign's settings say once images reach its limit; returns what was done, in words."""
        count = int(reached.sum())
        if own.action == "stop":
            if count < len(reached):
                return f"not stopped: {count} of {len(reached)} images reach the limit"
            self._stop(name, f"all {len(reached)} images reach its {own.act_on} limit", step)
            return "stopped"
        if step.total is None or not self._guide(_BARELY_GUIDED):
            return "guidance could not be changed: the pipeline keeps none, or uses none"
        self._guide_from = own.guide_from * step.total
        return f"guided later: from step {round(self._guide_from) + 1} of {step.total}"

    def _stop(self, by: str, reason: str, step: Step) -> None:
        if self.stopped is None:
            self.stopped = Stopped(by, step.number + 1, step.total, reason)
        assert self._observer is not None, "a step was observed"
        self._observer.leave = True
        if not hasattr(type(self._pipe), "interrupt") or step.embedding is not None or not self._interrupt():
            raise LeftEarly

    def _interrupt(self) -> bool:
        """Ask the pipeline to end its loop; whether that was done: not where it would end another thread's run too.

        A call that begins later is not ended by it: pipelines take the request back when they are called.
        """
        with _lock:
            if _in_flight[id(self._pipe)] > 1:
                return False
            self._pipe._interrupt = self._has_interrupted = True
            return True

    def _guide(self, scale: float) -> bool:
        """Put another guidance in force; whether the pipeline keeps one that is more than none."""
        in_force = getattr(self._pipe, "_guidance_scale", None)
        if not isinstance(in_force, int | float) or (in_force <= 1 and self._guided_at is None):
            return False
        self._guided_at = in_force if self._guided_at is None else self._guided_at
        self._pipe._guidance_scale = scale
        return True

    def _guide_again(self, step: Step) -> None:
        if self._guide_from and step.number + 1 >= self._guide_from:
            self._restore_guidance()
            self._guide_from = 0.0

    def _restore_guidance(self) -> None:
        if self._guided_at is not None:
            self._pipe._guidance_scale, self._guided_at = self._guided_at, None

    def _restore(self) -> None:
        self._restore_guidance()
        if self._has_interrupted:
            self._pipe._interrupt = False


def _freed_on_error(pipe: Any, make: Callable[[], Any]) -> Any:
    """What a call gives; models that it had loaded to a device are offloaded again where it ends in an error."""
    try:
        return make()
    except BaseException:
        free = getattr(pipe, "maybe_free_model_hooks", None)
        if callable(free):
            _free(free)
        raise


def _free(free: Callable[[], Any]) -> None:
    try:
        free()
    except Exception as error:  # noqa: BLE001 - the error on its way up is the one that counts
        log.warning("models could not be offloaded after an error: %r", error)


def _steps(component: Any) -> bool:
    return callable(getattr(component, "step", None)) and callable(getattr(component, "set_timesteps", None))


def _said(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(inspect.signature(call).bind_partial(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return dict(kwargs)
