"""How well estimates foretell losses: rank correlations, their intervals, and the choice of a damping."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from guardrail.study.attribution_bench.lds import (
    foretold,
    group_agreement,
    intervals,
    noise_ceiling,
    rank_agreement,
    tuned,
)


@pytest.fixture
def linear():
    """Losses that fall by the influence of each work that was trained on, with a little noise."""
    chance = np.random.default_rng(0)
    influences = chance.normal(size=(12, 40))
    masks = np.array([chance.permutation(40) < 20 for _ in range(48)])
    losses = np.stack([-influences @ masks.T + chance.normal(0, 0.5, (12, 48)) for _ in range(2)])
    return influences, masks, losses.transpose(2, 0, 1)


def test_rank_agreement_is_spearmans_with_ties():
    chance = np.random.default_rng(1)
    one, other = chance.integers(0, 5, (3, 20)), chance.normal(size=(3, 20))
    expected = [spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(rank_agreement(one, other), expected, atol=1e-12)


def test_a_constant_row_agrees_with_nothing():
    assert rank_agreement(np.ones((1, 5)), np.arange(5.0)[None])[0] == 0


def test_true_influences_foretell_and_reversed_ones_foretell_the_reverse(linear):
    influences, masks, losses = linear
    better = -losses.mean(axis=1).T
    found, again = intervals(
        {"true": foretold(influences, masks), "reversed": foretold(-influences, masks)}, better, 50
    )
    assert found["true"].value > 0.95
    assert found["reversed"].value == pytest.approx(-found["true"].value)
    assert found["true"].low <= found["true"].value <= found["true"].high
    np.testing.assert_allclose(again["true"], -again["reversed"])  # the same resamples for both


def test_ceiling_falls_with_noise(linear):
    _, _, losses = linear
    noisier = losses + np.random.default_rng(2).normal(0, 20, losses.shape)
    assert noise_ceiling(losses).mean() > 0.9 > 0.3 > noise_ceiling(noisier).mean()


def test_damping_is_chosen_by_its_worth_and_judged_elsewhere(linear):
    influences, masks, losses = linear
    better = -losses.mean(axis=1).T
    noise = np.random.default_rng(3).normal(size=influences.shape)
    found, chosen = tuned({1.0: foretold(influences, masks), 2.0: foretold(noise, masks)}, better)
    assert chosen == [1.0] * 4
    assert found > 0.9


def test_damping_without_worth_gains_nothing_by_being_chosen():
    """The best of many chance estimates looks good where it was chosen; judged elsewhere it is chance."""
    chance = np.random.default_rng(4)
    truth = chance.normal(size=(8, 16))
    estimates = {float(at): chance.normal(size=truth.shape) for at in range(200)}
    best = max(rank_agreement(one, truth).mean() for one in estimates.values())
    assert best > 0.15
    assert abs(tuned(estimates, truth)[0]) < 0.15


def test_holders_are_ranked_by_their_works_together():
    influences = np.array([[3.0, 3, 0, 0, 1, 1]])
    holders = np.array([0, 0, 1, 1, 2, 2])
    risen = np.array([[0.9], [0.1], [0.4]])
    assert group_agreement(influences, holders, risen)[0] == pytest.approx(1)
