"""How often a limit is reached: counted where there is enough to count, read off a fitted tail beyond."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, genpareto, lmoment

__all__ = ["COUNTED_AT_LEAST", "TAIL_LEAST", "Tail", "tail_size"]

COUNTED_AT_LEAST = 10  # pictures beyond a limit from which on they are counted: their number is sure to about a third
TAIL_LEAST = 30  # values that a tail is fitted to, at least
_TAIL_MOST = 250  # values; more of them reach into the body of the distribution, which is none of the tail's business
_TAIL_SHARE = 0.05  # of all values; a tenth gave limits that were reached 1.8 times as often as asked
_BOOTSTRAPS = 400
_BOOTSTRAP_CELLS = 2_000_000  # values drawn at once: 16 MB
_INTERVAL = (0.025, 0.975)  # 95 %
_SHAPE_BY_CHANCE = 2.0  # standard errors: that of the shape of an exponential tail is about 1/sqrt(size)
_NEARLY_ONE = 1 - 1e-6  # similarity: float32 tells no two vectors apart that are nearer
_OTHER_PARITY_AT_MOST = 0.05  # share of odd distances up to which hashes count as balanced
_LEAST_SPREAD = 1e-12  # L-scale below which a tail is all one value

Array = NDArray[np.float64]


class _Model(NamedTuple):
    """A generalised Pareto tail for each of B rows: float64 (B,) each, over `size` values of a row.

    `shape` is as it was bounded, `unbound` what the values alone would say.
    """

    threshold: Array
    shape: Array
    scale: Array
    unbound: Array
    size: int


class Tail:
    """The upper tail of one signal's nearness over N pictures; higher is nearer.

    Up to where `COUNTED_AT_LEAST` pictures are reached limits are counted; beyond, a generalised Pareto distribution
    over the (k+1)th highest value is fitted by L-moments. Deterministic for a seed.

    Source: Pickands, "Statistical inference using extreme order statistics", 1975 (the tail); Hosking and Wallis,
    "Parameter and quantile estimation for the generalized Pareto distribution", 1987, section 3 (the fit). We differ in
    three things. Similarities are fitted as Fisher's z, the inverse hyperbolic tangent, so that no limit lies beyond 1.
    The shape is at most 0: where similarities thin out towards 1 by any power, z has an exponential tail, and a heavier
    one is a sign of copies among the pictures (`is_too_heavy`). Whole numbers are spread evenly over their bin, because
    hashes have no values in between.
    """

    def __init__(self, values: Array, *, whole: bool = False, seed: int = 0) -> None:
        """Fit the tail.

        Args:
            values: float64 (N,), N >= 1, any order, higher is nearer: similarities -1..1, or whole numbers of any size;
                `-inf` where a picture can reach no limit.
            whole: whether values are whole numbers (bits), so that limits are, too.
            seed: of the bootstrap.
        """
        assert len(values) > 0, "a tail has values"
        self.values = -np.sort(-np.asarray(values, np.float64))
        self._seed = seed
        finite = self.values[np.isfinite(self.values)]
        self._step = _bin_width(finite) if whole else 0.0
        spread = np.random.default_rng(seed).uniform(-self._step / 2, self._step / 2, len(self.values))
        lowest = float(finite[-1]) if len(finite) else 0.0
        self._whole = whole
        self._smooth = self._stretched(np.maximum(self.values, lowest)) + spread
        self._model = self._fitted(self._smooth[None], min(tail_size(len(self.values)), max(len(finite) - 1, 1)))

    @property
    def is_too_heavy(self) -> bool:
        """Whether the tail is heavier than that of any bounded measure, by more than chance explains."""
        shape = float(self._model.unbound[0])
        return shape > float(_SHAPE_BY_CHANCE / np.sqrt(self._model.size))

    def reached(self, limit: float) -> int:
        """How many of the values are at or above a limit."""
        return int(np.count_nonzero(self.values >= limit))

    def rate(self, limit: float) -> float:
        """The share of pictures expected at or above a limit."""
        reached = self.reached(limit)
        excess = float(self._stretched(np.float64(limit)) - self._step / 2 - self._model.threshold[0])
        if reached >= COUNTED_AT_LEAST or excess <= 0:
            return reached / len(self.values)
        beyond = genpareto.sf(excess, self._model.shape[0], scale=self._model.scale[0])
        return float(beyond) * self._model.size / len(self.values)

    def is_counted(self, rate: float) -> bool:
        """Whether the limit of this rate is counted, not read off the fitted tail."""
        return rate * len(self.values) >= COUNTED_AT_LEAST

    def limit(self, rate: float) -> float:
        """The loosest limit that at most this share of pictures is expected to reach."""
        if self.is_counted(rate):
            return self._counted(int(rate * len(self.values)))
        return float(self._limits(rate, self._model)[0])

    def interval(self, rate: float) -> tuple[float, float]:
        """Where that limit lies, 95 %: by the binomial law of ranks where it is counted, by bootstrap beyond."""
        count = len(self.values)
        if self.is_counted(rate):
            fewest, most = (int(binom.ppf(share, count, rate)) for share in _INTERVAL)
            return float(self.values[min(most, count - 1)]), float(self.values[max(fewest - 1, 0)])
        low, high = np.quantile(self._bootstrapped(rate), _INTERVAL)
        return float(low), float(high)

    def _stretched(self, values: Array | np.float64) -> Array:
        """The scale on which the tail is fitted."""
        return np.asarray(values if self._whole else np.arctanh(np.clip(values, -_NEARLY_ONE, _NEARLY_ONE)), np.float64)

    def _counted(self, allowed: int) -> float:
        """The limit that `allowed` values reach: half way to the next one, or right above it."""
        if allowed >= len(self.values):
            return float(self.values[-1])
        beyond = float(self.values[allowed])  # the nearest one that may not reach it
        if self._whole:
            return beyond + 1  # the next bit, even where hashes that are balanced differ by even numbers only
        middle = (float(self.values[max(allowed - 1, 0)]) + beyond) / 2
        return middle if beyond < middle < np.inf else float(np.nextafter(beyond, np.inf))

    def _fitted(self, rows: Array, size: int, heaviest: float = 0.0) -> _Model:
        """Fit a tail to each row of (B, N) values, its shape at most `heaviest`."""
        size = max(1, min(size, rows.shape[1] - 1))
        highest = -np.sort(np.partition(-rows, min(size, rows.shape[1] - 1))[:, : size + 1])
        threshold = highest[:, -1]
        mean, spread = lmoment(highest[:, :-1] - threshold[:, None], order=[1, 2], axis=1)
        flat = spread <= _LEAST_SPREAD
        ratio = np.where(flat, 2.0, mean / np.where(flat, 1.0, spread))  # of an exponential tail: 2
        shape = np.minimum(2.0 - ratio, heaviest)
        return _Model(threshold, shape, np.maximum((1.0 - shape) * mean, _LEAST_SPREAD), 2.0 - ratio, size)

    def _limits(self, rate: float, model: _Model) -> Array:
        within = min(rate * len(self.values) / model.size, 1.0)
        limits = model.threshold + genpareto.isf(within, model.shape, scale=model.scale)
        return np.asarray(np.ceil(limits + self._step / 2) if self._whole else np.tanh(limits), np.float64)

    def _bootstrapped(self, rate: float) -> Array:
        """Limits from resampled values; here the shape is free, so that the interval shows all that is not known."""
        chance = np.random.default_rng(self._seed)
        count = len(self.values)
        at_once = max(1, _BOOTSTRAP_CELLS // count)
        found = []
        for start in range(0, _BOOTSTRAPS, at_once):
            drawn = self._smooth[chance.integers(0, count, (min(at_once, _BOOTSTRAPS - start), count))]
            found.append(self._limits(rate, self._fitted(drawn, self._model.size, heaviest=1.0)))
        return np.concatenate(found)


def tail_size(count: int) -> int:
    """How many of `count` values make the tail that is fitted to."""
    return max(TAIL_LEAST, min(_TAIL_MOST, int(_TAIL_SHARE * count)))


def _bin_width(values: Array) -> float:
    """The distance between neighbouring whole numbers: 2 where hashes are balanced, so that nearly all are even."""
    odd = float(np.mean(values % 2)) if len(values) else 0.5
    return 2.0 if min(odd, 1 - odd) <= _OTHER_PARITY_AT_MOST else 1.0
