"""Put a guard around one pipeline by giving the instance a same-named subclass of its own class.

The instance stays what it was to diffusers (isinstance, config, components, saving, moving, offloading); only its
`__call__` is another. Source of the design: DESIGN.md, "Working rules that were measured".
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

from diffusers import DiffusionPipeline

from guardrail.errors import PipelineNotWrappable

__all__ = ["Generates", "guard_of", "unwrap", "wrap"]

_GUARD = "_guardrail_guard"
_PLAIN = "_guardrail_plain_class"


class Generates(Protocol):
    """What stands around a pipeline's call."""

    def generate(self, pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run `call(*args, **kwargs)` and hand out what may leave."""


def wrap(pipe: Any, guard: Generates) -> Any:
    """Guard a pipeline instance; returns the same instance. Guarding it twice with one guard changes nothing.

    Raises:
        PipelineNotWrappable: it is no diffusers pipeline, or another guard is around it already.
    """
    if not isinstance(pipe, DiffusionPipeline):
        raise PipelineNotWrappable(type(pipe).__name__, "it is not an instance of diffusers.DiffusionPipeline")
    present = guard_of(pipe)
    if present is guard:
        return pipe
    if present is not None:
        raise PipelineNotWrappable(type(pipe).__name__, "another guard is around it; unwrap that first")
    pipe.__class__ = _guarded_class(type(pipe), guard)
    return pipe


def unwrap(pipe: Any) -> Any:
    """Take the guard off again; returns the same instance. A pipeline without a guard is left as it is."""
    plain = getattr(type(pipe), _PLAIN, None)
    if plain is not None:
        pipe.__class__ = plain
    return pipe


def guard_of(pipe: Any) -> Generates | None:
    """The guard around a pipeline, or None."""
    guard: Generates | None = getattr(type(pipe), _GUARD, None)
    return guard


def _guarded_class(plain: type, guard: Generates) -> type:
    """A subclass of `plain` under the same name whose calls go through the guard."""
    original = plain.__call__

    @functools.wraps(original)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it is the subclass's method
        return guard.generate(self, functools.partial(original, self), args, kwargs)

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
    return type(plain)(plain.__name__, (plain,), members)


def _restored(plain: Any, guard: Generates) -> Any:
    """An empty guarded instance, for unpickling: a copy of a guarded pipeline is guarded."""
    pipe = plain.__new__(plain)
    pipe.__class__ = _guarded_class(plain, guard)
    return pipe
