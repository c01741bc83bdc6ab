"""Proposed limits: stricter than those in force, sparing without missing, and honest about how sure that is."""

import pytest

from guardrail.records import ReviewAnswers, Signal
from guardrail.study.labels import is_confirmed
from guardrail.study.proposals import CASES_LEAST, Weighed, propose


def cases(passed, confirmed, **said):
    """Cases at the similarities given; the first five that were let pass had a second look."""
    both = [(value, False) for value in passed] + [(value, True) for value in confirmed]
    return [
        Weighed(at, value, label, hangs_on_it=True, seconded=not label and at < 5, **said)
        for at, (value, label) in enumerate(both)
    ]


PASSED = [0.301 + 0.001 * at for at in range(83)]
CONFIRMED = [0.45 + 0.01 * at for at in range(7)]


def test_proposal_spares_what_lies_before_the_farthest_confirmed_copy():
    found = propose("X", Signal.COPY, 0.3, 0.8, cases(PASSED, CONFIRMED))
    assert (found.spared, found.reviewed, found.missed, found.confirmed) == (83, 90, 0, 7)
    assert found.limit == 0.384  # right beyond the nearest that was let pass, .383
    assert found.wrong_high == pytest.approx(0.0435, abs=1e-4)  # 0 of 83
    assert found.missed_high == pytest.approx(0.4096, abs=1e-4)  # 0 of 7: seven copies say little
    assert found.reason_against == ""


def test_bound_on_what_is_missed_holds_though_the_limit_was_chosen_by_the_cases():
    import numpy as np

    chance = np.random.default_rng(5)
    broken = 0
    for _ in range(400):
        copies = chance.random(20)
        low = [float(value) for value in chance.random(40) * copies.min()]
        found = propose("X", Signal.COPY, -1.0, None, cases(low, copies.tolist()))
        broken += found is not None and found.limit > found.missed_high  # of uniform copies this share lies before it
    assert broken / 400 <= 0.05


def test_no_limit_is_proposed_beyond_the_block_limit():
    found = propose("X", Signal.COPY, 0.3, 0.35, cases(PASSED, []))
    assert found.limit == 0.35
    assert found.spared == 49


def test_bits_are_proposed_whole_and_smaller():
    found = propose("X", Signal.PDQ, 64, 31, cases([60, 58, 50] * 15, [40, 34]))
    assert (found.limit, found.spared, found.missed) == (49, 45, 0)


@pytest.mark.parametrize(
    "given",
    [
        cases(PASSED[: CASES_LEAST - 8], CONFIRMED),  # too few
        cases([0.6] * 83, [0.45]),  # a copy lies before all of them
        [Weighed(at, value, False, hangs_on_it=False) for at, value in enumerate(PASSED)],  # flagged by others too
    ],
)
def test_nothing_is_proposed_where_nothing_would_be_gained(given):
    assert propose("X", Signal.COPY, 0.3, 0.8, given) is None


def test_without_second_looks_nothing_may_be_applied():
    alone = [Weighed(at, value, False, hangs_on_it=True) for at, value in enumerate(PASSED)]
    assert "second look" in propose("X", Signal.COPY, 0.3, 0.8, alone).reason_against


def test_copies_that_first_looks_overlooked_are_counted_on():
    seconded = [Weighed(at, value, False, hangs_on_it=True, seconded=at < 9) for at, value in enumerate(PASSED)]
    turned = [Weighed(200, 0.6, True, hangs_on_it=True, seconded=True, turned=True)]
    found = propose("X", Signal.COPY, 0.3, 0.8, seconded + turned)
    assert (found.seconded, found.turned, found.unchecked) == (10, 1, 74)
    assert found.overlooked == pytest.approx(7.4)


@pytest.mark.parametrize(
    ("outcome", "reasons", "label"),
    [
        ("withhold", ("expression_copied",), True),
        ("withhold", (), True),
        ("withhold", ("sensitive",), None),
        ("release_with_credit", (), True),
        ("release", ("licensed",), True),
        ("release", ("style_or_idea_only",), False),
        ("release", (), False),
        ("not_a_match", ("wrong_work",), False),
    ],
)
def test_outcomes_say_whether_the_image_copies(outcome, reasons, label):
    assert is_confirmed(outcome, reasons) is label


def test_answers_count_where_no_reason_was_given():
    assert is_confirmed("release", (), ReviewAnswers(copied="expression", how_much="whole"))
    assert is_confirmed("release", (), ReviewAnswers(copied="style")) is False
