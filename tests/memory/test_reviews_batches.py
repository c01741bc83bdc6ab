"""Several cases at once: just what was shown is decided, all of it or nothing, and taken back at once."""

import pytest

from guardrail.review_errors import CaseMissing, CaseTaken, DecisionRefused, NotAllowed
from tests.memory.reviewed import EVERY, RELEASE, WITHHOLD, verdict

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
def cases(office, mia):
    """Three cases."""
    return office.flag(*(verdict(name) for name in "abc"))


def test_a_preview_lists_just_what_is_decided(office, mia, cases):
    shown = office.reviews.preview(mia, cases)
    assert [row.case_id for row in shown.rows] == cases
    assert (shown.refused, shown.seen) == ({}, dict.fromkeys(cases, 0))
    batch = office.reviews.decide_all(mia, cases, WITHHOLD, seen=shown.seen)
    assert [one.decision.case_id for one in batch.decided] == cases
    assert {one.batch_id for one in office.decisions()} == {batch.batch_id}
    assert len(office.ledger()) == 3
    assert office.memory.verify(deep=True).rows == 6


def test_a_preview_says_what_cannot_be_decided(office, mia, cases):
    office.reviews.lease(office.person("Ben"), cases[0])
    office.reviews.decide(mia, cases[1], WITHHOLD)
    shown = office.reviews.preview(mia, cases)
    assert [row.case_id for row in shown.rows] == cases[2:]
    assert set(shown.refused) == {cases[0], cases[1]}
    assert "somebody else has it" in shown.refused[cases[0]]


@pytest.mark.parametrize("meanwhile", ["decide", "lease"])
def test_one_that_changed_since_refuses_them_all(office, mia, cases, meanwhile):
    seen = office.reviews.preview(mia, cases).seen
    ben = office.person("Ben")
    if meanwhile == "decide":
        taken = office.reviews.decide(ben, cases[2], RELEASE)
        office.reviews.undo(ben, taken.decision.decision_id)
    else:
        office.reviews.lease(ben, cases[2])
    before = len(office.decisions())
    with pytest.raises(CaseTaken):
        office.reviews.decide_all(mia, cases, WITHHOLD, seen=seen)
    assert len(office.decisions()) == len(office.ledger()) == before
    assert {office.case(one).state for one in cases} == {"open"}


def test_what_was_not_shown_is_not_decided(office, mia, cases):
    seen = office.reviews.preview(mia, cases[:2]).seen
    with pytest.raises(CaseTaken, match="not among those"):
        office.reviews.decide_all(mia, cases, WITHHOLD, seen=seen)


def test_none_and_too_many_are_refused(office, mia, cases):
    for asked in ([], list(range(1, 1002))):
        with pytest.raises(DecisionRefused):
            office.reviews.decide_all(mia, asked, WITHHOLD)
        with pytest.raises(DecisionRefused):
            office.reviews.preview(mia, asked)
    with pytest.raises(CaseMissing):
        office.reviews.decide_all(mia, [*cases, 999], WITHHOLD)
    assert office.decisions() == []


def test_a_case_that_is_named_twice_is_decided_once(office, mia, cases):
    batch = office.reviews.decide_all(mia, [cases[0], cases[0]], WITHHOLD)
    assert len(batch.decided) == len(office.decisions()) == 1


def test_a_batch_is_taken_back_at_once(office, mia, cases):
    batch = office.reviews.decide_all(mia, cases, RELEASE)
    undone = office.reviews.undo(mia, batch.batch_id)
    assert [one.state for one in undone] == ["open"] * 3
    assert len({one.decision.batch_id for one in undone}) == 1
    assert {kind for kind, *_ in office.jobs()} == {"release", "undo"}
    with pytest.raises(DecisionRefused):
        office.reviews.undo(mia, undone[0].decision.batch_id)
    with pytest.raises(DecisionRefused):
        office.reviews.undo(mia, batch.batch_id)


def test_what_is_left_of_a_batch_is_taken_back(office, mia, cases):
    batch = office.reviews.decide_all(mia, cases, WITHHOLD)
    office.reviews.undo(mia, batch.decided[0].decision.decision_id)
    assert [one.decision.case_id for one in office.reviews.undo(mia, batch.batch_id)] == cases[1:]


def test_a_batch_on_which_something_was_built_stays_whole(office, mia, cases):
    batch = office.reviews.decide_all(mia, cases, WITHHOLD)
    office.reviews.appeal(mia, cases[1], "hm")
    with pytest.raises(DecisionRefused):
        office.reviews.undo(mia, batch.batch_id)
    assert len(office.ledger()) == 3
    assert office.reviews.queue(mia, EVERY).total == 3


def test_somebody_elses_batch_is_a_leads_to_take_back(office, mia, lea, cases):
    batch = office.reviews.decide_all(mia, cases, WITHHOLD)
    with pytest.raises(NotAllowed):
        office.reviews.undo(office.person("Ben"), batch.batch_id)
    assert len(office.reviews.undo(lea, batch.batch_id)) == 3
