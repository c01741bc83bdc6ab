"""The same pipeline call with a fresh seed, where a seed would change anything."""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Reseeded", "reseeded"]

log = logging.getLogger("guardrail.intake")


@dataclass(frozen=True, slots=True)
class Reseeded:
    """A call ready to be made, and the seed of its (first) generator."""

    call: Callable[[], Any]
    seed: int


def reseeded(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reseeded | None:
    """The same call with generators nobody used before; None, with the reason logged, where that cannot help."""
    try:
        bound = inspect.signature(call).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        log.warning("not generated again: %s", error)
        return None
    if bound.arguments.get("latents") is not None:
        log.warning("not generated again: fixed latents give the same picture for every seed")
        return None
    if "generator" not in inspect.signature(call).parameters:
        log.warning("not generated again: the pipeline takes no generator")
        return None
    given = bound.arguments.get("generator")
    fresh = [_fresh_like(one) for one in given] if isinstance(given, list | tuple) else _fresh_like(given)
    bound.arguments["generator"] = fresh
    first = fresh[0] if isinstance(fresh, list) else fresh
    return Reseeded(lambda: call(*bound.args, **bound.kwargs), first.initial_seed())


def _fresh_like(given: torch.Generator | None) -> torch.Generator:
    generator = torch.Generator(given.device if given is not None else "cpu")
    generator.seed()
    return generator
