"""Around one call of a pipeline: read how it is run, watch it, judge what it made, try again, give out the rest."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from guardrail import intake, judge
from guardrail.act.manifest_store import manifest_store
from guardrail.carriers import ImageBatch, Picture, RunFacts, RunInputs
from guardrail.records import Decision, GenerationContext, RemedyTried, Verdict

if TYPE_CHECKING:
    from guardrail.carriers import ParentFile
    from guardrail.judge import KnownInputs
    from guardrail.settings import Settings

__all__ = ["GuardedRun", "Judges"]

_CARD_SIDE_PX = 64  # where a stopped call left no picture whose size could be taken
log = logging.getLogger("guardrail")


class Judges(Protocol):
    """What a run asks of the guard around it."""

    settings: Settings
    plugins: Any

    @property
    def clip_embedder(self) -> str:
        """See `Guard.clip_embedder`."""

    def judge(
        self, batch: ImageBatch, context: GenerationContext | None = None, facts: RunFacts | None = None
    ) -> tuple[Verdict, ...]:
        """See `Guard.judge`."""

    def look_up(self, batch: ImageBatch) -> Sequence[Sequence[Any]]:
        """See `Guard.look_up`."""

    def look_up_embeddings(self, vectors: Any) -> Sequence[Sequence[Any]]:
        """See `Guard.look_up_embeddings`."""

    def known_inputs(self, inputs: RunInputs, context: GenerationContext | None) -> KnownInputs | None:
        """See `Guard.known_inputs`."""

    def work_preview(self, row: int) -> bytes:
        """See `Guard.work_preview`."""


@dataclass(slots=True)
class _Slot:
    """One item of an output, an image or a video: all its pictures by name, those that are judged, their verdicts."""

    names: list[str]
    pictures: list[Picture]
    verdicts: list[Verdict]

    @property
    def worst(self) -> Verdict:
        """The most severe of its verdicts."""
        return max(self.verdicts, key=lambda verdict: verdict.decision.severity)

    @property
    def blocked(self) -> Verdict | None:
        """The verdict that blocks it, if one does."""
        return next((verdict for verdict in self.verdicts if verdict.decision is Decision.BLOCK), None)


class GuardedRun:
    """One call of a guarded pipeline, from its arguments to what leaves.

    Args:
        guard: judges and remembers.
        pipe: the pipeline, or another callable.
        call: its own `__call__`, bound.
        args: what the caller passed in order.
        kwargs: what the caller passed by name.
    """

    def __init__(
        self, guard: Judges, pipe: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.guard, self.pipe, self.settings = guard, pipe, guard.settings
        self.asked = intake.asked_call(pipe, call, args, kwargs)
        self.sampling = intake.Sampling(
            self.settings.frame_every, self.settings.frame_change_above, self.settings.on_latent == "decode"
        )
        self.inputs = intake.inputs_of(self.asked, self.settings.largest_image_px, manifest_store)
        context = intake.read_run(self.asked, self.inputs)
        self.context = judge.with_adapter_facts(context, self.settings.adapters)
        self.attempts: list[Verdict] = []
        self.tried: tuple[RemedyTried, ...] = ()

    def make(self) -> None:
        """Make the call, judge what it made, and try again what was blocked.

        Raises:
            OutputNotUnderstood: it returned something that may hold a picture and cannot be looked into.
            MemoryUnwritable: the verdicts could not be remembered.
        """
        before = intake.RandomState.now(self.asked.said)
        self.watched = intake.watched_call(
            self.pipe, self.asked.call, self.asked.args, self.asked.kwargs, self._watch()
        )
        context = intake.finish_context(self.context, self.pipe, self.settings)
        self.context = judge.with_adapter_facts(context, self.settings.adapters)  # digests may be known only now
        self.known = self.guard.known_inputs(self.inputs, self.context)
        self.taken = self._taken(before)
        self.shown = self.taken.shown
        self.slots = self._judged_slots(self.taken, self.context, self.watched)
        if self.settings.on_block == "regenerate":
            self._try_again()

    @property
    def parent(self) -> ParentFile | None:
        """The file with credentials that the run started from."""
        known = self.inputs.parent
        return known and replace(known, strength=self.context.strength)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures that were judged, in order."""
        return tuple(picture for slot in self.slots for picture in slot.pictures)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Their verdicts."""
        return tuple(verdict for slot in self.slots for verdict in slot.verdicts)

    def released(self, cards: Mapping[str, Image.Image]) -> Any:
        """The output as it may leave, with cards in the places of the pictures they are given for, by name."""
        if self.watched.output is not None:
            return self.taken.give(self.shown, cards)
        return intake.cards_alone(self.asked, list(cards.values()))  # it was stopped, and returned nothing at all

    def _watch(self) -> Any:
        return intake.Watch(
            hooks=self.guard.plugins,
            settings=self.settings,
            context=self.context,
            look=self.guard.look_up,
            look_embeddings=self.guard.look_up_embeddings,
            clip_embedder=self.guard.clip_embedder,
            outside=intake.outside_call,
        )

    def _taken(self, before: Any) -> Any:
        if self.watched.output is not None:
            return intake.take(self.asked, self.watched.output, before, self.sampling)
        return intake.nothing_taken(max(1, self.watched.rows), str(self.watched.stopped))

    def _judged_slots(self, taken: intake.Taken, context: GenerationContext, watched: intake.Watched) -> list[_Slot]:
        """The items of a whole output, judged."""
        signs = _signs(watched, [picture.name for picture in taken.found.batch.pictures])
        verdicts = iter(self._judged(taken.batch.pictures, context, signs))
        slots = [
            _Slot(list(slot.names), list(slot.pictures), [next(verdicts) for _ in slot.pictures])
            for slot in intake.slots_of(taken)
        ]
        for slot in slots:
            if slot.worst.decision is not Decision.ACCEPT and len(slot.pictures) < len(slot.names):
                self._judge_every_frame(slot, taken, context, signs)
        return slots

    def _judge_every_frame(
        self, slot: _Slot, taken: intake.Taken, context: GenerationContext, signs: Mapping[str, Sequence[Any]]
    ) -> None:
        """Look at the frames of a video that were left out, once one of the others is not accepted."""
        known = dict(zip((picture.name for picture in slot.pictures), slot.verdicts, strict=True))
        every = [picture for picture in taken.found.batch.pictures if picture.name in set(slot.names)]
        left_out = [picture for picture in every if picture.name not in known]
        known |= dict(zip((one.name for one in left_out), self._judged(left_out, context, signs), strict=True))
        slot.pictures, slot.verdicts = every, [known[picture.name] for picture in every]

    def _judged(
        self, pictures: Sequence[Picture], context: GenerationContext, signs: Mapping[str, Sequence[Any]]
    ) -> tuple[Verdict, ...]:
        facts = RunFacts(known=self.known, evidence={name: tuple(found) for name, found in signs.items()})
        batch = ImageBatch(tuple(pictures))
        return intake.first_rank_says(self.pipe, lambda: self.guard.judge(batch, context, facts))

    # --- remedies ----------------------------------------------------------------------------------------

    def _try_again(self) -> None:
        """Generate blocked items again, remedy after remedy; each fills only its own place."""
        if not intake.can_be_tried_again(self.asked) or intake.is_shared_by_ranks(self.pipe):
            log.warning("not generated again: latents, states and shared ranks cannot be filled in one by one")
            return

        @functools.wraps(self.asked.call)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.watched_again = intake.watched_call(self.pipe, self.asked.call, args, kwargs, self._watch())
            return self.watched_again.output

        again = replace(self.asked, call=watched)
        ladder = intake.Ladder(again, len(self.slots), self.settings.remedies, self.settings.regenerate_at_most)
        while hits := self._hits():
            altered = ladder.next_try(hits)
            if altered is None:
                break
            before = intake.RandomState.now(self.asked.said)
            output = altered.run()
            if output is not None:
                ladder.note(altered, self._filled(altered, intake.take(self.asked, output, before, self.sampling)))
        self.tried = ladder.tried

    def _hits(self) -> list[Any]:
        return [
            intake.Hit(
                image=slot.names[0],
                slot=at,
                verdict=verdict,
                pixels=next(picture.pixels for picture in slot.pictures if picture.name == verdict.image),
                works=lambda verdict=verdict: self._works_of(verdict),  # type: ignore[misc]
            )
            for at, slot in enumerate(self.slots)
            if (verdict := slot.blocked) is not None
        ]

    def _works_of(self, verdict: Verdict) -> list[Image.Image]:
        """Pictures of the works that a verdict matched, of the guard's own index: rows of others are not its rows."""
        others = tuple(f"{adapter}:" for adapter in verdict.adapter_snapshots)
        own = tuple(near for near in verdict.nearest if not near.work.bank.startswith(others))
        verdict = verdict.model_copy(update={"nearest": own})
        return [Image.open(BytesIO(self.guard.work_preview(row))) for row in intake.matched_rows(verdict)]

    def _filled(self, altered: Any, again: intake.Taken) -> dict[int, Verdict]:
        """Judge what a try made for the blocked items, and put it in their places; their verdicts, by item."""
        seeds = {"seed": altered.seeds[0] if altered.seeds else None, "generators": ()}
        context = self.context.model_copy(update=seeds)
        if self.watched.output is None:
            return self._begun_anew(again, context)
        made = intake.slots_of(again)
        fresh = {
            at: _renamed(made[place], self.slots[at].names)
            for at, place in altered.places.items()
            if place < len(made) and intake.fits(self.taken, self.slots[at].names, again, made[place].names)
        }
        pictures = [picture for at in fresh for picture in fresh[at]]
        made_names = [picture.name for picture in again.found.batch.pictures]
        signs = _signs(self.watched_again, made_names)
        known_as = {
            mine: theirs
            for at in fresh
            for mine, theirs in zip(self.slots[at].names, made[altered.places[at]].names, strict=True)
        }
        found = {mine: signs[theirs] for mine, theirs in known_as.items()}
        verdicts = iter(self._judged(pictures, context, found) if pictures else ())
        outcome = {}
        for at, new in fresh.items():
            slot = self.slots[at]
            self.attempts += slot.verdicts
            values = {mine: again.found.values[known_as[mine]] for mine in slot.names}
            self.shown = intake.put_into(self.shown, {}, values)
            slot.pictures, slot.verdicts = new, [next(verdicts) for _ in new]
            outcome[at] = slot.worst
        return outcome

    def _begun_anew(self, again: intake.Taken, context: GenerationContext) -> dict[int, Verdict]:
        """Take a try's whole output, where the first call was stopped and gave none."""
        self.attempts += self.verdicts
        self.watched, self.taken, self.shown = self.watched_again, again, again.shown
        self.slots = self._judged_slots(again, context, self.watched_again)
        return {at: slot.worst for at, slot in enumerate(self.slots)}


def _signs(watched: Any, names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """What was found while a call ran, by the names of the pictures it made."""
    return {name: tuple(watched.signs_for(at, len(names), name)) for at, name in enumerate(names)}


def _renamed(slot: intake.Slot, names: Sequence[str]) -> list[Picture]:
    """The pictures of another call under the names of those whose place they take."""
    mine = dict(zip(slot.names, names, strict=True))
    return [
        replace(picture, name=mine[picture.name], stands_for=tuple(mine[name] for name in picture.stands_for))
        for picture in slot.pictures
    ]
