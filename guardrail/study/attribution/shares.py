"""What part of an image's pull on the model is made of the pull of whose works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.records import CreditShare, Work
from guardrail.study.attribution.hubs import Baseline, centre_and_spread
from guardrail.study.attribution.naming import Named
from guardrail.study.attribution.pulls import Pulls

__all__ = ["Shares", "cluster_shares", "group_influence", "holder_of", "shares_of"]

_BOOTSTRAPS = 400
_INTERVAL = (0.025, 0.975)  # 95 %
_SHORTEST = 1e-12  # of the longest part, squared: no gradient drawn again is taken to be shorter
_TINY = float(np.finfo(np.float64).tiny)  # squared length of a gradient that is 0, so that its shares are 0 too

Array = NDArray[np.float64]


class Shares(NamedTuple):
    """Shares of rights holders, largest first, and what is left: together 1, to rounding (1e-9)."""

    by_holder: tuple[CreditShare, ...]
    unattributed: float


class _Drawn(NamedTuple):
    """What shares are counted from, for B ways to draw: parts of the image's draws, and decoys.

    Attributes:
        weights: float64 (B, H), of the parts; each line adds up to 1.
        decoys: intp (B, D), places of decoys, with repetition.
    """

    weights: Array
    decoys: NDArray[np.intp]


def group_influence(influences: Array, groups: NDArray[np.intp]) -> Array:
    """The influence of groups of training images: the sum over their members.

    Args:
        influences: float64 (Q, N).
        groups: intp (N,), 0 and up; below 0 for images of no group.

    Returns:
        float64 (Q, G), G one more than the highest group.

    Source: Koh et al. 2019, "On the accuracy of influence functions for measuring group effects", section 2: to first
    order the effect of leaving a group out is the sum of those of its members.
    """
    count = int(groups.max(initial=-1)) + 1
    taken = groups >= 0
    sums = np.zeros((count, len(influences)))
    np.add.at(sums, groups[taken], influences[:, taken].T)
    return np.ascontiguousarray(sums.T)


def holder_of(work: Work) -> tuple[str, str]:
    """To whom a work's share goes: its rights holder and "", or its bank twice where it has no holder."""
    return (work.rights_holder, "") if work.rights_holder else (work.bank, work.bank)


def cluster_shares(pulls: Pulls, baseline: Baseline, named: NDArray[np.bool_]) -> Array:
    """The share of each cluster in one image, 0..1; 0 where it is not named. Together 1 at most.

    What sets the image's gradient apart from the decoys' mean is put together from what sets the rows apart, each times
    its influence: of its squared length each row makes up influence x inner product / squared length. From that the
    median of the decoys is taken, once for each member, and what is below 0 is cut off.

    Args:
        pulls: of the image.
        baseline: of the index.
        named: bool (C,), the clusters that may be named.

    Returns:
        float64 (C,).

    Source: Pratt 1987 (the product measure of relative importance in regression, by which explained variance adds up
    over predictors). We differ in that only named clusters count and negative ones are cut off, because a share is to
    be paid for: where what is left passes 1, it is scaled down to 1.
    """
    parts = len(pulls.influences)
    once = _Drawn(np.full((1, parts), 1 / parts), np.arange(len(baseline.decoys))[None])
    chosen = np.flatnonzero(named)
    shares = np.zeros(baseline.clusters)
    shares[chosen] = _capped(_raw_shares(pulls, baseline, chosen, once))[0]
    return shares


def shares_of(pulls: Pulls, baseline: Baseline, found: Named, works: Sequence[Work], seed: int = 0) -> Shares:
    """The shares of rights holders in one image, with 95 % bootstrap intervals.

    A cluster counts once, whatever its copies; where they belong to several holders, each gets an equal part. Drawn
    again are the parts of the image's draws and the decoys; in each drawing a cluster counts only if its value still
    reaches the limit. An interval always holds the share.

    Args:
        pulls: of the image.
        baseline: of the index.
        found: what `named` found for it.
        works: of the training images, in the order of their rows.
        seed: of the bootstrap.
    """
    chosen = np.flatnonzero(found.named)
    if not len(chosen):
        return Shares((), 1.0)
    holders, belongs = _belongings(baseline, chosen, works)
    shares = cluster_shares(pulls, baseline, found.named)[chosen] @ belongs
    drawn = _drawings(len(pulls.influences), len(baseline.decoys), seed)
    again = _raw_shares(pulls, baseline, chosen, drawn)
    values = _values_again(pulls, baseline, chosen, drawn)
    again *= (values - found.values.shift) / found.values.scale >= found.limit
    low, high = np.quantile(_capped(again) @ belongs, _INTERVAL, axis=0)
    low, high = np.minimum(low, shares), np.maximum(high, shares)
    order = np.lexsort((np.array([name for name, _ in holders]), -shares))
    told = tuple(
        CreditShare(
            holder=holders[at][0],
            bank=holders[at][1],
            share=float(shares[at]),
            low=float(low[at]),
            high=float(min(high[at], 1.0)),
            works=int(np.count_nonzero(belongs[:, at])),
        )
        for at in order.tolist()
    )
    return Shares(told, max(0.0, 1.0 - sum(one.share for one in told)))


