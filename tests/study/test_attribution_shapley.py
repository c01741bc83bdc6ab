"""Shares that are fair by Shapley's axioms, exact for a few adapters, and as near as they say for many."""

from itertools import chain, combinations

import numpy as np
import pytest

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.shapley import ShapleyRule, error_of_mean, shapley


def table(count, seed, draws=1):
    """What every subset is worth, by chance; the more the more are on, so that there is something to share."""
    chance = np.random.default_rng(seed)
    subsets = chain.from_iterable(combinations(range(count), size) for size in range(count + 1))
    return {frozenset(one): 3 + len(one) + chance.standard_normal() * np.ones(draws) for one in subsets}


def of(worth, count, rule=None):
    return shapley(count, worth.__getitem__, rule)


def whole(worth, count):
    return worth[frozenset(range(count))].mean()


def test_glove_game_has_the_published_value():
    """Two left gloves and one right: a pair is worth 1; Shapley's value is 1/6, 1/6, 4/6."""
    found = shapley(3, lambda some: np.array([float(2 in some and bool(some & {0, 1}))]))
    assert found.shares == pytest.approx([1 / 6, 1 / 6, 4 / 6])
    assert found.base_share == 0
    assert found.asked == 8


@pytest.mark.parametrize("count", range(8))
def test_shares_of_adapters_and_base_add_up_to_one(count):
    found = of(table(count, count, draws=4), count)
    assert found.shares.sum() + found.base_share == pytest.approx(1, abs=1e-12)
    assert (found.standard_error is None) == (count <= 6)


def test_adapters_that_do_the_same_have_the_same_share():
    worth = table(4, 1)
    for some in list(worth):
        if 2 in some and 1 not in some:
            worth[some] = worth[some - {2} | {1}]
    found = of(worth, 4)
    assert found.shares[1] == pytest.approx(found.shares[2])
    assert found.shares[0] != pytest.approx(found.shares[1])


def test_adapter_that_adds_nothing_has_no_share():
    without = table(4, 2)
    worth = {some: without[some - {3}] for some in without}
    assert of(worth, 4).shares[3] == pytest.approx(0, abs=1e-12)


def test_shares_of_two_values_add_up_to_those_of_their_sum():
    one, other = table(4, 3), table(4, 4)
    both = {some: one[some] + other[some] for some in one}
    added = of(one, 4).shares * whole(one, 4) + of(other, 4).shares * whole(other, 4)
    assert of(both, 4).shares * whole(both, 4) == pytest.approx(added)


def test_adapter_that_takes_away_has_a_negative_share():
    found = shapley(2, lambda some: np.array([4.0 + (0 in some) - 2.0 * (1 in some)]))
    assert found.shares == pytest.approx([1 / 3, -2 / 3])
    assert found.base_share == pytest.approx(4 / 3)


@pytest.mark.parametrize("count", [6, 9])
def test_permutations_are_as_near_to_exact_as_they_say(count):
    worth = table(count, 5)
    exact = of(worth, count, ShapleyRule(exact_up_to=count))
    off = []
    for seed in range(20):
        found = of(worth, count, ShapleyRule(exact_up_to=0, pairs=40, seed=seed))
        assert found.shares.sum() + found.base_share == pytest.approx(1, abs=1e-12)
        off.append((found.shares - exact.shares) / found.standard_error)
    assert np.abs(np.mean(off)) < 0.3
    assert 0.7 < np.std(off) < 1.4


def test_permutations_ask_each_subset_once():
    asked = []
    found = shapley(8, lambda some: asked.append(some) or np.array([3.0 + len(some)]), ShapleyRule(pairs=10))
    assert len(asked) == len(set(asked)) == found.asked <= 2 * 10 * 7 + 2
    assert found.shares == pytest.approx([1 / 11] * 8)


def test_antithetic_pairs_are_exact_where_order_matters_by_pairs_alone():
    """With what two adapters add together and no more, a permutation and its reverse are exact together."""
    pull = np.random.default_rng(0).standard_normal((7, 7))

    def worth(some):
        return np.array([90.0 + sum(pull[a, b] for a, b in combinations(sorted(some), 2))])

    one = shapley(7, worth, ShapleyRule(exact_up_to=0, pairs=2))
    assert one.shares == pytest.approx(shapley(7, worth, ShapleyRule(exact_up_to=7)).shares)
    assert one.standard_error == pytest.approx(np.zeros(7), abs=1e-9)


def test_picture_that_the_model_knows_nothing_of_has_no_shares():
    with pytest.raises(AttributionImpossible, match=r"found a loss -1 below .* expected one more than 0"):
        shapley(2, lambda some: np.array([-1.0]))


def test_picture_that_the_model_hardly_knows_has_no_shares():
    chance = np.random.default_rng(0).standard_normal(32)
    with pytest.raises(AttributionImpossible, match="more draws"):
        shapley(1, lambda some: 0.05 + chance)


def test_worth_that_is_no_number_is_refused():
    with pytest.raises(AttributionImpossible, match="no number"):
        shapley(1, lambda some: np.array([np.nan]))


def test_error_over_draws_is_that_of_other_draws():
    """One draw from each part of the schedule, again and again: shares scatter as each says of itself."""
    edges = np.arange(32) / 32

    def share(seed):
        chance = np.random.default_rng(seed)
        times = edges + chance.random(32) / 32
        curves = 2 + np.cos(3 * times), np.sin(5 * times)
        noise = chance.standard_normal((2, 32)) * 0.3
        return shapley(1, lambda some: curves[0] + noise[0] + (0 in some) * (1 + curves[1] + noise[1]))

    found = [share(seed) for seed in range(200)]
    scatter = np.std([one.shares[0] for one in found])
    assert np.mean([one.draw_error[0] for one in found]) == pytest.approx(scatter, rel=0.2)


def test_one_draw_tells_no_error():
    assert np.isnan(of(table(2, 1), 2).draw_error).all()
    assert np.isnan(error_of_mean(np.ones((3, 1)))).all()
