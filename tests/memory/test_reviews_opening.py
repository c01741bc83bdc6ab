"""How cases are opened: severity, facts, groups, sightings, and that nobody is asked the same thing twice."""

import numpy as np
import pytest
from sqlalchemy import event

from guardrail.desk_settings import DeskSettings
from guardrail.errors import MemoryUnwritable
from guardrail.memory import Held
from guardrail.memory.grading import band_of, severity_of
from guardrail.records import (
    CaseFilter,
    CheckFailed,
    CopyMatch,
    Decision,
    ExactMatch,
    GeometryMatch,
    HashMatch,
    Limits,
    MemorisationSign,
    SemanticMatch,
    Signal,
    SimilarityLimit,
    Unproved,
)
from tests.memory.reviewed import CREDIT, ELK, EVERY, FOX, LIMITS, OPEN, RELEASE, WITHHOLD, Office, verdict

pytestmark = pytest.mark.usefixtures("both_stores")


def of(*evidence, limits=LIMITS, decision=Decision.FLAG):
    return severity_of(verdict("a", evidence=evidence, decision=decision), limits)


def test_severity_is_the_way_from_the_flag_limit_to_the_block_limit():
    assert of(CopyMatch(work=FOX, similarity=0.5)) == 0
    assert of(CopyMatch(work=FOX, similarity=0.6)) == pytest.approx(0.25)
    assert of(CopyMatch(work=FOX, similarity=0.9)) == 1
    limits = Limits.model_validate({"pdq": {"flag_within_bits": 40, "block_within_bits": 20}})
    assert of(HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=30), limits=limits) == pytest.approx(0.5)
    limits = Limits.model_validate({"geometry": {"flag_at_least": 10, "block_at_least": 30}})
    found = GeometryMatch(work=FOX, inliers=15, overlap=0.1, image_corners=())
    assert of(found, limits=limits) == pytest.approx(0.25)


def test_the_strongest_evidence_counts():
    assert of(CopyMatch(work=FOX, similarity=0.6), CopyMatch(work=ELK, similarity=0.8)) == pytest.approx(0.75)


@pytest.mark.parametrize(
    "found", [CheckFailed(check="pdq_quality", image="a", error="flat"), ExactMatch(work=FOX, signal=Signal.PIXELS)]
)
def test_what_could_not_be_checked_and_an_exact_copy_are_as_severe_as_can_be(found):
    assert of(found) == of(found, limits=None) == 1


def test_a_hint_and_what_a_closer_look_did_not_confirm_count_half():
    limits = LIMITS.model_copy(update={"clip": SimilarityLimit(flag_above=0.5, block_above=0.9)})
    assert of(SemanticMatch(work=FOX, similarity=0.9), limits=limits) == 0.5
    near = CopyMatch(work=FOX, similarity=0.9)
    assert of(near, Unproved(work=FOX, inliers=0, keypoints=900)) == 0.5
    assert of(near, Unproved(work=ELK, inliers=0, keypoints=900)) == 1


def test_a_sign_of_memorisation_is_measured_by_its_own_limits():
    sign = MemorisationSign(sign="s", value=3.0, reaches=Decision.FLAG, flag_above=2.0, block_above=4.0)
    assert of(sign) == of(sign, limits=None) == 0.5
    assert of(sign.model_copy(update={"reaches": Decision.ACCEPT})) == 0


def test_a_blocked_image_is_as_severe_as_can_be_and_no_evidence_is_not():
    assert of(decision=Decision.BLOCK) == 1
    assert of() == 0
    assert (band_of(0.0), band_of(0.39), band_of(1.0)) == (0, 3, 9)


def test_a_case_says_what_its_verdict_is_about(office, mia):
    (case_id,) = office.flag(verdict("a"), model="m/1", adapters=("style", "hand"))
    row = office.reviews.case(mia, case_id).row
    assert (row.bank, row.holder, row.nearest_work, row.nearest_title) == ("zoo", "Zoo Ltd", "zoo/fox", "A fox")
    assert (row.model, row.adapters, row.rule, row.image) == ("m/1", ("hand", "style"), "near copy", "a.png")
    assert (row.severity, row.decision, row.state) == (pytest.approx(0.25), Decision.FLAG, "open")


