"""Verdicts that need a person in; new cases, one more sighting of a case that waits, or a repeat of a decision out."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from guardrail.desk_settings import DeskSettings
from guardrail.memory.appending import row_of
from guardrail.memory.audit import at_of
from guardrail.memory.entering import Draft, enter, new_decision_id, record_of, settle
from guardrail.memory.grading import band_of, severity_of
from guardrail.memory.grouping import PDQ_BYTES, Groups
from guardrail.memory.held import Held
from guardrail.memory.review_rights import UNDECIDED
from guardrail.memory.review_tables import CaseFact, StoredDecision
from guardrail.memory.tables import Case, LedgerState, Sighting, StoredRow
from guardrail.records import CheckFailed, Limits, MatchEvidence, Verdict, Work

__all__ = ["CaseOpener", "Opening", "fact_value"]

_VALUE_LETTERS = 512  # of a fact and of the name of a nearest work, as the tables hold them


class Opening(NamedTuple):
    """A verdict that a person must look at: what is held, the number of its row, and the digest of its picture."""

    held: Held
    sequence: int
    picture_sha256: str | None


class CaseOpener:
    """Opens the cases of one memory; what it knows of groups outlives a transaction, see `Groups`.

    Args:
        desk: how near two pictures must be to be shown as one, and which banks are sensitive.
    """

    def __init__(self, desk: DeskSettings) -> None:
        self._groups = Groups(desk.group_within_bits)
        self._sensitive = frozenset(desk.sensitive_banks)

    def open_cases(
        self,
        session: Session,
        state: LedgerState,
        opened: Sequence[Opening],
        context: dict[str, Any] | None,
        limits: Limits | None = None,
    ) -> None:
        """Open a case for each verdict, in the transaction that entered it.

        The very pixels of a case that waits, near the same work, are one more sighting of it. Those of a case that
        people decided, near the same work and by the same rule, are decided as before, in a case of their own.

        Args:
            session: of the transaction, which nobody else writes beside.
            state: of the ledger, to which repeats of decisions are appended.
            opened: the verdicts.
            context: of their run, as JSON, prompts too.
            limits: the verdicts were judged by, for the severity.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        groups = self._groups.seen_in(session)
        for one in opened:
            asked = _described(one, context, limits)
            asked.sensitive = asked.nearest_bank in self._sensitive
            facts = _facts(one.held.verdict, context)
            if (same := _same_waiting(session, asked, one.held.verdict)) is not None:
                _see_again(session, same, asked, facts)
                continue
            asked.group_id = groups.nearest(asked)
            earlier = _same_decided(session, asked, one.held.verdict)
            session.add(asked)
            session.flush()
            if asked.group_id is None:
                asked.group_id = asked.case_id
                groups.add(asked)
            _inherit(session, asked)
            _add_facts(session, asked, facts)
            if earlier is not None:
                _repeat(session, state, asked, earlier)


