"""What is not to be kept any longer, taken away: pictures and prompts of decided cases, pictures that nothing names."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from guardrail.memory.audit import at_of
from guardrail.memory.database import Database
from guardrail.memory.held import forget_unnamed
from guardrail.memory.pictures import Pictures
from guardrail.memory.review_tables import Job
from guardrail.memory.tables import Case

__all__ = ["purge_some", "sweep"]

_CASES_AT_A_TIME = 100  # so that no writer waits for long
_PICTURES_AT_A_TIME = 200  # for the same reason
_TO_BE_DONE = ("waiting", "running")  # states of jobs


def purge_some(session: Session, pictures: Pictures, now: datetime, retention_days: int) -> int:
    """Delete what is kept of some decided cases beside their verdict and decisions; see `Reviews.purge`.

    A case whose image is still to be signed, or taken back, is left for later.

    Returns:
        How many cases it was; 0 when there are none left.

    Raises:
        MemoryUnwritable: a picture could not be deleted; nothing was changed.
    """
    before = at_of(now - timedelta(days=retention_days))
    query = (
        select(Case)
        .where(Case.state == "decided", Case.decided_at <= before, Case.purged_at.is_(None))
        .where(Case.case_id.not_in(_needed(session)))
        .order_by(Case.case_id)
        .limit(_CASES_AT_A_TIME)
    )
    cases = list(session.scalars(query))
    digests = [case.picture_sha256 for case in cases]
    for case in cases:
        case.picture_sha256, case.png = None, None
        if case.context is not None:
            case.context = case.context | {"prompts": {}}
        case.purged_at = at_of(now)
        case.revision += 1
    forget_unnamed(session, pictures, digests)
    return len(cases)


def _needed(session: Session) -> list[int]:
    """Cases that a job is still to release or to take back."""
    query = select(Job.asked).where(Job.kind.in_(("release", "undo")), Job.state.in_(_TO_BE_DONE))
    return sorted({int(asked["case_id"]) for asked in session.scalars(query) if "case_id" in asked})


def sweep(database: Database, pictures: Pictures, older_than_h: float) -> tuple[str, ...]:
    """Take away pictures that nothing names; see `Memory.sweep_pictures`."""
    stale, taken = pictures.stale(older_than_h=older_than_h), list[str]()
    for start in range(0, len(stale), _PICTURES_AT_A_TIME):
        some = stale[start : start + _PICTURES_AT_A_TIME]
        with database.writing() as (session, _):  # nobody comes to name one meanwhile
            named = _named_among(session, some)
            taken += pictures.delete_stale([one for one in some if one not in named], older_than_h=older_than_h)
    return tuple(taken)


def _named_among(session: Session, digests: Collection[str]) -> set[str]:
    """Those of some digests that a case names, or a check that is still to be done."""
    named = {one for one in session.scalars(select(Case.picture_sha256).where(Case.picture_sha256.in_(digests))) if one}
    waiting = select(Job.asked).where(Job.kind == "check", Job.state.in_(_TO_BE_DONE))
    for asked in session.scalars(waiting):
        named |= {str(one["sha256"]) for one in asked.get("images", ())}
    return named