def test_a_case_is_found_by_every_work_that_decided(office, mia):
    evidence = (CopyMatch(work=FOX, similarity=0.6), CopyMatch(work=ELK, similarity=0.7))
    office.flag(verdict("a", evidence=evidence), adapters=("hand",))
    for asked in (
        {"bank": "woods"},
        {"bank": "zoo"},
        {"holder": "Woods Inc"},
        {"work": "woods/elk"},
        {"adapter": "hand"},
    ):
        assert office.reviews.queue(mia, CaseFilter(**asked)).total == 1, asked
    for asked in ({"bank": "sea"}, {"holder": "Zoo"}, {"adapter": "style"}, {"model": "m"}, {"rule": "exact"}):
        assert office.reviews.queue(mia, CaseFilter(**asked)).total == 0, asked


def test_names_that_no_column_holds_are_cut_and_still_found(office, mia):
    long = FOX.model_copy(update={"work_id": "f" * 2000, "bank": "b\0c"})
    office.flag(verdict("a", work=long))
    assert office.reviews.queue(mia, CaseFilter(work=f"b\0c/{'f' * 2000}")).total == 1
    assert office.reviews.queue(mia, CaseFilter(bank="b\0c")).total == 1


# --- groups ----------------------------------------------------------------------------------------------


def bits(count):
    """A PDQ hash with so many bits set."""
    return ((1 << count) - 1).to_bytes(32)


def test_cases_within_the_bits_of_the_first_are_one_group_and_those_beyond_are_not(office, mia):
    first, at_limit, beyond = (office.flag(verdict(f"p{n}"), pdq=bits(n))[0] for n in (0, 31, 32))
    groups = {row.case_id: row.group_id for row in office.reviews.queue(mia, OPEN).rows}
    assert groups == {first: first, at_limit: first, beyond: beyond}


def test_a_group_does_not_drift_from_picture_to_picture(office, mia):
    first, second, third = (office.flag(verdict(f"p{n}"), pdq=bits(n))[0] for n in (0, 20, 40))
    assert office.case(second).group_id == first
    assert office.case(third).group_id == third  # 20 bits from the second, 40 from the first


def test_groups_keep_to_one_work_one_organisation_and_cases_that_wait(office, mia):
    first = office.flag(verdict("a"), pdq=bits(0))[0]
    other_work = office.flag(verdict("b", work=ELK), pdq=bits(0))[0]
    other_people = office.flag(verdict("c"), pdq=bits(0), organisation="another")[0]
    assert [office.case(one).group_id for one in (other_work, other_people)] == [other_work, other_people]
    office.reviews.decide(mia, first, WITHHOLD)
    after = office.flag(verdict("d"), pdq=bits(1))[0]
    assert office.case(after).group_id == after


def test_without_a_hash_a_case_is_a_group_of_its_own(office):
    first, second = office.flag(verdict("a"), verdict("b"))
    assert (office.case(first).group_id, office.case(second).group_id) == (first, second)
    third = office.flag(verdict("c"), pdq=b"short")[0]
    assert office.case(third).group_id == third


# --- the very same pixels --------------------------------------------------------------------------------


def test_the_very_pixels_of_a_case_that_waits_are_one_more_sighting(office, mia):
    (case_id,) = office.flag(verdict("a"), adapters=("hand",))
    again = verdict("a", similarity=0.8, rule="nearer copy")
    assert office.flag(again, adapters=("style",)) == [None]
    shown = office.reviews.case(mia, case_id)
    assert (shown.row.seen_times, [one.verdict_id for one in shown.sightings]) == (2, [again.verdict_id])
    assert shown.row.severity == pytest.approx(0.75)
    assert shown.row.revision == 0  # whoever is just deciding is not disturbed
    for asked in ({"rule": "nearer copy"}, {"rule": "near copy"}, {"adapter": "style"}):
        assert office.reviews.queue(mia, CaseFilter(**asked)).total == 1


