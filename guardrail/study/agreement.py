"""How far two people who saw the same picture agree, and how often a rule is right: figures with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

__all__ = ["Kappa", "Precision", "cohens_kappa", "precisions", "share_interval"]

_CONFIDENCE = 0.95
_DEVIATIONS = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)  # 1.96 standard errors
_LEAST_CHANCE = 1e-12  # of disagreement by chance, below which there is nothing to compare with


@dataclass(frozen=True, slots=True)
class Kappa:
    """Agreement of two people beyond chance.

    Attributes:
        pairs: how many pictures both decided.
        agreed: on how many of them they said the same.
        kappa: -1..1, 0 is chance, 1 all; None where it says nothing: no pairs, or everybody always said the same.
        low: where it lies, 95 %.
        high: the same.
        words: all that was said, sorted; rows and columns of `table`.
        table: how often the first said a word and the second another.
    """

    pairs: int
    agreed: int
    kappa: float | None
    low: float | None
    high: float | None
    words: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Precision:
    """Of what a rule (or a bank) flagged, how much people confirmed: a share, and where it lies (95 %)."""

    name: str
    reviewed: int
    confirmed: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """The share, 0..1."""
        return self.confirmed / self.reviewed


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Where a share of `count` in `of` lies, 95 %: two numbers 0..1; 0 and 1 where nothing was counted.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits", 1934; by scipy.
    """
    from scipy.stats import binomtest  # a second to import, which the desk's start does not wait for

    if not of:
        return 0.0, 1.0
    interval = binomtest(count, of).proportion_ci(_CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> Kappa:
    """Cohen's kappa of what two people said of the same pictures.

    Args:
        pairs: what the first said, and what the second said who had not seen it.

    Returns:
        Kappa with a 95 % interval by its asymptotic standard error. Where all pairs agree, or none, that error is 0
        though little may be known: the interval then ends at the bound of the agreement (Clopper and Pearson).

    Source: Cohen, "A coefficient of agreement for nominal scales", 1960; the standard error: Fleiss, Cohen and Everitt,
    "Large sample standard errors of kappa and weighted kappa", 1969, for kappas that are not 0.
    """
    words = tuple(sorted({word for pair in pairs for word in pair}))
    counts = np.zeros((len(words), len(words)), np.int64)
    for first, second in pairs:
        counts[words.index(first), words.index(second)] += 1
    agreed = int(np.trace(counts))
    table = tuple(tuple(row) for row in counts.tolist())
    by_chance = 1.0
    if pairs:
        shares = counts / len(pairs)
        rows, columns = shares.sum(axis=1), shares.sum(axis=0)
        by_chance = float(rows @ columns)
    if 1 - by_chance < _LEAST_CHANCE:
        return Kappa(len(pairs), agreed, None, None, None, words, table)
    kappa = (agreed / len(pairs) - by_chance) / (1 - by_chance)
    if agreed in (0, len(pairs)):
        low, high = ((bound - by_chance) / (1 - by_chance) for bound in share_interval(agreed, len(pairs)))
        return Kappa(len(pairs), agreed, kappa, max(-1.0, low), min(1.0, high), words, table)
    own = np.diag(shares) * (1 - (rows + columns) * (1 - kappa)) ** 2
    others = shares * (columns[:, None] + rows[None, :]) ** 2
    spread = own.sum() + (1 - kappa) ** 2 * (others.sum() - np.trace(others)) - (kappa - by_chance * (1 - kappa)) ** 2
    error = float(np.sqrt(max(spread, 0.0) / len(pairs))) / (1 - by_chance)
    low, high = (kappa + sign * _DEVIATIONS * error for sign in (-1, 1))
    return Kappa(len(pairs), agreed, kappa, max(-1.0, low), min(1.0, high), words, table)


def precisions(decided: Iterable[tuple[str, bool]]) -> tuple[Precision, ...]:
    """How often each name was right, those with most decisions first.

    Args:
        decided: a name (of a rule, of a bank), and whether what it flagged was confirmed.
    """
    counts: dict[str, list[int]] = {}
    for name, confirmed in decided:
        one = counts.setdefault(name, [0, 0])
        one[0] += 1
        one[1] += confirmed
    ranked = sorted(counts.items(), key=lambda item: (-item[1][0], item[0]))
    return tuple(Precision(name, of, right, *share_interval(right, of)) for name, (of, right) in ranked)
