"""How sure a share is that was counted, and whether one count is more than another would explain."""

from __future__ import annotations

from scipy.optimize import brentq
from scipy.stats import binom, binomtest, fisher_exact

from guardrail.records import Measured

__all__ = ["exact_interval", "is_more_than", "measured_share", "smallest_share_seen"]

_CONFIDENCE = 0.95
_BY_CHANCE = 0.05  # probability under which a difference is not put down to chance


def exact_interval(reached: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share of which `reached` in `of` were counted; 0..1 where nothing was.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    1934: never narrower than it says, and not empty where nothing was reached.
    """
    if of == 0:
        return 0.0, 1.0
    found = binomtest(reached, of).proportion_ci(confidence_level=_CONFIDENCE, method="exact")
    return float(found.low), float(found.high)


def measured_share(name: str, reached: int, of: int) -> Measured:
    """A share with its interval; 0 of 0 is 0, and could be anything."""
    low, high = exact_interval(reached, of)
    return Measured(name=name, value=reached / of if of else 0.0, over=of, low=low, high=high)


def is_more_than(reached: int, of: int, otherwise: int, otherwise_of: int) -> bool:
    """Whether `reached` of `of` is more than the rate of `otherwise` in `otherwise_of` explains (Fisher's exact test).

    Where nothing was reached otherwise, a single one is more: what is counted here is copies, and there is no reason
    for one to come about by chance.
    """
    if reached == 0 or otherwise == 0:
        return reached > 0
    table = [[reached, of - reached], [otherwise, otherwise_of - otherwise]]
    return float(fisher_exact(table, alternative="greater").pvalue) < _BY_CHANCE


def smallest_share_seen(at_least: int, of: int) -> float:
    """How often a picture has to come for `at_least` of `of` generations to show it, with 95 %: a share, 1 at most."""
    if of <= at_least:
        return 1.0
    return float(brentq(lambda share: binom.sf(at_least - 1, of, share) - _CONFIDENCE, 0.0, 1.0))
