"""Leases: one reviewer has a case, it comes back when it is abandoned, and no two ever get the same one."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from multiprocessing import get_context

import pytest

from guardrail.records import CaseFilter
from guardrail.review_errors import CaseTaken
from tests.memory.reviewed import ELK, OPEN, RELEASE, START, WITHHOLD, Office, verdict

pytestmark = pytest.mark.usefixtures("both_stores")
GROUPED = CaseFilter()


@pytest.fixture
def ben(office):
    """Another reviewer."""
    return office.person("Ben")


def test_a_case_is_leased_to_one_and_comes_back_when_it_is_abandoned(office, mia, ben):
    (case_id,) = office.flag(verdict("a"))
    assert office.reviews.lease(mia, case_id) == START + timedelta(minutes=15)
    assert office.reviews.case(ben, case_id).row.leased_to == mia.account_id
    assert office.reviews.case(mia, case_id).row.leased_to is None
    for act in (
        lambda: office.reviews.lease(ben, case_id),
        lambda: office.reviews.decide(ben, case_id, RELEASE),
    ):
        with pytest.raises(CaseTaken, match="somebody else has it"):
            act()
    assert office.reviews.next_case(ben, OPEN) is None
    office.later(minutes=15)
    assert office.reviews.case(ben, case_id).lease_until is None
    assert office.reviews.next_case(ben, OPEN).case_id == case_id
    with pytest.raises(CaseTaken):
        office.reviews.decide(mia, case_id, RELEASE)


def test_activity_renews_a_lease(office, mia, ben):
    (case_id,) = office.flag(verdict("a"))
    office.reviews.lease(mia, case_id)
    office.later(minutes=14)
    office.reviews.lease(mia, case_id)
    office.later(minutes=14)
    with pytest.raises(CaseTaken):
        office.reviews.lease(ben, case_id)
    assert office.reviews.decide(mia, case_id, RELEASE).state == "decided"


def test_what_is_given_back_is_free_and_others_cannot_give_it_back(office, mia, ben):
    (case_id,) = office.flag(verdict("a"))
    office.reviews.lease(mia, case_id)
    office.reviews.give_back(ben, case_id)
    with pytest.raises(CaseTaken):
        office.reviews.lease(ben, case_id)
    office.reviews.give_back(mia, case_id)
    office.reviews.lease(ben, case_id)


def test_a_decided_case_is_nobodys_to_take(office, mia, ben):
    (case_id,) = office.flag(verdict("a"))
    office.reviews.decide(mia, case_id, WITHHOLD)
    assert office.case(case_id).lease_account is None
    with pytest.raises(CaseTaken, match="it was decided"):
        office.reviews.lease(ben, case_id)


def test_the_next_case_is_the_same_until_it_is_decided_or_skipped(office, mia):
    mild, grave = office.flag(verdict("a", similarity=0.55), verdict("b", similarity=0.85))
    assert office.reviews.next_case(mia, OPEN).case_id == grave
    assert office.reviews.next_case(mia, OPEN).case_id == grave
    assert office.reviews.next_case(mia, OPEN, skip=[grave]).case_id == mild
    assert office.reviews.next_case(mia, OPEN, skip=[grave, mild]) is None
    office.reviews.decide(mia, grave, WITHHOLD)
    assert office.reviews.next_case(mia, OPEN).case_id == mild


def test_the_next_case_is_one_that_was_asked_for(office, mia):
    _, elk = office.flag(verdict("a", similarity=0.85), verdict("b", work=ELK))
    assert office.reviews.next_case(mia, CaseFilter(bank="woods")).case_id == elk
    assert office.reviews.next_case(mia, CaseFilter(bank="sea")) is None


def test_a_group_of_which_somebody_has_a_case_is_theirs(office, mia, ben):
    first, alike = (office.flag(verdict(name), pdq=bytes(32))[0] for name in "ab")
    (other,) = office.flag(verdict("c", similarity=0.55))
    assert office.reviews.next_case(mia, GROUPED).case_id == first
    assert office.reviews.next_case(ben, GROUPED).case_id == other
    assert office.reviews.next_case(ben, OPEN).case_id == alike


# --- races -----------------------------------------------------------------------------------------------


def test_threads_that_race_never_get_the_same_case(office):
    cases = office.flag(*(verdict(f"p{n}") for n in range(6)))
    people = [office.person(f"P{n}") for n in range(8)]
    ready = threading.Barrier(len(people))

    def take(person):
        ready.wait(20)
        row = office.reviews.next_case(person, OPEN)
        return row and row.case_id

    with ThreadPoolExecutor(len(people)) as pool:
        got = list(pool.map(take, people))
    assert sorted(one for one in got if one is not None) == cases
    assert got.count(None) == 2


def test_threads_that_decide_the_same_case_enter_one_decision(office):
    (case_id,) = office.flag(verdict("a"))
    people = [office.person(f"P{n}") for n in range(4)]
    ready = threading.Barrier(len(people))

    def decide(person):
        ready.wait(20)
        try:
            return office.reviews.decide(person, case_id, WITHHOLD)
        except CaseTaken:
            return None

    with ThreadPoolExecutor(len(people)) as pool:
        decided = [one for one in pool.map(decide, people) if one]
    assert len(decided) == len(office.decisions()) == len(office.ledger()) == 1


def take_all(url, pictures, name, answers):
    office = Office(url, pictures)
    person, got = office.person(name), []
    while (row := office.reviews.next_case(person, OPEN, skip=got)) is not None:
        got.append(row.case_id)
    answers.put(got)
    office.memory.close()


def test_processes_that_race_never_get_the_same_case(office, url, tmp_path):
    cases = office.flag(*(verdict(f"p{n}") for n in range(12)))
    context = get_context("spawn")
    answers = context.Queue()
    said = (url, str(tmp_path / "pictures"))
    racing = [context.Process(target=take_all, args=(*said, name, answers)) for name in ("Mia", "Ben")]
    for one in racing:
        one.start()
    got = [answers.get(timeout=60) for _ in racing]
    for one in racing:
        one.join(30)
    assert sorted([*got[0], *got[1]]) == cases
