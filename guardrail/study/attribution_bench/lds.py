"""Estimated influences and true losses in, how well one foretells the other, with intervals, out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

__all__ = ["Interval", "foretold", "group_agreement", "intervals", "noise_ceiling", "rank_agreement", "tuned"]

_PERCENT = (2.5, 97.5)  # of a 95 % interval
_FOLDS = 2  # in subsets and in queries: a damping is chosen on one half, and judged on the other


class Interval(NamedTuple):
    """A figure, -1..1, and its 95 % interval."""

    value: float
    low: float
    high: float


def foretold(influences: NDArray[np.floating], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far each subset is expected to fit each query: the sum of its works' influences.

    Args:
        influences: (Q, W).
        masks: bool (M, W).

    Returns:
        float64 (Q, M).

    Source: Ilyas et al. 2022 (datamodels); Park et al. 2023 (TRAK), section 2.
    """
    return np.asarray(influences, np.float64) @ masks.T


def rank_agreement(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Spearman's correlation of each row of one with that of the other: float64 (Q,), 0 where a row is constant.

    Args:
        one: (Q, M), finite.
        other: the same.
    """
    ranks = [rankdata(values, axis=1) for values in (one, other)]
    apart = [values - values.mean(axis=1, keepdims=True) for values in ranks]
    lengths = np.linalg.norm(apart[0], axis=1) * np.linalg.norm(apart[1], axis=1)
    return np.asarray((apart[0] * apart[1]).sum(axis=1) / np.where(lengths > 0, lengths, 1))


def noise_ceiling(losses: NDArray[np.floating]) -> NDArray[np.float64]:
    """How well a training foretells the others of the same subset: what no estimate can be asked to surpass by far.

    Args:
        losses: (M, S, Q), S at least 2.

    Returns:
        float64 (Q,): Spearman of one seed with the mean of the others, averaged over seeds.
    """
    found = []
    for seed in range(losses.shape[1]):
        others = np.delete(losses, seed, axis=1).mean(axis=1)
        found.append(rank_agreement(losses[:, seed].T, others.T))
    return np.asarray(np.mean(found, axis=0))


def intervals(
    estimates: Mapping[str, NDArray[np.floating]], truth: NDArray[np.floating], draws: int = 1000, seed: int = 0
) -> tuple[dict[str, Interval], dict[str, NDArray[np.float64]]]:
    """The LDS of several methods, resampling queries and subsets together, the same ones for all methods.

    Args:
        estimates: by method, (Q, M) of `foretold`; higher means a better fit.
        truth: (Q, M), the negative of the loss.
        draws: resamples.
        seed: of the resamples.

    Returns:
        By method the mean Spearman over queries with its interval; and its values float64 (draws,) in the resamples,
        which can be compared pair by pair.

    Source: Park et al. 2023, definition 2.2 (linear datamodelling score); we differ in resampling subsets too, because
    with some tens of subsets they are the larger part of the error.
    """
    chance = np.random.default_rng(seed)
    queries, subsets = truth.shape
    picks = [(chance.integers(0, queries, queries), chance.integers(0, subsets, subsets)) for _ in range(draws)]
    again: dict[str, NDArray[np.float64]] = {}
    found: dict[str, Interval] = {}
    for name, values in estimates.items():
        sampled = [rank_agreement(values[np.ix_(*pick)], truth[np.ix_(*pick)]).mean() for pick in picks]
        again[name] = np.array(sampled)
        low, high = np.percentile(again[name], _PERCENT)
        found[name] = Interval(float(rank_agreement(values, truth).mean()), float(low), float(high))
    return found, again


def tuned(estimates: Mapping[float, NDArray[np.floating]], truth: NDArray[np.floating]) -> tuple[float, list[float]]:
    """The LDS with the best damping, which is chosen on other queries and other subsets than those it is judged by.

    Args:
        estimates: by damping, (Q, M) of `foretold`.
        truth: (Q, M), the negative of the loss.

    Returns:
        The mean over the folds, and the damping that was chosen in each.
    """
    queries, subsets = np.arange(truth.shape[0]) % _FOLDS, np.arange(truth.shape[1]) % _FOLDS
    found, chosen = [], []
    for fold in np.ndindex(_FOLDS, _FOLDS):
        here = np.ix_(queries == fold[0], subsets == fold[1])
        there = np.ix_(queries != fold[0], subsets != fold[1])
        best = max(estimates, key=lambda one: float(rank_agreement(estimates[one][there], truth[there]).mean()))
        chosen.append(best)
        found.append(float(rank_agreement(estimates[best][here], truth[here]).mean()))
    return float(np.mean(found)), chosen


def group_agreement(
    influences: NDArray[np.floating], holders: NDArray[np.integer], risen: NDArray[np.floating]
) -> NDArray[np.float64]:
    """How well the summed influence of each holder's works foretells by how much the loss rises without them.

    Args:
        influences: (Q, W).
        holders: (W,), 0..H-1.
        risen: (H, Q), loss without a holder less the loss with all.

    Returns:
        Spearman over holders, float64 (Q,).
    """
    sums = np.stack([influences[:, holders == one].sum(axis=1) for one in range(len(risen))], axis=1)
    return rank_agreement(sums, risen.T)
