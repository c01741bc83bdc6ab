"""Whether a change of a work lets more leave than before: at some moment from now on, or for its picture at all."""

from __future__ import annotations

from datetime import datetime

from guardrail.records import Disposition, Work

__all__ = ["explains", "protects", "weakens"]

_EASE: dict[Disposition | None, int] = {  # how much a work lets pass that nobody would let pass without it
    Disposition.PROTECT: 0,
    None: 1,  # it is not there, or counts no more
    Disposition.CREDIT: 2,  # explains what would be flagged near other works
    Disposition.IGNORE: 3,  # explains more than that
}


def protects(work: Work, now: datetime) -> bool:
    """Whether a work is protected at `now` or at some moment after it."""
    return any(work.standing(at) is Disposition.PROTECT for at in _moments(now, work))


def explains(work: Work, now: datetime) -> bool:
    """Whether a work explains likenesses to other works away, at `now` or at some moment after it."""
    return any(_EASE[work.standing(at)] > _EASE[None] for at in _moments(now, work))


def weakens(before: Work | None, after: Work | None, now: datetime) -> bool:
    """Whether the same picture would be less protected by what is said of it `after` than by what is said `before`.

    It is where, from `now` on, there is a moment at which it lets more pass; and where an opt-out is dropped or put
    off, though the work stays protected by its disposition.

    Args:
        before: None where the picture is no work.
        after: None where it is no work any more.
        now: aware; what was before it counts no more.
    """
    works = [work for work in (before, after) if work is not None]
    eased = any(_ease(after, at) > _ease(before, at) for at in _moments(now, *works))
    return eased or (before is not None and not _keeps_opt_out(before, after, now))


def _keeps_opt_out(before: Work, after: Work | None, now: datetime) -> bool:
    if before.opted_out_at is None:
        return True
    kept = after.opted_out_at if after is not None else None
    return kept is not None and kept <= max(before.opted_out_at, now)


def _ease(work: Work | None, at: datetime) -> int:
    return _EASE[work.standing(at) if work is not None else None]


def _moments(now: datetime, *works: Work) -> set[datetime]:
    """Now, and every moment after it at which what a work means may become another: between them it is the same."""
    dates = {date for work in works for date in (work.opted_out_at, work.expires_at) if date is not None}
    return {now, *(date for date in dates if date > now)}
