"""The caller's own callbacks, composed with the watch and never replaced."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from guardrail.intake.swapping import taking_part

__all__ = ["OWN_CALLBACKS", "with_own_callbacks"]

OWN_CALLBACKS = ("callback_on_step_end", "callback")
"""What diffusers calls the argument for a caller's own callback, now and formerly."""

Outside = Callable[[], AbstractContextManager[None]]


class _ManyOutside(MultiPipelineCallbacks):  # type: ignore[misc]
    """Callbacks of diffusers' own kind, which say themselves which tensors they want."""

    def __init__(self, own: Any, outside: Outside) -> None:
        self._own, self._outside = own, outside

    @property
    def tensor_inputs(self) -> list[str]:
        """The tensors that the caller's callbacks ask for."""
        return list(self._own.tensor_inputs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with taking_part(None), self._outside():
            return self._own(*args, **kwargs)


def with_own_callbacks(
    call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], outside: Outside
) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    """The arguments of a call with the caller's callbacks run outside of the watched call.

    Args:
        call: the pipeline's call, by whose signature positional arguments are named.
        args: its arguments in order.
        kwargs: its arguments by name.
        outside: entered while a callback runs.

    Returns:
        Both anew, the callbacks in the places of the caller's, and whether there were any.
    """
    kwargs, found = dict(kwargs), False
    for name in OWN_CALLBACKS:
        if kwargs.get(name) is not None:
            kwargs[name], found = _outside_of(kwargs[name], outside), True
    places = _places(call) if args else {}
    placed = list(args)
    for at in places.values():
        if at < len(placed) and placed[at] is not None:
            placed[at], found = _outside_of(placed[at], outside), True
    return tuple(placed), kwargs, found


def _places(call: Callable[..., Any]) -> dict[str, int]:
    try:
        names = list(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        return {}
    return {name: names.index(name) for name in OWN_CALLBACKS if name in names}


def _outside_of(own: Any, outside: Outside) -> Any:
    if isinstance(own, PipelineCallback | MultiPipelineCallbacks):
        return _ManyOutside(own, outside)

    def callback(*args: Any, **kwargs: Any) -> Any:
        with taking_part(None), outside():
            return own(*args, **kwargs)

    return callback
