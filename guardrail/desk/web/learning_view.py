"""Figures of agreement, precision and proposals as pages show them: words, and places on small drawings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guardrail.study.units import unit_of

if TYPE_CHECKING:
    from guardrail.study.agreement import Kappa, Precision
    from guardrail.study.proposals import Proposal

__all__ = ["Bar", "PlotOfProposal", "bar_of", "bars_of", "kappa_bar", "number", "plot_of", "said_of"]

_WIDTH = 240.0  # of a drawing, in its own units
_SIDE = 6.0  # left free at both sides
_PLOT_WIDTH = 560.0
_ROWS = {False: 40.0, True: 92.0}  # where the marks of let pass and of confirmed cases lie, from above
_SPREAD = 5  # rows in which marks are laid so that they do not cover each other
_APART = 5.0  # between two such rows


@dataclass(frozen=True, slots=True)
class Bar:
    """A share with its interval, on a line from 0 (or -1) to 1: words, and places in the drawing."""

    name: str
    words: str
    count: str
    at: float
    low: float
    high: float
    zero: float


@dataclass(frozen=True, slots=True)
class PlotOfProposal:
    """A proposal as it is drawn.

    Attributes:
        marks: of each case the place, x and y, and whether it was confirmed.
        now: x of the limit in force.
        limit: x of the one proposed.
        ends: what is measured at the left and right end.
    """

    marks: tuple[tuple[float, float, bool], ...]
    now: float
    limit: float
    ends: tuple[str, str]


def bar_of(name: str, share: float, low: float, high: float, count: str, least: float = 0.0) -> Bar:
    """A share as it is drawn, on a line that begins at `least`."""

    def place(value: float) -> float:
        return round(_SIDE + (value - least) / (1 - least) * (_WIDTH - 2 * _SIDE), 1)

    said = [f"{value:.0%}" if least == 0 else f"{value:.2f}" for value in (share, low, high)]
    words = f"{said[0]} (95 %: {said[1]} to {said[2]})"
    return Bar(name, words, count, place(share), place(low), place(high), place(0.0))


def bars_of(found: Sequence[Precision]) -> tuple[Bar, ...]:
    """Precisions as they are drawn."""
    return tuple(bar_of(one.name, one.share, one.low, one.high, f"{one.confirmed} of {one.reviewed}") for one in found)


def kappa_bar(kappa: Kappa) -> Bar | None:
    """Kappa as it is drawn; None where it says nothing."""
    if kappa.kappa is None or kappa.low is None or kappa.high is None:
        return None
    low = max(-1.0, kappa.low)
    return bar_of("kappa", kappa.kappa, low, kappa.high, f"{kappa.agreed} of {kappa.pairs} pairs agree", -1.0)


def said_of(proposal: Proposal) -> str:
    """A proposal in one sentence."""
    unit = unit_of(proposal.signal)
    assert unit is not None, "only signals with limits are proposed"
    verb = "lowering" if unit.sign < 0 else "raising"
    return (
        f"{verb} {unit.flag} of {proposal.signal} for bank {proposal.bank} from {number(proposal.now)} to "
        f"{number(proposal.limit)} would have spared {proposal.spared} of {proposal.reviewed} reviews and missed "
        f"{proposal.missed} confirmed copies"
    )


def number(value: float) -> str:
    """A limit or a measure, as short as it can be told."""
    return f"{value:.0f}" if value == int(value) and abs(value) > 1 else f"{value:.3f}".rstrip("0").rstrip(".")


def plot_of(proposal: Proposal) -> PlotOfProposal:
    """Where the cases lie; nearer is to the right, whatever the signal's unit is."""
    unit = unit_of(proposal.signal)
    assert unit is not None, "only signals with limits are proposed"
    near = [unit.nearness(value) for value, _ in proposal.placed]
    both = unit.nearness(proposal.now), unit.nearness(proposal.limit)
    low, high = min(*near, *both), max(*near, *both)
    span = (high - low) or 1.0

    def place(nearness: float) -> float:
        return round(_SIDE + (nearness - low) / span * (_PLOT_WIDTH - 2 * _SIDE), 1)

    marks = tuple(
        (place(unit.nearness(value)), _ROWS[confirmed] - at % _SPREAD * _APART, confirmed)
        for at, (value, confirmed) in enumerate(proposal.placed)
    )
    ends = number(unit.measured(low)), number(unit.measured(high))
    return PlotOfProposal(marks, place(both[0]), place(both[1]), ends)
