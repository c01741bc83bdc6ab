"""What the review of cases answers with: pages, details, decisions, batches, pairs; no rows of the database."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from guardrail.records import (
    CaseRow,
    CaseState,
    GenerationContext,
    GeometryMatch,
    MatchEvidence,
    ReasonCode,
    ReviewAnswers,
    ReviewDecision,
    ReviewOutcome,
    ReviewRound,
    Signal,
    Verdict,
)

__all__ = [
    "AppealShown",
    "Batch",
    "BlindPair",
    "BulkPreview",
    "CaseDetails",
    "CasePage",
    "Decided",
    "DecidedPair",
    "DecisionShown",
    "HeldCase",
    "PairLabel",
    "RuleCount",
    "SightingShown",
    "SignalValue",
    "Waiting",
    "WorkHistory",
    "label_of",
]

PairLabel = Literal["copy", "licensed_copy", "not_a_copy"]
_LABELS: dict[ReviewOutcome, PairLabel] = {
    "withhold": "copy",
    "release_with_credit": "licensed_copy",
    "release": "not_a_copy",
    "not_a_match": "not_a_copy",
}


def label_of(outcome: ReviewOutcome) -> PairLabel:
    """What an outcome says of image and work: a copy, a licensed copy, or none."""
    return _LABELS[outcome]


class CasePage(NamedTuple):
    """One page of the queue; `next_cursor` is empty on the last one, `total` counts the rows of all pages."""

    rows: tuple[CaseRow, ...]
    next_cursor: str
    total: int


class DecisionShown(NamedTuple):
    """A decision with the name of who took it, their note, and whether it was taken back."""

    decision: ReviewDecision
    name: str
    note: str
    undone: bool


class SightingShown(NamedTuple):
    """One more verdict on the very pixels of a case, and when it was."""

    verdict_id: str
    at: datetime


class AppealShown(NamedTuple):
    """That somebody asked for another look, why, and the decision that answered (None: it waits)."""

    account_id: str
    name: str
    note: str
    at: datetime
    answered_by: str | None


@dataclass(frozen=True, slots=True)
class CaseDetails:
    """All that one actor may know of one case.

    Attributes:
        row: as in the queue.
        verdict: on its image.
        context: how the model was run, prompts too unless they were deleted; None where nobody knew.
        decisions: oldest first, those that were taken back too; empty for who may still be asked for a blind look.
        alike: the other cases of its group, in the order of the queue.
        sightings: more verdicts on the very pixels.
        appeals: oldest first.
        lease_until: when the lease ends, of whoever has it; None where nobody has.
        released_by: the decision that it is released by, whose release is in the ledger once it is signed.
        has_picture: whether its picture is kept, so that it can be shown and released.
    """

    row: CaseRow
    verdict: Verdict
    context: GenerationContext | None
    decisions: tuple[DecisionShown, ...]
    alike: tuple[CaseRow, ...]
    sightings: tuple[SightingShown, ...]
    appeals: tuple[AppealShown, ...]
    lease_until: datetime | None
    released_by: str | None
    has_picture: bool


class HeldCase(NamedTuple):
    """What a release needs of a case; `decision` is the one that lets the image out, None where none does."""

    png: bytes
    verdict: Verdict
    context: GenerationContext | None
    decision: ReviewDecision | None


class Decided(NamedTuple):
    """A decision as it was entered, the state it led to, and whether a second person is asked before it counts."""

    decision: ReviewDecision
    state: CaseState
    needs_second: bool


class Batch(NamedTuple):
    """Decisions that were taken at once, all of them or none."""

    batch_id: str
    decided: tuple[Decided, ...]


class BulkPreview(NamedTuple):
    """What a decision on several cases would decide.

    `refused` says, by case, why it would not be decided; `seen` gives the revisions that the preview rests on.
    """

    rows: tuple[CaseRow, ...]
    refused: dict[int, str]
    seen: dict[int, int]


class WorkHistory(NamedTuple):
    """A decided case on a work, with its decisions, oldest first."""

    row: CaseRow
    decisions: tuple[DecisionShown, ...]


class Waiting(NamedTuple):
    """How many cases wait, by their state, and since when the oldest does."""

    undecided: dict[str, int]
    oldest_opened_at: datetime | None


class RuleCount(NamedTuple):
    """What people made of the cases of one rule; repeats of a decision are not counted again."""

    rule: str
    withheld: int
    credited: int
    released: int
    not_a_match: int
    undecided: int

    @property
    def decided(self) -> int:
        """Cases that people decided."""
        return self.withheld + self.credited + self.released + self.not_a_match

    @property
    def precision(self) -> float | None:
        """Share of the decided cases in which there was a copy, licensed or not (0..1); None where none is decided."""
        return (self.withheld + self.credited) / self.decided if self.decided else None


class BlindPair(NamedTuple):
    """Two decisions on one case, the second taken without sight of the first."""

    case_id: int
    rule: str
    first: ReviewDecision
    second: ReviewDecision


class SignalValue(NamedTuple):
    """How near an image was to a work by one signal: bits, a similarity (-1..1), or a count of points (geometry)."""

    bank: str
    work_id: str
    signal: Signal
    value: float


@dataclass(frozen=True, slots=True)
class DecidedPair:
    """A case that people decided: an image, the works near it, and the label that they gave.

    Attributes:
        case_id: which case.
        group_id: the first case of nearly the same picture; those of one group are no independent evidence.
        verdict: on the image.
        outcome: that was decided.
        label: what that says of image and nearest work.
        reasons: of the decision that settled it.
        answers: of the same.
        decided_at: when, aware UTC.
        nearest_work: `bank/work_id`, at most 512 letters of it.
        bank: of the nearest work.
        rule: of the verdict.
        decisions: those that stand, oldest first.
        round: of the decision that settled it; `repeat` where nobody looked again.
    """

    case_id: int
    group_id: int
    verdict: Verdict
    outcome: ReviewOutcome
    label: PairLabel
    reasons: tuple[ReasonCode, ...]
    answers: ReviewAnswers
    decided_at: datetime
    nearest_work: str
    bank: str
    rule: str
    decisions: tuple[ReviewDecision, ...]
    round: ReviewRound

    @property
    def values(self) -> tuple[SignalValue, ...]:
        """Everything that was measured between the image and a work, once each: neighbours first, then proofs."""
        found: dict[SignalValue, None] = {}
        for near in self.verdict.nearest:
            measure = near.distance_bits if near.similarity is None else near.similarity
            if measure is not None:
                found[SignalValue(near.work.bank, near.work.work_id, near.signal, float(measure))] = None
        for one in self.verdict.evidence:
            if isinstance(one, MatchEvidence):
                found[SignalValue(one.work.bank, one.work.work_id, one.signal, _measured(one))] = None
        return tuple(found)


def _measured(one: MatchEvidence) -> float:
    """Of an exact match, which is measured by nothing, 0 bits."""
    if isinstance(one, GeometryMatch):
        return float(one.inliers)
    return float(getattr(one, "similarity", getattr(one, "distance_bits", 0)))
