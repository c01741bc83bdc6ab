"""Pieces of work take turns, and what is said of them are medians and quartiles of what a clock saw."""

import itertools

import pytest

from guardrail.study.speed import Quartiles, measured_ms, pace_of, times_as_fast


class Clock:
    """A clock that stands still unless it is moved."""

    now_s = 100.0

    def __call__(self):
        return self.now_s

    def wait(self, seconds):
        self.now_s += seconds


@pytest.fixture
def clock():
    return Clock()


def test_each_piece_of_work_is_charged_its_own_time(clock):
    spent = measured_ms({"quick": lambda: clock.wait(0.001), "slow": lambda: clock.wait(0.25)}, 3, clock=clock)
    assert spent["quick"] == pytest.approx((1, 1, 1))
    assert spent["slow"] == pytest.approx((250, 250, 250))


def test_work_takes_turns_and_every_second_round_goes_backwards():
    order = []
    measured_ms({name: lambda name=name: order.append(name) for name in "abc"}, 3)
    assert "".join(order) == "abc" + "abc" + "cba" + "abc"  # the first does not count


def test_first_run_does_not_count(clock):
    lengths = itertools.chain([9.0], itertools.repeat(0.002))
    spent = measured_ms({"warming up": lambda: clock.wait(next(lengths))}, 2, clock=clock)
    assert spent["warming up"] == pytest.approx((2, 2))


def test_device_is_waited_for_within_what_is_measured(clock):
    owed = []

    def settle():
        clock.wait(sum(owed))
        owed.clear()

    spent = measured_ms({"queued": lambda: owed.append(0.01)}, 2, settle, clock=clock)
    assert spent["queued"] == pytest.approx((10, 10))


def test_error_in_a_piece_of_work_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        measured_ms({"broken": lambda: 1 / 0}, 1)


def test_progress_counts_rounds():
    seen = []
    measured_ms({"a": lambda: None, "b": lambda: None}, 2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_pace_is_of_one_image():
    pace = pace_of("stage", 4, (40.0, 80.0, 60.0))
    assert (pace.image_ms, pace.image_ms_low, pace.image_ms_high) == (15, 12.5, 17.5)
    assert pace.repeats == 3
    assert pace.images_per_second == pytest.approx(1000 / 15)


def test_one_repeat_is_its_own_median_and_quartiles():
    assert Quartiles.of([7.0]) == (7, 7, 7)


def test_one_outlier_does_not_move_the_median():
    assert Quartiles.of([1.0, 1.0, 1.0, 1.0, 1000.0]).median == 1


def test_ratio_is_taken_round_by_round():
    ours, theirs = (1.0, 10.0, 100.0), (2.0, 20.0, 200.0)  # the machine slowed down, for both alike
    assert times_as_fast(ours, theirs) == (2, 2, 2)


def test_rounds_of_different_length_are_refused():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        times_as_fast((1.0, 2.0), (1.0,))
