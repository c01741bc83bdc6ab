"""What kind of copying a case is about: what was measured and what people answered, side by side, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardrail.desk.web.case_view import WorkView
    from guardrail.records import CaseState, ReviewDecision

__all__ = ["CAVEATS", "KindView", "kinds_of", "summary_of"]

_WHOLE_FROM = 0.9  # share of the work's frame in the image: what a crop by a twentieth of each side leaves is .9
_PROOFS = ("bytes", "pixels", "geometry", "correlation", "pdq")  # signals that show the same picture, not a likeness
_DEFINITIONS = {
    "exact": ("Exact copy", "Every byte of the file, or every pixel of the picture, is the same as the work's."),
    "near_exact": (
        "Near-exact copy",
        "The whole work, or nearly all of it, is shown again. It differs by no more than copies differ: size, "
        "compression, tint, a small crop, small edits.",
    ),
    "part": (
        "Copy of a part",
        "A recognisable part of the work is shown again, or the work is a part of a larger picture.",
    ),
    "altered": (
        "Altered copy",
        "What the work shows is shown again in another form: mirrored, turned, recoloured, redrawn or restyled, "
        "so that the pixels differ.",
    ),
    "resemblance": (
        "Resemblance only",
        "Subject, idea or style are alike; no region of the work was found in the image.",
    ),
}
CAVEATS = (
    "This file is evidence; it is not a legal conclusion. Whether a right is infringed is for a court to say.",
    "A measurement says how alike two pictures are. It does not say how the likeness came about.",
    "Definitions here are those of the measurement; law may use the same words otherwise.",
    "Only works in the index could be found. That no other work is named does not show that none was copied.",
    "Chance likenesses are rare, and happen: limits are fitted to a rate of them, not to none.",
)
"""What a reader must know before the evidence."""

_OF_OUTCOMES = {
    "withhold": "People decided to withhold the image: they found that it copies what is protected.",
    "release_with_credit": "People decided to release the image with credit: it comes near a work that is licensed.",
    "release": "People decided to release the image: they found no copying that stands against it.",
    "not_a_match": "People decided that image and work do not match: nothing is alleged.",
}


@dataclass(frozen=True, slots=True)
class KindView:
    """One kind of copying: what it means, what was measured of it, and what the people who decided answered.

    `measured` and `answered` are empty where nothing speaks for it.
    """

    word: str
    title: str
    definition: str
    measured: str
    answered: str

    @property
    def spoken_for(self) -> bool:
        """Whether a measurement or an answer speaks for it."""
        return bool(self.measured or self.answered)


def summary_of(state: CaseState, outcome: str | None) -> str:
    """Where the case stands, in a sentence."""
    if outcome is not None and state == "decided":
        return _OF_OUTCOMES[outcome]
    if state == "appealed":
        return "The decision was appealed and is looked at again: nobody has finally decided this case."
    if state == "disputed":
        return "Two people decided differently: nobody has finally decided this case."
    return "Nobody has finally decided this case: what follows was measured by a program."


def kinds_of(works: Sequence[WorkView], decisions: Sequence[ReviewDecision]) -> tuple[KindView, ...]:
    """Every kind of copying, with what speaks for it.

    Args:
        works: those that the case is about, nearest first.
        decisions: those that stand and that the reader may know of.
    """
    measured: dict[str, list[str]] = {word: [] for word in _DEFINITIONS}
    for work in works:
        for word, said in _measured(work):
            measured[word].append(f"{work.title}: {said}")
    answered = _answered(decisions)
    return tuple(
        KindView(word, title, definition, "; ".join(measured[word]), "; ".join(answered.get(word, ())))
        for word, (title, definition) in _DEFINITIONS.items()
    )


def _measured(work: WorkView) -> list[tuple[str, str]]:
    """Which kinds the measurements on one work speak for, each with what was measured."""
    reached = {one.signal: one for one in work.signals if one.reaches != "accept"}
    blocks = {name for name, one in reached.items() if one.reaches == "block"}
    found: list[tuple[str, str]] = []
    if exact := [one for one in ("bytes", "pixels") if one in reached]:
        found.append(("exact", f"the same {' and '.join(exact)}"))
    share = work.placement.share_of_work
    cut = share is not None and share < _WHOLE_FROM
    whole = [reached[name].title for name in ("geometry", "correlation", "pdq") if name in blocks]
    if whole and not exact and not cut:
        found.append(("near_exact", f"beyond the block limit of: {', '.join(whole)}"))
    found += _partial(work, reached=set(reached), cut=cut)
    turned = [one.note for one in reached.values() if one.view != "identity"]
    if turned:
        found.append(("altered", turned[0]))
    elif {"copy", "tile"} & set(reached) and not set(_PROOFS) & set(reached):
        found.append(("altered", "alike to the copy descriptor, while pixels, hashes and points do not agree"))
    if reached and set(reached) <= {"clip", "phash"}:
        found.append(("resemblance", f"only by: {', '.join(one.title for one in reached.values())}"))
    return found


def _partial(work: WorkView, *, reached: set[str], cut: bool) -> list[tuple[str, str]]:
    """Whether a part of the work, or the work as a part, was found, and how much."""
    placement = work.placement
    if placement.source == "geometry" and cut:
        return [("part", f"about {placement.share_of_work or 0:.0%} of the work's frame lies in the image")]
    if (
        placement.source == "geometry"
        and placement.share_of_image is not None
        and placement.share_of_image < _WHOLE_FROM
    ):
        return [("part", f"the work covers about {placement.share_of_image:.0%} of the image")]
    if "tile" in reached and not {"copy", "geometry", "pdq"} & reached:
        return [("part", "a part of one is like the whole of the other")]
    return []


def _answered(decisions: Sequence[ReviewDecision]) -> dict[str, list[str]]:
    """Which kinds people's answers speak for; each answer once."""
    found: dict[str, dict[str, None]] = {}
    for decision in decisions:
        answers, reasons = decision.answers, set(decision.reasons)
        expression = answers.copied == "expression" or "expression_copied" in reasons
        said = {
            "near_exact": "the whole of its expression was copied"
            if expression and answers.how_much == "whole"
            else "",
            "part": _part_answered(decision),
            "altered": "it was transformed" if answers.transformed == "yes" or "transformed" in reasons else "",
            "resemblance": "only style or idea are alike"
            if answers.copied in ("style", "idea") or "style_or_idea_only" in reasons
            else "",
        }
        for word, words in said.items():
            if words:
                found.setdefault(word, {})[words] = None
    return {word: [*words] for word, words in found.items()}


def _part_answered(decision: ReviewDecision) -> str:
    if decision.answers.how_much == "whole":
        return ""
    if decision.answers.how_much == "substantial" or "substantial_part" in decision.reasons:
        return "a substantial part was copied"
    if decision.answers.how_much == "small" or "small_part" in decision.reasons:
        return "a small part was copied"
    return ""
