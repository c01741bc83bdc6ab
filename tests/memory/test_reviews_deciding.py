"""Decisions: what each leads to, who may take it, the blind second look, disputes, appeals, and taking back."""

import pytest

from guardrail.memory import DecisionShown
from guardrail.records import CaseFilter, DecisionAsked, ReviewAnswers
from guardrail.review_errors import CaseMissing, CaseTaken, DecisionRefused, NotAllowed
from tests.memory.reviewed import CREDIT, EVERY, NO_MATCH, OPEN, RELEASE, WITHHOLD, verdict

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
def ben(office):
    """Another reviewer."""
    return office.person("Ben")


@pytest.fixture
def case_id(office, mia, ben, lea):
    """A case, where there are three people to look at it."""
    return office.flag(verdict("a"))[0]


@pytest.fixture
def sampled(office, mia, case_id):
    """A case that Mia decided to withhold, and that a second person is asked of."""
    office.reviews._sampling = type(office.reviews._sampling)(0.5, lambda: 0.4)
    decided = office.reviews.decide(mia, case_id, WITHHOLD)
    assert (decided.state, decided.needs_second) == ("second", True)
    return case_id


# --- one decision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [RELEASE, CREDIT, NO_MATCH])
def test_what_lets_out_enters_a_release(office, mia, case_id, asked):
    decided = office.reviews.decide(mia, case_id, asked)
    assert (decided.state, decided.needs_second) == ("decided", False)
    assert office.jobs() == [("release", case_id, decided.decision.decision_id)]
    assert office.reviews.held("default", case_id).decision == decided.decision


def test_a_withheld_image_is_not_released(office, mia, case_id):
    office.reviews.decide(mia, case_id, WITHHOLD)
    assert office.jobs() == []
    assert office.reviews.held("default", case_id).decision is None


def test_a_decision_is_in_the_ledger_without_its_note(office, mia, case_id):
    answers = ReviewAnswers(copied="expression", how_much="substantial", transformed="no")
    asked = WITHHOLD.model_copy(update={"note": "as told by Ms Secret", "answers": answers})
    decided = office.reviews.decide(mia, case_id, asked)
    row = next(row for row in office.memory.rows() if row.kind == "review")
    assert row.content["review"] == decided.decision.model_dump(mode="json")
    assert b"Secret" not in b"".join(one.leaf for one in office.memory.rows())
    assert decided.decision.note_sha256 is not None
    (shown,) = office.reviews.case(mia, case_id).decisions
    assert shown == DecisionShown(decided.decision, "Mia", "as told by Ms Secret", undone=False)
    assert office.memory.verify(deep=True).rows == 2


@pytest.mark.parametrize("outcome", ["withhold", "not_a_match"])
def test_a_reason_is_asked_for_where_one_is_needed(office, mia, case_id, outcome):
    with pytest.raises(DecisionRefused, match="without a reason"):
        office.reviews.decide(mia, case_id, DecisionAsked(outcome=outcome))
    assert office.case(case_id).state == "open"


def test_the_same_decision_sent_twice_is_entered_once(office, mia, case_id):
    office.reviews.decide(mia, case_id, RELEASE)
    with pytest.raises(CaseTaken, match="decided already"):
        office.reviews.decide(mia, case_id, RELEASE)
    assert len(office.decisions()) == len(office.ledger()) == len(office.jobs()) == 1


def test_a_case_that_changed_since_it_was_shown_is_not_decided(office, mia, case_id):
    seen = office.reviews.case(mia, case_id).row.revision
    first = office.reviews.decide(mia, case_id, RELEASE)
    office.reviews.undo(mia, first.decision.decision_id)
    with pytest.raises(CaseTaken, match="changed since"):
        office.reviews.decide(mia, case_id, RELEASE.model_copy(update={"seen_revision": seen}))
    fresh = office.reviews.case(mia, case_id).row.revision
    office.reviews.decide(mia, case_id, RELEASE.model_copy(update={"seen_revision": fresh}))


def test_a_case_whose_picture_is_gone_can_only_be_withheld(office, mia, lea, case_id):
    office.reviews.decide(mia, case_id, WITHHOLD)
    office.settings = office.settings.model_copy(update={"retention_days": 0})
    office.reviews._desk = office.settings
    assert office.reviews.purge() == 1
    office.reviews.appeal(mia, case_id, "it is mine")
    with pytest.raises(DecisionRefused, match="no picture"):
        office.reviews.decide(lea, case_id, RELEASE)
    assert office.reviews.decide(lea, case_id, WITHHOLD).state == "decided"


# --- who may ---------------------------------------------------------------------------------------------


