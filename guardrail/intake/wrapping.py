"""Put a guard around one pipeline by giving the instance a same-named subclass of its own class.

The instance stays what it was to diffusers (isinstance, config, components, saving, moving, offloading); only its
`__call__` is another. Source of the design: DESIGN.md, "Working rules that were measured".
"""

import functools
import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from diffusers import DiffusionPipeline, ModularPipeline

from guardrail.errors import PipelineNotWrappable

__all__ = ["PIPELINES", "Generates", "guard_of", "outside_call", "plain_view", "put_around", "take_off", "when_copied"]

PIPELINES = (DiffusionPipeline, ModularPipeline)
"""The two hierarchies of diffusers' pipelines."""

_GUARD = "_guardrail_guard"
_PLAIN = "_guardrail_plain"

when_copied: list[Callable[[Any, Any], None]] = []
"""Called with a guarded pipeline whose parts are asked for, and its guard."""

_running: ContextVar[tuple[Any, ...]] = ContextVar("guardrail_running", default=())
_classes: "weakref.WeakValueDictionary[tuple[type, int], type]" = weakref.WeakValueDictionary()


class Generates(Protocol):
    """What stands around a pipeline's call."""

    def generate(self, pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run `call(*args, **kwargs)` and hand out what may leave."""


def put_around(pipe: Any, guard: Generates) -> Any:
    """Put a guard around one pipeline, or any callable that returns pictures; a second time changes nothing.

    Args:
        pipe: a diffusers pipeline (standard or modular), an object with `__call__`, or a function.
        guard: what stands around its calls.

    Returns:
        The same instance; for a function or method a new one, since those cannot be changed in place.

    Raises:
        PipelineNotWrappable: it cannot be called, is a class, or another guard is around it already.
    """
    if isinstance(pipe, type) or not callable(pipe):
        name = pipe.__name__ if isinstance(pipe, type) else type(pipe).__name__
        raise PipelineNotWrappable(name, "it is a class" if isinstance(pipe, type) else "it cannot be called")
    if inspect.iscoroutinefunction(pipe) or inspect.iscoroutinefunction(type(pipe).__call__):
        why = "it is asynchronous; guard the function that makes the pictures, and call it with asyncio.to_thread"
        raise PipelineNotWrappable(type(pipe).__name__, why)
    present = guard_of(pipe)
    if present is guard:
        return pipe
    if present is not None:
        raise PipelineNotWrappable(type(pipe).__name__, "another guard is around it; unwrap that first")
    if not isinstance(pipe, PIPELINES):
        return _guarded_callable(pipe, guard)
    pipe.__class__ = _guarded_class(type(pipe), guard)
    return pipe


def take_off(pipe: Any) -> Any:
    """Take the guard off again; returns the same instance (of a guarded function: the function itself)."""
    plain = getattr(pipe, _PLAIN, None) if _is_wrapped_function(pipe) else getattr(type(pipe), _PLAIN, None)
    if plain is None:
        return pipe
    if _is_wrapped_function(pipe):
        return plain
    pipe.__class__ = plain
    return pipe


def guard_of(pipe: Any) -> Generates | None:
    """The guard around a pipeline, or None."""
    guard: Generates | None = getattr(pipe if _is_wrapped_function(pipe) else type(pipe), _GUARD, None)
    return guard


def plain_view(pipe: Any) -> Any:
    """The same pipeline without its guard, sharing all it holds; the pipeline itself stays guarded.

    For looks at a model that hand nothing out to anybody. A pipeline without a guard is returned as it is.
    """
    if guard_of(pipe) is None:
        return pipe
    if _is_wrapped_function(pipe):
        return pipe.__dict__[_PLAIN]
    view = object.__new__(getattr(type(pipe), _PLAIN))
    object.__setattr__(view, "__dict__", pipe.__dict__)
    return view


@contextmanager
def outside_call() -> Iterator[None]:
    """While a caller's own code runs inside a guarded call (a callback), no pipeline counts as part of that call."""
    token = _running.set(())
    try:
        yield
    finally:
        _running.reset(token)


def _is_wrapped_function(pipe: Any) -> bool:
    return hasattr(pipe, "__wrapped__") and _GUARD in getattr(pipe, "__dict__", {})


def _guarded_callable(called: Any, guard: Generates) -> Any:
    """A callable that is no diffusers pipeline: its class is swapped where that can be, else a function around it."""
    try:
        called.__class__ = _guarded_class(type(called), guard)
    except TypeError:

        @functools.wraps(called)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return guard.generate(called, called, args, kwargs)

        setattr(guarded, _GUARD, guard)
        setattr(guarded, _PLAIN, called)
        return guarded
    return called


def _guarded_class(plain: type, guard: Generates) -> type:
    """A subclass of `plain` under the same name whose calls go through the guard; made once for each guard."""
    made = _classes.get((plain, id(guard)))
    if made is None:
        made = _classes[plain, id(guard)] = _new_guarded_class(plain, guard)  # it holds the guard, so the id stays its
    return made


def _new_guarded_class(plain: Any, guard: Generates) -> type:
    original = plain.__call__

    @functools.wraps(original)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it is the subclass's method
        call = functools.partial(original, self)
        if any(_is_part(self, outer) for outer in _running.get()):
            return call(*args, **kwargs)  # what it makes leaves through the guarded call that it is part of
        token = _running.set((*_running.get(), self))
        try:
            return guard.generate(self, call, args, kwargs)
        finally:
            _running.reset(token)

    def components(self: Any) -> Any:
        for told in when_copied:
            told(self, guard)  # a copy has its own parts, and whoever asks for them may build another pipeline
        return plain.components.fget(self)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:  # noqa: N807
        reduced = tuple(object.__reduce_ex__(self, protocol))
        return (_restored, (plain, guard), *reduced[2:])

    members = {
        "__call__": __call__,
        "__reduce_ex__": __reduce_ex__,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__doc__": plain.__doc__,
        _GUARD: guard,
        _PLAIN: plain,
    }
    if isinstance(getattr(plain, "components", None), property):
        members["components"] = property(components)
    made: type = type(plain)(plain.__name__, (plain,), members)
    return made


def _is_part(pipe: Any, outer: Any) -> bool:
    """Whether a pipeline is one of those that a combined pipeline of diffusers is made of, however deep.

    Any other object that holds a pipeline may keep what it makes: its calls are judged one by one.
    """
    if not type(outer).__module__.startswith("diffusers."):
        return False
    seen: list[Any] = []
    found = [outer]
    while found:
        one = found.pop()
        if any(one is known for known in seen):
            continue
        seen.append(one)
        found += [held for held in vars(one).values() if isinstance(held, PIPELINES)]
    return any(held is pipe for held in seen[1:])


def _restored(plain: Any, guard: Generates) -> Any:
    """An empty guarded instance, for unpickling: a copy of a guarded pipeline is guarded."""
    pipe = plain.__new__(plain)
    pipe.__class__ = _guarded_class(plain, guard)
    return pipe
