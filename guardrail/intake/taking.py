"""What a call came to, whatever kind of pipeline it was: pictures to judge, and how to give back what may leave."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from diffusers import ModularPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image

from guardrail.carriers import ImageBatch, Picture
from guardrail.intake.beside import blanked, parts_beside, put_back, without
from guardrail.intake.calls import BoundCall, bound_call
from guardrail.intake.frames import sampled_frames, video_of
from guardrail.intake.latents import RandomState, asked_for_latents, decoded_latents, latents_in, put_into_latents
from guardrail.intake.modular import ModularOutput, modular_output
from guardrail.intake.outputs import PicturesInOutput, kind_of, own_copy, pictures_in, put_into
from guardrail.records import CheckFailed

__all__ = [
    "Sampling",
    "Slot",
    "Taken",
    "asked_call",
    "can_be_tried_again",
    "cards_alone",
    "fits",
    "nothing_taken",
    "slots_of",
    "take",
]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames of a video are looked at, and what is done with latents; see the settings of these names."""

    every: int
    change_above: float
    decode_latents: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """One output, taken apart.

    Attributes:
        found: every picture in it.
        batch: those that are judged: all but the frames that others stand for.
        shown: the part of the output that holds the pictures, our own copy.
        latents: what comes back in their place, if latents were asked for.
        whole: the output that the latents are a part of.
        modular: the state it is part of, of a modular pipeline.
        asked: what the caller of a modular pipeline asked for.
        aside: of a tuple the parts that are no pictures, by their place.
    """

    found: PicturesInOutput
    batch: ImageBatch
    shown: Any = field(repr=False)
    latents: torch.Tensor | None = field(default=None, repr=False)
    whole: Any = field(default=None, repr=False)
    modular: ModularOutput | None = field(default=None, repr=False)
    asked: Any = None
    aside: Mapping[int, tuple[str, Any]] = field(default_factory=dict, repr=False)

    def give(self, shown: Any, cards: Mapping[str, Image.Image]) -> Any:
        """The output as it may leave.

        Args:
            shown: `self.shown`, or the same with pictures of another call.
            cards: by picture name, what is shown instead of a withheld picture.
        """
        if self.latents is not None:
            released = put_into_latents(self.whole, self.latents, self._slots(set(cards)))
        else:
            released = put_into(shown, cards)
        if self.modular is None:
            released = blanked(released) if cards else released
            return put_back(released, self.aside, all_released=not cards) if self.aside else released
        return self.modular.give(self.asked, released, all_released=not cards)

    def _slots(self, withheld: set[str]) -> list[int]:
        """Places of the latents whose pictures are withheld; all of them where nobody knows which is whose."""
        assert self.latents is not None, "asked of latents only"
        names, latents = [picture.name for picture in self.found.batch.pictures], len(self.latents)
        if len(names) % latents:
            return list(range(latents)) if withheld else []
        each = len(names) // latents
        return sorted({at // each for at, name in enumerate(names) if name in withheld})


def asked_call(pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundCall:
    """The call that was asked for; of a modular pipeline one that gives the whole state, whatever was asked for."""
    return bound_call(pipe, _whole_state(call) if isinstance(pipe, ModularPipeline) else call, args, kwargs)


def can_be_tried_again(asked: BoundCall) -> bool:
    """Whether pictures of another call may take the place of this one's: not of states, and not as latents."""
    return not isinstance(asked.pipe, ModularPipeline) and not asked_for_latents(asked.said)


def take(asked: BoundCall, output: Any, before: RandomState, sampling: Sampling) -> Taken:
    """Take an output apart.

    Args:
        asked: the call.
        output: what it returned.
        before: the random state before it.
        sampling: which pictures to look at.

    Raises:
        OutputNotUnderstood: it holds something that may be a picture and cannot be looked into.
    """
    if isinstance(asked.pipe, ModularPipeline):
        modular = modular_output(asked.pipe, output, asked.said)
        shown = own_copy(dict(modular.pictures))
        found = pictures_in(shown) if shown else PicturesInOutput(ImageBatch(()), {}, {})
        return Taken(found, _sampled(found, sampling), shown, modular=modular, asked=asked.said.get("output"))
    aside = parts_beside(asked.pipe, output)
    output = without(output, aside) if aside else output
    latents = latents_in(output) if asked_for_latents(asked.said) else None
    if latents is None:
        shown = own_copy(output)
        found = pictures_in(shown)
        return Taken(found, _sampled(found, sampling), shown, aside=aside)
    latents = latents.detach().clone()
    found = _decoded(asked, before, latents, sampling)
    return Taken(found, _sampled(found, sampling), None, latents=latents, whole=output, aside=aside)


def _whole_state(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def whole(state: Any = None, output: Any = None, **kwargs: Any) -> Any:
        del output
        own = {name: _copied(value) for name, value in kwargs.items()}  # what a block paints into is no input any more
        return call(state, None, **own)

    return whole


def _copied(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and isinstance(value[0], Image.Image | np.ndarray | torch.Tensor):
        return type(value)(map(_copied, value))
    if isinstance(value, Image.Image | np.ndarray):
        return value.copy()
    return value.clone() if isinstance(value, torch.Tensor) else value


def _sampled(found: PicturesInOutput, sampling: Sampling) -> ImageBatch:
    return sampled_frames(found.batch, sampling.every, sampling.change_above)


def _decoded(asked: BoundCall, before: RandomState, latents: torch.Tensor, sampling: Sampling) -> PicturesInOutput:
    """The pictures that latents decode to; where they cannot be decoded, one for each that failed."""
    if not sampling.decode_latents:
        return _unchecked(latents, "latents were asked for, and the settings say not to decode them")
    try:
        decoded = decoded_latents(asked, before, latents)
        found = pictures_in((own_copy(decoded),) if isinstance(decoded, torch.Tensor) else own_copy(decoded))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong, they stay in
        return _unchecked(latents, f"they could not be decoded: {type(error).__name__}: {error}")
    if len(found.batch) < len(latents):
        return _unchecked(latents, f"they decode to {len(found.batch)} pictures, fewer than they are")
    return found


def _unchecked(latents: torch.Tensor, reason: str) -> PicturesInOutput:
    pictures = tuple(
        Picture(f"latents[{at}]", failure=CheckFailed(check="latents", image=f"latents[{at}]", error=reason))
        for at in range(len(latents))
    )
    return PicturesInOutput(ImageBatch(pictures), {}, {})


@dataclass(frozen=True, slots=True)
class Slot:
    """One item of an output: an image, or a video with its frames.

    Attributes:
        names: of all its pictures, in order.
        pictures: those of them that are judged.
    """

    names: tuple[str, ...]
    pictures: tuple[Picture, ...]


def slots_of(taken: Taken) -> tuple[Slot, ...]:
    """The items of an output, in order."""
    slots = []
    for _, found in groupby(taken.found.batch.pictures, lambda picture: video_of(picture) or f"={picture.name}"):
        names = tuple(picture.name for picture in found)
        slots.append(Slot(names, tuple(one for one in taken.batch.pictures if one.name in set(names))))
    return tuple(slots)


def fits(taken: Taken, names: Sequence[str], other: Taken, theirs: Sequence[str]) -> bool:
    """Whether the pictures of one call can take the places of another's: as many, of the same kind and form."""
    return len(names) == len(theirs) and all(
        taken.found.forms[mine] == other.found.forms[its]
        and kind_of(taken.found.values[mine]) == kind_of(other.found.values[its])
        for mine, its in zip(names, theirs, strict=True)
    )


def cards_alone(asked: BoundCall, cards: Sequence[Image.Image]) -> Any:
    """An output of nothing but cards, for a call that was stopped and returned nothing whose form could be kept."""
    return ImagePipelineOutput(images=list(cards)) if asked.said.get("return_dict", True) else (list(cards),)


def nothing_taken(count: int, reason: str) -> Taken:
    """What is judged of a call that was stopped before it returned anything: as many pictures as it was to make."""
    pictures = tuple(
        Picture(f"images[{at}]", failure=CheckFailed(check="generation_stopped", image=f"images[{at}]", error=reason))
        for at in range(count)
    )
    batch = ImageBatch(pictures)
    return Taken(PicturesInOutput(batch, {}, {}), batch, None)
