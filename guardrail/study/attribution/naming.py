"""Which training images may be named: those more influential than nearly all images the model was not trained on."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.study.attribution.hubs import LEAST_REFERENCES, Baseline, Values

__all__ = ["Named", "NamingRule", "decoys_needed", "false_rates", "named", "p_values", "pooled_p_values"]

_ROUNDING = 1e-9  # by which a product of shares and counts may miss a whole number

Array = NDArray[np.float64]


class NamingRule(NamedTuple):
    """When a cluster of training images is named.

    Attributes:
        by: `p_value`, its own p-value alone: of N images that have nothing to do with a picture, N x `at_p` are named
            by chance; `rate`, the share of false ones among those named; `both`, which is asked for by default.
        at_p: 0..1, the p-value among the decoys of the same picture at which it is named, or below.
        at_rate: 0..1, the q-value at which it is named, or below.
    """

    by: Literal["both", "p_value", "rate"] = "both"
    at_p: float = 0.01
    at_rate: float = 0.1


class Named(NamedTuple):
    """Which clusters stand out on one picture.

    Attributes:
        values: of clusters and decoys, comparable with each other.
        p_value: float64 (C,), 1 / (D + 1) at the least; empty where there are no decoys.
        q_value: float64 (C,), empty where there are no decoys.
        named: bool (C,).
        limit: the value that a cluster had to reach, never above that of one that is named; infinite where none is.
        decoys_needed: how many decoys it takes to name a single cluster; 0 where there are enough.
    """

    values: Values
    p_value: Array
    q_value: Array
    named: NDArray[np.bool_]
    limit: float
    decoys_needed: int


def named(baseline: Baseline, influence: Array, rule: NamingRule | None = None) -> Named:
    """Compare the clusters with the decoys.

    Args:
        baseline: of the index.
        influence: float64 (M,), of all rows on the picture.
        rule: when a cluster is named; default: `NamingRule()`.

    Source: Phipson and Smyth 2010 (the p-value, with the image itself among its decoys); Bates et al. 2023, theorem 2
    (such p-values depend on each other in the way that Benjamini and Hochberg's rule allows). We differ in that the
    decoys of reference pictures count as well, see `pooled_p_values`, because otherwise ten decoys for each training
    image would be needed to name a single one.
    """
    rule = rule or NamingRule()
    values = baseline.values(influence)
    needed = decoys_needed(baseline, rule)
    if not len(baseline.decoys):
        none = np.empty(0)
        return Named(values, none, none, np.zeros(baseline.clusters, np.bool_), np.inf, needed)
    alone = p_values(values.clusters, values.decoys)
    rates = false_rates(pooled_p_values(baseline, values))
    passed = {
        "p_value": alone <= rule.at_p,
        "rate": rates <= rule.at_rate,
        "both": (alone <= rule.at_p) & (rates <= rule.at_rate),
    }
    limit = _limit(baseline, values, passed[rule.by], rule)
    return Named(values, alone, rates, passed[rule.by], limit, needed)


def p_values(values: Array, decoys: Array) -> Array:
    """How often a decoy is as influential, each value itself counted among the decoys.

    Args:
        values: float64 (C,).
        decoys: float64 (D,), comparable with them.

    Returns:
        float64 (C,): (1 + #{decoys >= value}) / (1 + D), so that ties count against a value.
    """
    return np.asarray((1.0 + _reaching(values, np.sort(decoys))) / (1.0 + len(decoys)))


def pooled_p_values(baseline: Baseline, values: Values) -> Array:
    """P-values below 1 / (D + 1): decoys on reference pictures count beside those on the picture itself.

    A cluster on a picture is one entry of a table with a line for each of the R references and one for the picture, and
    a column for each of the D decoys and one for the cluster. Where lines may be swapped, and columns, its rank among
    all (R + 1)(D + 1) entries is even. So its own column (what it does to the references) and its own line (what decoys
    do to the picture) count too: a cluster with wild influences, or a picture with wild ones, is held against itself.

    Args:
        baseline: of the index.
        values: of the picture.

    Returns:
        float64 (C,). Without references those of `p_values`.
    """
    line = _reaching(values.clusters, np.sort(values.decoys))
    column = np.count_nonzero(baseline.over_clusters >= values.clusters.astype(np.float32), axis=0)
    rest = _reaching(values.clusters, baseline.over_decoys)
    entries = 1 + len(values.decoys) + baseline.references + len(baseline.over_decoys)
    return np.asarray((1.0 + line + column + rest) / entries)


def false_rates(p_value: Array) -> Array:
    """The q-value of each of float64 (C,) p-values: if all up to it are named, this share of them is false at most.

    Source: Benjamini and Hochberg 1995.
    """
    count = len(p_value)
    order = np.argsort(p_value, kind="stable")
    raised = p_value[order] * count / np.arange(1, count + 1)
    rates = np.empty(count)
    rates[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return rates


def decoys_needed(baseline: Baseline, rule: NamingRule) -> int:
    """How many decoys it takes to name a single cluster that is more influential than all of them; 0: there are enough.

    1 / `at_p` - 1 for the p-value. For the rate, C / `at_rate` entries (see `pooled_p_values`): about the square root
    of that many decoys where all of them are references too, more where references are fewer.
    """
    decoys, references = len(baseline.decoys), baseline.references
    needed = ceil(1 / rule.at_p - _ROUNDING) - 1 if rule.by != "rate" else 1
    if rule.by != "p_value":
        entries = ceil(baseline.clusters / rule.at_rate - _ROUNDING)
        if 1 + decoys + references + len(baseline.over_decoys) < entries:
            if LEAST_REFERENCES <= references < decoys:  # no more of them are asked as references
                by_rate = ceil((entries - 1) / (references + 1))
            else:
                by_rate = max(LEAST_REFERENCES, ceil((sqrt(4 * entries - 3) - 1) / 2))
            needed = max(needed, by_rate, decoys + 1)
    return needed if decoys < needed else 0


def _limit(baseline: Baseline, values: Values, chosen: NDArray[np.bool_], rule: NamingRule) -> float:
    """What the chosen ones had to pass: so many decoys, of the picture and of all, may lie at or above it."""
    if not chosen.any():
        return float("inf")
    pool = np.concatenate([values.decoys, baseline.over_decoys])
    entries = 1 + baseline.references + len(pool)
    by_p = _passed_by(values.decoys, int(rule.at_p * (1 + len(values.decoys)) + _ROUNDING) - 1)
    share = rule.at_rate * np.count_nonzero(chosen) / len(chosen)
    by_rate = _passed_by(pool, int(share * entries + _ROUNDING) - 1)
    asked = {"p_value": by_p, "rate": by_rate, "both": max(by_p, by_rate)}[rule.by]
    return min(asked, float(values.clusters[chosen].min()))


def _passed_by(numbers: Array, at_most: int) -> float:
    """The least value above all numbers but so many."""
    if at_most >= len(numbers):
        return float("-inf")
    place = len(numbers) - 1 - max(at_most, 0)
    return float(np.nextafter(np.partition(numbers, place)[place], np.inf))


def _reaching(values: Array, ascending: Array) -> NDArray[np.intp]:
    """How many numbers reach each value."""
    return len(ascending) - np.searchsorted(ascending, values, side="left")
