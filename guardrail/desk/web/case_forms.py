"""What a form of the desk says: the decision that is asked for, and what was typed, so that nothing of it is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import FormData
from starlette.requests import Request

from guardrail.desk.web.case_words import OUTCOMES, QUESTIONS, REASONS, reasons_of
from guardrail.records import DecisionAsked
from guardrail.records.review import ReviewAnswers

__all__ = ["Typed", "decision_of", "posted", "seen_cases"]

_LONGEST_NOTE = 4000  # letters, as in DecisionAsked
_MOST_CASES = 500  # decided at once


async def posted(request: Request) -> FormData:
    """The form that was sent: a dependency of routes."""
    return await request.form()


@dataclass(frozen=True, slots=True)
class Typed:
    """What somebody typed or chose, to be shown again."""

    answers: Mapping[str, str] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def get(self, name: str, otherwise: str = "") -> str:
        """An answer, or the note under `note`; `otherwise` where there is none."""
        return self.answers.get(name, otherwise)


def decision_of(form: FormData) -> tuple[DecisionAsked | None, Typed, str]:
    """The decision that a form asks for.

    Returns:
        The decision, None where the form cannot be followed; what was typed; and in words what is wrong, or "".
    """
    said = {name: str(form.get(name, "")) for name in (*(one.name for one in QUESTIONS), "note")}
    reasons = tuple(str(one) for one in form.getlist("reasons"))
    also = tuple(str(one).partition(":")[0] for one in form.getlist("also"))
    typed = Typed({name: value for name, value in said.items() if value}, reasons, also)
    outcome = OUTCOMES.get(str(form.get("outcome", "")))
    if outcome is None:
        return None, typed, f"decision: found none, expected one of {', '.join(OUTCOMES)}; press one of the buttons"
    if unknown := [one for one in reasons if one not in REASONS]:
        return None, typed, f"reasons: found {unknown[0]!r}, expected one of the list; load the page again"
    if len(said["note"]) > _LONGEST_NOTE:
        found = len(said["note"])
        return None, typed, f"note: found {found} letters, expected at most {_LONGEST_NOTE}; shorten it"
    return _asked(outcome.value, said, reasons, form.get("revision")), typed, _missing(outcome.value, said, reasons)


def _asked(outcome: str, said: Mapping[str, str], reasons: tuple[str, ...], revision: Any) -> DecisionAsked | None:
    """The decision; reasons follow from the answers where none is given."""
    try:
        answers = ReviewAnswers.model_validate({one.name: said[one.name] or None for one in QUESTIONS})
        return DecisionAsked.model_validate(
            {
                "outcome": outcome,
                "reasons": reasons or reasons_of(answers),
                "note": said["note"],
                "answers": answers,
                "seen_revision": revision if revision not in (None, "") else None,
            }
        )
    except ValidationError:
        return None


def _missing(outcome: str, said: Mapping[str, str], reasons: tuple[str, ...]) -> str:
    for question in QUESTIONS:
        if said[question.name] and said[question.name] not in {one.value for one in question.answers}:
            return f"{question.name}: found {said[question.name]!r}, expected one of the answers; load the page again"
    asked = _asked(outcome, said, reasons, None)
    if OUTCOMES[outcome].needs_reasons and asked is not None and not asked.reasons:
        return f"reasons: found none, expected at least one for “{OUTCOMES[outcome].words}”; choose one, or answer"
    return ""


def seen_cases(form: FormData, name: str) -> dict[int, int]:
    """The cases that a form names as `number:revision`, with the revision that was seen.

    Raises:
        ValueError: one is no such pair, or there are too many.
    """
    pairs = [str(one).partition(":") for one in form.getlist(name)]
    if len(pairs) > _MOST_CASES:
        raise ValueError(f"found {len(pairs)} cases, expected at most {_MOST_CASES} at once; pick fewer")
    try:
        return {int(case_id): int(revision) for case_id, _, revision in pairs}
    except ValueError as error:
        raise ValueError("found a case that is not on the page, expected those that were shown; look again") from error
