"""The queue: its order, pages that hold still while cases come and go, groups, filters, and what they cost."""

import pytest
from pydantic import ValidationError

from guardrail.records import CaseFilter
from guardrail.review_errors import QueryInvalid
from tests.memory.reviewed import ELK, EVERY, OPEN, START, WITHHOLD, verdict

pytestmark = pytest.mark.usefixtures("both_stores")


def ids(page):
    return [row.case_id for row in page.rows]


def test_the_most_severe_come_first_and_of_those_the_oldest(office, mia):
    later = START.replace(hour=13)
    mild, grave_new, grave_old = office.flag(
        verdict("a", similarity=0.55), verdict("b", similarity=0.85, at=later), verdict("c", similarity=0.86)
    )
    assert ids(office.reviews.queue(mia, OPEN)) == [grave_old, grave_new, mild]


@pytest.mark.parametrize("grouped", [False, True])
def test_pages_lose_nothing_and_show_nothing_twice(office, mia, grouped):
    cases = office.flag(*(verdict(f"p{n}", similarity=0.5 + n % 4 / 10) for n in range(11)))
    asked, seen, after = CaseFilter(grouped=grouped), [], ""
    for page in range(6):
        found = office.reviews.queue(mia, asked, after=after, limit=2)
        assert found.total == 11 + page  # one more is flagged after each page, the mildest of all
        seen += ids(found)
        after = found.next_cursor
        office.flag(verdict(f"late{page}", similarity=0.5, at=START.replace(hour=14, minute=page)))
    assert len(seen) == len(set(seen)) == 12
    assert set(seen) >= set(cases)


def test_a_case_that_is_decided_meanwhile_moves_no_page(office, mia):
    cases = office.flag(*(verdict(f"p{n}") for n in range(5)))
    page = office.reviews.queue(mia, OPEN, limit=2)
    office.reviews.decide(mia, cases[0], WITHHOLD)
    assert ids(office.reviews.queue(mia, OPEN, after=page.next_cursor, limit=2)) == cases[2:4]


def test_the_last_page_says_so(office, mia):
    office.flag(verdict("a"), verdict("b"))
    assert office.reviews.queue(mia, OPEN, limit=2).next_cursor == ""
    assert office.reviews.queue(mia, CaseFilter(bank="sea")) == ((), "", 0)


def test_one_row_stands_for_a_group(office, mia):
    first = office.flag(verdict("a", similarity=0.55), pdq=bytes(32))[0]
    grave = office.flag(verdict("b", similarity=0.85), pdq=bytes(32))[0]
    (other,) = office.flag(verdict("c"))
    page = office.reviews.queue(mia, CaseFilter())
    assert [(row.case_id, row.group_id, row.alike) for row in page.rows] == [(grave, first, 2), (other, other, 1)]
    assert page.total == 2
    assert {row.case_id for row in office.reviews.case(mia, grave).alike} == {first}
    office.reviews.decide(mia, grave, WITHHOLD)
    assert [(row.case_id, row.alike) for row in office.reviews.queue(mia, CaseFilter()).rows] == [
        (other, 1),
        (first, 1),
    ]


@pytest.mark.parametrize("after", ["x", "bm9uc2Vuc2U=", "WzEsMiwzXQ==", "é", "WzFlOTksICJhIiwgMV0=", "[" * 5000])
def test_a_cursor_that_is_none_is_an_error_and_loses_nothing(office, mia, after):
    office.flag(verdict("a"))
    with pytest.raises(QueryInvalid, match="one that a page gave"):
        office.reviews.queue(mia, OPEN, after=after)
    assert office.reviews.queue(mia, OPEN).total == 1


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_page_has_a_size(office, mia, limit):
    with pytest.raises(QueryInvalid):
        office.reviews.queue(mia, OPEN, limit=limit)


def test_cases_are_found_by_their_age(office, mia):
    office.flag(verdict("a"))
    office.later(hours=2)
    assert office.reviews.queue(mia, CaseFilter(older_than_h=2)).total == 1
    assert office.reviews.queue(mia, CaseFilter(older_than_h=2.01)).total == 0
    with pytest.raises(QueryInvalid, match="a calendar"):
        office.reviews.queue(mia, CaseFilter(older_than_h=1e300))
    for wrong in (-1, float("nan"), "yesterday"):
        with pytest.raises(ValidationError):
            CaseFilter(older_than_h=wrong)


def test_mine_are_those_that_i_have_and_those_that_i_decided(office, mia):
    first, second, _ = office.flag(*(verdict(name) for name in "abc"))
    office.reviews.lease(mia, first)
    office.reviews.decide(mia, second, WITHHOLD)
    mine = EVERY.model_copy(update={"mine": True})
    assert set(ids(office.reviews.queue(mia, mine))) == {first, second}
    office.later(hours=1)
    assert ids(office.reviews.queue(mia, mine)) == [second]


def test_filters_are_offered_that_find_something(office, mia):
    office.flag(verdict("a"), verdict("b", work=ELK, rule="exact"), adapters=("hand",), model="m/2")
    offered = office.reviews.facets(mia)
    assert offered == {
        "bank": ("woods", "zoo"),
        "holder": ("Woods Inc", "Zoo Ltd"),
        "model": ("m/2",),
        "adapter": ("hand",),
        "rule": ("exact", "near copy"),
        "work": ("woods/elk", "zoo/fox"),
    }
    for name, values in offered.items():
        for value in values:
            assert office.reviews.queue(mia, CaseFilter(**{name: value})).total > 0


def test_states_are_counted(office, mia):
    cases = office.flag(*(verdict(name) for name in "abc"))
    office.reviews.decide(mia, cases[0], WITHHOLD)
    assert {state: count for state, count in office.reviews.counts(mia).items() if count} == {"open": 2, "decided": 1}
    waiting = office.reviews.waiting("default")
    assert (waiting.undecided["open"], waiting.oldest_opened_at) == (2, START)
    assert office.reviews.waiting("another").oldest_opened_at is None


def test_rows_hold_no_prompt_and_no_picture(office, mia):
    office.flag(verdict("a"))
    (row,) = office.reviews.queue(mia, OPEN).rows
    assert "a red fox" not in row.model_dump_json()
    assert office.reviews.case(mia, row.case_id).context.prompts == {"prompt": "a red fox"}
    assert office.reviews.picture(mia, row.case_id) == b"a.png"
