"""Limits from made-up backgrounds: budgets, bounds, refusals, and what is said of them."""

import numpy as np
import pytest
from scipy import stats

from guardrail.errors import BackgroundTooSmall
from guardrail.records import BitsLimit, Decision, Limits, Signal, SimilarityLimit
from guardrail.study.calibrate import Asked, fit_limits, open_limits, pictures_needed, reaching, unit_of

SHIPPED = Limits(
    pdq=BitsLimit(flag_within_bits=64, block_within_bits=31),
    phash=BitsLimit(flag_within_bits=5),
    copy=SimilarityLimit(flag_above=0.6, block_above=0.8),
    correlation=SimilarityLimit(flag_above=0.86, block_above=0.92),
    clip=SimilarityLimit(flag_above=0.9),
)
BETA = stats.beta(8, 12)


def made_up(count, seed=0, copy_like=BETA):
    """A background: how near each picture comes, by four signals that do not depend on each other."""
    chance = np.random.default_rng(seed)
    return {
        Signal.PDQ: -2.0 * stats.binom(128, 0.38).rvs(count, random_state=chance),
        Signal.PHASH: -2.0 * stats.binom(32, 0.35).rvs(count, random_state=chance),
        Signal.COPY: copy_like.rvs(count, random_state=chance),
        Signal.CORRELATION: BETA.rvs(count, random_state=chance),
    }


def asked(flag_rate=1e-2, block_rate=1e-3, shipped=SHIPPED):
    return Asked("made-up", flag_rate, block_rate, shipped)


@pytest.fixture(scope="module")
def fitted():
    return fit_limits(made_up(3000), asked())


def test_all_signals_together_alarm_at_about_the_rate_asked_on_fresh_pictures(fitted):
    fresh = made_up(200_000, seed=1)
    flagged = reaching(fresh, fitted.limits, "flag").mean()
    assert 0.004 < flagged < 0.016
    assert reaching(fresh, fitted.limits, "block").mean() < 0.003


def test_measured_rates_have_an_interval_that_holds_the_truth(fitted):
    truth = reaching(made_up(200_000, seed=1), fitted.limits, "flag").mean()
    flag, block = fitted.false_alarms
    assert (flag.decision, flag.asked, flag.pictures) == ("flag", 1e-2, 3000)
    assert flag.low <= truth <= flag.high
    assert flag.held_out > 0
    assert block.asked == 1e-3
    assert block.low <= block.held_out / 3000 <= block.high


def test_no_signal_is_fitted_that_the_shipped_limits_silence(fitted):
    by_signal = {one.signal: one for one in fitted.signals}
    assert set(by_signal) == {Signal.PDQ, Signal.PHASH, Signal.COPY, Signal.CORRELATION}
    assert by_signal[Signal.PHASH].block is None
    assert fitted.limits.phash.block_within_bits is None
    assert fitted.limits.clip == SHIPPED.clip


def test_embedder_that_ships_no_limits_is_fitted_all_the_same():
    silent = SHIPPED.model_copy(update={"copy_": SimilarityLimit(), "tile": SimilarityLimit()})
    fitted = fit_limits(made_up(3000), asked(shipped=silent))
    assert fitted.limits.copy_.flag_above is not None
    assert fitted.limits.copy_.block_above >= fitted.limits.copy_.flag_above
    assert 0.004 < reaching(made_up(200_000, seed=1), fitted.limits, "flag").mean() < 0.016


def test_limits_of_hashes_are_whole_numbers(fitted):
    assert isinstance(fitted.limits.pdq.flag_within_bits, int)
    assert isinstance(fitted.limits.pdq.block_within_bits, int)
    pdq = next(one for one in fitted.signals if one.signal is Signal.PDQ)
    assert pdq.flag.limit == fitted.limits.pdq.flag_within_bits
    assert pdq.flag.low <= pdq.flag.limit <= pdq.flag.high


def test_what_blocks_flags_too(fitted):
    limits = fitted.limits
    assert limits.pdq.block_within_bits <= limits.pdq.flag_within_bits
    assert limits.copy_.block_above >= limits.copy_.flag_above
    assert limits.correlation.block_above >= limits.correlation.flag_above


def test_block_is_never_looser_than_flag_even_at_equal_rates():
    limits = fit_limits(made_up(3000), asked(1e-2, 1e-2)).limits
    assert limits.copy_.block_above >= limits.copy_.flag_above
    assert limits.copy_.reached(limits.copy_.block_above) is Decision.BLOCK


