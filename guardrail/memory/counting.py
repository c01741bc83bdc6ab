"""What people's decisions say of rules and of each other; and all of them as labelled pairs."""

from collections.abc import Iterator
from datetime import datetime
from statistics import median
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from guardrail.memory.database import Database
from guardrail.memory.entering import decisions_on, record_of
from guardrail.memory.review_rights import UNDECIDED
from guardrail.memory.review_shapes import BlindPair, DecidedPair, RuleCount, label_of
from guardrail.memory.review_tables import StoredDecision
from guardrail.memory.showing import verdict_at
from guardrail.memory.standing import standing_decisions
from guardrail.memory.tables import Case
from guardrail.records import ReviewAnswers, ReviewDecision

__all__ = ["blind_pairs", "decided_pairs", "median_decision_time_s", "rule_counts"]

_CASES_AT_A_TIME = 200
_COUNTED = {"withhold": "withheld", "release_with_credit": "credited", "release": "released"}


def rule_counts(session: Session, organisation: str) -> tuple[RuleCount, ...]:
    """What people made of each rule's cases, by the name of the rule; see `Reviews.rule_counts`."""
    people = (
        select(Case.rule, Case.outcome, func.count())
        .join(StoredDecision, StoredDecision.decision_id == Case.settled_by)
        .where(Case.organisation == organisation, Case.state == "decided", StoredDecision.round != "repeat")
        .group_by(Case.rule, Case.outcome)
    )
    left = (
        select(Case.rule, func.count())
        .where(Case.organisation == organisation, Case.state.in_(UNDECIDED))
        .group_by(Case.rule)
    )
    by_rule: dict[str, dict[str, int]] = {}
    for rule, outcome, count in session.execute(people):
        by_rule.setdefault(rule, {})[_COUNTED.get(outcome or "", outcome or "")] = count
    for rule, count in session.execute(left):
        by_rule.setdefault(rule, {})["undecided"] = count
    names = ("withheld", "credited", "released", "not_a_match", "undecided")
    return tuple(RuleCount(rule, *(found.get(name, 0) for name in names)) for rule, found in sorted(by_rule.items()))


def blind_pairs(session: Session, organisation: str) -> tuple[BlindPair, ...]:
    """Two decisions on one case, the second without sight of the first; see `Reviews.blind_pairs`.

    Where a second decision was taken back, the first may have been seen by all since: such a case is left out.
    """
    among = select(StoredDecision.case_id).where(
        StoredDecision.organisation == organisation, StoredDecision.round == "second", StoredDecision.undoes.is_(None)
    )
    query = select(Case.case_id, Case.rule, Case.verdict_id).where(Case.case_id.in_(among)).order_by(Case.case_id)
    cases = session.execute(query).all()
    found = []
    on = decisions_on(session, [case.case_id for case in cases])
    for case in cases:
        by_round = {one.round: one for one in standing_decisions(on[case.case_id])}
        looked = [one for one in on[case.case_id] if one.round == "second" and one.undoes is None]
        if {"first", "second"} <= by_round.keys() and len(looked) == 1:
            first, second = (record_of(by_round[name], case.verdict_id) for name in ("first", "second"))
            found.append(BlindPair(case.case_id, case.rule, first, second))
    return tuple(found)


def median_decision_time_s(session: Session, organisation: str) -> float | None:
    """Median time from a case's opening to its decision, in seconds; None where people decided none."""
    query = (
        select(Case.opened_at, Case.decided_at)
        .join(StoredDecision, StoredDecision.decision_id == Case.settled_by)
        .where(Case.organisation == organisation, Case.state == "decided", StoredDecision.round != "repeat")
    )
    waited = [_seconds(opened, decided) for opened, decided in session.execute(query) if decided is not None]
    return median(waited) if waited else None


def _seconds(opened_at: str, decided_at: str) -> float:
    return (datetime.fromisoformat(decided_at) - datetime.fromisoformat(opened_at)).total_seconds()


def decided_pairs(database: Database, organisation: str) -> Iterator[DecidedPair]:
    """All decided cases, oldest first, read a few at a time; see `Reviews.decided_pairs`."""
    after = 0
    while True:
        query = (
            select(Case)
            .where(Case.organisation == organisation, Case.state == "decided", Case.case_id > after)
            .order_by(Case.case_id)
            .limit(_CASES_AT_A_TIME)
        )
        with database.reading() as session:
            cases = list(session.scalars(query))
            on = decisions_on(session, [case.case_id for case in cases])
            pairs = [_pair(session, case, on[case.case_id]) for case in cases]
        if not pairs:
            return
        yield from pairs
        after = pairs[-1].case_id


def _pair(session: Session, case: Case, stored: list[StoredDecision]) -> DecidedPair:
    standing = [record_of(one, case.verdict_id) for one in standing_decisions(stored)]
    settled = next(one for one in standing if one.decision_id == case.settled_by)
    return DecidedPair(
        case_id=case.case_id,
        group_id=case.group_id or case.case_id,
        verdict=verdict_at(session, case),
        decisions=tuple(standing),
        decided_at=settled.at,
        nearest_work=case.nearest_work,
        bank=case.nearest_bank,
        rule=case.rule,
        **_of_settled(settled),
    )


def _of_settled(settled: ReviewDecision) -> dict[str, Any]:
    answers: ReviewAnswers = settled.answers
    said = {"outcome": settled.outcome, "label": label_of(settled.outcome), "reasons": settled.reasons}
    return said | {"answers": answers, "round": settled.round}
