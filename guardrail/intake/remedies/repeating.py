"""The same pipeline call again, with generators nobody used, and for the blocked slots alone where that can be."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from guardrail.intake.callbacks import with_own_callbacks
from guardrail.intake.calls import BoundCall
from guardrail.intake.wrapping import outside_call

__all__ = ["Repeat", "make_again", "repeat_for", "takes"]

_PER_PROMPT = ("num_images_per_prompt", "num_videos_per_prompt")
_OF_PROMPTS = frozenset(
    {
        "class_labels",
        "negative_prompt",
        "negative_prompt_2",
        "negative_prompt_3",
        "negative_prompt_4",
        "prompt",
        "prompt_2",
        "prompt_3",
        "prompt_4",
    }
)  # arguments with one entry for each prompt where they are lists


@dataclass(frozen=True, slots=True)
class Repeat:
    """How a call is to be made again.

    Attributes:
        changed: the arguments to pass in place of the caller's.
        places: by slot of the first call, which item of the new output takes its place.
        seeds: of the fresh generators, one for each slot or one for all; empty where the call takes no generator.
        count: how many items the new output has.
    """

    changed: Mapping[str, Any]
    places: Mapping[int, int]
    seeds: tuple[int, ...]
    count: int


def takes(asked: BoundCall, name: str) -> bool:
    """Whether a call has an argument of that name, as its signature or its blocks (of a modular pipeline) say."""
    with suppress(TypeError, ValueError):
        parameters = inspect.signature(asked.call).parameters
        is_open = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
        inputs = getattr(getattr(asked.pipe, "blocks", None), "input_names", ())
        return name in parameters or (is_open and (name in asked.said or name in inputs))
    return False


def make_again(asked: BoundCall, changed: Mapping[str, Any]) -> Any:
    """Make a call with some arguments changed; the caller's callbacks are called again, outside of it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        args, kwargs, _ = with_own_callbacks(asked.call, args, kwargs, outside_call)
        return asked.call(*args, **kwargs)

    call.__signature__ = inspect.signature(asked.call)  # type: ignore[attr-defined]  # that the arguments are bound by
    return BoundCall(asked.pipe, call, asked.args, asked.kwargs, asked.said).changed(**changed)


def repeat_for(
    asked: BoundCall,
    changed: Mapping[str, Any],
    slots: Sequence[int],
    count: int,
    draw_seed: Callable[[], int],
    *,
    narrow: bool = True,
) -> Repeat:
    """Plan a call anew for some slots, with fresh generators in their places.

    Args:
        asked: the call that was made.
        changed: arguments that a remedy passes in place of the caller's.
        slots: which of its items are wanted again.
        count: how many items it gave.
        draw_seed: gives a seed, 0..2**63-1.
        narrow: leave out prompts and images that are not wanted, where all arguments can be cut to that.
    """
    changed = dict(changed)
    places, left = {slot: slot for slot in slots}, list(range(count))
    cut = _narrowed(asked, changed, slots, count) if narrow else None
    if cut is not None:
        changed |= cut[0]
        left = cut[1]
        places = {slot: left.index(slot) for slot in slots}
    if not takes(asked, "generator"):
        return Repeat(changed, places, (), len(left))
    given = asked.said.get("generator")
    if isinstance(given, list | tuple) and len(given) == count:
        fresh = {slot: _fresh_like(given[slot], draw_seed()) for slot in slots}
        changed["generator"] = [fresh.get(slot) or _cloned(given[slot]) for slot in left]
        return Repeat(changed, places, tuple(one.initial_seed() for one in fresh.values()), len(left))
    one = _fresh_like(given[0] if isinstance(given, list | tuple) and given else given, draw_seed())
    changed["generator"] = one
    return Repeat(changed, places, (one.initial_seed(),), len(left))


def _fresh_like(given: Any, seed: int) -> torch.Generator:
    return torch.Generator(given.device if isinstance(given, torch.Generator) else "cpu").manual_seed(seed)


def _cloned(given: Any) -> torch.Generator:
    """A generator in the same state: what is drawn for items that nobody wants is not drawn from the caller's own."""
    return given.clone_state() if isinstance(given, torch.Generator) else torch.Generator()


def _narrowed(
    asked: BoundCall, changed: Mapping[str, Any], slots: Sequence[int], count: int
) -> tuple[dict[str, Any], list[int]] | None:
    """Arguments for some slots alone, and which slots that call makes, in order; None where it must be made whole."""
    said = {**asked.said, **changed}
    per_prompt = next((name for name in _PER_PROMPT if takes(asked, name)), None)
    each = int(said.get(per_prompt) or 1) if per_prompt else 1
    lists = {name: value for name, value in said.items() if name in _OF_PROMPTS and isinstance(value, list | tuple)}
    lengths = {len(value) for value in lists.values()}
    others = [value for name, value in _passed(asked, changed).items() if name not in lists and name != "generator"]
    if len(lengths) > 1 or not all(_is_shared(value, count) for value in others):
        return None
    if lengths and lengths != {1}:
        if lengths.pop() * each != count:
            return None
        wanted = sorted({slot // each for slot in slots})
        cut: dict[str, Any] = {name: [value[at] for at in wanted] for name, value in lists.items()}
        return cut, [at * each + image for at in wanted for image in range(each)]
    name = per_prompt if each == count else "batch_size" if takes(asked, "batch_size") else None
    if name is None or said.get(name) != count:
        return None
    return {name: len(slots)}, list(slots)


def _passed(asked: BoundCall, changed: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are not at their defaults."""
    parameters = inspect.signature(asked.call).parameters
    passed = {
        name: value
        for name, value in asked.said.items()
        if name not in parameters or value is not parameters[name].default
    }
    return {**passed, **changed}


def _is_shared(value: Any, count: int) -> bool:
    """Whether an argument is the same for every item: a word, a number, or numbers that are not one for each item."""
    if value is None or isinstance(value, str | bool | int | float | torch.dtype | torch.device):
        return True
    if isinstance(value, list | tuple):
        return len(value) != count and all(isinstance(one, int | float) for one in value)
    return isinstance(value, dict) and not value