def test_a_viewer_looks_and_does_not_decide(office, case_id):
    viewer = office.person("Vic", "viewer")
    assert office.reviews.queue(viewer, OPEN).total == 1
    for act in (
        lambda: office.reviews.decide(viewer, case_id, RELEASE),
        lambda: office.reviews.decide_all(viewer, [case_id], RELEASE),
        lambda: office.reviews.preview(viewer, [case_id]),
        lambda: office.reviews.lease(viewer, case_id),
        lambda: office.reviews.next_case(viewer, OPEN),
        lambda: office.reviews.give_back(viewer, case_id),
        lambda: office.reviews.appeal(viewer, case_id, "why"),
        lambda: office.reviews.undo(viewer, "a" * 32),
    ):
        with pytest.raises(NotAllowed):
            act()


@pytest.mark.parametrize(
    ("scopes", "reads", "decides"), [((), 0, 0), (("cases:read",), 1, 0), (("cases:decide",), 1, 1)]
)
def test_a_token_does_what_its_scopes_say(office, mia, case_id, scopes, reads, decides):
    token = mia.model_copy(update={"token_id": "t" * 32, "scopes": scopes})
    for allowed, act in (
        (reads, lambda: office.reviews.case(token, case_id)),
        (reads, lambda: office.reviews.picture(token, case_id)),
        (decides, lambda: office.reviews.decide(token, case_id, RELEASE)),
    ):
        if allowed:
            act()
        else:
            with pytest.raises(NotAllowed):
                act()


def test_another_organisations_cases_are_not_there(office, mia, case_id):
    decided = office.reviews.decide(mia, case_id, RELEASE)
    verdict_id = decided.decision.verdict_id
    spy = office.person("Spy", "admin", "another")
    for act in (
        lambda: office.reviews.case(spy, case_id),
        lambda: office.reviews.picture(spy, case_id),
        lambda: office.reviews.verdict(spy, verdict_id),
        lambda: office.reviews.held("another", case_id),
        lambda: office.reviews.lease(spy, case_id),
        lambda: office.reviews.give_back(spy, case_id),
        lambda: office.reviews.decide(spy, case_id, RELEASE),
        lambda: office.reviews.decide_all(spy, [case_id], RELEASE),
        lambda: office.reviews.preview(spy, [case_id]),
        lambda: office.reviews.appeal(spy, case_id, "why"),
        lambda: office.reviews.undo(spy, decided.decision.decision_id),
    ):
        with pytest.raises(CaseMissing):
            act()
    assert office.reviews.queue(spy, EVERY).total == 0
    assert not any(office.reviews.facets(spy).values())
    assert office.reviews.history_of_work(spy, "zoo", "fox") == ()
    assert list(office.reviews.decided_pairs("another")) == []


@pytest.mark.parametrize("case_id_asked", [0, -1, 999, 2**31, 2**63, 10**30])
def test_a_number_that_is_no_case_is_missing(office, mia, case_id_asked):
    with pytest.raises(CaseMissing):
        office.reviews.case(mia, case_id_asked)


@pytest.mark.parametrize("wanted", ["", "x", "a\0b", "'; drop table cases", "f" * 5000])
def test_an_id_that_is_none_is_missing(office, mia, wanted):
    with pytest.raises(CaseMissing):
        office.reviews.undo(mia, wanted)
    with pytest.raises(CaseMissing):
        office.reviews.verdict(mia, wanted)


# --- the blind second look -------------------------------------------------------------------------------


def test_a_sampled_decision_waits_for_a_second_person(office, sampled):
    assert office.jobs() == []
    assert office.reviews.waiting("default").undecided["second"] == 1


def test_nothing_tells_the_second_person_of_the_first(office, ben, sampled):
    (untouched,) = office.flag(verdict("b"))
    seen = office.reviews.case(ben, sampled)
    assert (seen.row.state, seen.row.outcome, seen.decisions, seen.released_by) == ("open", None, (), None)
    assert {row.case_id for row in office.reviews.queue(ben, OPEN).rows} == {sampled, untouched}
    assert office.reviews.queue(ben, CaseFilter(states=("second",))).total == 0
    counts = office.reviews.counts(ben)
    assert (counts["open"], counts["second"]) == (2, 0)
    assert office.reviews.next_case(ben, OPEN).state == "open"


def test_the_audit_names_no_decision_that_the_second_person_must_not_know_of(office, mia, ben, sampled):
    audit = office.memory.audit
    audit.note(mia, "case.decided", f"case {sampled}")
    assert "case.decided" in audit.actions(mia)
    assert "case.decided" not in audit.actions(ben)
    office.reviews.decide(ben, sampled, WITHHOLD)
    assert "case.decided" in audit.actions(ben)