def fact_value(value: str) -> str:
    """A value as the tables hold it: at most 512 letters, none of them NUL, which PostgreSQL has no room for."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")[:_VALUE_LETTERS]


# --- what a case says of its verdict ---------------------------------------------------------------------


def _described(one: Opening, context: dict[str, Any] | None, limits: Limits | None) -> Case:
    verdict = one.held.verdict
    severity = severity_of(verdict, limits)
    nearest = _nearest(verdict)
    return Case(
        verdict_id=verdict.verdict_id,
        sequence=one.sequence,
        opened_at=at_of(verdict.at),
        state="open",
        context=context,
        organisation=one.held.organisation,
        picture_sha256=one.picture_sha256,
        pixels_sha256=verdict.pixels_sha256,
        pdq=one.held.pdq if one.held.pdq is not None and len(one.held.pdq) == PDQ_BYTES else None,
        rule=fact_value(verdict.rule),
        judged=verdict.decision.value,
        severity=severity,
        band=band_of(severity),
        image=fact_value(verdict.image),
        nearest_work=_work_name(nearest) if nearest else "",
        nearest_title=fact_value(nearest.title) if nearest else "",
        nearest_bank=fact_value(nearest.bank) if nearest else "",
        nearest_holder=fact_value(nearest.rights_holder) if nearest else "",
        seen_times=1,
        sensitive=False,
        revision=0,
    )


def _nearest(verdict: Verdict) -> Work | None:
    """The work that is nearest by the verdict; where it lists none, that of the first evidence."""
    if verdict.nearest:
        return verdict.nearest[0].work
    return next((one.work for one in verdict.evidence if isinstance(one, MatchEvidence)), None)


def _work_name(work: Work) -> str:
    return fact_value(f"{work.bank}/{work.work_id}")


def _facts(verdict: Verdict, context: dict[str, Any] | None) -> set[tuple[str, str]]:
    """What a case is found by: the works that decided and the nearest one, their banks and holders, rule and run."""
    works = [one.work for one in verdict.evidence if isinstance(one, MatchEvidence)]
    if (nearest := _nearest(verdict)) is not None:
        works.append(nearest)
    found = {("rule", verdict.rule)}
    for work in works:
        found |= {("bank", work.bank), ("holder", work.rights_holder), ("work", f"{work.bank}/{work.work_id}")}
    run = context or {}
    found.add(("model", run.get("model_id") or run.get("pipeline") or ""))
    found |= {("adapter", one.get("known_as") or one.get("name") or "") for one in run.get("adapters") or ()}
    return {(name, fact_value(value)) for name, value in found if value}


def _add_facts(session: Session, case: Case, facts: set[tuple[str, str]]) -> None:
    for name, value in sorted(facts):
        session.add(CaseFact(case_id=case.case_id, name=name, value=value, organisation=case.organisation))
    session.flush()


# --- the same again --------------------------------------------------------------------------------------


def _same_pixels(session: Session, case: Case) -> list[int]:
    """Cases on the very pixels of another, near the same work, in its organisation, oldest first.

    They are asked by their pixels alone and sorted out here: nothing else finds them by so few rows.
    """
    if case.pixels_sha256 is None:
        return []
    query = select(Case.case_id, Case.organisation, Case.nearest_work).where(Case.pixels_sha256 == case.pixels_sha256)
    wanted = (case.organisation, case.nearest_work)
    return sorted(one.case_id for one in session.execute(query) if (one.organisation, one.nearest_work) == wanted)


def _same_waiting(session: Session, case: Case, verdict: Verdict) -> Case | None:
    """The first case of the very pixels that waits and was opened for the same works."""
    same = _same_pixels(session, case)
    query = select(Case).where(Case.case_id.in_(same), Case.state.in_(UNDECIDED)).order_by(Case.case_id)
    waiting = session.scalars(query) if same else ()
    return next((one for one in waiting if _works_of(_opened_for(session, one)) == _works_of(verdict)), None)


def _opened_for(session: Session, case: Case) -> Verdict | None:
    """The verdict that a case was opened for; None once that was erased."""
    stored = session.get(StoredRow, case.sequence)
    if stored is None or stored.leaf is None:
        return None
    return Verdict.model_validate(row_of(stored).content["verdict"])


def _works_of(verdict: Verdict | None) -> set[Work] | None:
    return None if verdict is None else {one.work for one in _matches(verdict)}


def _matches(verdict: Verdict) -> list[MatchEvidence]:
    return [one for one in verdict.evidence if isinstance(one, MatchEvidence)]


def _rests_on_the_same(was: Verdict | None, verdict: Verdict) -> bool:
    """Whether two verdicts rest on the very same: the same works, as they are, as near as they are, the same failures.

    A work may be replaced under its id, and another one may have come near: whoever decided has not seen that.
    """
    if was is None:
        return False
    failed = [{one.check for one in said.evidence if isinstance(one, CheckFailed)} for said in (was, verdict)]
    return _matches(was) == _matches(verdict) and failed[0] == failed[1]


def _see_again(session: Session, case: Case, again: Case, facts: set[tuple[str, str]]) -> None:
    """Note one more verdict on a case that waits; it becomes as severe as the gravest of them."""
    session.add(
        Sighting(verdict_id=again.verdict_id, case_id=case.case_id, sequence=again.sequence, at=again.opened_at)
    )
    case.seen_times += 1
    case.sensitive = case.sensitive or again.sensitive
    if again.severity > case.severity:
        case.severity, case.band = again.severity, again.band
    known = select(CaseFact.name, CaseFact.value).where(CaseFact.case_id == case.case_id)
    _add_facts(session, case, facts - {(name, value) for name, value in session.execute(known)})


def _same_decided(session: Session, case: Case, verdict: Verdict) -> Case | None:
    """The latest case of the very pixels that people decided, near the same work and by the same rule.

    Where they let it out, it must have been for the same evidence. One that was itself decided as a repeat counts for
    nothing: what it followed may have been taken back.
    """
    same = _same_pixels(session, case)
    query = (
        select(Case)
        .join(StoredDecision, StoredDecision.decision_id == Case.settled_by)
        .where(
            Case.case_id.in_(same), Case.state == "decided", Case.rule == case.rule, StoredDecision.round != "repeat"
        )
        .order_by(Case.case_id.desc())
        .limit(1)
    )
    found = session.scalar(query) if same else None
    if found is None or found.outcome == "withhold" or _rests_on_the_same(_opened_for(session, found), verdict):
        return found
    return None


def _repeat(session: Session, state: LedgerState, case: Case, earlier: Case) -> None:
    """Decide a new case as the earlier one was: nobody is asked the same thing twice."""
    stored = session.get(StoredDecision, earlier.settled_by)
    assert stored is not None, "a decided case rests on a decision"
    decision = record_of(stored, case.verdict_id).model_copy(
        update={
            "decision_id": new_decision_id(),
            "case_id": case.case_id,
            "round": "repeat",
            "note_sha256": None,
            "repeats": stored.decision_id,
            "batch_id": None,
            "at": datetime.now(UTC),
        }
    )
    enter(session, state, [Draft(decision)])
    settle(session, [case], stored.account_id)


# --- nearly the same -------------------------------------------------------------------------------------


def _inherit(session: Session, case: Case) -> None:
    """What is known to be sensitive of a group, or of the very pixels, is so of the new case."""
    if case.sensitive:
        return
    same = Case.group_id == case.group_id
    if case.pixels_sha256 is not None:
        same |= Case.pixels_sha256 == case.pixels_sha256
    query = select(Case.organisation).where(same, Case.sensitive.is_(True), Case.case_id != case.case_id).distinct()
    case.sensitive = case.organisation in set(session.scalars(query))
