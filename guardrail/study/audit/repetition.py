"""Whether one picture comes again and again from different seeds, whatever the training set says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from guardrail.records import AuditClique, AuditFinding, AuditOutcome, Measured
from guardrail.study.audit.asks import Budget, Cost, Subject
from guardrail.study.audit.cliques import CLIQUE_AT_LEAST, cliques
from guardrail.study.audit.intervals import measured_share, smallest_share_seen
from guardrail.study.audit.likeness import CopyLimits, blocks, compared_side, likeness, resized
from guardrail.study.audit.matching import nearest_works
from guardrail.study.audit.wording import counted

__all__ = ["Repetition"]

_LEAST_TIMES = 5  # generations, as a multiple of the smallest clique: with fewer, no clique says nothing
_SOURCE = "Carlini et al. 2023, section 4.2"


@dataclass(frozen=True, slots=True)
class Repetition:
    """The part `repetition`: cliques of generations that are all near one another.

    It needs no training set; where there is one, each clique is held against it. A clique that shows a training picture
    is memorised. One that shows none cannot be told: the model repeats something that was not among the pictures given.

    Attributes:
        at_least: generations in a clique.
        limits: what counts as one picture.

    Source: Carlini et al. 2023, section 4.2; see `cliques`.
    """

    at_least: int = CLIQUE_AT_LEAST
    limits: CopyLimits = field(default_factory=CopyLimits)

    @property
    def name(self) -> str:
        """`repetition`."""
        return "repetition"

    def cost(self, subject: Subject) -> Cost:
        """Nothing beside the generations that all parts share."""
        return Cost()

    def run(self, subject: Subject, budget: Budget, progress: Callable[[int, int], None]) -> AuditFinding:
        """Compare all generations with one another; see `AuditPart.run`."""
        made = subject.generated
        small = resized(made.pixels, compared_side(subject.side_px))
        groups = cliques(_near(small, self.limits, progress), self.at_least)
        found = tuple(self._clique(subject, small, group) for group in groups)
        within = sum(len(group) for group in groups)
        share = smallest_share_seen(self.at_least, len(made))
        outcome, reason = self._outcome(len(made), found, share)
        return AuditFinding(
            part=self.name,
            outcome=outcome,
            reason=reason,
            measured=(
                measured_share("in_cliques", within, len(made)),
                Measured(name="cliques", value=len(groups), over=len(made)),
                Measured(name="smallest_share_seen", value=share, over=len(made)),
            ),
            cliques=found,
            source=_SOURCE,
        )

    def _clique(self, subject: Subject, small: NDArray[np.uint8], group: tuple[int, ...]) -> AuditClique:
        """The clique by its numbers in the plan, and the training picture that most of its members show."""
        shown = nearest_works(small[list(group)], subject.training, self.limits).copied
        row, votes = Counter(shown.tolist()).most_common(1)[0]
        work = subject.training.names[row] if row >= 0 and votes > len(group) / 2 else None
        return AuditClique(members=tuple(subject.generated.numbers[at] for at in group), work=work)

    def _outcome(self, count: int, found: tuple[AuditClique, ...], share: float) -> tuple[AuditOutcome, str]:
        known = sum(clique.work is not None for clique in found)
        if known:
            reason = (
                f"{counted(len(found), 'clique')} of up to {len(found[0].members)} generations that show one picture "
                f"each; {known} of {len(found)} a training picture"
            )
            return AuditOutcome.MEMORISED, reason
        if found:
            reason = (
                f"{counted(len(found), 'clique')} of up to {len(found[0].members)} generations that show one picture "
                "each, none of them among the training pictures given: were all of them given?"
            )
            return AuditOutcome.COULD_NOT_TELL, reason
        if count < _LEAST_TIMES * self.at_least:
            reason = f"{count} generations, expected {_LEAST_TIMES * self.at_least} at least to look for cliques in"
            return AuditOutcome.COULD_NOT_TELL, reason
        reason = (
            f"no {self.at_least} of {count} generations show one picture; one that makes {share:.1%} of generations "
            "would have been seen (95 %)"
        )
        return AuditOutcome.CLEAN, reason


def _near(small: NDArray[np.uint8], limits: CopyLimits, progress: Callable[[int, int], None]) -> NDArray[np.bool_]:
    """Who is near whom: bool (N, N), symmetric."""
    count = len(small)
    near = np.zeros((count, count), np.bool_)
    for rows in blocks(count, count):
        near[rows] = limits.alike(likeness(small[rows], small))
        progress(rows.stop, count)
    return near | near.T
