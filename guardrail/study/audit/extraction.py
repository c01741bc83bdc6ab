"""Which training pictures come out of a model again, how often, and how many others would be taken for copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.records import AuditFinding, AuditOutcome, ExtractedWork, Measured
from guardrail.study.audit.asks import Budget, Cost, PictureSet, Subject
from guardrail.study.audit.coverage import works_asked
from guardrail.study.audit.intervals import exact_interval, is_more_than, measured_share
from guardrail.study.audit.likeness import CopyLimits, compared_side, resized
from guardrail.study.audit.matching import Nearest, nearest_works
from guardrail.study.audit.shapes import random_shapes
from guardrail.study.audit.wording import counted

__all__ = ["CLEAN_RATE_AT_MOST", "Extraction", "Recognise"]

CLEAN_RATE_AT_MOST = 0.02  # copies a generation that could have been missed (95 %): 183 generations without one
_KS = (1, 2, 5, 10)  # near-duplicates at most, of the works that are counted as eidetically memorised
_SHAPES = 256  # held-out pictures where none are given
_SOURCE = "Carlini et al. 2023, definitions 1 and 2"

_Progress = Callable[[int, int], None]
Recognise = Callable[[NDArray[np.uint8], _Progress], "Sequence[Mapping[int, tuple[str, ...]]]"]
"""Guardrail's own look: pictures, uint8 (N, S, S, 3), in; of each, by training row, the signals that proved a copy."""


class _Seen(NamedTuple):
    """Of each of N pictures the work it shows, its row or -1, and the measures that say so."""

    rows: tuple[int, ...]
    found_by: tuple[tuple[str, ...], ...]

    @property
    def copies(self) -> int:
        return sum(row >= 0 for row in self.rows)


class _Share(NamedTuple):
    """Works that were asked for, of all."""

    asked: int
    of: int