def test_pdq_never_blocks_beyond_31_bits(fitted):
    """The background would allow 60 and more; 31 is what a match means."""
    pdq = next(one for one in fitted.signals if one.signal is Signal.PDQ)
    assert fitted.limits.pdq.flag_within_bits > 60
    assert fitted.limits.pdq.block_within_bits == 31
    assert pdq.block.method == "bounded"


def test_similarity_never_blocks_below_the_shipped_flag_limit():
    far = fit_limits(made_up(3000, copy_like=stats.beta(8, 60)), asked())
    assert far.limits.copy_.block_above == SHIPPED.copy_.flag_above
    assert far.limits.copy_.flag_above < 0.4, "a flag may be looser: it asks a person"


def test_what_bounded_signals_leave_goes_to_the_others(fitted):
    """PDQ's block limit is bounded and never reached, so correlation and copy may use more than a third each."""
    by_signal = {one.signal: one for one in fitted.signals}
    assert by_signal[Signal.CORRELATION].block.share > 1e-3 / 3 * 1.2


def test_methods_say_what_was_counted_and_what_was_not(fitted):
    by_signal = {one.signal: one for one in fitted.signals}
    assert by_signal[Signal.COPY].block.method == "extrapolated"
    plenty = fit_limits(made_up(20_000), asked(1e-2, 1e-3))
    assert next(one for one in plenty.signals if one.signal is Signal.COPY).flag.method == "empirical"


@pytest.mark.parametrize(("rate", "needed"), [(1e-4, 1000), (1e-3, 200), (1e-2, 200), (3e-5, 3334)])
def test_pictures_needed(rate, needed):
    assert pictures_needed(rate) == needed


def test_refusal_stands_exactly_at_the_number_it_names():
    assert fit_limits(made_up(1000), asked(1e-3, 1e-4)).limits
    with pytest.raises(BackgroundTooSmall, match=r"999 pictures .* 0\.0001 takes at least 1000"):
        fit_limits(made_up(999), asked(1e-3, 1e-4))


def test_no_pictures_are_too_few():
    with pytest.raises(BackgroundTooSmall, match="holds 0 pictures"):
        fit_limits({}, asked())


def test_signal_that_says_nothing_of_most_pictures_keeps_its_shipped_limits():
    nearest = made_up(1500)
    nearest[Signal.PDQ][20:] = np.nan
    found = fit_limits(nearest, asked())
    assert found.limits.pdq == SHIPPED.pdq
    assert any(warning.startswith("pdq: too few") for warning in found.warnings)


def test_near_blank_pictures_do_not_count_for_their_signal():
    nearest = made_up(1500)
    nearest[Signal.PDQ][:100] = np.nan
    found = fit_limits(nearest, asked())
    assert {one.signal: one.pictures for one in found.signals}[Signal.PDQ] == 1400
    assert found.false_alarms[0].pictures == 1500


def test_copies_in_the_background_are_warned_of():
    nearest = made_up(1500)
    nearest[Signal.COPY][:5] = 0.999
    assert any(warning.startswith("copy: a few pictures") for warning in fit_limits(nearest, asked()).warnings)


def test_limit_that_lets_pass_what_was_blocked_is_warned_of():
    series = fit_limits(made_up(1500, copy_like=stats.beta(90, 10)), asked())
    assert series.limits.copy_.flag_above > SHIPPED.copy_.block_above
    assert any("stricter than the shipped block limit 0.8" in warning for warning in series.warnings)


def test_same_background_gives_the_same_limits():
    assert fit_limits(made_up(1500), asked()) == fit_limits(made_up(1500), asked())


def test_open_limits_are_reached_by_everything():
    opened = open_limits(SHIPPED)
    assert opened.pdq.reached(256) is Decision.FLAG
    assert opened.copy_.reached(-1) is Decision.FLAG
    assert opened.clip.reached(-1) is Decision.FLAG
    assert opened.pdq_quality_at_least == SHIPPED.pdq_quality_at_least


def test_every_signal_with_a_limit_has_a_unit():
    limited = {field.alias or name for name, field in Limits.model_fields.items()}
    units = {str(signal) for signal in Signal if unit_of(signal)}
    assert units == limited - {"banks", "calibration", "pdq_quality_at_least", "tile_l2_within"}
    pdq, copy = unit_of(Signal.PDQ), unit_of(Signal.COPY)
    assert (pdq.flag, pdq.sign, pdq.whole, pdq.nearest) == ("flag_within_bits", -1, True, 0)
    assert (copy.block, copy.sign, copy.whole, copy.nearest) == ("block_above", 1, False, 1)
    assert unit_of(Signal.BYTES) is None
