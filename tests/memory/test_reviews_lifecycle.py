"""Whatever people do to cases, in whatever order: ledger and decisions agree, and nothing leaves without a reason."""

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from guardrail.review_errors import CaseTaken, DecisionRefused, NotAllowed
from tests.memory.reviewed import CREDIT, NO_MATCH, OPEN, RELEASE, WITHHOLD, Office, verdict

OUTCOMES = st.sampled_from([RELEASE, WITHHOLD, CREDIT, NO_MATCH])
PEOPLE = st.integers(0, 4)
REFUSALS = (CaseTaken, DecisionRefused, NotAllowed)


class CaseLife(RuleBasedStateMachine):
    """Three reviewers and two leads flag, take, decide, appeal and take back."""

    decisions = Bundle("decisions")

    @initialize(share=st.sampled_from([0.0, 0.5, 1.0]))
    def open_up(self, share):
        self.office = Office("sqlite://", second_review_share=share)
        self.people = [self.office.person(f"P{n}", "reviewer" if n < 3 else "lead") for n in range(5)]
        self.cases = []

    @rule(name=st.sampled_from("abc"))
    def flag(self, name):
        self.cases += [one for one in self.office.flag(verdict(name)) if one]

    @rule(target=decisions, which=st.integers(0, 5), who=PEOPLE, asked=OUTCOMES, draw=st.floats(0, 0.999))
    def decide(self, which, who, asked, draw):
        if not self.cases:
            return multiple()
        case_id, self.office.draws = self.cases[which % len(self.cases)], draw
        before = self.office.case(case_id)
        try:
            decided = self.office.reviews.decide(self.people[who], case_id, asked)
        except REFUSALS:
            after = self.office.case(case_id)
            assert (after.state, after.revision) == (before.state, before.revision)
            return multiple()
        assert before.state in {"open", "second", "disputed", "appealed"}
        return decided.decision.decision_id

    @rule(target=decisions, who=PEOPLE, asked=OUTCOMES)
    def decide_all(self, who, asked):
        reviews, person = self.office.reviews, self.people[who]
        if not self.cases:
            return multiple()
        seen = reviews.preview(person, self.cases).seen
        if not seen:
            return multiple()
        return reviews.decide_all(person, list(seen), asked, seen=seen).batch_id

    @rule(which=st.integers(0, 5), who=PEOPLE)
    def appeal(self, which, who):
        if self.cases:
            try:
                self.office.reviews.appeal(self.people[who], self.cases[which % len(self.cases)], "please")
            except REFUSALS:
                return

    @rule(wanted=decisions, who=PEOPLE)
    def undo(self, wanted, who):
        try:
            undone = self.office.reviews.undo(self.people[who], wanted)
        except REFUSALS:
            return
        assert all(one.decision.undoes for one in undone)

    @rule(wanted=consumes(decisions), who=PEOPLE)
    def undo_of_undo_is_refused(self, wanted, who):
        try:
            undone = self.office.reviews.undo(self.people[who], wanted)
        except REFUSALS:
            return
        for one in undone:
            try:
                self.office.reviews.undo(self.people[4], one.decision.decision_id)
            except DecisionRefused:
                continue
            raise AssertionError("what takes a decision back was taken back")

    @rule(who=PEOPLE)
    def take(self, who):
        row = self.office.reviews.next_case(self.people[who], OPEN)
        assert row is None or row.state == "open"

    @rule()
    def wait(self):
        self.office.later(minutes=16)

    @invariant()
    def ledger_and_decisions_agree(self):
        stored = self.office.decisions()
        assert [one.decision_id for one in stored] == self.office.ledger()
        undone = [one.undoes for one in stored if one.undoes]
        assert len(undone) == len(set(undone))
        assert not {one.decision_id for one in stored if one.undoes} & set(undone)

    @invariant()
    def a_case_has_one_outcome_and_two_that_decide_it_are_two(self):
        stored = self.office.decisions()
        gone = {one.undoes for one in stored if one.undoes}
        for case_id in self.cases:
            case = self.office.case(case_id)
            standing = [
                one for one in stored if one.case_id == case_id and not one.undoes and one.decision_id not in gone
            ]
            by_round = {one.round: one for one in standing}
            if {"first", "second"} <= by_round.keys():
                assert by_round["first"].account_id != by_round["second"].account_id
            if case.state in {"decided", "appealed"}:
                assert (case.outcome, case.settled_by) == (standing[-1].outcome, standing[-1].decision_id)
            else:
                assert (case.outcome, case.released_by, case.decided_at) == (None, None, None)
            assert (case.state == "open") == (not standing)

    @invariant()
    def nothing_leaves_without_a_final_decision_that_lets_it_out(self):
        stored = {one.decision_id: one for one in self.office.decisions()}
        jobs = Counter(self.office.jobs())
        for _, case_id, decision_id in jobs:
            assert stored[decision_id].case_id == case_id
            assert stored[decision_id].outcome != "withhold"
            assert not stored[decision_id].asks_second
        for case_id in self.cases:
            case = self.office.case(case_id)
            out = {
                decision_id
                for kind, of_case, decision_id in jobs
                if kind == "release"
                and of_case == case_id
                and jobs["release", case_id, decision_id] > jobs["undo", case_id, decision_id]
            }
            assert out == ({case.released_by} if case.released_by else set())
            assert (case.released_by is not None) == (case.outcome not in {None, "withhold"})

    def teardown(self):
        if hasattr(self, "office"):
            self.office.memory.verify(deep=True)
            self.office.memory.close()


TestCaseLife = CaseLife.TestCase
TestCaseLife.settings = settings(
    max_examples=12, stateful_step_count=16, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