@dataclass(frozen=True, slots=True)
class Extraction:
    """The part `extraction`: generations are held against every training picture.

    A generation is a copy of a work where pixels say so (`CopyLimits`), or where guardrail's fingerprints and proof do
    (`recognise`). How many held-out pictures would be taken for copies is counted by the same measures; copies count as
    memorised where they are more than that rate explains. Without held-out pictures random shapes take their place.
    Clean is only a model that was asked for every work, as far as it can be asked for one.

    Attributes:
        recognise: guardrail's own look; None leaves it out.
        limits: what counts as one picture.

    Source: Carlini et al. 2023, definition 1, (l, delta)-diffusion extraction: a work x is extracted where the model
    gives a picture within delta of x; definition 2, (k, l, delta)-eidetic memorisation: extracted, and at most k
    training pictures are within delta of x. We differ in asking the correlation to agree where the tile l2 is small,
    because two drawings on white are near by l2 alone, and in taking a correlation above .9 as near whatever the l2,
    because a copy may be tinted.
    """

    recognise: Recognise | None = None
    limits: CopyLimits = field(default_factory=CopyLimits)

    @property
    def name(self) -> str:
        """`extraction`."""
        return "extraction"

    def cost(self, subject: Subject) -> Cost:
        """Nothing beside the generations that all parts share."""
        return Cost()

    def run(self, subject: Subject, budget: Budget, progress: _Progress) -> AuditFinding:
        """Hold generations and held-out pictures against the training set; see `AuditPart.run`."""
        made, side = subject.generated, compared_side(subject.side_px)
        if not len(made) or not len(subject.training):
            pictures = counted(len(subject.training), "training picture")
            reason = f"there are {counted(len(made), 'generation')} and {pictures} to compare"
            return AuditFinding(part=self.name, outcome=AuditOutcome.COULD_NOT_TELL, reason=reason, source=_SOURCE)
        others = subject.held_out if len(subject.held_out) else random_shapes(_SHAPES, subject.seed)
        total = len(made) + len(others)
        nearest = nearest_works(resized(made.pixels, side), subject.training, self.limits)
        seen = self._seen(nearest, made.pixels, lambda done, _: progress(done, total))
        near_others = nearest_works(others.pixels(side), subject.training, self.limits)
        pixels = others.pixels(subject.side_px)
        seen_others = self._seen(near_others, pixels, lambda done, _: progress(len(made) + done, total))
        works = self._works(subject, seen, nearest, side)
        asked = works_asked(subject.training, made.prompts, made.labels)
        outcome, reason = _outcome(seen, seen_others, works, _Share(asked, len(subject.training)))
        return AuditFinding(
            part=self.name,
            outcome=outcome,
            reason=reason,
            measured=(
                *self._figures("generations", seen, nearest),
                *self._figures("held_out", seen_others, near_others),
                Measured(name="works_asked", value=asked, over=len(subject.training)),
                Measured(name="works_extracted", value=len(works), over=len(subject.training)),
                *_eidetic(works),
            ),
            works=works,
            source=_SOURCE,
        )

    def _seen(self, nearest: Nearest, pixels: NDArray[np.uint8], progress: _Progress) -> _Seen:
        """Pixels and fingerprints together; where both name a work, that of the pixels."""
        said: Sequence[Mapping[int, tuple[str, ...]]] = [{}] * len(pixels)
        if self.recognise:
            said = self.recognise(pixels, progress)
        rows, found_by = [], []
        for at, signals in enumerate(said):
            row = int(nearest.copied[at])
            by = []
            if row >= 0:
                by += ["tile_l2"] * bool(nearest.copied_l2[at] <= self.limits.tile_l2_within)
                by += ["correlation"] * bool(nearest.copied_correlation[at] >= self.limits.correlation_above)
            elif signals:
                row = next(iter(signals))
            rows.append(row)
            found_by.append((*by, *(f"guard:{signal}" for signal in signals.get(row, ()))))
        return _Seen(tuple(rows), tuple(found_by))

    def _figures(self, whose: str, seen: _Seen, nearest: Nearest) -> tuple[Measured, ...]:
        """Shares of the pictures that each measure calls copies, and all together."""
        count = len(seen.rows)
        reached = {
            "copies": seen.copies,
            "by_pixels": int((nearest.copied >= 0).sum()),
            "by_correlation": int((nearest.correlation >= self.limits.correlation_above).sum()),
            "by_tile_l2_alone": int((nearest.tile_l2 <= self.limits.tile_l2_within).sum()),
        }
        if self.recognise:
            reached["by_guard"] = sum(any(":" in by for by in each) for each in seen.found_by)
        if nearest.adaptive is not None:
            reached["by_adaptive_l2"] = int((nearest.adaptive < 1).sum())
        return tuple(measured_share(f"{whose}_{by}", found, count) for by, found in reached.items())

    def _works(self, subject: Subject, seen: _Seen, nearest: Nearest, side: int) -> tuple[ExtractedWork, ...]:
        """Each extracted work once, those that came most often first."""
        rows = sorted(set(seen.rows) - {-1})
        own = PictureSet(
            tuple(subject.training.names[row] for row in rows),
            (None,) * len(rows),
            lambda at, side_px: subject.training.read(rows[at], side_px),
        )
        duplicates = nearest_works(own.pixels(side), subject.training, self.limits).alike
        made = subject.generated
        small = resized(made.pixels, side)
        works = []
        for row, alike in zip(rows, duplicates, strict=True):
            members = [at for at, shown in enumerate(seen.rows) if shown == row]
            beside = nearest_works(small[members], _one_of(subject.training, row), self.limits)
            best = int(np.lexsort((beside.tile_l2, -beside.correlation))[0])
            at = members[best]
            works.append(
                ExtractedWork(
                    work=subject.training.names[row],
                    generations=len(members),
                    near_duplicates=max(1, int(alike)),
                    nearest=made.numbers[at],
                    seed=made.seeds[at],
                    prompt=made.prompts[at],
                    class_label=made.labels[at],
                    tile_l2=float(min(1.0, beside.tile_l2[best])),
                    correlation=float(beside.correlation[best]),
                    found_by=tuple(sorted({by for member in members for by in seen.found_by[member]})),
                )
            )
        return tuple(sorted(works, key=lambda one: (-one.generations, -one.correlation)))


def _one_of(works: PictureSet, row: int) -> PictureSet:
    return PictureSet((works.names[row],), (None,), lambda at, side_px: works.read(row, side_px))


def _eidetic(works: Sequence[ExtractedWork]) -> tuple[Measured, ...]:
    """How many works are (k, l, delta)-eidetically memorised: counts for k of 1, 2, 5, 10, where any was extracted."""
    return tuple(
        Measured(name=f"eidetic_k{k}", value=sum(one.near_duplicates <= k for one in works), over=len(works))
        for k in (_KS if works else ())
    )


def _outcome(seen: _Seen, others: _Seen, works: Sequence[ExtractedWork], share: _Share) -> tuple[AuditOutcome, str]:
    count, copies = len(seen.rows), seen.copies
    held_out = f"{others.copies} of {len(others.rows)} held-out pictures would be taken for copies"
    if is_more_than(copies, count, others.copies, len(others.rows)):
        reason = f"{copies} of {count} generations copy {counted(len(works), 'training picture')}; {held_out}"
        return AuditOutcome.MEMORISED, reason
    if copies:
        reason = f"{copies} of {count} generations look like copies, but {held_out}, which is as many"
        return AuditOutcome.COULD_NOT_TELL, reason
    if share.asked < share.of:
        reason = f"none of {count} generations is a copy, but only {share.asked} of {share.of} works were asked for"
        return AuditOutcome.COULD_NOT_TELL, reason
    most = exact_interval(0, count)[1]
    if most > CLEAN_RATE_AT_MOST:
        reason = f"none of {count} generations is a copy, but up to {most:.1%} could be; generate more"
        return AuditOutcome.COULD_NOT_TELL, reason
    return AuditOutcome.CLEAN, f"none of {count} generations is a copy, so at most {most:.1%} are (95 %); {held_out}"
