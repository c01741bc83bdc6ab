"""The remedies in their order: one altered call after the other, while images are blocked and tries are left."""

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image

from guardrail.errors import GuardrailError, PictureNotKept
from guardrail.intake.calls import BoundCall
from guardrail.intake.remedies.away import AwayFromWorks
from guardrail.intake.remedies.guidance import DelayedGuidance
from guardrail.intake.remedies.prompts import PromptNoise, RandomToken
from guardrail.intake.remedies.repeating import Repeat, make_again, repeat_for
from guardrail.intake.remedies.spaces import turned_like
from guardrail.intake.remedies.unfit import RemedyUnfit
from guardrail.records import RemedyName, RemedyTried, Verdict

__all__ = ["Altered", "Hit", "Ladder", "matched_rows"]

log = logging.getLogger("guardrail.intake")

_UNFIXABLE = "unfixable_by_reseed: fixed latents give the same picture for every seed"
_OWN_INPUT = "the output repeats the user's own input, and another run would do so, too"
_NOT_JUDGED = "the outcome was not judged"
_SEED_BITS = 63  # a torch generator takes 64, a signed one


@dataclass(frozen=True, slots=True)
class Hit:
    """A blocked item of a batch, which is to be made anew.

    Attributes:
        image: the name of the (first) blocked picture in it.
        slot: its place in the batch of the first call.
        verdict: why it was blocked.
        pixels: uint8 (3, H, W), RGB, what was blocked; None where it could not be read.
        works: gives pictures of the works that it matched; called where they are needed.
    """

    image: str
    slot: int
    verdict: Verdict
    pixels: torch.Tensor | None = None
    works: Callable[[], Sequence[Image.Image]] = tuple


@dataclass(frozen=True, slots=True)
class Altered:
    """A call that is altered by one remedy, ready to be made.

    Attributes:
        remedy: by which.
        hits: what it is for.
        places: by slot of the first call, which item of this call's output takes its place.
        seeds: of its fresh generators; empty where the pipeline takes none (torch's global generators move on).
        number: how many tries the ladder made before.
        run: makes the call and gives the pipeline's own output, or None where the call failed or the remedy turned
            out unfit on the way, which the ladder has noted. Errors of guardrail itself are raised.
    """

    remedy: RemedyName
    hits: tuple[Hit, ...]
    places: Mapping[int, int]
    seeds: tuple[int, ...]
    number: int
    run: Callable[[], Any]


class _Remedy(Protocol):
    """A remedy set up for one call."""

    def said(self) -> str:
        """What it changed."""

    def around(self) -> AbstractContextManager[None]:
        """What to make the call in."""


