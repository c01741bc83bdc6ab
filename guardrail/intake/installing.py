"""Guard pipelines as they are built: every one while a guard is installed, else those made of guarded parts.

Every diffusers pipeline names its components through one method of its base class (`register_modules`, in modular
pipelines `register_components`). It is replaced while there is something to watch for, and put back afterwards.
"""

import functools
import logging
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModularPipeline

from guardrail.errors import PipelineNotWrappable
from guardrail.intake.wrapping import PIPELINES, Generates, guard_of, put_around, take_off, when_copied

__all__ = ["install", "installed_guard", "note_parts", "uninstall", "unwrap", "wrap"]

_DOORS = (
    (DiffusionPipeline, "register_modules"),
    (DiffusionPipeline, "__setattr__"),
    (DiffusionPipeline, "from_pipe"),
    (ModularPipeline, "register_components"),
)
_SHARED_HEADS = ("ControlNet", "MultiControlNet", "VQModel")  # kinds of models that unrelated pipelines share
_SHARED_ENDS = ("ControlNetModel", "SafetyChecker")
_MADE_ANEW = ("UNetMotionModel",)  # classes that build these out of the denoiser that they are given
log = logging.getLogger("guardrail.intake")


class _Watch:
    """What is watched for in this process; one lock around all of it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.guard: Any = None
        self.parts: weakref.WeakKeyDictionary[torch.nn.Module, Any] = weakref.WeakKeyDictionary()
        self.shared: weakref.WeakKeyDictionary[torch.nn.Module, Any] = weakref.WeakKeyDictionary()
        self.asked_for: weakref.WeakSet[Any] = weakref.WeakSet()
        self.inner: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self.wrapped: weakref.WeakSet[Any] = weakref.WeakSet()
        self.installed_on: weakref.WeakSet[Any] = weakref.WeakSet()
        self.plain: dict[tuple[type, str], Any] = {}


_watch = _Watch()


def wrap(pipe: Any, guard: Generates) -> Any:
    """Guard a diffusers pipeline instance, or any callable that returns pictures.

    Guarding it twice with one guard changes nothing. As long as a pipeline is guarded, pipelines that are built from
    its denoiser (`from_pipe`, `Cls(**pipe.components)`) are guarded by the same guard.

    Args:
        pipe: a diffusers pipeline (standard or modular), an object with `__call__`, or a function.
        guard: what stands around its calls.

    Returns:
        The same instance; for a function or method a new one, since those cannot be changed in place.

    Raises:
        PipelineNotWrappable: it cannot be called, is a class, or another guard is around it already.
    """
    with _watch.lock:
        guarded = put_around(pipe, guard)
        if isinstance(guarded, PIPELINES):
            _watch.asked_for.add(guarded)
            note_parts(guarded, guard)
            _wrap_inner(guarded, guard)
    return guarded


def _wrap_inner(pipe: Any, guard: Generates) -> None:
    """Guard the pipelines that a combined one is made of, for when they are called by themselves."""
    for inner in list(vars(pipe).values()):
        if isinstance(inner, PIPELINES) and callable(inner) and guard_of(inner) is None:
            put_around(inner, guard)
            _watch.inner[inner] = guard
            note_parts(inner, guard)
            _wrap_inner(inner, guard)


def unwrap(pipe: Any) -> Any:
    """Take the guard off again; returns the same instance (of a guarded function: the function itself).

    With the last guarded pipeline every trace is gone. A pipeline without a guard is left as it is.
    """
    with _watch.lock:
        if guard_of(pipe) is None:
            return pipe
        plain = take_off(pipe)
        if isinstance(plain, PIPELINES):
            for inner in [held for held in vars(plain).values() if isinstance(held, PIPELINES)]:
                if _watch.inner.pop(inner, None) is not None:
                    unwrap(inner)
            _forget_parts(plain)
    return plain


def install(guard: Generates) -> None:
    """Guard every pipeline that is built from now on in this process.

    Raises:
        PipelineNotWrappable: another guard is installed.
    """
    with _watch.lock:
        if _watch.guard is not None and _watch.guard is not guard:
            raise PipelineNotWrappable("pipeline", "another guard is installed for all of them; uninstall that first")
        _watch.guard = guard
        _open_doors()


def uninstall(guard: Generates) -> None:
    """Guard no more pipelines, and take the guard off those that have it because it was installed."""
    with _watch.lock:
        if _watch.guard is not guard:
            return
        _watch.guard = None
        asked_for = [pipe for pipe in _watch.asked_for if guard_of(pipe) is guard]
        mine = [pipe for pipe in _watch.wrapped if guard_of(pipe) is guard]
        for pipe in list(_watch.installed_on) if asked_for else mine:  # copies are not told apart from their originals
            unwrap(pipe)
        _watch.installed_on.clear()
        _close_doors()


def installed_guard() -> Any:
    """The guard that is installed in this process, or None."""
    return _watch.guard


def note_parts(pipe: Any, guard: Generates) -> None:
    """Remember the denoisers of a guarded pipeline, so that no other pipeline is built of them unseen."""
    if not isinstance(pipe, PIPELINES):
        return
    with _watch.lock:
        _watch.wrapped.add(pipe)
        for part in _denoisers(vars(pipe).values()):
            _watch.parts[part] = guard
        for part in vars(pipe).values():
            if isinstance(part, torch.nn.Module):
                _watch.shared[part] = guard
        _open_doors()


def _forget_parts(pipe: Any) -> None:
    """Forget them again, unless another guarded pipeline has them; with the last one everything is as it was."""
    for known in (_watch.wrapped, _watch.installed_on, _watch.asked_for):
        known.discard(pipe)
    kept = {part for other in _watch.wrapped for part in _denoisers(vars(other).values())}
    for part in set(_denoisers(vars(pipe).values())) - kept:
        _watch.parts.pop(part, None)
    others = {part for other in _watch.wrapped for part in vars(other).values() if isinstance(part, torch.nn.Module)}
    for part in [held for held in vars(pipe).values() if isinstance(held, torch.nn.Module)]:
        if part not in others:
            _watch.shared.pop(part, None)
    _close_doors()


def _denoisers(values: Any) -> Iterator[torch.nn.Module]:
    """Of some components those that make a pipeline the model it is: not codecs, encoders of text or controls."""
    for value in values:
        kind = type(value).__name__
        shared = "Autoencoder" in kind or kind.startswith(_SHARED_HEADS) or kind.endswith(_SHARED_ENDS)
        if isinstance(value, torch.nn.Module) and not type(value).__module__.startswith("transformers.") and not shared:
            yield value


def _open_doors() -> None:
    for owner, name in _DOORS:
        if (owner, name) not in _watch.plain:
            plain = vars(owner)[name]
            _watch.plain[owner, name] = plain
            setattr(owner, name, _watched(name, plain))


def _close_doors() -> None:
    """Put the plain methods back once nothing is watched for."""
    if _watch.guard is None and not _watch.wrapped and not _watch.parts:
        for (owner, name), plain in _watch.plain.items():
            setattr(owner, name, plain)
        _watch.plain.clear()


def _watched(name: str, plain: Any) -> Any:
    """One door with somebody beside it."""
    if name == "from_pipe":

        @functools.wraps(plain.__func__)
        def from_pipe(cls: Any, pipeline: Any, **kwargs: Any) -> Any:
            made, guard = plain.__func__(cls, pipeline, **kwargs), guard_of(pipeline)
            return wrap(made, guard) if guard is not None and guard_of(made) is None else made

        return classmethod(from_pipe)  # type: ignore[arg-type]
    if name == "__setattr__":

        @functools.wraps(plain)
        def set_attribute(self: Any, attribute: str, value: Any) -> None:
            plain(self, attribute, value)
            if isinstance(value, torch.nn.Module):
                _adopt(self, {attribute: value})

        return set_attribute

    @functools.wraps(plain)
    def register(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = plain(self, *args, **kwargs)
        _adopt(self, kwargs)
        return answer

    return register


def _adopt(pipe: Any, components: dict[str, Any]) -> None:
    """Guard a pipeline that was just given components, if there is a guard for it."""
    with _watch.lock:
        if (present := guard_of(pipe)) is not None:
            note_parts(pipe, present)
            return
        guard = _owner_of(components)
        if (guard is None and _watch.guard is None) or not callable(pipe):
            return  # a class without a call of its own has others make its pictures, and those are guarded
        put_around(pipe, guard or _watch.guard)
        note_parts(pipe, guard or _watch.guard)
        if guard is None or guard is _watch.guard:
            _watch.installed_on.add(pipe)
    why = "it is made of parts of a guarded pipeline" if guard else "a guard is installed"
    log.info("a %s is guarded: %s", type(pipe).__name__, why)


def _owner_of(components: dict[str, Any]) -> Any:
    """The guard around the pipeline whose parts these are, or None."""
    parts = list(_denoisers(components.values()))
    if any(type(part).__name__ in _MADE_ANEW for part in parts):
        parts = [part for part in components.values() if isinstance(part, torch.nn.Module)]
        owners = [_watch.shared.get(part) for part in parts]
    else:
        owners = [_watch.parts.get(part) for part in parts]
    return next((owner for owner in owners if owner is not None), None)


when_copied.append(note_parts)
