"""What people decide on cases: one, several at once, or an appeal; each in one transaction, wholly or not at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from guardrail.errors import GuardrailError
from guardrail.memory.accounts_shapes import at_least
from guardrail.memory.asking import COLUMNS, rows_of
from guardrail.memory.audit import at_of
from guardrail.memory.entering import Draft, decisions_on, enter, new_decision_id, note_sha256, settle
from guardrail.memory.queueing import free_until
from guardrail.memory.review_rights import UNDECIDED, case_of, cases_of, require_deciding
from guardrail.memory.review_shapes import BulkPreview, Decided
from guardrail.memory.review_tables import Account, Appeal, StoredDecision
from guardrail.memory.standing import standing_decisions
from guardrail.memory.tables import Case, LedgerState
from guardrail.records import Actor, CaseState, DecisionAsked, ReviewDecision, ReviewRound
from guardrail.review_errors import CaseTaken, DecisionRefused, NotAllowed

__all__ = ["Sampling", "appeal", "decide_cases", "each_asked", "preview", "shown_revision"]

_AT_ONCE = 1000  # cases in one batch
_NOTE_LETTERS = 4000  # of an appeal, as of a decision
_NEED_REASONS = frozenset({"withhold", "not_a_match"})
_DECIDERS = ("reviewer", "lead", "admin")
_ROUNDS: dict[str, ReviewRound] = {"open": "first", "second": "second", "disputed": "resolution", "appealed": "appeal"}


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which first decisions a second person takes too: this share of them, by chance (0..1) drawn anew for each."""

    share: float
    chance: Callable[[], float]

    def asks_second(self) -> bool:
        """Whether the decision that is just being taken is one of them."""
        return self.chance() < self.share


def decide_cases(
    session: Session,
    state: LedgerState,
    actor: Actor,
    asked: Mapping[int, DecisionAsked],
    now: datetime,
    sampling: Sampling,
    *,
    batch_id: str | None = None,
) -> tuple[Decided, ...]:
    """Decide cases, all of them or none; see `Reviews.decide` and `Reviews.decide_all`.

    Args:
        session: of the transaction.
        state: of the ledger.
        actor: who decides.
        asked: what, by case, each with the revision that was seen.
        now: when.
        sampling: of second reviews.
        batch_id: shared by all; None where there is one.
    """
    require_deciding(actor)
    cases = cases_of(session, actor, asked)
    on = decisions_on(session, asked)
    has_others = _has_others(session, actor)
    drafts = []
    for case in cases:
        _require_free(case, actor, asked[case.case_id], now)
        _require_seen(case, actor, asked[case.case_id], on[case.case_id])
        round_ = _round_for(case, actor, standing_decisions(on[case.case_id]))
        decision = _decision(case, actor, asked[case.case_id], round_, now).model_copy(update={"batch_id": batch_id})
        before = [one.asks_second for one in on[case.case_id] if one.round == "first" and one.undoes is None]
        may_ask = round_ == "first" and has_others
        asks_second = may_ask and (any(before) if before else sampling.asks_second())  # drawn once for a case
        drafts.append(Draft(decision, _plain(asked[case.case_id].note), asks_second))
    enter(session, state, drafts)
    for draft in drafts:
        if draft.decision.round == "appeal":
            _answer(session, draft.decision)
    settle(session, cases, actor.account_id)
    return tuple(
        Decided(draft.decision, case.state, draft.asks_second)  # type: ignore[arg-type]  # the table's own states
        for case, draft in zip(cases, drafts, strict=True)
    )


def preview(session: Session, actor: Actor, case_ids: Sequence[int], now: datetime) -> BulkPreview:
    """What a decision on several cases would decide; see `Reviews.preview`."""
    require_deciding(actor)
    _require_few(case_ids)
    cases = cases_of(session, actor, dict.fromkeys(case_ids))
    on = decisions_on(session, [case.case_id for case in cases])
    refused, seen = dict[int, str](), dict[int, int]()
    for case in cases:
        try:
            _require_free(case, actor, None, now)
            _round_for(case, actor, standing_decisions(on[case.case_id]))
        except GuardrailError as error:
            refused[case.case_id] = str(error)
        else:
            seen[case.case_id] = shown_revision(case, actor, on[case.case_id])
    query = select(*COLUMNS).where(Case.case_id.in_(list(seen)))
    stored = session.execute(query.order_by(Case.band.desc(), Case.opened_at, Case.case_id)).all()
    return BulkPreview(rows_of(session, actor, stored, now), refused, seen)


def each_asked(
    case_ids: Sequence[int], asked: DecisionAsked, seen: Mapping[int, int] | None
) -> dict[int, DecisionAsked]:
    """The same decision for each of several cases, with the revision that was seen of it.

    Raises:
        CaseTaken: one of them was not seen.
        DecisionRefused: there are none, or too many.
    """
    _require_few(case_ids)
    each = {}
    for case_id in case_ids:
        if seen is not None and case_id not in seen:
            raise CaseTaken(case_id, "it was not among those that were shown")
        revision = asked.seen_revision if seen is None else seen[case_id]
        each[case_id] = asked.model_copy(update={"seen_revision": revision})
    return each


