"""Who may do what with cases, and which case an id of theirs means; the web layer asks the same before it calls."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from guardrail.memory.accounts_shapes import at_least
from guardrail.memory.review_tables import StoredDecision
from guardrail.memory.tables import Case
from guardrail.records import Actor, Role, Scope
from guardrail.review_errors import CaseMissing, NotAllowed

__all__ = ["UNDECIDED", "case_of", "cases_of", "decided_first", "require_deciding", "require_lead", "require_reading"]

UNDECIDED = ("open", "second", "disputed", "appealed")
"""States of cases that wait for somebody."""

_LARGEST_ID = 2**31 - 1  # of a case, as PostgreSQL's INTEGER holds it
_READING: tuple[Scope, ...] = ("cases:read", "cases:decide", "verdicts:read")


def require_reading(actor: Actor) -> None:
    """Refuse a token that may not look at cases or verdicts; every person may, in their organisation.

    Raises:
        NotAllowed: it may not.
    """
    if actor.scopes is not None and not {*actor.scopes} & {*_READING}:
        raise NotAllowed("looking at cases", "a token with the scope cases:read")


def require_deciding(actor: Actor, asked: str = "deciding a case") -> None:
    """Refuse whoever is no reviewer, and tokens that may not decide.

    Raises:
        NotAllowed: they may not.
    """
    _require_role(actor, "reviewer", asked)
    if actor.scopes is not None and "cases:decide" not in actor.scopes:
        raise NotAllowed(asked, "a token with the scope cases:decide")


def require_lead(actor: Actor, asked: str) -> None:
    """Refuse whoever may not decide, or is no lead.

    Raises:
        NotAllowed: they may not.
    """
    require_deciding(actor, asked)
    _require_role(actor, "lead", asked)


def _require_role(actor: Actor, needed: Role, asked: str) -> None:
    if not at_least(actor.role, needed):
        raise NotAllowed(asked, f"the role {needed!r}")


def case_of(session: Session, actor: Actor, case_id: int) -> Case:
    """A case of the actor's organisation.

    Raises:
        CaseMissing: there is none; one of another organisation is none.
    """
    return cases_of(session, actor, (case_id,))[0]


def cases_of(session: Session, actor: Actor, case_ids: Iterable[int]) -> list[Case]:
    """Cases of the actor's organisation, in the order that was asked.

    Raises:
        CaseMissing: one is not there, or another organisation's.
    """
    asked = list(case_ids)
    known = [one for one in asked if 0 < one <= _LARGEST_ID]
    query = select(Case).where(Case.case_id.in_(known), Case.organisation == actor.organisation)
    found = {case.case_id: case for case in session.scalars(query)}
    for one in asked:
        if one not in found:
            raise CaseMissing(one)
    return [found[one] for one in asked]


def decided_first(session: Session, actor: Actor, cases: Iterable[Case]) -> set[int]:
    """Of cases that wait for a blind second look, those which the actor decided first: they know what they decided."""
    resting = {case.settled_by: case.case_id for case in cases if case.state == "second"}
    if not resting:
        return set()
    mine = select(StoredDecision.decision_id).where(
        StoredDecision.decision_id.in_(list(resting)), StoredDecision.account_id == actor.account_id
    )
    return {resting[one] for one in session.scalars(mine)}
