"""A pipeline's call with its arguments bound by name, so that they can be read, and the call made again otherwise."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BoundCall", "bound_call"]


@dataclass(frozen=True, slots=True)
class BoundCall:
    """One call that was asked for.

    Attributes:
        pipe: the pipeline, or another callable.
        call: its own `__call__`, bound.
        args, kwargs: as the caller passed them.
        said: every argument by its name, defaults included; what was passed by name alone, where the arguments do
            not fit the signature (`unbound` then says why).
    """

    pipe: Any
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    said: Mapping[str, Any] = field(repr=False)
    unbound: str = ""

    def __call__(self) -> Any:
        """Make the call as it was asked for."""
        return self.call(*self.args, **self.kwargs)

    def changed(self, **changes: Any) -> Any:
        """Make the call with some arguments in the place of the caller's.

        Raises:
            TypeError: the arguments do not fit the signature.
        """
        signature = inspect.signature(self.call)
        bound = signature.bind(*self.args, **self.kwargs)
        rest = next((name for name, one in signature.parameters.items() if one.kind is one.VAR_KEYWORD), None)
        for name, value in changes.items():
            if name in signature.parameters or rest is None:
                bound.arguments[name] = value
            else:
                bound.arguments.setdefault(rest, {})
                bound.arguments[rest] = {**bound.arguments[rest], name: value}
        return self.call(*bound.args, **bound.kwargs)


def bound_call(pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundCall:
    """Bind a call's arguments by the signature of the pipeline's class, positional ones too."""
    try:
        signature = inspect.signature(call)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        return BoundCall(pipe, call, args, kwargs, dict(kwargs), str(error))
    bound.apply_defaults()
    said = dict(bound.arguments)
    for name, one in signature.parameters.items():
        if one.kind is one.VAR_KEYWORD:
            said |= said.pop(name)
    return BoundCall(pipe, call, args, kwargs, said)
