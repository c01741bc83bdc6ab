"""A task and its truth in, the figures of every method beside each other, and whether the goals are met, out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.solving import DualSolver
from guardrail.study.attribution_bench.estimates import Gradients, Way, gradients_of, influences_of, neighbours_of
from guardrail.study.attribution_bench.lds import (
    Interval,
    foretold,
    group_agreement,
    intervals,
    noise_ceiling,
    tuned,
)
from guardrail.study.attribution_bench.making import model_of
from guardrail.study.attribution_bench.pictures import BenchPictures
from guardrail.study.attribution_bench.tasks import BenchTask
from guardrail.study.attribution_bench.truth import Truth

__all__ = ["FEWEST_SUBSETS", "OURS", "Comparison", "Goal", "Row", "compare", "ways_of"]

OURS = Way("noise_norm", 10, 4096)
"""What guardrail does."""

FEWEST_SUBSETS = 8
"""Below this a rank correlation over subsets says nothing."""

_DAMPINGS = tuple(10.0**power for power in np.arange(-4, 3.1, 0.5))  # times the mean eigenvalue
_LARGE = 500  # works from which even the exact gradients are sketched, so that they fit into memory
_MANY_COUNTERS = 65_536  # then
_OF_EXACT, _GROUPS, _MOVED = 0.9, 0.6, 2.0  # the goals


@dataclass(frozen=True, slots=True)
class Row:
    """One method on one kind of query.

    Attributes:
        method: its name.
        queries: `generated` or `held-out`.
        lds: with the safe damping, which comes from the gradients alone.
        tuned_lds: with the best damping, chosen on other queries and subsets; None where there is none to choose.
        bytes_a_work: what is kept of a work.
        cpu_s: for all works and queries.
    """

    method: str
    queries: str
    lds: Interval
    tuned_lds: float | None
    bytes_a_work: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal, the figure that was measured, and the interval of it where one was."""

    goal: str
    figure: float
    met: bool
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All figures of a task.

    Attributes:
        task: its name.
        subsets, of: how many were trained with all seeds, and how many will be.
        rows: one for each method and kind of query.
        ceilings: by kind of query, mean Spearman of one seed with the mean of the others.
        goals: what could be measured.
    """

    task: str
    subsets: int
    of: int
    rows: tuple[Row, ...]
    ceilings: Mapping[str, float]
    goals: tuple[Goal, ...]


def ways_of(task: BenchTask) -> tuple[Way, Way, Way]:
    """Ours, TRAK's function, and what ours is measured by: the exact gradient, or a sketch of 16 times the size."""
    counters = _MANY_COUNTERS if task.works >= _LARGE else 0
    return OURS, OURS._replace(function="loss"), Way("noise_norm", 100, counters)


def compare(
    task: BenchTask,
    truth: Truth,
    pictures: BenchPictures,
    progress: Callable[[int, int], None],
    descriptors: Mapping[str, Callable[[NDArray[np.uint8]], NDArray[np.floating]]] | None = None,
) -> Comparison:
    """Measure every method against the truth; deterministic, apart from the seconds.

    Args:
        task: which.
        truth: partial or whole.
        pictures: the task's.
        progress: told (done, total).
        descriptors: by name, what makes (n, d) descriptors of uint8 (n, S, S, 3); neighbours by pixels come besides.

    Raises:
        AttributionImpossible: fewer than `FEWEST_SUBSETS` subsets are trained.
    """
    if int(truth.done.sum()) < FEWEST_SUBSETS:
        raise AttributionImpossible(
            f"the truth of {task.name}",
            f"{int(truth.done.sum())} trained subsets",
            f"{FEWEST_SUBSETS} at least",
            "go on with `python tools/attribution/truth.py`",
        )
    works = pictures.pixels[: task.works]
    queries = np.concatenate([truth.generated, pictures.held_out])
    network = model_of(task, truth.weights)
    gradients: dict[str, Gradients] = {}
    ways = ways_of(task)
    for done, way in enumerate(ways):
        progress(done, len(ways))
        gradients[way.name] = gradients_of(task, network, works, queries, way)
    progress(len(ways), len(ways))
    looks = {"pixels": _flat, **(descriptors or {})}
    near = {f"neighbours by {name}": neighbours_of(look(works), look(queries)) for name, look in looks.items()}
    plain = near | {name: influences_of(made) for name, made in gradients.items()}
    kinds = {"generated": slice(0, task.plan.generated), "held-out": slice(task.plan.generated, None)}
    rows: list[Row] = []
    goals: list[Goal] = []
    for kind, of in kinds.items():
        made, reached = _judged(truth, plain, gradients, kind, of)
        rows += made
        goals += reached
    goals += _planned(truth, pictures, plain[OURS.name])
    kept = truth.losses[truth.done]
    ceilings = {kind: float(noise_ceiling(kept[:, :, of]).mean()) for kind, of in kinds.items()}
    return Comparison(task.name, int(truth.done.sum()), len(truth.done), tuple(rows), ceilings, tuple(goals))