def test_the_first_person_knows_and_is_not_asked_again(office, mia, sampled):
    assert office.reviews.case(mia, sampled).row.state == "second"
    assert len(office.reviews.case(mia, sampled).decisions) == 1
    assert office.reviews.queue(mia, OPEN).total == 0
    assert office.reviews.queue(mia, CaseFilter(states=("second",))).total == 1
    assert office.reviews.counts(mia)["second"] == 1
    assert office.reviews.next_case(mia, EVERY) is None
    for act in (lambda: office.reviews.decide(mia, sampled, WITHHOLD), lambda: office.reviews.lease(mia, sampled)):
        with pytest.raises(CaseTaken):
            act()


def test_two_that_agree_settle_it(office, ben, sampled):
    second = office.reviews.decide(ben, sampled, WITHHOLD)
    assert (second.state, second.decision.round, second.needs_second) == ("decided", "second", False)
    (pair,) = office.reviews.blind_pairs(ben)
    assert (pair.first.outcome, pair.second.outcome) == ("withhold", "withhold")
    assert pair.first.account_id != pair.second.account_id


def test_nobody_else_is_nobody_to_ask(office, mia):
    office.person("Gone", "lead", state="disabled")
    office.person("Vic", "viewer")
    office.person("Far", "lead", "another")
    office.reviews._sampling = type(office.reviews._sampling)(1.0, lambda: 0.0)
    (case_id,) = office.flag(verdict("a"))
    assert office.reviews.decide(mia, case_id, WITHHOLD).state == "decided"


def test_the_sample_is_the_share_that_the_settings_say(office, mia, ben):
    drawn = iter([0.0999, 0.1, 0.5])
    office.reviews._sampling = type(office.reviews._sampling)(0.1, lambda: next(drawn))
    cases = office.flag(verdict("a"), verdict("b"), verdict("c"))
    assert [office.reviews.decide(mia, one, WITHHOLD).state for one in cases] == ["second", "decided", "decided"]


def test_two_that_differ_are_settled_by_a_lead_who_was_neither(office, mia, ben, lea, sampled):
    assert office.reviews.decide(ben, sampled, RELEASE).state == "disputed"
    assert office.jobs() == []
    for person, error in ((mia, NotAllowed), (ben, NotAllowed)):
        with pytest.raises(error):
            office.reviews.decide(person, sampled, RELEASE)
    assert office.reviews.next_case(ben, EVERY) is None
    assert office.reviews.next_case(lea, EVERY).case_id == sampled
    decided = office.reviews.decide(lea, sampled, RELEASE)
    assert (decided.state, decided.decision.round) == ("decided", "resolution")
    assert office.jobs() == [("release", sampled, decided.decision.decision_id)]


def test_a_lead_who_decided_it_does_not_settle_it(office, mia, lea, case_id):
    office.reviews._sampling = type(office.reviews._sampling)(1.0, lambda: 0.0)
    office.reviews.decide(lea, case_id, WITHHOLD)
    office.reviews.decide(mia, case_id, RELEASE)
    with pytest.raises(DecisionRefused, match="took part"):
        office.reviews.decide(lea, case_id, RELEASE)
    assert office.reviews.decide(office.person("Ada", "admin"), case_id, WITHHOLD).state == "decided"


# --- appeals ---------------------------------------------------------------------------------------------


def test_an_appeal_is_answered_by_a_lead_who_took_no_part(office, mia, ben, lea, case_id):
    office.reviews.decide(mia, case_id, WITHHOLD)
    assert office.reviews.appeal(ben, case_id, "that is our own work") == "appealed"
    assert office.case(case_id).outcome == "withhold"  # it stands until then
    with pytest.raises(NotAllowed):
        office.reviews.decide(ben, case_id, RELEASE)
    answer = office.reviews.decide(lea, case_id, RELEASE)
    assert (answer.state, answer.decision.round) == ("decided", "appeal")
    (appeal,) = office.reviews.case(mia, case_id).appeals
    assert (appeal.name, appeal.note, appeal.answered_by) == (
        "Ben",
        "that is our own work",
        answer.decision.decision_id,
    )
    with pytest.raises(DecisionRefused, match="took part"):
        office.reviews.appeal(ben, case_id, "again")
        office.reviews.decide(lea, case_id, WITHHOLD)


def test_an_appeal_that_confirms_leaves_the_release_alone(office, mia, lea, case_id):
    released = office.reviews.decide(mia, case_id, RELEASE).decision
    office.reviews.appeal(mia, case_id, "are we sure")
    office.reviews.decide(lea, case_id, RELEASE)
    assert office.jobs() == [("release", case_id, released.decision_id)]
    assert office.reviews.held("default", case_id).decision == released


