"""What trainings without part of the works found, as arrays; one file, partial as long as trainings are missing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution_bench.tasks import BenchTask

__all__ = ["Truth", "read_truth", "subsets_of", "write_truth"]

_SUBSET_SALT = 1  # so that subsets are drawn by another generator than pictures


@dataclass(frozen=True, slots=True)
class Truth:
    """The losses of queries under models that were trained on parts of the works.

    What was not trained yet is NaN.

    Attributes:
        masks: bool (M, W), which works each subset holds.
        losses: float32 (M, S, Q), of each subset, seed and query; generated queries come first.
        full: float32 (S, Q), of models trained on all works.
        without: float32 (H, S, Q), of models trained on the works of all holders but one; H = 0 where none were.
        moved_top, moved_random: float32 (P,), how far (root mean square, 0..255) each of the first generated queries
            moves, from the same noise, after its most influential tenth of works, or a random tenth, was left out.
        generated: uint8 (G, S, S, 3), the queries that the full model of the first seed made.
        weights: float32 (P,), that model's parameters in their order.
        cpu_s: float64 (), of all trainings and looks together.
        torch_version: text (), they were made with.
    """

    masks: NDArray[np.bool_]
    losses: NDArray[np.float32]
    full: NDArray[np.float32]
    without: NDArray[np.float32]
    moved_top: NDArray[np.float32]
    moved_random: NDArray[np.float32]
    generated: NDArray[np.uint8]
    weights: NDArray[np.float32]
    cpu_s: NDArray[np.float64]
    torch_version: NDArray[np.str_]

    @property
    def done(self) -> NDArray[np.bool_]:
        """Subsets that were trained with every seed, bool (M,)."""
        return np.asarray(np.isfinite(self.losses).all(axis=(1, 2)))


def subsets_of(task: BenchTask) -> NDArray[np.bool_]:
    """The halves of the works that are trained on, bool (M, W); the same for the same task."""
    chance = np.random.default_rng([task.seed, _SUBSET_SALT])
    masks = np.zeros((task.plan.subsets, task.works), np.bool_)
    for mask in masks:
        mask[chance.permutation(task.works)[: task.works // 2]] = True
    return masks


def write_truth(truth: Truth, path: Path) -> None:
    """Write a truth as one compressed .npz, whole or not at all."""
    unfinished = path.with_suffix(".tmp.npz")
    np.savez_compressed(unfinished, allow_pickle=False, **{one.name: getattr(truth, one.name) for one in fields(Truth)})
    unfinished.replace(path)


def read_truth(path: Path, task: BenchTask) -> Truth:
    """Read a truth, and make sure that it is this task's.

    Raises:
        AttributionImpossible: there is none, or its subsets are another task's.
    """
    if not path.is_file():
        raise AttributionImpossible(
            f"the truth of {task.name}", "no file", path.name, "make it with `python tools/attribution/truth.py`"
        )
    with np.load(path, allow_pickle=False) as stored:
        truth = Truth(**{one.name: stored[one.name] for one in fields(Truth)})
    if not np.array_equal(truth.masks, subsets_of(task)):
        raise AttributionImpossible(
            f"the truth of {task.name}",
            f"other subsets {truth.masks.shape}",
            f"those of this version {(task.plan.subsets, task.works)}",
            "make it again with `python tools/attribution/truth.py`",
        )
    return truth
