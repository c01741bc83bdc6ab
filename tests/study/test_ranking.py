"""Rankings against their definitions written out, and against cases done by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.study.ranking import (
    CleanTail,
    limit_for,
    micro_average_precision,
    nearest_wrong,
    pooled_recall,
    recall_at_precision,
    right_nearness,
    shared_limits,
)

INF = np.inf


def by_definition(nearness, right):
    """Micro-AP, written out: one list of all pairs, wrong ones first among equals."""
    pairs = [
        (-value, row == right[query], query)
        for query, values in enumerate(nearness)
        for row, value in enumerate(values)
        if value > -INF
    ]
    found, area = 0, 0.0
    for place, (_, is_right, _) in enumerate(sorted(pairs), start=1):
        if is_right:
            found += 1
            area += found / place
    return area / sum(row >= 0 for row in right)


@st.composite
def rankings(draw):
    """A few queries and works, with many ties, works not brought up, and clean queries."""
    queries, works = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    values = st.sampled_from([-INF, 0.0, 0.25, 0.5, 0.5, 1.0])
    nearness = draw(st.lists(st.lists(values, min_size=works, max_size=works), min_size=queries, max_size=queries))
    right = draw(st.lists(st.integers(-1, works - 1), min_size=queries, max_size=queries))
    right[0] = max(right[0], 0)
    return np.array(nearness), np.array(right)


@given(rankings())
def test_micro_ap_is_its_definition(ranking):
    nearness, right = ranking
    assert micro_average_precision(nearness, right) == pytest.approx(by_definition(nearness, right))


def test_micro_ap_by_hand():
    # ranked: right, wrong, right, and one copy whose work never came up: (1/1 + 2/3 + 0) / 3
    nearness = np.array([[0.9, 0.8], [0.1, 0.7], [-INF, 0.05]])
    assert micro_average_precision(nearness, np.array([0, 1, 0])) == pytest.approx((1 + 2 / 3) / 3)


def test_ties_count_against_the_ranking():
    tied = np.array([[0.5, 0.5]])
    assert micro_average_precision(tied, np.array([0])) == 0.5
    assert micro_average_precision(tied, np.array([1])) == 0.5
    assert recall_at_precision(tied, np.array([0]), 0.9) == 0
    assert recall_at_precision(tied, np.array([0]), 0.5) == 1


def test_clean_pictures_stand_in_the_list_as_wrong_pairs():
    nearness = np.array([[0.6, 0.1], [0.8, 0.7]])
    assert micro_average_precision(nearness, np.array([0, -1])) == pytest.approx(1 / 3)


def test_without_copies_there_is_no_recall():
    for measure in (micro_average_precision, lambda n, r: recall_at_precision(n, r, 0.9)):
        with pytest.raises(ValueError, match="found no copy"):
            measure(np.ones((2, 2)), np.array([-1, -1]))


@given(rankings(), st.sampled_from([0.3, 0.5, 0.9, 1.0]))
def test_recall_at_precision_is_the_best_of_all_limits(ranking, precision):
    nearness, right = ranking
    best = 0.0
    for limit in np.unique(nearness[np.isfinite(nearness)]):
        above = nearness >= limit
        hits = sum(above[query, row] for query, row in enumerate(right) if row >= 0)
        if hits / above.sum() >= precision:
            best = max(best, hits / (right >= 0).sum())
    assert recall_at_precision(nearness, right, precision) == pytest.approx(best)


def test_own_and_wrong_nearness():
    nearness, right = np.array([[0.2, 0.9], [0.3, 0.4], [0.5, 0.1]]), np.array([0, 1, -1])
    assert right_nearness(nearness, right).tolist() == [0.2, 0.4, -INF]
    assert nearest_wrong(nearness, right).tolist() == [0.9, 0.3, 0.5]


def test_pooled_recall_stops_before_the_first_fall_in_precision():
    own, wrong = np.array([0.9, 0.8, 0.7, 0.2]), np.array([0.1, 0.75, 0.1, 0.1])
    assert pooled_recall(own, wrong, 0.9999) == 0.5  # 0.9 and 0.8 lie above the nearest wrong work, at 0.75
    assert pooled_recall(own, wrong, 0.75) == 1  # at 0.7 three of four are right, at 0.2 four of five
    assert pooled_recall(own, np.array([0.95, 0, 0, 0]), 0.9999) == 0
    assert pooled_recall(np.array([0.9, -INF]), np.array([0.1, 0.1]), 0.9999) == 0.5


# --- at a rate of false alarms ----------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0]), min_size=1, max_size=12), st.integers(0, 12))
def test_limit_lets_through_what_is_allowed_and_no_looser_one_does(values, allowed):
    nearest = np.array(values)
    limit = limit_for(nearest, allowed)
    assert (nearest >= limit).sum() <= allowed
    looser = nearest[nearest < limit]
    assert not len(looser) or (nearest >= looser.max()).sum() > allowed


@given(st.integers(0, 6), st.integers(0, 1000))
def test_shared_limits_keep_the_union_within_what_is_allowed(allowed, seed):
    chance = np.random.default_rng(seed)
    nearest = {"bits": -chance.integers(0, 8, 40).astype(float), "cosine": chance.random(40)}
    limits = shared_limits(nearest, allowed)
    reached = np.logical_or.reduce([values >= limits[name] for name, values in nearest.items()])
    assert reached.sum() <= allowed


def test_shared_limits_of_signals_that_alarm_on_the_same_pictures_are_as_loose_as_one_alone():
    nearest = np.random.default_rng(1).random(200)
    together = shared_limits({"a": nearest, "b": 5 * nearest}, 10)
    assert together["a"] == limit_for(nearest, 10)


def test_signals_that_alarm_on_other_pictures_share_the_budget():
    chance = np.random.default_rng(2)
    one, other = chance.random(1000), chance.random(1000)
    limits = shared_limits({"one": one, "other": other}, 20)
    assert 9 <= (one >= limits["one"]).sum() <= 12


@given(st.integers(1, 60), st.integers(0, 100))
def test_surprise_never_falls_as_nearness_rises(count, seed):
    tail = CleanTail(np.random.default_rng(seed).normal(size=count))
    surprises = tail.surprise(np.linspace(-5, 9, 200))
    assert (np.diff(surprises) >= 0).all()
    assert surprises[0] == pytest.approx(0, abs=1e-9)


def test_what_is_nearer_than_any_clean_picture_still_has_an_order():
    tail = CleanTail(np.random.default_rng(0).normal(size=500))
    assert (np.diff(tail.surprise(np.array([3.5, 4.0, 8.0]))) > 0).all()
    assert tail.surprise(np.array([-INF])).tolist() == [-INF]


def test_surprise_puts_signals_of_other_units_on_one_scale():
    nearest = np.random.default_rng(4).normal(size=2000)
    cosine, bits = CleanTail(nearest / 10), CleanTail(30 * nearest - 90)
    at = np.array([-1.0, 0.5, 2.0, 4.0])
    assert cosine.surprise(at / 10) == pytest.approx(bits.surprise(30 * at - 90), abs=1e-6)
