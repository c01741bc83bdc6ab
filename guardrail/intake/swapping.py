"""Stand around one method of an object for a while, by giving the instance a same-named subclass of its class."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

__all__ = ["Around", "present", "standing_around", "taking_part"]


class Around(Protocol):
    """What stands around methods during one call."""

    def around(self, target: Any, method: str, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run `original(*args, **kwargs)`, the method of `target`, and return what its caller gets."""


_present: ContextVar[Around | None] = ContextVar("guardrail_around", default=None)
_lock = threading.Lock()
_swapped: dict[int, tuple[Any, type, int]] = {}
_classes: dict[tuple[type, str], type] = {}


def present() -> Around | None:
    """Who stands around the call that runs in this thread and task, or None."""
    return _present.get()


@contextmanager
def taking_part(who: Around | None) -> Iterator[None]:
    """Whose calls the methods count as from here on in this thread and task; None: nobody's."""
    token = _present.set(who)
    try:
        yield
    finally:
        _present.reset(token)


@contextmanager
def standing_around(target: Any, method: str) -> Iterator[None]:
    """Let calls of one method of an object go through whoever is `present`, until the block is left.

    Two threads may do so with one object: its own class comes back when the last of them is done. A copy that is made
    of the object meanwhile is of the plain class.
    """
    with _lock:
        _, plain, count = _swapped.get(id(target), (target, type(target), 0))
        _swapped[id(target)] = (target, plain, count + 1)
        if not count:
            target.__class__ = _subclass(plain, method)
    try:
        yield
    finally:
        with _lock:
            _, plain, count = _swapped.pop(id(target))
            if count > 1:
                _swapped[id(target)] = (target, plain, count - 1)
            else:
                target.__class__ = plain


def _subclass(plain: Any, method: str) -> type:
    """A subclass of `plain` under the same name, made once, whose method goes through whoever is present."""
    if (plain, method) not in _classes:
        _classes[plain, method] = _new_subclass(plain, method)
    return _classes[plain, method]


def _new_subclass(plain: Any, method: str) -> type:
    original = getattr(plain, method)

    @functools.wraps(original)
    def around(self: Any, *args: Any, **kwargs: Any) -> Any:
        who = _present.get()
        if who is None:
            return original(self, *args, **kwargs)
        return who.around(self, method, functools.partial(original, self), args, kwargs)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:  # noqa: N807 - it is the subclass's method
        reduced = tuple(object.__reduce_ex__(self, protocol))
        return (_empty, (plain,), *reduced[2:])

    members = {
        method: around,
        "__reduce_ex__": __reduce_ex__,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__doc__": plain.__doc__,
    }
    made: type = type(plain)(plain.__name__, (plain,), members)
    return made


def _empty(plain: Any) -> Any:
    """An empty instance of the plain class, for copies that are made meanwhile."""
    return plain.__new__(plain)