def _raw_shares(pulls: Pulls, baseline: Baseline, chosen: NDArray[np.intp], drawn: _Drawn) -> Array:
    """Of the chosen clusters, before they are capped: float64 (B, n), none below 0."""
    squared = np.maximum(_quadratic(drawn.weights, pulls.gram), max(_SHORTEST * float(pulls.gram.max()), _TINY))
    alone = pulls.influences[:, baseline.decoys], pulls.products[:, baseline.decoys]
    off = _recentred((drawn.weights @ alone[0]) * (drawn.weights @ alone[1]), alone[0].mean(0) * alone[1].mean(0))
    usual = np.median(np.take_along_axis(off, drawn.decoys, axis=1), axis=1) / squared
    shares = np.empty((len(off), len(chosen)))
    for at, cluster in enumerate(chosen.tolist()):
        rows = np.flatnonzero(baseline.cluster == cluster)
        made = pulls.influences[:, rows] @ pulls.products[:, rows].T
        shares[:, at] = _quadratic(drawn.weights, made) / squared - usual * len(rows)
    return np.maximum(shares, 0.0)


def _quadratic(weights: Array, matrix: Array) -> Array:
    """For each line w of float64 (B, H) w' A w, recentred: float64 (B,)."""
    return _recentred(np.einsum("bh,hi,bi->b", weights, matrix, weights), matrix.mean())


def _recentred(drawn: Array, whole: Array | np.floating) -> Array:
    """What was drawn again B times, float64 (B, ...), moved so that its mean is that of the whole.

    Fewer draws make a gradient longer by their noise, and so each share smaller; that would be counted twice.
    """
    return np.asarray(drawn - drawn.mean(axis=0) + whole)


def _values_again(pulls: Pulls, baseline: Baseline, chosen: NDArray[np.intp], drawn: _Drawn) -> Array:
    """The values of the chosen clusters by other draws and decoys, float64 (B, n)."""
    alone = np.take_along_axis(drawn.weights @ pulls.influences[:, baseline.decoys], drawn.decoys, axis=1)
    centre, spread = centre_and_spread(alone)
    whole = centre_and_spread(pulls.influence[None, baseline.decoys])[1]
    spread *= whole / spread.mean()
    sums = [pulls.influences[:, baseline.cluster == cluster].sum(axis=1) for cluster in chosen.tolist()]
    plain = (drawn.weights @ np.stack(sums, axis=1) - centre[:, None]) / spread[:, None]
    return np.asarray((plain - baseline.centre[chosen]) / baseline.spread[chosen])


def _drawings(parts: int, decoys: int, seed: int) -> _Drawn:
    """Parts and decoys drawn again, with repetition.

    Draws are spread over the schedule, and differ more across it than by chance; so parts are drawn again among
    neighbours, two by two (the last three together where H is odd), and what so few vary too little is made up for.
    """
    chance = np.random.default_rng(seed)
    weights = np.full((_BOOTSTRAPS, parts), 1 / parts)
    for start in range(0, parts - 1, 2):
        end = parts if start + 3 == parts else start + 2
        size = end - start
        times = chance.multinomial(size, np.full(size, 1 / size), size=_BOOTSTRAPS) - 1.0
        weights[:, start:end] += times * np.sqrt(size / (size - 1)) / parts
    return _Drawn(weights, chance.integers(0, decoys, (_BOOTSTRAPS, decoys)))


def _capped(shares: Array) -> Array:
    """Lines of (B, n) that add up to more than 1, scaled down to 1."""
    return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1.0))


def _belongings(
    baseline: Baseline, chosen: NDArray[np.intp], works: Sequence[Work]
) -> tuple[list[tuple[str, str]], Array]:
    """The holders of the chosen clusters, and what part of each cluster is theirs: float64 (n, holders)."""
    of_images = baseline.cluster[baseline.cluster >= 0]
    of_each = [
        list(dict.fromkeys(holder_of(works[image]) for image in np.flatnonzero(of_images == one).tolist()))
        for one in chosen.tolist()
    ]
    holders = list(dict.fromkeys(holder for of_one in of_each for holder in of_one))
    belongs = np.zeros((len(chosen), len(holders)))
    for at, of_one in enumerate(of_each):
        for holder in of_one:
            belongs[at, holders.index(holder)] = 1 / len(of_one)
    return holders, belongs
