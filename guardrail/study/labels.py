"""What a person decided on a case in; whether it confirms that the image copies the work out."""

from __future__ import annotations

from collections.abc import Collection

from guardrail.records import ReasonCode, ReviewAnswers, ReviewDecision, ReviewOutcome

__all__ = ["is_confirmed", "label_of"]

_COPIED: frozenset[ReasonCode] = frozenset({"expression_copied", "substantial_part"})
_RIGHTS: frozenset[ReasonCode] = frozenset({"licensed", "own_work", "work_not_protected"})
_NO_WORD_ON_COPYING: frozenset[ReasonCode] = frozenset({"sensitive", "other"})
_MUCH = ("whole", "substantial")


def is_confirmed(
    outcome: ReviewOutcome, reasons: Collection[ReasonCode] = (), answers: ReviewAnswers | None = None
) -> bool | None:
    """Whether a decision says that the image copies the work; None where it says nothing of that.

    A withheld image copies, unless it was withheld for another reason alone (`sensitive`). One that leaves with credit
    copies too, and so does one that leaves because its user has the rights: the match was right, whatever followed
    from it. What else leaves does not copy, unless the reviewer answered that a large part of its expression does.
    """
    if outcome == "not_a_match":
        return False
    if outcome == "release_with_credit":
        return True
    if outcome == "withhold":
        return None if reasons and _NO_WORD_ON_COPYING.issuperset(reasons) else True
    says_copied = answers is not None and answers.copied == "expression" and answers.how_much in _MUCH
    return bool(_COPIED & set(reasons)) or bool(_RIGHTS & set(reasons)) or says_copied


def label_of(decision: ReviewDecision) -> bool | None:
    """See `is_confirmed`."""
    return is_confirmed(decision.outcome, decision.reasons, decision.answers)
