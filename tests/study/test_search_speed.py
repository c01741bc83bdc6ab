"""What a benchmark of search asks with is what it says: copies at a cosine, hashes at a distance, slopes of growth."""

import numpy as np
import pytest

from guardrail.study.search_speed import drawn_vectors, growth_of, near_hashes, planted_copies, recall_of


def test_drawn_vectors_are_unit_length_and_drawn_again_by_their_seed():
    first, again, other = (np.concatenate(list(drawn_vectors(300, 32, seed))) for seed in (1, 1, 2))
    assert first.shape == (300, 32)
    assert first.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(first.astype(np.float32), axis=1), 1, atol=2e-3)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_drawn_vectors_come_some_at_a_time():
    assert [len(piece) for piece in drawn_vectors(120_000, 8, 0)] == [50_000, 50_000, 20_000]


def test_drawn_vectors_lie_about_a_mean_as_descriptors_do():
    vectors = np.concatenate(list(drawn_vectors(4000, 64, 0))).astype(np.float32)
    assert 0.2 < np.linalg.norm(vectors.mean(0)) < 0.5


@pytest.mark.parametrize("cosine", [0.6, 0.9, 1.0])
def test_planted_copies_stand_at_their_cosine(cosine):
    vectors = np.concatenate(list(drawn_vectors(50, 64, 0)))
    planted = planted_copies(vectors, np.arange(50), cosine, 3)
    towards = vectors.astype(np.float32)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    np.testing.assert_allclose((planted.queries * towards).sum(1), cosine, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(planted.queries, axis=1), 1, atol=1e-5)
    assert planted.queries.dtype == np.float32


@pytest.mark.parametrize("bits", [0, 1, 31, 64])
def test_near_hashes_differ_in_so_many_bits(bits):
    codes = np.random.default_rng(0).integers(0, 256, (20, 8), dtype=np.uint8)
    near = near_hashes(codes, bits, 1)
    assert (np.bitwise_count(codes ^ near).sum(1) == bits).all()
    assert bits in (0, 64) or len(np.unique(codes ^ near, axis=0)) > 1, "other bits in each"


def test_recall_counts_copies_with_anything_as_near_as_their_row():
    found = np.array([0.8, 0.9, 0.7, -1], np.float32)
    assert recall_of(found, np.array([0.8, 0.85, 0.70001, 0.6], np.float32)) == 0.5


@pytest.mark.parametrize(
    ("spent", "slope"),
    [({10: 1.0, 1000: 100.0}, 1.0), ({10: 5.0, 100: 5.0, 1000: 5.0}, 0.0), ({100: 1.0, 10_000: 10.0}, 0.5)],
)
def test_growth_is_the_slope_of_logarithms(spent, slope):
    assert growth_of(spent) == pytest.approx(slope)


@pytest.mark.parametrize("spent", [{}, {10: 1.0}, {10: 0.0, 20: 1.0}])
def test_growth_of_one_size_is_not_known(spent):
    assert growth_of(spent) is None
