"""A call's random generators in, their states before the call out; and those states in again, for a replay."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from guardrail.intake.calls import BoundCall
from guardrail.records import GenerationContext, GeneratorState

__all__ = ["generators_of", "replaying"]

_QUICKLY = 1  # zlib's level: 5,056 bytes of a CPU generator become 3,200 in a thirtieth of a millisecond


def generators_of(bound: BoundCall, unread: list[str]) -> tuple[GeneratorState, ...]:
    """The generators of a call as they are before it: those it was given, or else torch's own.

    Args:
        bound: the call, its arguments bound by name.
        unread: gets a line where no generator can be read.
    """
    given = bound.said.get("generator")
    listed = list(given) if isinstance(given, list | tuple) else [given]
    generators = [one for one in listed if isinstance(one, torch.Generator)]
    if generators and len(generators) == len(listed):
        return tuple(_state(one) for one in generators)
    unread.append("seed: no generator was passed" if given is None else f"seed: a {type(given).__name__}")
    return _global_states()


@contextmanager
def replaying(context: GenerationContext) -> Iterator[Any]:
    """Everything random as it was before a run, so that the same call gives the same pictures, bit for bit.

    Yields what to pass as `generator`: one, a list of them, or None where the caller passed none and torch's own
    generators were used; those are set for the time, and put back as they were.

    Raises:
        ValueError: the context has no state of a generator.
        RuntimeError: a generator lay on a device that is not here.
    """
    if not context.generators:
        raise ValueError(
            f"run {context.run_id} has no state of a generator, expected at least one; it cannot be replayed"
        )
    made = [_made(one) for one in context.generators]
    if not context.generators[0].is_global:
        yield made if len(made) > 1 else made[0]
        return
    own = [_own(one.device) for one in context.generators]
    before = [one.get_state() for one in own]
    try:
        for mine, then in zip(own, made, strict=True):
            mine.set_state(then.get_state())
        yield None
    finally:
        for mine, state in zip(own, before, strict=True):
            mine.set_state(state)


def _state(generator: torch.Generator, *, is_global: bool = False) -> GeneratorState:
    state, seed = generator.get_state(), generator.initial_seed()
    fresh = torch.Generator(generator.device).manual_seed(seed).get_state()
    packed = (
        "" if torch.equal(state, fresh) else base64.b64encode(zlib.compress(state.numpy().tobytes(), _QUICKLY)).decode()
    )
    return GeneratorState(device=str(generator.device), seed=seed, state=packed, is_global=is_global)


def _made(kept: GeneratorState) -> torch.Generator:
    """A generator in a state that was kept."""
    generator = torch.Generator(kept.device).manual_seed(kept.seed)
    if kept.state:
        state = np.frombuffer(zlib.decompress(base64.b64decode(kept.state)), np.uint8)
        generator.set_state(torch.from_numpy(state.copy()))
    return generator


def _global_states() -> tuple[GeneratorState, ...]:
    """Torch's own generators that a call without one draws from: the CPU's, and the current CUDA device's if in use."""
    devices = ["cpu"]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        devices.append(f"cuda:{torch.cuda.current_device()}")
    return tuple(_state(_own(device), is_global=True) for device in devices)


def _own(device: str) -> torch.Generator:
    """Torch's own generator of a device."""
    where = torch.device(device)
    if where.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        at = where.index if where.index is not None else torch.cuda.current_device()
        generator: torch.Generator = torch.cuda.default_generators[at]
        return generator
    return torch.default_generator
