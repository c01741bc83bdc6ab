"""What decisions teach: labelled pairs, counts by rule, pairs of blind looks, history of works; and what is deleted."""

import pytest
from sqlalchemy import update

from guardrail.desk_settings import DeskSettings
from guardrail.memory import SignalValue
from guardrail.memory.review_tables import Job, Webhook
from guardrail.memory.reviews import Reviews
from guardrail.records import CopyMatch, ExactMatch, GeometryMatch, HashMatch, Signal
from guardrail.review_errors import PictureMissing
from tests.memory.reviewed import CREDIT, ELK, FOX, NO_MATCH, RELEASE, START, WITHHOLD, verdict

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
def ben(office):
    """Another reviewer."""
    return office.person("Ben")


def test_decided_cases_are_labelled_pairs(office, mia, lea):
    asked = (WITHHOLD, CREDIT, RELEASE, NO_MATCH)
    cases = office.flag(*(verdict(name, similarity=0.7) for name in "abcde"))
    for case_id, one in zip(cases, asked, strict=False):
        office.reviews.decide(mia, case_id, one)
    office.reviews.appeal(mia, cases[3], "hm")
    pairs = list(office.reviews.decided_pairs("default"))
    assert [(one.case_id, one.label) for one in pairs] == [
        (cases[0], "copy"),
        (cases[1], "licensed_copy"),
        (cases[2], "not_a_copy"),
    ]
    assert pairs[0].values == (SignalValue("zoo", "fox", Signal.COPY, 0.7),)
    assert (pairs[0].bank, pairs[0].nearest_work, pairs[0].rule) == ("zoo", "zoo/fox", "near copy")
    assert (pairs[0].reasons, pairs[0].decided_at, pairs[0].round) == (("expression_copied",), START, "first")
    assert [one.round for one in pairs[0].decisions] == ["first"]


def test_everything_that_was_measured_is_a_value(office, mia):
    evidence = (
        CopyMatch(work=ELK, similarity=0.55),
        HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=12),
        GeometryMatch(work=FOX, inliers=40, overlap=0.5, image_corners=()),
        ExactMatch(work=ELK, signal=Signal.BYTES),
    )
    (case_id,) = office.flag(verdict("a", evidence=evidence))
    office.reviews.decide(mia, case_id, WITHHOLD)
    (pair,) = office.reviews.decided_pairs("default")
    assert {(one.work_id, one.signal, one.value) for one in pair.values} == {
        ("fox", Signal.COPY, 0.6),
        ("elk", Signal.COPY, 0.55),
        ("fox", Signal.PDQ, 12.0),
        ("fox", Signal.GEOMETRY, 40.0),
        ("elk", Signal.BYTES, 0.0),
    }


def test_a_decision_that_was_taken_back_teaches_nothing(office, mia):
    (case_id,) = office.flag(verdict("a"))
    taken = office.reviews.decide(mia, case_id, WITHHOLD).decision
    office.reviews.undo(mia, taken.decision_id)
    assert list(office.reviews.decided_pairs("default")) == []
    office.reviews.decide(mia, case_id, RELEASE)
    (pair,) = office.reviews.decided_pairs("default")
    assert (pair.label, [one.outcome for one in pair.decisions]) == ("not_a_copy", ["release"])


def test_pairs_are_read_a_few_at_a_time(office, mia, monkeypatch):
    monkeypatch.setattr("guardrail.memory.counting._CASES_AT_A_TIME", 2)
    cases = office.flag(*(verdict(name) for name in "abcde"))
    office.reviews.decide_all(mia, cases, WITHHOLD)
    assert [one.case_id for one in office.reviews.decided_pairs("default")] == cases


def test_rules_are_counted_and_repeats_are_not(office, mia):
    names = office.flag(*(verdict(name) for name in "abcde"), verdict("f", rule="exact"))
    for case_id, asked in zip(names, (WITHHOLD, WITHHOLD, CREDIT, NO_MATCH), strict=False):
        office.reviews.decide(mia, case_id, asked)
    office.flag(verdict("a"), verdict("b"))
    exact, near = office.reviews.rule_counts(mia)
    assert near == ("near copy", 2, 1, 0, 1, 1)
    assert near.precision == pytest.approx(3 / 4)
    assert (exact.undecided, exact.decided, exact.precision) == (1, 0, None)
    assert len([one for one in office.reviews.decided_pairs("default") if one.round == "repeat"]) == 2


def test_blind_pairs_leave_out_what_was_taken_back(office, mia, ben, lea):
    office.reviews._sampling = type(office.reviews._sampling)(1.0, lambda: 0.0)
    agreed, differed, alone = office.flag(*(verdict(name) for name in "abc"))
    for case_id, second in ((agreed, WITHHOLD), (differed, RELEASE)):
        office.reviews.decide(mia, case_id, WITHHOLD)
        office.reviews.decide(ben, case_id, second)
    office.reviews.decide(mia, alone, WITHHOLD)
    office.reviews.decide(lea, differed, WITHHOLD)
    pairs = office.reviews.blind_pairs(mia)
    assert [(one.case_id, one.first.outcome, one.second.outcome) for one in pairs] == [
        (agreed, "withhold", "withhold"),
        (differed, "withhold", "release"),
    ]
    settling = office.case(agreed).settled_by
    office.reviews.undo(lea, settling)
    assert [one.case_id for one in office.reviews.blind_pairs(mia)] == [differed]


def test_the_median_time_is_from_opening_to_decision(office, mia):
    assert office.reviews.median_decision_time_s(mia) is None
    for case_id in office.flag(*(verdict(name) for name in "abc")):
        office.later(seconds=60)
        office.reviews.decide(mia, case_id, WITHHOLD)
    assert office.reviews.median_decision_time_s(mia) == 120


