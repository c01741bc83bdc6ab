import math

import numpy as np
import pytest
from scipy.stats import norm

from guardrail.records import AuditOutcome
from guardrail.study.audit.telling import (
    LEAKS_ABOVE,
    area_interval,
    area_under,
    conformal_limit,
    leaks,
    tell,
)


def normal(seed, mean, count):
    return np.random.default_rng(seed).normal(mean, 1, count)


def test_area_is_the_share_of_pairs_in_order_ties_counted_half():
    members, held_out = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0])
    pairs = [(a > b) + 0.5 * (a == b) for a in members for b in held_out]
    assert area_under(members, held_out) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("area", [0.1, 0.5, 0.8, 1.0])
def test_interval_ends_where_hanley_and_mcneils_variance_puts_the_area_found(area):
    members, held_out = 30, 50
    for true in area_interval(area, members, held_out):
        if 0 < true < 1:
            extra = (members + held_out) / 2 - 1
            by_member, by_other = (1 - true) / (2 - true), true / (1 + true)
            variance = true * (1 - true) * (1 + extra * by_member + extra * by_other) / (members * held_out)
            assert abs(area - true) / math.sqrt(variance) == pytest.approx(1.959964, abs=1e-4)


def test_interval_of_a_perfect_area_has_a_width():
    low, high = area_interval(1.0, 20, 20)
    assert 0.8 < low < 1.0
    assert high == 1.0
    assert area_interval(0.0, 20, 20) == pytest.approx((1 - high, 1 - low))


def test_interval_holds_the_true_area_about_as_often_as_it_says():
    true, held = norm.cdf(1 / math.sqrt(2)), 0
    for seed in range(200):
        found = area_under(normal(seed, 1, 40), normal(1000 + seed, 0, 60))
        low, high = area_interval(found, 40, 60)
        held += low <= true <= high
    assert 0.9 <= held / 200 <= 0.99


@pytest.mark.parametrize(("count", "limit"), [(98, math.inf), (99, 98.0), (198, 197.0), (199, 197.0)])
def test_conformal_limit_needs_ninety_nine_pictures_for_one_percent(count, limit):
    assert conformal_limit(np.arange(count, dtype=float), 0.01) >= min(limit, 97.0)
    assert math.isinf(conformal_limit(np.arange(count, dtype=float), 0.01)) == (count < 99)


def test_a_new_picture_exceeds_the_conformal_limit_no_more_often_than_asked():
    values = np.arange(200, dtype=float)  # each of them once the new one, the others known
    beyond = [values[at] > conformal_limit(np.delete(values, at), 0.05) for at in range(200)]
    assert np.mean(beyond) <= 0.05
    assert np.mean(beyond) > 0.04


def test_an_attack_that_is_upside_down_is_turned_round():
    told = tell({"a": normal(0, -2, 60)}, {"a": normal(1, 0, 60)}, seed=0)
    assert told.chosen == ("-a", "-a")
    assert told.area > 0.85


def test_the_best_of_many_blind_attacks_gains_nothing():
    areas = []
    for seed in range(40):
        chance = np.random.default_rng(seed)
        ours, theirs = ({str(name): chance.normal(size=40) for name in range(10)} for _ in range(2))
        areas.append(tell(ours, theirs, seed).area)
    assert abs(np.mean(areas) - 0.5) < 3 * np.std(areas) / math.sqrt(len(areas))


def test_certain_hits_are_counted_on_pictures_that_did_not_set_the_limit():
    told = tell({"a": normal(0, 6, 100)}, {"a": normal(1, 0, 400)}, seed=0)
    assert told.can_find
    assert told.found > 95
    assert told.false_alarms <= 12
    few = tell({"a": normal(0, 6, 100)}, {"a": normal(1, 0, 150)}, seed=0)
    assert not few.can_find
    assert few.found == 0
    assert [one.name for one in few.measured()] == ["area under the curve, calibrated"]


def test_few_pictures_are_never_called_clean():
    told = tell({"a": normal(0, 0, 10)}, {"a": normal(1, 0, 10)}, seed=0)
    assert told.area_high < LEAKS_ABOVE  # by chance: the halves disagree
    assert leaks(told) is AuditOutcome.COULD_NOT_TELL


def test_leaks_says_all_three():
    assert leaks(tell({"a": normal(0, 3, 60)}, {"a": normal(1, 0, 60)}, 0)) is AuditOutcome.MEMORISED
    assert leaks(tell({"a": normal(0, 0, 300)}, {"a": normal(1, 0, 300)}, 0)) is AuditOutcome.CLEAN
    assert leaks(tell({"a": normal(0, 0.55, 60)}, {"a": normal(1, 0, 60)}, 0)) is AuditOutcome.COULD_NOT_TELL


def test_a_few_certain_hits_leak_though_the_area_is_small():
    some = np.concatenate([normal(0, 0, 270), np.full(30, 9.0)])
    told = tell({"a": some}, {"a": normal(1, 0, 300)}, 0)
    assert told.area_high < LEAKS_ABOVE
    assert leaks(told) is AuditOutcome.MEMORISED