def appeal(session: Session, actor: Actor, case_id: int, note: str, now: datetime) -> CaseState:
    """Ask for another look at a decided case; see `Reviews.appeal`."""
    require_deciding(actor, "appealing a decision")
    case = case_of(session, actor, case_id)
    if case.state != "decided":
        found = "open" if case.state == "second" else case.state
        raise DecisionRefused(case_id, f"the state {found!r}", "'decided' for an appeal")
    if not note.strip() or len(note) > _NOTE_LETTERS:
        raise DecisionRefused(case_id, f"an appeal of {len(note)} letters", f"a reason in 1 to {_NOTE_LETTERS}")
    entered = {"appeal_id": uuid4().hex, "case_id": case_id, "organisation": actor.organisation, "at": at_of(now)}
    session.add(Appeal(**entered, account_id=actor.account_id, note=_plain(note)))
    session.flush()
    settle(session, [case], actor.account_id)
    return "appealed"


# --- what must hold --------------------------------------------------------------------------------------


def _require_few(case_ids: Sequence[int]) -> None:
    if not 1 <= len(case_ids) <= _AT_ONCE:
        raise DecisionRefused("batch", f"{len(case_ids)} cases", f"1 to {_AT_ONCE}")


def _require_free(case: Case, actor: Actor, asked: DecisionAsked | None, now: datetime) -> None:
    """Refuse a case that is decided, or somebody else's for now, or not as it was seen.

    Raises:
        CaseTaken, DecisionRefused: why.
    """
    if case.state not in UNDECIDED:
        raise CaseTaken(case.case_id, "it was erased" if case.state == "erased" else "it was decided already")
    if (until := free_until(case, actor, now)) is not None:
        raise CaseTaken(case.case_id, f"somebody else has it until {until[:16]} UTC")
    if asked is None:
        return
    if asked.outcome in _NEED_REASONS and not asked.reasons:
        raise DecisionRefused(case.case_id, f"{asked.outcome!r} without a reason", "one reason code at least")
    if asked.outcome != "withhold" and not (case.picture_sha256 or case.png):
        raise DecisionRefused(case.case_id, "no picture of it any more", "one to release, or 'withhold'")


def _require_seen(case: Case, actor: Actor, asked: DecisionAsked, stored: Sequence[StoredDecision]) -> None:
    """Refuse a case that changed, as far as the actor may see it, since it was shown.

    Raises:
        CaseTaken: it did.
    """
    if asked.seen_revision is not None and asked.seen_revision != shown_revision(case, actor, stored):
        raise CaseTaken(case.case_id, "it changed since it was shown")


def shown_revision(case: Case, actor: Actor, stored: Sequence[StoredDecision]) -> int:
    """The revision that an actor sees: without the first decision, while that is hidden from them."""
    is_hidden = case.state == "second" and all(one.account_id != actor.account_id for one in standing_decisions(stored))
    return case.revision - 1 if is_hidden else case.revision


def _round_for(case: Case, actor: Actor, standing: Sequence[StoredDecision]) -> ReviewRound:
    """In which look the actor would decide.

    Raises:
        CaseTaken: it was the actor who decided it first.
        NotAllowed: this look needs a lead.
        DecisionRefused: it needs one who took none of the decisions so far.
    """
    took_part = any(one.account_id == actor.account_id for one in standing)
    if case.state == "second" and took_part:
        raise CaseTaken(case.case_id, "it was decided already")
    if case.state in {"disputed", "appealed"}:
        asked = "settling two decisions that differ" if case.state == "disputed" else "answering an appeal"
        if not at_least(actor.role, "lead"):
            raise NotAllowed(asked, "the role 'lead'")
        if took_part:
            raise DecisionRefused(case.case_id, "a lead who took part in it", "one who decided none of it so far")
    return _ROUNDS[case.state]


def _has_others(session: Session, actor: Actor) -> bool:
    """Whether somebody else could be asked."""
    query = select(func.count()).where(
        Account.organisation == actor.organisation,
        Account.account_id != actor.account_id,
        Account.state == "active",
        Account.role.in_(_DECIDERS),
    )
    return bool(session.scalar(query))


def _decision(case: Case, actor: Actor, asked: DecisionAsked, round_: ReviewRound, now: datetime) -> ReviewDecision:
    return ReviewDecision(
        decision_id=new_decision_id(),
        case_id=case.case_id,
        verdict_id=case.verdict_id,
        organisation=case.organisation,
        account_id=actor.account_id,
        round=round_,
        outcome=asked.outcome,
        reasons=tuple(dict.fromkeys(asked.reasons)),
        answers=asked.answers,
        note_sha256=note_sha256(_plain(asked.note)),
        at=now,
    )


def _answer(session: Session, decision: ReviewDecision) -> None:
    open_ = (Appeal.case_id == decision.case_id, Appeal.answered_by.is_(None))
    session.execute(update(Appeal).where(*open_).values(answered_by=decision.decision_id))


def _plain(note: str) -> str:
    """A note without NUL, which PostgreSQL has no room for."""
    return note.replace("\0", "")
