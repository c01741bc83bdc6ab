"""Cases and people's decisions on them: the queue, leases, decisions, appeals, takings back, and what they teach."""

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from guardrail.desk_settings import DeskSettings
from guardrail.memory import counting, deciding, queueing, showing, undoing
from guardrail.memory.database import Database
from guardrail.memory.pictures import Pictures
from guardrail.memory.purging import purge_some
from guardrail.memory.review_rights import case_of, require_reading
from guardrail.memory.review_shapes import (
    Batch,
    BlindPair,
    BulkPreview,
    CaseDetails,
    CasePage,
    Decided,
    DecidedPair,
    HeldCase,
    RuleCount,
    Waiting,
    WorkHistory,
)
from guardrail.records import Actor, CaseFilter, CaseRow, CaseState, DecisionAsked, Verdict

__all__ = ["Reviews"]

Clock = Callable[[], datetime]


class Reviews:
    """The review of one memory's cases; every organisation sees its own alone.

    To everybody who did not decide it, a case that waits for a blind second look is one that is open: nothing tells
    that somebody decided it, or what.

    Args:
        database: where they lie.
        pictures: where their pictures lie.
        desk: how long a lease lasts, how many decisions a second person takes too, how long pictures are kept.
        clock: tells the time, aware UTC.
        chance: draws a number in 0..1 for each decision that may be taken twice; default: one nobody can foretell.
    """

    def __init__(
        self,
        database: Database,
        pictures: Pictures,
        desk: DeskSettings,
        clock: Clock = lambda: datetime.now(UTC),
        chance: Callable[[], float] | None = None,
    ) -> None:
        self._database, self._pictures, self._desk, self._clock = database, pictures, desk, clock
        self._sampling = deciding.Sampling(desk.second_review_share, chance or random.SystemRandom().random)

    # --- the queue ---------------------------------------------------------------------------------------

    def queue(self, actor: Actor, asked: CaseFilter, *, after: str = "", limit: int = 50) -> CasePage:
        """A page of cases, the most severe first and of those the oldest.

        Args:
            actor: who asks.
            asked: which cases; with `grouped`, those of nearly the same picture are one row.
            after: `next_cursor` of the page before; empty for the first one.
            limit: rows of the page, 1 to 200.

        Raises:
            NotAllowed: a token that may not look at cases.
            QueryInvalid: a cursor, limit or filter that cannot be followed.
            MemoryUnwritable: they cannot be read.
        """
        require_reading(actor)
        with self._database.reading() as session:
            return queueing.page(session, actor, asked, self._clock(), after=after, limit=limit)

    def facets(self, actor: Actor) -> dict[str, tuple[str, ...]]:
        """What cases can be filtered by: values by bank, holder, model, adapter, rule and work, sorted.

        Of each at most 200, those of most cases.

        Raises:
            NotAllowed: a token that may not look at cases.
            MemoryUnwritable: they cannot be read.
        """
        require_reading(actor)
        with self._database.reading() as session:
            return queueing.facets(session, actor)

    def counts(self, actor: Actor) -> dict[CaseState, int]:
        """How many cases are in each state, as the actor sees them.

        Raises:
            NotAllowed: a token that may not look at cases.
            MemoryUnwritable: they cannot be read.
        """
        require_reading(actor)
        with self._database.reading() as session:
            return queueing.counts(session, actor)

    def waiting(self, organisation: str) -> Waiting:
        """How many cases wait in truth, by their states, and since when: for figures that nobody reviews by.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        with self._database.reading() as session:
            return queueing.waiting(session, organisation)

    def lease(self, actor: Actor, case_id: int) -> datetime:
        """Take a case, so that nobody else decides it meanwhile; called again, keep it for longer.

        Returns:
            Until when, aware UTC; after that it is anybody's again.

        Raises:
            CaseMissing: there is none in the actor's organisation.
            CaseTaken: somebody else has it, or it is decided.
            NotAllowed: the actor is no reviewer.
            MemoryUnwritable: nothing was changed.
        """
        with self._database.writing() as (session, _):
            return queueing.lease(session, actor, case_id, self._clock(), self._desk.lease_minutes)

    def give_back(self, actor: Actor, case_id: int) -> None:
        """Let go of a case, so that others can take it; of one that the actor does not have nothing happens.

        Raises:
            CaseMissing: there is none in the actor's organisation.
            NotAllowed: the actor is no reviewer.
            MemoryUnwritable: nothing was changed.
        """
        with self._database.writing() as (session, _):
            queueing.give_back(session, actor, case_id)

    def next_case(self, actor: Actor, asked: CaseFilter, *, skip: Collection[int] = ()) -> CaseRow | None:
        """Take the first case of the queue that the actor may decide; the same again until it is decided or skipped.

        With `grouped`, a group of which somebody else has a case is theirs.

        Args:
            actor: who asks.
            asked: which cases.
            skip: cases to pass over.

        Returns:
            It, leased; None where there is none.

        Raises:
            NotAllowed: the actor is no reviewer.
            QueryInvalid: a filter that cannot be followed.
            MemoryUnwritable: nothing was changed.
        """
        minutes = self._desk.lease_minutes
        with self._database.writing() as (session, _):
            return queueing.next_case(session, actor, asked, self._clock(), minutes, skip)

    # --- one case ----------------------------------------------------------------------------------------

    def case(self, actor: Actor, case_id: int) -> CaseDetails:
        """All that the actor may know of a case.

        Raises:
            CaseMissing: there is none in the actor's organisation, or it was erased.
            NotAllowed: a token that may not look at cases.
            LedgerBroken: its verdict was edited.
            MemoryUnwritable: it cannot be read.
        """
        with self._database.reading() as session:
            return showing.details(session, actor, case_id, self._clock())

    def picture(self, actor: Actor, case_id: int) -> bytes:
        """The picture of a case, PNG, as it was judged.

        Raises:
            CaseMissing: there is no such case in the actor's organisation.
            NotAllowed: a token that may not look at cases.
            PictureMissing: it is not kept, or not any more.
            MemoryUnwritable: it cannot be read.
        """
        require_reading(actor)
        with self._database.reading() as session:
            return showing.picture_of(case_of(session, actor, case_id), self._pictures)

    def verdict(self, actor: Actor, verdict_id: str) -> Verdict:
        """A verdict of the actor's organisation, flagged or not.

        Raises:
            CaseMissing: there is none.
            NotAllowed: a token that may not look at verdicts.
            LedgerBroken: it was edited.
            MemoryUnwritable: it cannot be read.
        """
        with self._database.reading() as session:
            return showing.verdict_of(session, actor, verdict_id)

    def held(self, organisation: str, case_id: int) -> HeldCase:
        """What a release needs of a case: picture, verdict, context, and the decision that lets it out, if any does.

        Raises:
            CaseMissing: there is none in the organisation.
            PictureMissing: its picture is not kept any more.
            LedgerBroken: its verdict was edited.
            MemoryUnwritable: it cannot be read.
        """
        with self._database.reading() as session:
            return showing.held_case(session, self._pictures, organisation, case_id)

    def case_of_verdict(self, organisation: str, verdict_id: str) -> int | None:
        """The case that a verdict opened, or was one more sighting of; None where there is none.

        Raises:
            MemoryUnwritable: it cannot be read.
        """
        with self._database.reading() as session:
            return showing.case_of_verdict(session, organisation, verdict_id)

    def let_out_by(self, organisation: str, case_id: int) -> str | None:
        """The decision that lets a case's image out, whether its picture is still kept or not; None where none does.

        Raises:
            MemoryUnwritable: it cannot be read.
        """
        with self._database.reading() as session:
            return showing.let_out_by(session, organisation, case_id)

    def history_of_work(self, actor: Actor, bank: str, work_id: str, limit: int = 50) -> tuple[WorkHistory, ...]:
        """What was decided on cases whose nearest work is this one, the latest first.

        Raises:
            NotAllowed: a token that may not look at cases.
            MemoryUnwritable: it cannot be read.
        """
        with self._database.reading() as session:
            return showing.history_of_work(session, actor, bank, work_id, self._clock(), limit)

    # --- decisions ---------------------------------------------------------------------------------------

    def decide(self, actor: Actor, case_id: int, asked: DecisionAsked) -> Decided:
        """Decide a case: its row in the ledger, its new state, and the jobs that follow, all of it or nothing.

        A share of the first decisions counts only once a second person, who does not see it, decided alike.

        Raises:
            CaseMissing: there is none in the actor's organisation.
            CaseTaken: somebody else has it, it was decided meanwhile, or it is not as it was seen.
            DecisionRefused: a reason is missing, or the actor must not decide it.
            NotAllowed: the actor's role does not allow it.
            MemoryUnwritable: nothing was decided.
        """
        with self._database.writing() as (session, state):
            return deciding.decide_cases(session, state, actor, {case_id: asked}, self._clock(), self._sampling)[0]

    def preview(self, actor: Actor, case_ids: Sequence[int]) -> BulkPreview:
        """Just what a decision on these cases would decide, and which of them it would be refused for, and why.

        Raises:
            CaseMissing: one is not there in the actor's organisation.
            DecisionRefused: there are none, or more than 1,000.
            NotAllowed: the actor is no reviewer.
            MemoryUnwritable: they cannot be read.
        """
        with self._database.reading() as session:
            return deciding.preview(session, actor, case_ids, self._clock())

    def decide_all(
        self, actor: Actor, case_ids: Sequence[int], asked: DecisionAsked, *, seen: Mapping[int, int] | None = None
    ) -> Batch:
        """Decide several cases alike, all of them or none.

        Args:
            actor: who decides.
            case_ids: which cases, at most 1,000.
            asked: what is decided on each.
            seen: the revisions that a preview gave; one case that changed since refuses them all.

        Raises:
            CaseMissing, CaseTaken, DecisionRefused, NotAllowed: as for one; nothing was decided.
            MemoryUnwritable: nothing was decided.
        """
        each, batch_id = deciding.each_asked(case_ids, asked, seen), uuid4().hex
        with self._database.writing() as (session, state):
            decided = deciding.decide_cases(
                session, state, actor, each, self._clock(), self._sampling, batch_id=batch_id
            )
        return Batch(batch_id, decided)

    def undo(self, actor: Actor, wanted: str) -> tuple[Decided, ...]:
        """Take back a decision, or all of a batch that still stand, by rows of their own.

        Only the last decision on a case can be taken back: by who took it, or by a lead. Decisions that followed it on
        the very pixels, without anybody looking, are taken back with it; their rows come last.

        Args:
            actor: who takes it back.
            wanted: id of the decision or batch.

        Raises:
            CaseMissing: there is no such decision in the actor's organisation.
            DecisionRefused: something was built on it, or it was taken back already, or takes one back itself.
            NotAllowed: it is somebody else's, and the actor is no lead.
            MemoryUnwritable: nothing was taken back.
        """
        with self._database.writing() as (session, state):
            return undoing.undo(session, state, actor, wanted, self._clock())

    def appeal(self, actor: Actor, case_id: int, note: str) -> CaseState:
        """Ask for another look at a decided case, by a lead who took none of its decisions; until then they stand.

        Returns:
            The state that it is in now.

        Raises:
            CaseMissing: there is none in the actor's organisation.
            DecisionRefused: it is not decided, or no reason is given.
            NotAllowed: the actor is no reviewer.
            MemoryUnwritable: nothing was entered.
        """
        with self._database.writing() as (session, _):
            return deciding.appeal(session, actor, case_id, note, self._clock())

    # --- what they teach ---------------------------------------------------------------------------------

    def rule_counts(self, actor: Actor) -> tuple[RuleCount, ...]:
        """What people made of each rule's cases, sorted by rule.

        Raises:
            NotAllowed: a token that may not look at cases.
            MemoryUnwritable: they cannot be read.
        """
        require_reading(actor)
        with self._database.reading() as session:
            return counting.rule_counts(session, actor.organisation)

    def blind_pairs(self, actor: Actor) -> tuple[BlindPair, ...]:
        """Decisions of two people on one case, the second without sight of the first: what agreement is measured on.

        Raises:
            NotAllowed: a token that may not look at cases.
            MemoryUnwritable: they cannot be read.
        """
        require_reading(actor)
        with self._database.reading() as session:
            return counting.blind_pairs(session, actor.organisation)

    def median_decision_time_s(self, actor: Actor) -> float | None:
        """Median time in seconds from a case's opening to its decision; None where people decided none.

        Raises:
            NotAllowed: a token that may not look at cases.
            MemoryUnwritable: they cannot be read.
        """
        require_reading(actor)
        with self._database.reading() as session:
            return counting.median_decision_time_s(session, actor.organisation)

    def decided_pairs(self, organisation: str) -> Iterator[DecidedPair]:
        """All decided cases of an organisation as labelled pairs of image and works, oldest first.

        Raises:
            LedgerBroken: a verdict was edited.
            MemoryUnwritable: they cannot be read.
        """
        return counting.decided_pairs(self._database, organisation)

    def purge(self, now: datetime | None = None) -> int:
        """Delete pictures and prompts of cases that were decided longer ago than `desk.retention_days`.

        The case, its decisions and everything in the ledger stay. Without that setting nothing is deleted.

        Args:
            now: aware UTC; default: the clock's.

        Returns:
            How many cases it was.

        Raises:
            MemoryUnwritable: some are left; call it again.
        """
        days, purged = self._desk.retention_days, 0
        if days is None:
            return 0
        while True:
            with self._database.writing() as (session, _):
                some = purge_some(session, self._pictures, now or self._clock(), days)
            if not some:
                return purged
            purged += some
