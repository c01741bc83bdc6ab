"""Who decided what, when and why: the decisions and appeals of a case as a list for readers outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING

from guardrail.desk.web.case_words import OUTCOMES, QUESTIONS, REASONS, ROUNDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from guardrail.memory import CaseDetails
    from guardrail.records import ReviewAnswers, ReviewDecision

__all__ = ["EventView", "People", "history_of", "standing_decisions"]

_LETTERS = 26


@dataclass(slots=True)
class People:
    """What people are called: by their names, or `Person A`, `Person B` in the order in which they appear."""

    named: bool
    _known: dict[str, str] = field(default_factory=dict)

    def called(self, account_id: str, name: str) -> str:
        """What one person is called, the same every time."""
        if self.named and name:
            return name
        at = len(self._known)
        letter = chr(ord("A") + at % _LETTERS) + (str(at // _LETTERS) if at >= _LETTERS else "")
        return self._known.setdefault(account_id, f"Person {letter}")


@dataclass(frozen=True, slots=True)
class EventView:
    """One step of a case: when, who, what, and in their own words why."""

    at: str
    who: str
    what: str
    round: str
    reasons: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    note: str = ""
    undone: bool = False


def history_of(details: CaseDetails, people: People, *, notes: bool) -> tuple[EventView, ...]:
    """All steps of a case that its reader may know of, oldest first.

    Args:
        details: as the reader may see it; in a blind second look there are no decisions.
        people: what they are called.
        notes: whether what people wrote is in it.
    """
    opened = EventView(
        _when(details.row.opened_at), "guardrail", f"held the image for review: {details.verdict.rule}", ""
    )
    steps = [*_decided(details, people, notes=notes), *_appealed(details, people, notes=notes), *_seen_again(details)]
    return (opened, *(event for _, event in sorted(steps, key=lambda step: step[0])))


def standing_decisions(details: CaseDetails) -> tuple[ReviewDecision, ...]:
    """The decisions that were not taken back, oldest first."""
    return tuple(one.decision for one in details.decisions if not one.undone and one.decision.undoes is None)


def _decided(details: CaseDetails, people: People, *, notes: bool) -> Iterator[tuple[datetime, EventView]]:
    for one in details.decisions:
        decision = one.decision
        who = people.called(decision.account_id, one.name)
        if decision.undoes is not None:
            yield (
                decision.at,
                EventView(_when(decision.at), who, "took a decision back", "", note=one.note if notes else ""),
            )
            continue
        yield (
            decision.at,
            EventView(
                at=_when(decision.at),
                who=who,
                what=f"decided: {OUTCOMES[decision.outcome].done}",
                round=ROUNDS[decision.round],
                reasons=tuple(REASONS[code] for code in decision.reasons),
                answers=tuple(_answers(decision.answers)),
                note=one.note if notes else "",
                undone=one.undone,
            ),
        )


def _appealed(details: CaseDetails, people: People, *, notes: bool) -> Iterator[tuple[datetime, EventView]]:
    for one in details.appeals:
        what = "appealed" if one.answered_by else "appealed, and waits for an answer"
        who = people.called(one.account_id, one.name)
        yield one.at, EventView(_when(one.at), who, what, "", note=one.note if notes else "")


def _seen_again(details: CaseDetails) -> Iterator[tuple[datetime, EventView]]:
    for one in details.sightings:
        yield (
            one.at,
            EventView(_when(one.at), "guardrail", f"saw the very same pixels again (verdict {one.verdict_id})", ""),
        )


def _answers(answers: ReviewAnswers) -> Iterator[str]:
    for question in QUESTIONS:
        given = getattr(answers, question.name)
        words = next((answer.words for answer in question.answers if answer.value == given), None)
        if words is not None:
            yield f"{question.words} {words}"


def _when(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
