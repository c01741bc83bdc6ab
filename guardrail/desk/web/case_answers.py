"""What the HTTP API says of cases."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from guardrail.memory.review_shapes import Batch, CaseDetails, Decided, DecisionShown
from guardrail.records import CaseRow, CaseState, GenerationContext, ReviewDecision, Verdict

__all__ = [
    "AppealAsked",
    "CaseAnswer",
    "CasesAnswer",
    "DecidedAnswer",
    "DecisionAnswer",
    "StateAnswer",
    "UndoneAnswer",
]


class CasesAnswer(BaseModel):
    """A page of cases, most severe and oldest first; `next` is the cursor of the next page, empty on the last."""

    cases: list[CaseRow]
    next: str
    total: int = Field(ge=0, description="rows of all pages")


class DecisionAnswer(BaseModel):
    """A decision, with the name of who took it and their note."""

    decision: ReviewDecision
    name: str
    note: str
    undone: bool

    @classmethod
    def of(cls, shown: DecisionShown) -> DecisionAnswer:
        """A decision as it is told."""
        return cls(decision=shown.decision, name=shown.name, note=shown.note, undone=shown.undone)


class CaseAnswer(BaseModel):
    """A case with all that your organisation may know of it; of prompts, nothing."""

    case: CaseRow
    verdict: Verdict
    run: GenerationContext | None = Field(description="how the model was run, without prompts; null where unknown")
    decisions: list[DecisionAnswer]
    alike: list[CaseRow] = Field(description="cases whose pictures are nearly the same")
    seen_again: list[str] = Field(description="ids of further verdicts on the very pixels")
    lease_until: datetime | None
    released_by: str | None = Field(description="the decision by which it is released; its file may be fetched")

    @classmethod
    def of(cls, details: CaseDetails) -> CaseAnswer:
        """A case as it is told."""
        return cls(
            case=details.row,
            verdict=details.verdict,
            run=details.context.without_prompts() if details.context is not None else None,
            decisions=[DecisionAnswer.of(one) for one in details.decisions],
            alike=list(details.alike),
            seen_again=[one.verdict_id for one in details.sightings],
            lease_until=details.lease_until,
            released_by=details.released_by,
        )


class DecidedAnswer(BaseModel):
    """A decision as it was entered; where `needs_second`, another person is asked before it counts."""

    decision: ReviewDecision
    state: CaseState
    needs_second: bool

    @classmethod
    def of(cls, decided: Decided) -> DecidedAnswer:
        """A decision as it is told."""
        return cls(decision=decided.decision, state=decided.state, needs_second=decided.needs_second)


class UndoneAnswer(BaseModel):
    """The decisions that were entered to take others back."""

    decided: list[DecidedAnswer]

    @classmethod
    def of(cls, undone: tuple[Decided, ...] | Batch) -> UndoneAnswer:
        """Decisions as they are told."""
        each = undone.decided if isinstance(undone, Batch) else undone
        return cls(decided=[DecidedAnswer.of(one) for one in each])


class AppealAsked(BaseModel, extra="forbid"):
    """Why a decided case should be looked at again."""

    note: str = Field(min_length=1, max_length=4000)


class StateAnswer(BaseModel):
    """The state that a case is in now."""

    case_id: int
    state: CaseState
