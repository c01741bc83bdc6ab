"""Distances, cliques and intervals, against worked numbers and against proof's own."""

import numpy as np
import pytest

from guardrail.proof import tile_distances
from guardrail.study.audit import PictureSet
from guardrail.study.audit.cliques import cliques
from guardrail.study.audit.intervals import exact_interval, is_more_than, smallest_share_seen
from guardrail.study.audit.likeness import CopyLimits, adaptive_l2, blocks, compared_side, likeness, resized, tile_l2
from guardrail.study.audit.matching import nearest_works
from guardrail.study.audit.shapes import random_shapes


def test_tile_l2_is_proofs_farthest_tile():
    ones, others = random_shapes(3, 1).pixels(32), random_shapes(4, 2).pixels(32)
    expected = [[tile_distances(one / 255, other / 255).max() for other in others] for one in ones]
    assert tile_l2(ones, others) == pytest.approx(np.array(expected), abs=1e-3)


def test_one_tile_that_differs_decides():
    white = np.full((1, 16, 16, 3), 255, np.uint8)
    spotted = white.copy()
    spotted[0, :4, :4] = 0
    assert tile_l2(white, spotted)[0, 0] == pytest.approx(1)
    spotted[0, :4, :4] = 204
    assert tile_l2(white, spotted)[0, 0] == pytest.approx(0.2, abs=1e-3)


def test_correlation_does_not_see_tint_and_contrast_and_sees_flips():
    pixels = random_shapes(2, 1).pixels(32)
    edited = np.stack([(pixels[0, :, ::-1] * 0.5 + [60, 30, 90]).astype(np.uint8), pixels[1]])
    found = likeness(edited, pixels)
    assert found.correlation[0, 0] > 0.99
    assert found.correlation[1, 1] == pytest.approx(1)
    assert found.correlation[0, 1] < 0.9


def test_adaptive_distance_is_half_the_mean_to_the_nearest():
    distances = np.array([[0.1, 0.2, 0.3, 0.8]], np.float32)
    assert adaptive_l2(distances, neighbours=3)[0] == pytest.approx(distances[0] / (0.5 * 0.2))


@pytest.mark.parametrize(("side", "compared"), [(512, 64), (64, 64), (48, 48), (50, 48), (16, 16), (3, 4)])
def test_pictures_are_compared_at_most_at_64(side, compared):
    assert compared_side(side) == compared


def test_blocks_cover_every_row_once():
    rows = np.concatenate([np.arange(1000)[one] for one in blocks(1000, 30_000)])
    assert rows.tolist() == list(range(1000))


def test_resized_keeps_what_fits():
    pixels = random_shapes(2, 1).pixels(16)
    assert resized(pixels, 16) is pixels
    assert resized(pixels, 8).shape == (2, 8, 8, 3)


def test_nearest_works_are_the_same_read_in_blocks(monkeypatch):
    works, pixels = random_shapes(40, 1), random_shapes(40, 1).pixels(16)[::5]
    whole = nearest_works(pixels, works, CopyLimits())
    monkeypatch.setattr("guardrail.study.audit.matching._WORKS_AT_ONCE", 7)
    in_blocks = nearest_works(pixels, works, CopyLimits())
    assert whole.copied.tolist() == list(range(0, 40, 5))
    for name in ("tile_l2", "correlation", "copied", "copied_l2", "copied_correlation", "alike"):
        assert np.allclose(getattr(whole, name), getattr(in_blocks, name), atol=1e-3), name
    assert whole.adaptive is None


def test_adaptive_distance_is_measured_from_500_works():
    noise = np.random.default_rng(0).integers(0, 256, (500, 8, 8, 3), np.uint8)
    works = PictureSet(tuple(map(str, range(500))), (None,) * 500, lambda row, side_px: noise[row])
    other = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3), np.uint8)
    found = nearest_works(np.concatenate([noise[:1], other]), works, CopyLimits())
    assert found.adaptive is not None
    assert found.adaptive[0] < 0.1
    assert found.adaptive[1] > 1


# --- cliques --------------------------------------------------------------------------------------------------------


def graph(count, *groups):
    near = np.zeros((count, count), bool)
    for group in groups:
        for one in group:
            near[one, [other for other in group if other != one]] = True
    return near


def test_cliques_are_disjoint_and_largest_first():
    near = graph(20, range(0, 5), range(4, 11), range(12, 15))
    assert cliques(near, at_least=3) == ((4, 5, 6, 7, 8, 9, 10), (0, 1, 2, 3), (12, 13, 14))


def test_chain_of_neighbours_is_no_clique():
    near = graph(20, *[(at, at + 1) for at in range(19)])
    assert cliques(near, at_least=3) == ()


def test_nothing_near_has_no_clique():
    assert cliques(np.zeros((0, 0), bool)) == ()
    assert cliques(np.ones((9, 9), bool)) == ()
    assert cliques(np.ones((10, 10), bool)) == (tuple(range(10)),)


def test_component_of_very_many_cliques_ends():
    near = np.ones((60, 60), bool)
    near[np.arange(60), np.arange(60) ^ 1] = False  # each row is near all but one: 2^30 maximal cliques
    (found, *_) = cliques(near)
    assert len(found) == 30


# --- intervals ------------------------------------------------------------------------------------------------------


def test_interval_of_clopper_and_pearson():
    assert exact_interval(0, 20) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))
    assert exact_interval(10, 10) == pytest.approx((0.025**0.1, 1))
    assert exact_interval(0, 0) == (0, 1)


def test_rate_that_held_out_pictures_explain_is_no_more():
    assert is_more_than(1, 100, 0, 100)
    assert not is_more_than(0, 100, 0, 100)
    assert not is_more_than(5, 100, 5, 100)
    assert is_more_than(50, 100, 5, 100)


def test_smallest_share_seen_is_the_one_that_is_seen_95_times_of_100():
    share = smallest_share_seen(10, 256)
    drawn = np.random.default_rng(0).binomial(256, share, 20_000)
    assert (drawn >= 10).mean() == pytest.approx(0.95, abs=0.01)
    assert smallest_share_seen(10, 10) == 1
