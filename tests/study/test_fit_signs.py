"""Limits of signs hold the rates they were asked for."""

import numpy as np
import pytest

from guardrail.errors import BackgroundTooSmall
from guardrail.study.signs import SignRuns, fit_sign


def runs(values, scale="length", prompts=None):
    numbers = list(range(len(values))) if prompts is None else prompts
    return SignRuns("sign", "unit", scale, None, np.asarray(values, np.float64), numbers, "the prompts")


def drawn(seed):
    return np.exp(np.random.default_rng(seed).normal(1.0, 0.3, 1000))


@pytest.fixture
def lengths():
    return drawn(0)


def test_limits_hold_on_runs_that_were_not_fitted_to():
    fresh = np.exp(np.random.default_rng(100).normal(1.0, 0.3, 200_000))
    fitted = [fit_sign(runs(drawn(seed)), 1e-2, 1e-3) for seed in range(7)]
    flags, blocks = ([(fresh >= one.limit).mean() for one in limits] for limits in _limits(fitted))
    assert np.median(flags) == pytest.approx(1e-2, rel=0.5)
    assert np.median(blocks) == pytest.approx(1e-3, rel=0.7)


def _limits(fitted):
    return [one.flag for one in fitted], [one.block for one in fitted]


def test_interval_lies_around_the_limit(lengths):
    found = fit_sign(runs(lengths), 1e-2, 1e-3)
    assert found.flag.low <= found.flag.limit <= found.flag.high
    assert found.block.low <= found.block.limit <= found.block.high
    assert found.block.limit > found.flag.limit
    assert (found.flag.method, found.block.method) == ("empirical", "extrapolated")


def test_what_was_measured_is_said(lengths):
    found = fit_sign(runs(lengths), 1e-2, 1e-3)
    flags, blocks = found.false_alarms
    assert (flags.asked, flags.pictures, flags.reached) == (1e-2, 1000, (lengths >= found.flag.limit).sum())
    assert 0 < flags.held_out < 30
    assert blocks.held_out < flags.held_out
    assert (found.runs, found.lowest, found.highest) == (1000, lengths.min(), lengths.max())


def test_unit_does_not_matter(lengths):
    one, thousand = (fit_sign(runs(times * lengths), 1e-2, 1e-3) for times in (1.0, 1000.0))
    assert thousand.flag.limit == pytest.approx(1000 * one.flag.limit)
    assert thousand.block.limit == pytest.approx(1000 * one.block.limit, rel=1e-6)


def test_cosines_stay_below_one():
    values = np.tanh(np.random.default_rng(0).normal(1.5, 0.3, 1000))
    found = fit_sign(runs(values, "cosine"), 1e-2, 1e-3)
    assert values.mean() < found.flag.limit < found.block.limit <= 1


def test_runs_of_one_prompt_are_held_out_together():
    chance = np.random.default_rng(0)
    values = np.r_[chance.normal(1.0, 0.01, 900), chance.normal(2.0, 0.01, 100)]
    together = fit_sign(runs(values, prompts=[*range(900), *[900] * 100]), 5e-2, 1e-2)
    apart = fit_sign(runs(values), 5e-2, 1e-2)
    assert together.false_alarms[0].held_out >= 100
    assert 30 < apart.false_alarms[0].held_out < 70


def test_too_few_runs_are_refused(lengths):
    with pytest.raises(BackgroundTooSmall, match="199"):
        fit_sign(runs(lengths[:199]), 1e-2, 1e-3)
