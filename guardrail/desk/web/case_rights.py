"""Whose a work is, in words: holder, licence, what a match means, opt-out and expiry with their dates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardrail.desk.web.case_run import Fact
from guardrail.records import Disposition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from guardrail.records import Work

__all__ = ["changed_words", "rights_facts", "standing_of", "standing_words"]

_NOT_SAID = "not stated in the index"
_DISPOSITIONS = {
    Disposition.PROTECT: "protected",
    Disposition.CREDIT: "licensed with credit",
    Disposition.IGNORE: "generic imagery",
}
_MEANINGS = {
    "protected": "protected: an image that comes near it is held or blocked",
    "licensed": "licensed: an image that comes near it may leave if its maker is named",
    "generic": "generic imagery: coming near it says nothing",
    "expired": "protection has ended: coming near it says nothing",
}
_WORDS = {
    Disposition.PROTECT: "protected",
    Disposition.CREDIT: "licensed",
    Disposition.IGNORE: "generic",
    None: "expired",
}


def standing_of(work: Work, at: datetime) -> str:
    """What a match with a work means at a moment: `protected`, `licensed`, `generic` or `expired`."""
    return _WORDS[work.standing(at)]


def standing_words(work: Work, at: datetime) -> str:
    """The same as a sentence for people."""
    return _MEANINGS[standing_of(work, at)]


def rights_facts(work: Work, at: datetime) -> tuple[Fact, ...]:
    """Who holds the rights and what they allow, at a moment.

    Args:
        work: as the index has it.
        at: aware; dates before it are past, later ones are still to come.
    """
    return tuple(_facts(work, at))


def changed_words(before: Work, now: Work | None, *, elsewhere: bool = False) -> str:
    """What the index says otherwise of a work than it did for the verdict; empty where nothing.

    Args:
        before: as it was.
        now: as it is; None where the index has it no more.
        elsewhere: whether it is a work of an adapter's own index, which is not looked up.
    """
    if elsewhere:
        return "a work of an adapter's own index; shown as it was when the image was judged"
    if now is None:
        return "withdrawn from the index since the image was judged"
    fields = {
        "title": "title",
        "creator": "creator",
        "rights_holder": "rights holder",
        "licence": "licence",
        "source": "source",
        "disposition": "what a match means",
        "opted_out_at": "opt-out",
        "expires_at": "expiry",
    }
    other = [words for field, words in fields.items() if getattr(before, field) != getattr(now, field)]
    return f"changed in the index since the image was judged: {', '.join(other)}" if other else ""


def _facts(work: Work, at: datetime) -> Iterator[Fact]:
    yield Fact("title", work.title or "untitled")
    yield Fact("creator", work.creator or _NOT_SAID)
    yield Fact("rights holder", work.rights_holder or _NOT_SAID)
    yield Fact("licence", work.licence or _NOT_SAID)
    yield Fact("entered as", _DISPOSITIONS[work.disposition])
    yield _opted_out(work, at)
    yield _expiry(work, at)
    if work.source:
        yield Fact("source", work.source)
    yield Fact("bank and number", f"{work.bank} / {work.work_id}")
    yield _duplicates(work)


def _opted_out(work: Work, at: datetime) -> Fact:
    if work.opted_out_at is None:
        return Fact("opt-out", "none entered")
    if work.opted_out_at <= at:
        return Fact(
            "opt-out", f"opted out on {work.opted_out_at:%Y-%m-%d}: no licence counts from then on", alarming=True
        )
    return Fact("opt-out", f"takes effect on {work.opted_out_at:%Y-%m-%d}", alarming=True)


def _expiry(work: Work, at: datetime) -> Fact:
    if work.expires_at is None:
        return Fact("expiry", "none entered")
    what = "licence" if work.disposition is Disposition.CREDIT else "entry"
    if work.expires_at > at:
        return Fact("expiry", f"the {what} holds until {work.expires_at:%Y-%m-%d}")
    return Fact("expiry", f"the {what} ended on {work.expires_at:%Y-%m-%d}", alarming=what == "licence")


def _duplicates(work: Work) -> Fact:
    if work.multiplicity == 1:
        return Fact("in the training data", "no duplicates known")
    text = f"{work.multiplicity} near-duplicates known: what is repeated in training is memorised more easily"
    return Fact("in the training data", text, alarming=True)
