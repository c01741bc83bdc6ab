"""How near pictures came is counted in the signal's own unit, and kept with the limits."""

import numpy as np
import pytest

from guardrail.records import Signal, SignalLimits
from guardrail.study.calibrate import unit_of
from guardrail.study.histograms import histogram_of, with_histograms


def _of(signal, values):
    unit = unit_of(signal)
    assert unit is not None
    return histogram_of(np.array(values, np.float64), unit)


def test_distances_are_counted_in_bits_with_whole_bins():
    found = _of(Signal.PDQ, [-31.0, -31.0, -64.0, -200.0, np.nan, -np.inf])
    width = (found.high - found.low) / len(found.counts)
    assert width == int(width)
    assert found.low == 31
    assert found.high > 200
    assert found.counts[0] == 2
    assert (sum(found.counts), found.far) == (4, 1)


def test_similarities_keep_every_picture_and_leave_out_those_of_which_a_signal_says_nothing():
    values = np.random.default_rng(3).uniform(-0.2, 0.9, 500)
    found = _of(Signal.COPY, [*values, np.nan, -np.inf, -np.inf])
    assert sum(found.counts) == 500
    assert found.far == 2
    assert (found.low, found.high) == (values.min(), values.max())
    by_hand, _ = np.histogram(values, bins=len(found.counts))
    assert found.counts == tuple(by_hand)


@pytest.mark.parametrize("signal", [Signal.COPY, Signal.PDQ, Signal.GEOMETRY])
def test_one_value_is_a_histogram_of_one_bin(signal):
    sign = -1 if signal is Signal.PDQ else 1
    found = _of(signal, [sign * 0.5 if signal is Signal.COPY else sign * 7.0])
    assert found.counts == (1,)
    assert found.low < found.high


def test_nothing_near_makes_no_histogram():
    assert _of(Signal.COPY, [np.nan, -np.inf]) is None


def test_limits_carry_both_histograms_and_what_was_not_looked_at_is_none():
    fitted = (SignalLimits(signal=Signal.COPY, pictures=3), SignalLimits(signal=Signal.PHASH, pictures=3))
    background = {Signal.COPY: np.array([0.1, 0.2, 0.3]), Signal.PHASH: np.array([-5.0, -9.0, -11.0])}
    copy, phash = with_histograms(fitted, background, {Signal.COPY: np.array([0.9, 0.95])})
    assert sum(copy.background.counts) == 3
    assert sum(copy.copies.counts) == 2
    assert sum(phash.background.counts) == 3
    assert phash.copies is None