def _flat(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return pixels.reshape(len(pixels), -1) / 255.0


def _judged(
    truth: Truth,
    plain: Mapping[str, NDArray[np.float64]],
    gradients: Mapping[str, Gradients],
    kind: str,
    of: slice,
) -> tuple[list[Row], list[Goal]]:
    """Rows and goals of one kind of query."""
    masks, better = truth.masks[truth.done], -truth.losses[truth.done].mean(axis=1).T[of]
    expected = {name: foretold(values[of], masks) for name, values in plain.items()}
    tuned_lds: dict[str, float] = {}
    for name, made in gradients.items():
        solver = DualSolver.of(made.works)
        mean = float(solver.values.mean())
        grid = {by: foretold(solver.scores(made.queries[of], by * mean), masks) for by in _DAMPINGS}
        tuned_lds[name] = tuned(grid, better)[0]
    found, again = intervals(expected, better)
    rows = []
    for name, interval in found.items():
        made_by = gradients.get(name)
        size = made_by.bytes_a_work if made_by else 0
        rows.append(Row(name, kind, interval, tuned_lds.get(name), size, made_by.cpu_s if made_by else 0.0))
    ours, loss, exact = gradients
    nearest = max((name for name in found if name.startswith("neighbours")), key=lambda name: found[name].value)
    best = max(found[exact].value, tuned_lds[exact])  # so that few subsets, of which a fold has half, do not flatter us
    share = found[ours].value / best if best > 0 else 0.0
    goals = [Goal(f"{kind}: {ours} reaches .90 of the best exact", share, share >= _OF_EXACT)]
    for one, other in ((ours, loss), (loss, nearest)):
        low, high = (float(end) for end in np.percentile(again[one] - again[other], (2.5, 97.5)))
        goals.append(Goal(f"{kind}: {one} > {other}", found[one].value - found[other].value, low > 0, (low, high)))
    return rows, goals


def _planned(truth: Truth, pictures: BenchPictures, influences: NDArray[np.float64]) -> list[Goal]:
    """Goals on groups and on pictures that move, where their trainings are done."""
    goals = []
    if len(truth.without) and np.isfinite(truth.without).all() and np.isfinite(truth.full).all():
        risen = (truth.without - truth.full[None]).mean(axis=1)
        agreed = float(group_agreement(influences, pictures.holders, risen).mean())
        goals.append(
            Goal("summed influence of a holder against leaving it out: Spearman >= .6", agreed, agreed >= _GROUPS)
        )
    both = np.isfinite(truth.moved_top) & np.isfinite(truth.moved_random)
    if both.any():
        ratio = float(truth.moved_top[both].mean() / truth.moved_random[both].mean())
        goals.append(
            Goal("the most influential tenth moves a picture 2x as far as a random tenth", ratio, ratio >= _MOVED)
        )
    return goals