def test_pixels_that_were_released_wait_again_once_something_else_is_near(office, mia):
    """A work that was replaced under its id, and one that came near since, were seen by nobody."""
    (case_id,) = office.flag(verdict("a"))
    office.reviews.decide(mia, case_id, RELEASE)
    (repeated,) = office.flag(verdict("a"))
    assert office.case(repeated).state == "decided"
    (other,) = office.flag(verdict("a", similarity=0.83))
    assert office.case(other).state == "open"


def test_the_same_pixels_twice_in_one_batch_are_one_case(office):
    first, second = office.flag(verdict("a"), verdict("a"))
    assert second is None
    assert office.case(first).seen_times == 2


def test_the_same_pixels_near_another_work_or_of_others_are_another_case(office):
    assert None not in office.flag(verdict("a"), verdict("a", work=ELK))
    assert None not in office.flag(verdict("a"), organisation="another")


def test_nobody_is_asked_the_same_thing_twice(office, mia):
    (first,) = office.flag(verdict("a"))
    decided = office.reviews.decide(mia, first, CREDIT.model_copy(update={"note": "licence of 2024"}))
    (again,) = office.flag(verdict("a"))
    assert office.reviews.queue(mia, OPEN).total == 0
    shown = office.reviews.case(mia, again)
    assert (shown.row.state, shown.row.outcome) == ("decided", "release_with_credit")
    (repeat,) = (one.decision for one in shown.decisions)
    assert (repeat.round, repeat.repeats, repeat.account_id) == ("repeat", decided.decision.decision_id, mia.account_id)
    assert office.jobs()[-1] == ("release", again, repeat.decision_id)
    assert repeat.decision_id in office.ledger()


@pytest.mark.parametrize("other", [{"rule": "exact"}, {"work": ELK}])
def test_another_rule_or_work_is_asked_anew(office, mia, other):
    (first,) = office.flag(verdict("a"))
    office.reviews.decide(mia, first, WITHHOLD)
    (again,) = office.flag(verdict("a", **other))
    assert office.case(again).state == "open"


def test_a_decision_that_was_taken_back_is_not_repeated_and_its_repeats_go_with_it(office, mia):
    (first,) = office.flag(verdict("a"))
    decided = office.reviews.decide(mia, first, RELEASE)
    (again,) = office.flag(verdict("a"))
    repeated = office.case(again).released_by
    undone = office.reviews.undo(mia, decided.decision.decision_id)
    assert [(one.decision.case_id, one.state) for one in undone] == [(first, "open"), (again, "open")]
    assert {job for job in office.jobs() if job[0] == "undo"} == {
        ("undo", first, decided.decision.decision_id),
        ("undo", again, repeated),
    }
    assert office.flag(verdict("a")) == [None]  # it waits again


def test_a_repeat_follows_people_and_no_other_repeat(office, mia, lea):
    (first,) = office.flag(verdict("a"))
    office.reviews.decide(mia, first, RELEASE)
    (again,) = office.flag(verdict("a"))
    office.reviews.appeal(mia, first, "look again")
    assert office.flag(verdict("a")) == [None]  # a sighting of the one that is appealed
    office.reviews.decide(lea, first, WITHHOLD)
    (third,) = office.flag(verdict("a"))
    assert office.case(third).outcome == "withhold"
    assert office.case(again).outcome == "release"


def test_what_is_sensitive_stays_so_for_pictures_like_it(office, mia):
    (first,) = office.flag(verdict("a"), pdq=bits(0))
    (alike,) = office.flag(verdict("b"), pdq=bits(3))
    office.reviews.decide(mia, first, WITHHOLD.model_copy(update={"reasons": ("sensitive",)}))
    assert office.case(alike).sensitive
    (after,) = office.flag(verdict("c"), pdq=bits(5))
    assert office.case(after).sensitive
    assert [row.case_id for row in office.reviews.queue(mia, EVERY).rows if not row.sensitive] == []