def test_an_appeal_that_changes_a_release_takes_it_back(office, mia, lea, case_id):
    released = office.reviews.decide(mia, case_id, RELEASE).decision
    office.reviews.appeal(mia, case_id, "the holder wrote to us")
    credited = office.reviews.decide(lea, case_id, CREDIT).decision
    assert set(office.jobs()) == {
        ("release", case_id, released.decision_id),
        ("undo", case_id, released.decision_id),
        ("release", case_id, credited.decision_id),
    }


def test_only_what_is_decided_is_appealed_and_with_a_reason(office, mia, case_id):
    with pytest.raises(DecisionRefused, match="'open'"):
        office.reviews.appeal(mia, case_id, "too early")
    office.reviews.decide(mia, case_id, WITHHOLD)
    for note in ("", "  ", "x" * 4001):
        with pytest.raises(DecisionRefused):
            office.reviews.appeal(mia, case_id, note)


# --- taking back -----------------------------------------------------------------------------------------


def test_taking_back_is_a_row_of_its_own_and_the_case_waits_again(office, mia, case_id):
    taken = office.reviews.decide(mia, case_id, RELEASE).decision
    (undone,) = office.reviews.undo(mia, taken.decision_id)
    assert (undone.state, undone.decision.undoes, undone.decision.outcome) == ("open", taken.decision_id, "release")
    assert not undone.decision.lets_out
    assert office.ledger() == [taken.decision_id, undone.decision.decision_id]
    assert office.jobs() == [("undo", case_id, taken.decision_id), ("release", case_id, taken.decision_id)][::-1]
    assert [one.undone for one in office.reviews.case(mia, case_id).decisions] == [True, False]
    assert office.reviews.decide(mia, case_id, WITHHOLD).state == "decided"


def test_what_was_taken_back_and_what_takes_back_stay_so(office, mia, case_id):
    taken = office.reviews.decide(mia, case_id, RELEASE).decision
    (undone,) = office.reviews.undo(mia, taken.decision_id)
    with pytest.raises(DecisionRefused, match="taken back already"):
        office.reviews.undo(mia, taken.decision_id)
    with pytest.raises(DecisionRefused, match="decide the case anew"):
        office.reviews.undo(mia, undone.decision.decision_id)
    assert len(office.ledger()) == 2


def test_others_decisions_are_taken_back_by_leads_alone(office, mia, ben, lea, case_id):
    taken = office.reviews.decide(mia, case_id, RELEASE).decision
    with pytest.raises(NotAllowed):
        office.reviews.undo(ben, taken.decision_id)
    (undone,) = office.reviews.undo(lea, taken.decision_id)
    assert undone.decision.account_id == lea.account_id


def test_what_something_was_built_on_stays(office, mia, ben, lea, sampled):
    first = office.decisions()[0].decision_id
    second = office.reviews.decide(ben, sampled, WITHHOLD).decision.decision_id
    with pytest.raises(DecisionRefused, match="rests on it"):
        office.reviews.undo(mia, first)
    office.reviews.appeal(mia, sampled, "hm")
    with pytest.raises(DecisionRefused, match="appeal"):
        office.reviews.undo(lea, second)
    answer = office.reviews.decide(lea, sampled, RELEASE).decision.decision_id
    assert [one.state for one in office.reviews.undo(lea, answer)] == ["appealed"]
    office.reviews.decide(lea, sampled, WITHHOLD)
    assert office.case(sampled).state == "decided"


def test_a_second_decision_taken_back_is_asked_again_of_another(office, mia, ben, lea, sampled):
    second = office.reviews.decide(ben, sampled, RELEASE).decision.decision_id
    for took_part in (ben, mia):
        with pytest.raises((DecisionRefused, NotAllowed)):
            office.reviews.undo(took_part, second)
    assert [one.state for one in office.reviews.undo(lea, second)] == ["second"]
    assert office.reviews.decide(lea, sampled, WITHHOLD).state == "decided"
    assert office.reviews.blind_pairs(lea) == ()


def test_undoing_is_no_way_around_a_second_look(office, mia, sampled):
    """What was drawn for a case stays drawn."""
    office.reviews._sampling = type(office.reviews._sampling)(0.5, lambda: 0.9)
    office.reviews.undo(mia, office.decisions()[0].decision_id)
    assert office.reviews.decide(mia, sampled, RELEASE).needs_second


def test_whoever_looks_second_sees_no_trace_of_the_first(office, ben, sampled):
    shown = office.reviews.case(ben, sampled)
    assert (shown.row.state, shown.row.revision, shown.row.sensitive, shown.decisions) == ("open", 0, False, ())
    asked = WITHHOLD.model_copy(update={"seen_revision": 0})
    assert office.reviews.decide(ben, sampled, asked).decision.round == "second"
