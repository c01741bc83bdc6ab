import numpy as np
import pytest
from scipy.stats import spearmanr

from guardrail.study.attribution.stability import jaccard_of_top, rank_correlation, stability


def test_jaccard_of_the_top_counts_those_of_both_over_those_of_either():
    assert jaccard_of_top(np.array([9.0, 8, 7, 0]), np.array([9.0, 0, 7, 8]), 2) == pytest.approx(1 / 3)
    assert jaccard_of_top(np.array([9.0, 8, 7, 0]), np.array([9.0, 0, 7, 8]), 4) == 1


def test_rank_correlation_is_spearmans_with_ties():
    chance = np.random.default_rng(0)
    one, other = chance.integers(0, 9, 50).astype(float), chance.normal(size=50)
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert rank_correlation(one, np.ones(50)) == 0


def test_draws_that_all_say_the_same_agree_wholly():
    found = stability(np.tile(np.arange(30.0), (6, 1)), top=5)
    assert found is not None
    assert (found.jaccard, found.rank_agreement, found.top) == pytest.approx((1, 1, 5))


def test_draws_of_nothing_but_chance_agree_by_chance():
    chance = np.random.default_rng(0)
    found = [stability(chance.normal(size=(2, 200)), top=40) for _ in range(200)]
    assert np.mean([one.jaccard for one in found]) == pytest.approx(found[0].by_chance, abs=0.01)
    assert found[0].by_chance == pytest.approx(1 / 9)
    assert np.mean([one.rank_agreement for one in found]) == pytest.approx(0, abs=0.02)


def test_more_draws_agree_better():
    chance = np.random.default_rng(0)
    truth = chance.normal(size=300)
    agreement = [stability(truth + chance.normal(size=(count, 300)), top=20).jaccard for count in (2, 10, 50)]
    assert agreement == sorted(agreement)
    assert agreement[2] > agreement[0] + 0.2


def test_two_parts_are_the_two_halves_and_are_compared_by_what_is_asked():
    parts = np.array([[1.0, 2, 3, 4], [4.0, 3, 2, 1]])
    assert stability(parts, top=2).rank_agreement == pytest.approx(-1)
    assert stability(parts, top=2, values=lambda half: half[1:3] * 0 + [1, 2]).rank_agreement == pytest.approx(1)


@pytest.mark.parametrize("parts", [np.ones((1, 9)), np.ones((4, 1)), np.ones((4, 0))])
def test_nothing_to_compare_is_said_so(parts):
    assert stability(parts, top=5) is None


def test_top_is_all_where_there_are_fewer():
    assert stability(np.random.default_rng(0).normal(size=(4, 3)), top=20).jaccard == 1


def test_same_seed_halves_alike():
    parts = np.random.default_rng(0).normal(size=(10, 100))
    assert stability(parts, 10, seed=4) == stability(parts, 10, seed=4)
