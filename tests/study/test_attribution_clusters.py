import numpy as np
import pytest
from pulled import World

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.clusters import cosine_limit, cosine_pairs, digest_groups, gradient_pairs, grouped


def test_rows_are_labelled_in_the_order_of_the_first_of_each_group():
    assert grouped(6, [(4, 1)], [(5, 3)]).tolist() == [0, 1, 2, 3, 1, 3]


def test_groups_of_different_roads_that_meet_are_one():
    assert grouped(5, [(0, 2)], [(2, 4), (4, 4)]).tolist() == [0, 1, 0, 2, 0]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_without_near_duplicates_each_row_stands_for_itself(count):
    assert grouped(count).tolist() == list(range(count))


@pytest.mark.parametrize("pair", [(0, 3), (-1, 0)])
def test_a_row_that_is_not_there_is_refused(pair):
    with pytest.raises(AttributionImpossible, match="group the rows of the index"):
        grouped(3, pairs=[pair])


def test_equal_digests_are_groups_and_no_digest_is_none():
    assert digest_groups(["a", "", "b", "a", "", "b", "c", "a"]) == ((0, 3, 7), (2, 5))


def test_copies_are_found_by_their_gradients_and_nothing_else_is():
    world = World(training=300, decoys=60)
    world.copy(20, 4)
    assert gradient_pairs(world.rows, world.decoys) == [(20, 21), (20, 22), (20, 23), (21, 22), (21, 23), (22, 23)]


def test_what_all_gradients_have_in_common_does_not_make_copies_of_them():
    world = World(training=300, decoys=60)
    world.copy(20, 2)
    world.rows += 300 * world.basis[0]
    raw = cosine_pairs(world.rows, 0.999)
    assert len(raw) > 1000
    assert gradient_pairs(world.rows, world.decoys) == [(20, 21)]


def test_limit_is_half_way_between_the_nearest_decoys_and_one():
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.01]])
    found = cosine_limit(rows, np.array([True, True, True, False]))
    assert found == pytest.approx((1 + 0.5**0.5) / 2)


def test_pairs_are_those_of_all_cosines_whatever_the_block(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(50, 8))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = [(a, b) for a in range(50) for b in range(a + 1, 50) if unit[a] @ unit[b] >= 0.5]
    assert expected
    assert cosine_pairs(rows, 0.5) == expected
    monkeypatch.setattr("guardrail.study.attribution.clusters._ROWS_AT_ONCE", 7)
    assert cosine_pairs(rows, 0.5) == expected


def test_gradients_without_a_direction_are_near_nothing():
    assert cosine_pairs(np.zeros((3, 4)), 0.9) == []


def test_without_two_decoys_no_cosine_is_enough():
    rows = np.tile([1.0, 2.0, 3.0], (4, 1))
    assert gradient_pairs(rows, np.array([False, False, False, True])) == []
