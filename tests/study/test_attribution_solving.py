"""Influence from gradients: both sides give the same, which is that of the plain formula; nothing is solved twice."""

import numpy as np
import pytest

from guardrail.study.attribution.solving import Decomposition, DualSolver, Solver, decomposed, primal_scores


def gradients(count, counters, seed=0):
    return np.random.default_rng(seed).normal(size=(count, counters))


def by_formula(rows, queries, damping):
    """The plain version: the linear system itself, image by image."""
    kernel = rows.T @ rows + damping * np.eye(rows.shape[1])
    return np.array([[query @ np.linalg.solve(kernel, row) for row in rows] for query in queries])


@pytest.mark.parametrize(("count", "side"), [(1, "dual"), (7, "dual"), (12, "dual"), (13, "primal"), (48, "primal")])
def test_both_sides_are_the_formula(count, side):
    rows, queries = gradients(count, 12), gradients(3, 12, seed=1)
    solver = Solver.of(rows)
    assert solver.decomposition.side == side
    expected = by_formula(rows, queries, solver.safe_damping)
    assert np.allclose(solver.influences(queries), expected, rtol=1e-5, atol=1e-10)
    assert np.allclose(primal_scores(rows, queries, solver.safe_damping), expected, rtol=1e-5, atol=1e-10)
    assert np.allclose(DualSolver.of(rows).scores(queries, solver.safe_damping), expected, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("damping", [1e-6, 1.0, 1e6])
def test_one_decomposition_serves_every_damping(damping):
    rows, queries = gradients(9, 12), gradients(3, 12, seed=1)
    assert np.allclose(Solver.of(rows).influences(queries, damping), by_formula(rows, queries, damping), rtol=1e-5)


@pytest.mark.parametrize("count", [10, 30])
def test_blocks_give_what_the_whole_gives(count):
    rows, queries = gradients(count, 12).astype(np.float32), gradients(3, 12, seed=1)

    def blocks():
        return (rows[start : start + 4] for start in range(0, count, 4))

    streamed = Solver(blocks, decomposed(blocks, count, 12))
    assert np.allclose(streamed.influences(queries), Solver.of(rows).influences(queries), rtol=1e-6, atol=1e-12)


def test_safe_damping_is_a_tenth_of_the_mean_eigenvalue_on_both_sides():
    rows = gradients(9, 12)
    assert Solver.of(rows).safe_damping == pytest.approx(0.1 * np.square(rows).sum() / 9)
    assert Solver.of(rows.T).safe_damping == pytest.approx(0.1 * np.square(rows).sum() / 9)
    assert DualSolver.of(rows).safe_damping == pytest.approx(Solver.of(rows).safe_damping)


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan")])
def test_damping_that_damps_nothing_is_refused(damping):
    with pytest.raises(ValueError, match="damping"):
        Solver.of(gradients(3, 4)).influences(gradients(1, 4), damping)


def test_gradients_that_are_zero_are_refused():
    with pytest.raises(ValueError, match="zero"):
        Solver.of(np.zeros((3, 4))).influences(gradients(1, 4))


class TestKept:
    def test_it_comes_back_for_the_same_rows_alone(self, tmp_path):
        made = Solver.of(gradients(5, 8)).decomposition
        made.write(tmp_path / "eigen.npz", "rows of today")
        found = Decomposition.read(tmp_path / "eigen.npz", "rows of today")
        assert found is not None
        assert found.side == made.side
        assert np.array_equal(found.values, made.values)
        assert np.array_equal(found.vectors, made.vectors)
        assert Decomposition.read(tmp_path / "eigen.npz", "rows of tomorrow") is None

    @pytest.mark.parametrize("keep", [0, 1, 100, 500])
    def test_cut_file_is_made_again(self, tmp_path, keep):
        path = tmp_path / "eigen.npz"
        assert Decomposition.read(path, "rows") is None
        Solver.of(gradients(5, 8)).decomposition.write(path, "rows")
        path.write_bytes(path.read_bytes()[:keep])
        assert Decomposition.read(path, "rows") is None
