"""What every subset of adapters is worth in, the share of each one out; exact for a few, by permutations for more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.attribution_errors import AttributionImpossible

__all__ = ["Shapley", "ShapleyRule", "Subset", "Worth", "error_of_mean", "shapley"]

Array = NDArray[np.float64]
Subset = frozenset[int]
Worth = Callable[[Subset], Array]

_LEAST_PAIRS = 2  # of which a standard error can be told
_SURE = 2.0  # standard errors: what is shared is not nothing, nineteen times in twenty


class ShapleyRule(NamedTuple):
    """How shares are found.

    Attributes:
        exact_up_to: with so many adapters, or fewer, every subset is asked: 2^n of them.
        pairs: of permutations, each with its reverse, above that; at most 2 x pairs x (n - 1) + 2 subsets.
        seed: of the permutations.
    """

    exact_up_to: int = 6
    pairs: int = 24
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Shapley:
    """Shares of n adapters; with that of the base model they add up to 1.

    Attributes:
        shares: float64 (n,), negative where the picture was nearer without.
        base_share: of the model without any of them.
        standard_error: float64 (n,), of the permutations; None where every subset was asked.
        draw_error: float64 (n,), how far shares would move with other draws; NaN for a single draw.
        asked: subsets that were asked, of 2^n.
    """

    shares: Array
    base_share: float
    standard_error: Array | None
    draw_error: Array
    asked: int


def shapley(count: int, worth: Worth, rule: ShapleyRule | None = None) -> Shapley:
    """The share of each adapter in what a model knows of a picture.

    The base model is taken as given: it gets what it is worth alone, and adapters share what they add to it, or take
    away. (As a player among others it would get half of whatever a single adapter adds, for adapters alone are worth
    nothing.)

    Args:
        count: n, how many adapters were on.
        worth: which of them are on in, what the model knows then out: float64 (K,), one value a draw, against a
            predictor that knows nothing, whose worth is 0. Each subset is asked once.
            The draws are one from each of K equal parts of the schedule, in their order.
        rule: how; default: `ShapleyRule()`.

    Returns:
        The shares, deterministic for a seed.

    Raises:
        AttributionImpossible: with all adapters on the model knows hardly more than nothing (2 standard errors over the
            draws), so that there is nothing to share; or a worth is no number.

    Source: Shapley 1953; Mitchell, Cooper, Frank and Holmes 2022, "Sampling permutations for Shapley value estimation",
    section 3 (antithetic sampling), and for the error over draws Wolter 2007, "Introduction to Variance Estimation",
    chapter 8 (successive differences); we differ in that every marginal is kept for each draw, because the same passes
    then say how far shares would move with other draws.
    """
    rule = rule or ShapleyRule()
    asked = _Asked(worth)
    everybody: Subset = frozenset(range(count))
    base, whole = asked(frozenset()), asked(everybody)
    _require_known(whole)
    if count <= rule.exact_up_to:
        added, spread = _exactly(count, asked), None
    else:
        added, spread = _by_permutations(count, asked, rule)
    total = float(whole.mean())
    return Shapley(
        shares=added.mean(axis=1) / total,
        base_share=float(base.mean()) / total,
        standard_error=None if spread is None else spread / total,
        draw_error=_draw_error(added, whole),
        asked=len(asked.kept),
    )


def _require_known(whole: Array) -> None:
    error = float(error_of_mean(whole[None])[0])
    least = 0.0 if np.isnan(error) else _SURE * error
    if not float(whole.mean()) > least:
        raise AttributionImpossible(
            "the picture",
            f"a loss {float(whole.mean()):.3g} below that of knowing nothing, with all adapters on",
            f"one more than {least:.3g} below it, so that there is something to share",
            "ask the model that made the picture, with its caption, or at more draws",
        )


class _Asked:
    """Asks each subset once."""

    def __init__(self, worth: Worth) -> None:
        self._worth = worth
        self.kept: dict[Subset, Array] = {}

    def __call__(self, subset: Subset) -> Array:
        if subset not in self.kept:
            found = np.atleast_1d(np.asarray(self._worth(subset), np.float64))
            if not np.isfinite(found).all():
                raise AttributionImpossible(
                    "the picture", "a loss that is no number", "numbers", "run the model in float32"
                )
            self.kept[subset] = found
        return self.kept[subset]


def _exactly(count: int, asked: _Asked) -> Array:
    """What each adds, on average over all orders in which adapters may come: (n, K)."""
    added = [_added_by(one, count, asked) for one in range(count)]
    return np.array(added).reshape(count, len(asked(frozenset())))


def _added_by(one: int, count: int, asked: _Asked) -> Array:
    others = [other for other in range(count) if other != one]
    total: Array = np.zeros_like(asked(frozenset()))
    for size in range(count):
        weight = 1 / (count * comb(count - 1, size))
        for some in combinations(others, size):
            before = frozenset(some)
            total = total + weight * (asked(before | {one}) - asked(before))
    return total


def _by_permutations(count: int, asked: _Asked, rule: ShapleyRule) -> tuple[Array, Array]:
    """What each adds over pairs of permutations (n, K), and the standard error of its mean over the draws (n,)."""
    pairs = [(_along(order, asked) + _along(order[::-1], asked)) / 2 for order in _orders(count, rule.pairs, rule.seed)]
    every = np.array(pairs)  # (pairs, n, K)
    spread = every.mean(axis=2).std(axis=0, ddof=1) / np.sqrt(len(pairs))
    return every.mean(axis=0), spread


def _orders(count: int, pairs: int, seed: int) -> Iterator[NDArray[np.intp]]:
    chance = np.random.default_rng(seed)
    for _ in range(max(pairs, _LEAST_PAIRS)):
        yield chance.permutation(count)


def _along(order: NDArray[np.intp], asked: _Asked) -> Array:
    """What each adds when adapters come in one order: (n, K), by adapter."""
    here: Subset = frozenset()
    before = asked(here)
    added = np.empty((len(order), len(before)))
    for one in order.tolist():
        here = here | {one}
        now = asked(here)
        added[one] = now - before
        before = now
    return added


def _draw_error(added: Array, whole: Array) -> Array:
    """The standard error of ratios of means over draws (n,): by differences of neighbours, which are nearly alike."""
    mean = whole.mean()
    found: Array = error_of_mean(added - (added.mean(axis=1, keepdims=True) / mean) * whole) / mean
    return found


def error_of_mean(values: Array) -> Array:
    """The standard error of means over one draw from each of K equal parts of the schedule, by their differences.

    Args:
        values: float64 (n, K), in the order of the schedule.

    Returns:
        float64 (n,); NaN for a single draw.
    """
    draws = values.shape[1]
    if draws < 2:  # one draw says nothing of others
        return np.full(len(values), np.nan)
    found: Array = np.sqrt((np.diff(values, axis=1) ** 2).sum(axis=1) / (2 * draws * (draws - 1)))
    return found