def test_the_history_of_a_work_is_what_was_decided_on_it(office, mia, ben):
    first, second, elk, waits = office.flag(verdict("a"), verdict("b"), verdict("c", work=ELK), verdict("d"))
    office.reviews.decide(mia, first, WITHHOLD.model_copy(update={"note": "whole"}))
    office.later(minutes=1)
    office.reviews.decide_all(ben, [second, elk], RELEASE)
    office.reviews._sampling = type(office.reviews._sampling)(1.0, lambda: 0.0)
    office.reviews.decide(mia, waits, RELEASE)  # waits for a blind second look: nothing is told of it
    shown = office.reviews.history_of_work(ben, "zoo", "fox")
    assert [(one.row.case_id, one.decisions[0].name, one.decisions[0].note) for one in shown] == [
        (second, "Ben", ""),
        (first, "Mia", "whole"),
    ]
    assert len(office.reviews.history_of_work(ben, "zoo", "fox", limit=1)) == 1


# --- what is told, and what is deleted -------------------------------------------------------------------


def events(office):
    """The events on their way to a webhook, in order."""
    from guardrail.memory.review_tables import Delivery

    return [one.event for one in sorted(office.stored(Delivery), key=lambda one: one.created_at)]


def test_webhooks_are_told_what_was_decided_and_nothing_of_a_blind_look(office, mia, ben, lea):
    said = {"webhook_id": "w" * 32, "organisation": "default", "url": "https://example.org", "secret": "s"}
    with office.memory._database.writing() as (session, _):
        told = ["case.decided", "case.reopened"]
        session.add(Webhook(**said, events=told, state="active", created_at=START.isoformat()))
    office.reviews._sampling = type(office.reviews._sampling)(1.0, lambda: 0.0)
    (case_id,) = office.flag(verdict("a"))
    office.reviews.decide(mia, case_id, WITHHOLD)
    assert events(office) == []
    office.reviews.decide(ben, case_id, WITHHOLD)
    assert events(office) == ["case.decided"]
    office.reviews.appeal(mia, case_id, "hm")
    office.reviews.decide(lea, case_id, RELEASE)
    assert sorted(events(office)) == ["case.decided", "case.decided", "case.reopened"]


def keeping(office, days):
    """The same reviews with a retention."""
    desk = DeskSettings(retention_days=days, second_review_share=0.0)
    return Reviews(office.memory._database, office.memory.pictures, desk, lambda: office.now)


def done(office):
    """Let the jobs be done."""
    with office.memory._database.writing() as (session, _):
        session.execute(update(Job).values(state="done"))


def test_pictures_and_prompts_of_decided_cases_are_deleted_in_time(office, mia):
    decided, waits = office.flag(verdict("a"), verdict("b"))
    office.reviews.decide(mia, decided, WITHHOLD)
    sha256 = office.case(decided).picture_sha256
    reviews = keeping(office, 30)
    office.later(days=29)
    assert reviews.purge() == 0
    office.later(days=1)
    assert reviews.purge() == 1
    assert reviews.purge() == 0
    assert not office.memory.pictures.has(sha256)
    shown = office.reviews.case(mia, decided)
    assert (shown.has_picture, shown.context.prompts, shown.context.model_id) == (False, {}, "m/1")
    assert (shown.row.outcome, len(shown.decisions)) == ("withhold", 1)
    for read in (lambda: office.reviews.picture(mia, decided), lambda: office.reviews.held("default", decided)):
        with pytest.raises(PictureMissing):
            read()
    assert office.reviews.picture(mia, waits) == b"b.png"
    assert office.memory.verify(deep=True).rows == 3


def test_without_a_retention_nothing_is_deleted(office, mia):
    (case_id,) = office.flag(verdict("a"))
    office.reviews.decide(mia, case_id, WITHHOLD)
    office.later(days=10_000)
    assert keeping(office, None).purge() == 0
    assert office.reviews.picture(mia, case_id) == b"a.png"


def test_a_picture_that_is_still_to_be_released_stays(office, mia):
    (case_id,) = office.flag(verdict("a"))
    office.reviews.decide(mia, case_id, RELEASE)
    office.later(days=1)
    assert keeping(office, 0).purge() == 0
    done(office)
    assert keeping(office, 0).purge() == 1


def test_a_picture_that_another_case_shows_stays(office, mia):
    first, other = office.flag(verdict("a"), verdict("a", work=ELK))
    office.reviews.decide(mia, first, WITHHOLD)
    office.later(days=1)
    assert keeping(office, 0).purge() == 1
    assert office.reviews.picture(mia, other) == b"a.png"


def test_many_cases_are_deleted_a_few_at_a_time(office, mia, monkeypatch):
    monkeypatch.setattr("guardrail.memory.purging._CASES_AT_A_TIME", 2)
    office.reviews.decide_all(mia, office.flag(*(verdict(name) for name in "abcde")), WITHHOLD)
    office.later(days=1)
    assert keeping(office, 0).purge() == 5


def test_a_release_is_taken_back_though_its_picture_is_gone(office, mia):
    (case_id,) = office.flag(verdict("a"))
    taken = office.reviews.decide(mia, case_id, RELEASE).decision.decision_id
    done(office)
    office.later(days=1)
    assert keeping(office, 0).purge() == 1
    assert office.reviews.let_out_by("default", case_id) == taken
    assert office.reviews.let_out_by("another", case_id) is None
    office.reviews.undo(mia, taken)
    assert office.reviews.let_out_by("default", case_id) is None
    assert ("undo", case_id, taken) in office.jobs()
