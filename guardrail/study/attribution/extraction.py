"""Copies of a work with an adapter and without it, from the same seeds, in; whether the adapter took it out, out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from scipy.stats import beta, binom

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.shapley import error_of_mean, shapley
from guardrail.study.attribution.switching import AskedAt, Pictured, Switches, WorthAt

__all__ = ["Extracted", "Known", "Paired", "Rate", "copy_rate", "extracted", "known_of", "paired"]

_LEVEL = 0.05  # of the test, and of both ends of an interval together
_SURE = 2.0  # standard errors


class Rate(NamedTuple):
    """Copies among pictures, and the 95 % interval of their share."""

    copies: int
    generated: int
    low: float
    high: float


class Paired(NamedTuple):
    """Copy rates from the same seeds, and the p-value of there being fewer with the adapter."""

    with_adapter: Rate
    without: Rate
    p_value: float


class Known(NamedTuple):
    """What a model knows of a picture with an adapter and without; see `switching.knowledge`.

    Attributes:
        with_adapter, without: means over the draws.
        error: standard error of their difference.
        share: the adapter's Shapley share beside all others that are on; None where too little is known for shares.
    """

    with_adapter: float
    without: float
    error: float
    share: float | None


class Extracted(NamedTuple):
    """Whether an adapter took a work out, by its copies, and else by what the model knows of it."""

    by_copies: bool
    by_knowledge: bool

    @property
    def took_out(self) -> bool:
        """By either; a fall of copies counts whatever is known of the picture."""
        return self.by_copies or self.by_knowledge


def copy_rate(copies: Sequence[bool]) -> Rate:
    """How many are copies, with the interval of Clopper and Pearson.

    Raises:
        ValueError: there are none to look at.
    """
    total, found = len(copies), sum(map(bool, copies))
    if not total:
        raise ValueError("found no picture, expected one or more; generate some")
    low = float(beta.ppf(_LEVEL / 2, found, total - found + 1)) if found else 0.0
    high = float(beta.ppf(1 - _LEVEL / 2, found + 1, total - found)) if found < total else 1.0
    return Rate(found, total, low, high)


def paired(with_adapter: Sequence[bool], without: Sequence[bool]) -> Paired:
    """Compare copy rates seed by seed.

    Args:
        with_adapter: whether the picture of each seed is a copy of the work.
        without: likewise, in the same order.

    Returns:
        Both rates; and the probability of as many pictures that ceased to be copies, or more, among those that changed
        at all, if the adapter changed nothing. 1 where none changed.

    Raises:
        ValueError: there are not as many of both, or none.

    Source: McNemar 1947, in its exact form (a sign test of the pairs that differ), one-sided.
    """
    if len(with_adapter) != len(without):
        raise ValueError(f"found {len(with_adapter)} and {len(without)} pictures, expected as many; use the same seeds")
    pairs = list(zip(with_adapter, without, strict=True))
    gone = sum(before and not now for now, before in pairs)
    come = sum(now and not before for now, before in pairs)
    p_value = float(binom.sf(gone - 1, gone + come, 0.5)) if gone + come else 1.0
    return Paired(copy_rate(with_adapter), copy_rate(without), min(p_value, 1.0))


def known_of(
    pipeline: Any, adapter: str, pictured: Pictured, asked_at: AskedAt | None = None, weights: Any = None
) -> Known:
    """What a model knows of a work's picture with an adapter and without, all others that are on left on.

    Args:
        pipeline: without a guard around it, with the adapter on; afterwards it is as it was.
        adapter: its name in the pipeline.
        pictured: the work's picture, uint8 (S, S, 3), with what the model is asked for.
        asked_at: where it is asked.
        weights: of all adapters, by name; default: those that the pipeline has now.

    Raises:
        AttributionImpossible: the adapter is not on, or fused.
    """
    switches = Switches(pipeline, weights)
    if adapter not in switches.names:
        raise AttributionImpossible(
            adapter, f"the adapters {', '.join(switches.names) or 'none'} on", "it among them", "load it, and set it"
        )
    asker = WorthAt(pipeline, switches, pictured, asked_at or AskedAt())
    others = [name for name in switches.names if name != adapter]
    now, before = asker(switches.names), asker(others)
    error = float(error_of_mean((now - before)[None])[0])
    try:
        found = shapley(len(switches.names), lambda some: asker([switches.names[at] for at in some]))
        share = float(found.shares[switches.names.index(adapter)])
    except AttributionImpossible:
        share = None  # hardly anything is known of it, as is to be when it was taken out
    return Known(float(now.mean()), float(before.mean()), error, share)


def extracted(rates: Paired, known: Known) -> Extracted:
    """Whether a work was taken out.

    By copies: there are fewer, beyond chance. By what is known: where no seed gave a copy, with the adapter or
    without, the model knows less of the picture by more than two standard errors.
    """
    never_came = not (rates.with_adapter.copies or rates.without.copies)
    fell = known.without - known.with_adapter > _SURE * known.error
    return Extracted(rates.p_value < _LEVEL, bool(never_came and fell))