def test_what_is_nearest_to_a_work_of_a_sensitive_bank_is_sensitive(url, tmp_path):
    office = Office(url, str(tmp_path / "pictures"), sensitive_banks=("zoo",))
    of_nothing = verdict("c", work=None, evidence=())
    of_the_zoo, of_the_woods, of_none = office.flag(verdict("a"), verdict("b", work=ELK), of_nothing)
    assert office.case(of_the_zoo).sensitive
    assert not office.case(of_the_woods).sensitive
    assert not office.case(of_none).sensitive
    office.memory.close()


def test_case_becomes_sensitive_when_it_is_seen_again_after_its_bank_did(office, url, open_memory):
    (case_id,) = office.flag(verdict("a"))
    assert not office.case(case_id).sensitive
    later = open_memory(desk=DeskSettings(sensitive_banks=("zoo",)))
    later.record_verdicts([Held(verdict("a"), b"png")], None, LIMITS)
    later.close()
    assert office.case(case_id).sensitive


def test_groups_are_found_by_hashes_that_were_read_before_by_others_and_not_after_a_failure(office, open_memory, mia):
    """What is kept of groups is true to the database: whoever founded, decided, undid or failed to found them."""
    other = open_memory()
    (first,) = office.flag(verdict("a"), pdq=bits(0))
    other.record_verdicts([Held(verdict("b"), b"b", bits(2)), Held(verdict("c"), b"c", bits(100))], None, LIMITS)
    _, founded = other.open_cases()[-2:]
    (alike,) = office.flag(verdict("d"), pdq=bits(99))
    assert office.case(alike).group_id == founded.case_id
    twice = verdict("e")
    with pytest.raises(MemoryUnwritable):  # the second is refused, and the first is gone with it
        office.flag(twice, twice.model_copy(update={"pixels_sha256": "f" * 64}), pdq=bits(200))
    (again,) = office.flag(verdict("g"), pdq=bits(200))
    assert office.case(again).group_id == again
    taken = office.reviews.decide(mia, again, WITHHOLD).decision.decision_id
    (after,) = office.flag(verdict("h"), pdq=bits(201))
    assert office.case(after).group_id == after
    office.reviews.undo(mia, taken)
    (between,) = office.flag(verdict("i"), pdq=bits(199))
    assert office.case(between).group_id == again
    assert office.case(first).group_id == first
    other.close()


def test_group_whose_first_picture_was_erased_takes_no_more(office):
    (first,) = office.flag(verdict("a"), pdq=bits(0))
    (second,) = office.flag(verdict("b"), pdq=bits(1))
    office.memory.erase(office.case(first).verdict_id, "request 17")
    (third,) = office.flag(verdict("c"), pdq=bits(0))
    assert (office.case(second).group_id, office.case(third).group_id) == (first, third)


def test_opening_a_case_reads_no_more_of_a_long_queue_than_of_a_short_one(office):
    """Of 400 groups near one work, one more case reads the last that was founded, not all of them again."""
    chance = np.random.default_rng(0)

    def flag(name):
        office.memory.record_verdicts([Held(verdict(name), b"png", chance.bytes(32))], None, LIMITS)

    office.memory.record_verdicts([Held(verdict(f"{at}"), b"png", chance.bytes(32)) for at in range(400)], None, LIMITS)
    flag("warm")
    asked = []
    engine = office.memory._database.engine
    event.listen(engine, "before_cursor_execute", lambda *said: asked.append(said[2:4]))
    flag("counted")
    ((_, said),) = [one for one in asked if "cases.group_id = cases.case_id" in one[0]]
    assert 400 in (said.values() if isinstance(said, dict) else said)  # only those since it last looked