class Ladder:
    """The remedies for one call of a pipeline.

    Each remedy that fits is tried once, from the first to the last, then again from the first, until nothing is blocked
    or `at_most` calls were made. One that does not fit is noted once and costs nothing; one that finds out in its
    call's first step costs that step.

    Args:
        asked: the call that was made.
        count: how many items it gave.
        remedies: their names, in order.
        at_most: how many calls to make.
        narrow: call with the blocked prompts alone, where all arguments can be cut to them.
        draw_seed: gives a seed, 0..2**63-1; by default from the system's randomness.
    """

    def __init__(
        self,
        asked: BoundCall,
        count: int,
        remedies: Sequence[RemedyName],
        at_most: int,
        narrow: bool = True,
        draw_seed: Callable[[], int] = lambda: secrets.randbits(_SEED_BITS),
    ) -> None:
        self._asked, self._count, self._at_most = asked, count, at_most
        self._narrow, self._draw_seed = narrow, draw_seed
        self._names = tuple(remedies)
        self._next = 0
        self._made = 0
        self._unfit: set[str] = set()
        self._tried: list[RemedyTried] = []
        self._noted_at: dict[int, int] = {}
        self._own_inputs: set[str] = set()

    @property
    def tried(self) -> tuple[RemedyTried, ...]:
        """All that was tried or did not fit, in order."""
        return tuple(self._tried)

    def next_try(self, hits: Sequence[Hit]) -> Altered | None:
        """The next altered call for what is blocked; None where nothing is left to try."""
        wanted = tuple(hit for hit in hits if not self._is_own_input(hit))
        if wanted and self._asked.unbound and not self._unfit:
            self._note_unfit("any", wanted, f"the call's arguments cannot be read: {self._asked.unbound}")
            self._unfit |= set(self._names)
        while wanted and self._made < self._at_most and not self._unfit.issuperset(self._names):
            name = self._names[self._next % len(self._names)]
            self._next += 1
            if name in self._unfit:
                continue
            try:
                altered = self._altered(name, wanted)
            except RemedyUnfit as unfit:
                self._note_unfit(name, wanted, unfit.reason)
                continue
            self._made += 1
            return altered
        return None

    def note(self, altered: Altered, verdicts: Mapping[int, Verdict]) -> None:
        """Note what the guard says of the outcome of a call that was made.

        Args:
            altered: the call.
            verdicts: by slot of the first call; one that is missing could not be put in its place.
        """
        at = self._noted_at[altered.number]
        missing = [hit.image for hit in altered.hits if hit.slot not in verdicts]
        judged = [verdicts[hit.slot] for hit in altered.hits if hit.slot in verdicts]
        outcome = {
            "failed": f"{_NOT_JUDGED} for {', '.join(missing)}" if missing else None,
            "after": tuple(verdict.decision for verdict in judged) if not missing else (),
            "verdict_ids": tuple(verdict.verdict_id for verdict in judged),
        }
        self._tried[at] = self._tried[at].model_copy(update=outcome)

    def _altered(self, name: RemedyName, hits: tuple[Hit, ...]) -> Altered:
        if name == "fresh_seed" and self._asked.said.get("latents") is not None:
            raise RemedyUnfit(_UNFIXABLE)
        remedy, changed = self._on_arguments(name)
        slots = [hit.slot for hit in hits]
        repeat = repeat_for(self._asked, changed, slots, self._count, self._draw_seed, narrow=self._narrow)
        if name == "away_from_work":
            works = {repeat.places[hit.slot]: _works_of(hit) for hit in hits}
            remedy = AwayFromWorks(self._asked.pipe, works, repeat.count)
        places, seeds = repeat.places, repeat.seeds
        altered = Altered(name, hits, places, seeds, self._made, lambda: self._run(altered, repeat, remedy))
        return altered

    def _on_arguments(self, name: RemedyName) -> tuple[_Remedy | None, Mapping[str, Any]]:
        """A remedy that needs no works, and the arguments it changes."""
        if name == "delayed_guidance":
            return DelayedGuidance(self._asked.pipe), {}
        if name in ("prompt_noise", "random_token"):
            kind = PromptNoise if name == "prompt_noise" else RandomToken
            remedy: PromptNoise | RandomToken = kind(self._asked, self._draw_seed)
            return remedy, remedy.changed()
        return None, {}

    def _run(self, altered: Altered, repeat: Repeat, remedy: _Remedy | None) -> Any:
        """Make a call; note it, with what it changed, or why it came to nothing."""
        started, output, failed = time.perf_counter(), None, None
        try:
            with remedy.around() if remedy else nullcontext():
                output = make_again(self._asked, repeat.changed)
        except RemedyUnfit as unfit:
            _free(self._asked.pipe)
            self._made -= 1
            self._note_unfit(altered.remedy, altered.hits, unfit.reason)
            return None
        except GuardrailError:
            _free(self._asked.pipe)
            raise
        except Exception as error:  # noqa: BLE001 - whatever fails in a second run, the first one's outcome stands
            _free(self._asked.pipe)
            failed = f"{type(error).__name__}: {error}"
            log.warning("an image was not made anew by %s: %s", altered.remedy, failed)
        self._noted_at[altered.number] = len(self._tried)
        self._tried.append(
            RemedyTried(
                remedy=altered.remedy,
                images=tuple(hit.image for hit in altered.hits),
                before=tuple(hit.verdict.decision for hit in altered.hits),
                changed=", ".join(filter(None, (_of_seeds(altered.seeds), remedy.said() if remedy else ""))),
                seeds=altered.seeds,
                failed=failed or _NOT_JUDGED,
                took_ms=(time.perf_counter() - started) * 1000,
            )
        )
        return output

    def _is_own_input(self, hit: Hit) -> bool:
        """Whether an image repeats what the user put in, so that nothing is to be tried; noted once."""
        if hit.verdict.input_repeated is None:
            return False
        if hit.image not in self._own_inputs:
            self._own_inputs.add(hit.image)
            self._note_unfit("any", (hit,), _OWN_INPUT)
        return True

    def _note_unfit(self, name: RemedyName | Literal["any"], hits: Sequence[Hit], reason: str) -> None:
        self._unfit.add(name)
        self._tried.append(
            RemedyTried(
                remedy=name,
                images=tuple(hit.image for hit in hits),
                before=tuple(hit.verdict.decision for hit in hits),
                unfit=reason,
            )
        )


def matched_rows(verdict: Verdict) -> tuple[int, ...]:
    """The rows of the index under which the works lie that a verdict's evidence names, nearest first, each once."""
    works = (getattr(one, "work", None) for one in verdict.evidence)
    named = {(work.bank, work.work_id) for work in works if work is not None}
    rows = (near.row for near in verdict.nearest if (near.work.bank, near.work.work_id) in named)
    return tuple(dict.fromkeys(rows))


def _works_of(hit: Hit) -> list[torch.Tensor]:
    """The pictures of a hit's works, turned as they were copied: uint8 (H, W, 3)."""
    try:
        works = [torch.from_numpy(np.asarray(work.convert("RGB")).copy()) for work in hit.works()]
    except PictureNotKept:
        return []
    return works if hit.pixels is None else [turned_like(work, hit.pixels.cpu()) for work in works]


def _of_seeds(seeds: tuple[int, ...]) -> str:
    return f"{len(seeds)} fresh seeds" if len(seeds) > 1 else "a fresh seed" if seeds else "the next random numbers"


def _free(pipe: Any) -> None:
    """What a pipeline does in the end of its call, after one that broke off: take offloaded models off the device."""
    with suppress(Exception):
        pipe.maybe_free_model_hooks()
