"""The tail of a signal, against distributions whose quantiles are known."""

import itertools

import numpy as np
import pytest
from scipy import stats

from guardrail.study.tails import COUNTED_AT_LEAST, Tail, tail_size

BETA = stats.beta(8, 12)  # similarities: bounded, most of them around 0.4


def drawn(distribution, count, seed):
    return np.asarray(distribution.rvs(count, random_state=np.random.default_rng(seed)), np.float64)


@pytest.mark.parametrize("rate", [1e-2, 1e-3, 1e-4])
def test_limit_is_near_the_known_quantile(rate):
    limits = [Tail(drawn(BETA, 4000, seed)).limit(rate) for seed in range(30)]
    assert np.median(limits) == pytest.approx(BETA.isf(rate), abs=0.02)


def test_limit_is_reached_by_about_the_rate_asked():
    """In truth, not in the sample: the median over repeats of what the distribution itself says of the limit."""
    reached = [BETA.sf(Tail(drawn(BETA, 1500, seed)).limit(2e-4)) for seed in range(60)]
    assert 0.5 < np.median(reached) / 2e-4 < 2


@pytest.mark.parametrize(("distribution", "rate"), [(BETA, 2e-2), (BETA, 2e-4), (stats.norm(0.3, 0.1), 1e-4)])
def test_interval_holds_the_known_quantile_nine_times_in_ten(distribution, rate):
    """Stated 95 %; a bootstrap of a fitted tail is a little bold, so that 36 of 40 repeats are demanded."""
    truth, held = distribution.isf(rate), 0
    for seed in range(40):
        low, high = Tail(drawn(distribution, 1500, 1000 + seed), seed=seed).interval(rate)
        held += low <= truth <= high
    assert held >= 36


def test_same_values_give_the_same_interval():
    values = drawn(BETA, 500, 0)
    assert Tail(values).interval(1e-3) == Tail(values[::-1]).interval(1e-3)


def test_limit_is_counted_where_there_is_enough_to_count():
    values = np.arange(1000) / 1000
    tail = Tail(values)
    assert tail.is_counted(COUNTED_AT_LEAST / 1000)
    assert not tail.is_counted((COUNTED_AT_LEAST - 0.5) / 1000)
    limit = tail.limit(0.02)
    assert tail.reached(limit) == 20
    assert 0.979 < limit < 0.98


def test_counted_limit_passes_over_equal_values():
    """Of 1,000 pictures 30 are equal at the place of the limit: none of them may reach it, or all would."""
    values = np.concatenate([np.full(30, 0.9), np.linspace(0, 0.5, 970)])
    assert Tail(values).reached(Tail(values).limit(0.02)) == 0


@pytest.mark.parametrize("rate", [2e-2, 2e-3, 2e-4])
def test_limits_on_hashes_are_whole_and_nearly_as_often_reached_as_asked(rate):
    """Distances of 256 fair bits, the nearest of 80: the limit is whole, and a bit looser would be too loose."""
    bits = stats.binom(256, 0.5)

    def reached(distance):
        return 1 - (1 - bits.cdf(distance)) ** 80

    limits = []
    for seed in range(40):
        chance = np.random.default_rng(seed)
        nearest = np.asarray(bits.ppf(1 - (1 - chance.random(2000)) ** (1 / 80)), np.float64)
        limits.append(-Tail(-nearest, whole=True, seed=seed).limit(rate))
    assert all(limit == int(limit) for limit in limits)
    assert 0.4 * rate < reached(np.median(limits)) < 2 * rate


def test_even_distances_have_bins_of_two_bits():
    """Hashes with as many ones as zeros differ by even numbers; a limit between two of them would be the lower."""
    chance = np.random.default_rng(1)
    even = -2.0 * np.asarray(stats.binom(128, 0.4).rvs(2000, random_state=chance), np.float64)
    odd_too = even + chance.integers(0, 2, 2000)
    assert abs(Tail(even, whole=True).limit(1e-3) - Tail(odd_too, whole=True).limit(1e-3)) <= 3


def test_no_limit_lies_beyond_one():
    near_one = np.tanh(np.abs(drawn(stats.norm(2.0, 0.6), 400, 3)))
    assert Tail(near_one).limit(1e-6) <= 1


def test_copies_among_the_pictures_make_the_tail_too_heavy():
    clean = drawn(BETA, 1500, 5)
    assert not Tail(clean).is_too_heavy
    assert Tail(np.concatenate([clean, [0.999, 0.998, 0.97]])).is_too_heavy


def test_pictures_that_reach_nothing_thin_the_rate():
    """Half of the pictures are near generic imagery only: the other half may use the whole budget."""
    half = drawn(BETA, 1000, 7)
    tail = Tail(np.concatenate([half, np.full(1000, -np.inf)]))
    assert tail.limit(1e-4) == pytest.approx(Tail(half).limit(2e-4), abs=0.03)


def test_rate_falls_as_the_limit_rises():
    tail = Tail(drawn(BETA, 1500, 9))
    rates = [tail.rate(limit) for limit in np.linspace(0.2, 0.95, 60)]
    assert all(one >= other for one, other in itertools.pairwise(rates))
    assert rates[0] > 0.9
    assert 0 < tail.rate(0.75) < 1e-2
    assert rates[-1] < 1e-4


def test_all_equal_values_have_a_limit_right_above():
    assert Tail(np.full(300, 0.25)).limit(1e-3) == pytest.approx(0.25, abs=1e-3)
    assert -90 < Tail(np.full(300, -90.0), whole=True).limit(1e-3) <= -86, "within two bins"


@pytest.mark.parametrize(("count", "size"), [(1, 30), (600, 30), (1500, 75), (10_000, 250), (10**6, 250)])
def test_tail_takes_a_twentieth_within_bounds(count, size):
    assert tail_size(count) == size
