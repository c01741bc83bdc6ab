"""Recalls, limits and intervals from nearness: against counts done by hand on made-up looks."""

import numpy as np
import pytest

from guardrail.errors import BackgroundTooSmall
from guardrail.study.copies import FUSED, Looks, measure_copies

WORKS, CLEAN = 20, 100


def made_up(seed=0, copies_per_work=3):
    """Clean pictures at random; copies of `crop` seen by `copy` alone, of `tint` by `pdq` alone, of `text` by none."""
    chance = np.random.default_rng(seed)
    edits = ["crop", "tint", "text"][:copies_per_work]
    right = np.concatenate([np.arange(WORKS)] * len(edits) + [np.full(CLEAN, -1)])
    rows = len(right)
    copy = chance.random((rows, WORKS)).astype(np.float32) / 2
    pdq = -chance.integers(90, 140, (rows, WORKS)).astype(np.float32)
    for row, work in enumerate(right[: WORKS * len(edits)]):
        copy[row, work] = 0.9 if row < WORKS else 0.0
        pdq[row, work] = -20 if WORKS <= row < 2 * WORKS else -130
    names = tuple(edit for edit in edits for _ in range(WORKS)) + ("",) * CLEAN
    return Looks({"pdq": pdq, "copy": copy}, right.astype(np.int64), names, (50.0,) * rows)


@pytest.fixture(scope="module")
def figures():
    return measure_copies(made_up(), ("pdq", "copy"), (0.05, 0.2))


def by_edit(figures, rate=0.05):
    return {(one.edit, one.signal): one for one in figures.edits if one.false_alarms == rate}


def test_each_signal_finds_the_edits_it_sees_and_the_fused_one_finds_both(figures):
    recalls = {key: one.recall for key, one in by_edit(figures).items()}
    assert recalls["crop", "copy"] == recalls["tint", "pdq"] == 1
    assert recalls["crop", FUSED] == recalls["tint", FUSED] == 1
    assert recalls["crop", "pdq"] == recalls["tint", "copy"] == recalls["text", FUSED] == 0


def test_alarms_stay_within_the_rate_for_each_signal_and_for_all_together(figures):
    for one in figures.signals:
        assert one.alarms <= one.false_alarms * CLEAN
        assert one.alarms_low <= one.alarms / CLEAN <= one.alarms_high


def test_limits_of_distances_are_whole_and_inclusive(figures):
    pdq = next(one for one in figures.signals if one.signal == "pdq" and one.false_alarms == 0.05)
    looks = made_up()
    nearest = looks.nearness["pdq"][looks.right < 0].max(axis=1)
    assert pdq.limit == int(pdq.limit)
    assert (nearest >= pdq.limit).sum() == pdq.alarms
    assert (nearest >= pdq.limit - 1).sum() > 0.05 * CLEAN


def test_intervals_hold_the_recall_and_narrow_with_more_copies(figures):
    one = by_edit(figures)["crop", "copy"]
    assert (one.copies, one.found) == (WORKS, WORKS)
    assert one.low < 1 == one.high
    assert one.low == pytest.approx(20 / (20 + 1.959964**2))  # Wilson's lower end where all are found
    for signal in figures.signals:
        assert signal.low <= signal.recall <= signal.high


def test_rate_finer_than_the_clean_pictures_is_refused():
    with pytest.raises(BackgroundTooSmall, match=r"100 pictures .* at least 1000"):
        measure_copies(made_up(), ("pdq", "copy"), (0.001,), "there")


def test_one_clean_picture_an_alarm_is_enough():
    assert measure_copies(made_up(), ("copy",), (0.01,)).signals[0].alarms == 1


def test_peers_stand_beside_and_are_not_fused():
    looks = made_up()
    peer = np.where(looks.right[:, None] == np.arange(WORKS), 1.0, 0.0).astype(np.float32)
    beside = Looks({**looks.nearness, "peer": peer}, looks.right, looks.edits, looks.intensities)
    alone, with_peer = (measure_copies(one, ("pdq", "copy"), (0.05,)) for one in (looks, beside))
    assert with_peer.micro_ap["peer"] == 1
    assert with_peer.micro_ap[FUSED] == alone.micro_ap[FUSED]
    assert list(with_peer.micro_ap) == ["pdq", "copy", FUSED, "peer"]


def test_a_work_that_was_not_brought_up_is_not_found():
    looks = made_up()
    silent = Looks({"copy": np.full_like(looks.nearness["copy"], -np.inf)}, looks.right, looks.edits, looks.intensities)
    figures = measure_copies(silent, ("copy",), (0.5,))
    assert {one.recall for one in figures.edits} == {0.0}
    assert figures.micro_ap == {"copy": 0.0, FUSED: 0.0}
    assert figures.pooled_recall["copy"] == 0


def test_signal_that_is_silent_on_clean_pictures_counts_whatever_it_says_of_copies():
    inliers = np.full((WORKS + CLEAN, WORKS), -np.inf, np.float32)
    inliers[np.arange(WORKS), np.arange(WORKS)] = np.arange(7, 7 + WORKS)
    right = np.append(np.arange(WORKS), np.full(CLEAN, -1))
    looks = Looks({"geometry": inliers}, right, ("crop",) * WORKS + ("",) * CLEAN, (50.0,) * len(right))
    figures = measure_copies(looks, ("geometry",), (0.05,))
    assert {one.recall for one in figures.signals} == {1.0}
    assert (figures.signals[0].limit, figures.signals[0].alarms) == (7.0, 0)


def test_pooled_recall_is_of_all_edits_under_one_limit(figures):
    assert figures.pooled_recall["copy"] == pytest.approx(1 / 3)
    assert figures.pooled_recall["pdq"] == pytest.approx(1 / 3)
