"""Where one measurement lies: a small SVG of how near clean pictures and edited copies came, with the limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from guardrail.records import Histogram

__all__ = ["Measuring", "Scale", "draw_plot", "no_nearer", "shown"]

_WIDTH, _HEIGHT = 360, 112  # units of the drawing, about pixels
_LEFT, _RIGHT = 10, 350  # of the axis
_TOP, _GROUND = 40, 92  # of the bars
_LETTER = 5.6  # width of a letter of the 10 px font, on average
_ROWS = (10, 22, 34)  # where the value, the flag limit and the block limit are written
_BACKGROUND, _COPIES = "#0072b2", "#d55e00"  # Okabe and Ito: told apart by all eyes
_DIGITS = 2  # behind the point of what is drawn: the same drawing on every machine


@dataclass(frozen=True, slots=True)
class Scale:
    """How a signal is measured: from the farthest value to the nearest, which is drawn on the right.

    `whole` values are counts or bits; `unit` is written behind them.
    """

    farthest: float
    nearest: float
    whole: bool
    unit: str = ""

    @property
    def nearer_is_less(self) -> bool:
        """Whether it is a distance."""
        return self.nearest < self.farthest


@dataclass(frozen=True, slots=True)
class Measuring:
    """One measurement and what it is compared with, in its signal's own unit.

    Attributes:
        title: of the drawing, for those who cannot see it.
        scale: of the axis.
        value: what was measured; None where nothing came near.
        flag, block: the limits; None where there is none.
        background: how near clean pictures came to the nearest work; None where it was not kept.
        copies: how near edited copies of the works came; None where they were not looked at.
    """

    title: str
    scale: Scale
    value: float | None
    flag: float | None
    block: float | None
    background: Histogram | None = None
    copies: Histogram | None = None


def shown(value: float, scale: Scale) -> str:
    """A value with its unit, as it is written everywhere."""
    number = f"{value:.0f}" if scale.whole else f"{value:.3f}"
    return f"{number} {scale.unit}".rstrip()


def no_nearer(histogram: Histogram, value: float, scale: Scale) -> tuple[int, int]:
    """How many pictures came at most as near as a value, at least, and how many there are.

    Bins in which the value lies count as nearer, so that the claim holds for any place within them.
    """
    width = (histogram.high - histogram.low) / len(histogram.counts)
    farther = histogram.far
    for at, count in enumerate(histogram.counts):
        low = histogram.low + at * width
        if (low > value) if scale.nearer_is_less else (low + width <= value):
            farther += count
    return farther, histogram.far + sum(histogram.counts)


def draw_plot(measuring: Measuring) -> Markup:
    """Draw it: bars of the background below those of the copies, the limits as lines, the value as a mark.

    Returns:
        An `<svg>` without scripts, styles, ids or links; its lines take the colour of the text around it.
    """
    axis = _axis(measuring)
    parts = [
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        'xmlns="http://www.w3.org/2000/svg" font-family="inherit" font-size="10" fill="currentColor">',
        f"<title>{escape(measuring.title)}</title>",
        *_bars(axis, measuring.background, _BACKGROUND, "plot-background"),
        *_bars(axis, measuring.copies, _COPIES, "plot-copies"),
        f'<path class="plot-axis" d="M{_LEFT} {_GROUND}H{_RIGHT}" stroke="currentColor" fill="none"/>',
        _words(_LEFT, _HEIGHT - 6, "start", f"{shown(axis.left, measuring.scale)}, far"),
        _words(_RIGHT, _HEIGHT - 6, "end", f"near, {shown(axis.right, measuring.scale)}"),
    ]
    for name, limit, dashes, row in (
        ("flag", measuring.flag, ' stroke-dasharray="4 3"', _ROWS[1]),
        ("block", measuring.block, "", _ROWS[2]),
    ):
        if limit is not None:
            parts += _limit(axis, f"{name} {shown(limit, measuring.scale)}", limit, dashes, row)
    if measuring.value is not None:
        parts += _mark(axis, measuring.value, shown(measuring.value, measuring.scale))
    return Markup("".join(parts) + "</svg>")  # noqa: S704  # numbers, our own words, and what was escaped


@dataclass(frozen=True, slots=True)
class _Axis:
    """From which value on the left to which on the right; counts are drawn by their roots."""

    left: float
    right: float
    rooted: bool

    def at(self, value: float) -> float:
        """Where a value is drawn, kept within the axis."""
        left, right, value = (math.sqrt(max(v, 0)) if self.rooted else v for v in (self.left, self.right, value))
        share = (value - left) / (right - left)
        return round(_LEFT + min(max(share, 0), 1) * (_RIGHT - _LEFT), _DIGITS)


def _axis(measuring: Measuring) -> _Axis:
    """As much of the scale as there is something on."""
    scale = measuring.scale
    seen = [one for one in (measuring.value, measuring.flag, measuring.block) if one is not None]
    for histogram in filter(None, (measuring.background, measuring.copies)):
        seen += [histogram.low, histogram.high]
    if not seen:
        return _Axis(
            scale.farthest, scale.nearest if math.isfinite(scale.nearest) else scale.farthest + 1, rooted=False
        )
    if scale.nearer_is_less:
        return _Axis(max(scale.nearest + 1, min(scale.farthest, 1.15 * max(seen))), scale.nearest, rooted=False)
    if scale.whole:
        return _Axis(scale.farthest, 1.15 * max(*seen, scale.farthest + 1), rooted=True)
    left = math.floor(10 * (min(seen) - 0.05)) / 10
    return _Axis(max(scale.farthest, left), scale.nearest, rooted=False)


def _bars(axis: _Axis, histogram: Histogram | None, colour: str, name: str) -> list[str]:
    """The bars of a histogram as one path; heights are logarithms, so that single pictures are seen."""
    if histogram is None or not any(histogram.counts):
        return []
    width = (histogram.high - histogram.low) / len(histogram.counts)
    most = math.log1p(max(histogram.counts))
    steps = []
    for at, count in enumerate(histogram.counts):
        if count:
            ends = sorted(axis.at(histogram.low + place * width) for place in (at, at + 1))
            height = round((_GROUND - _TOP) * math.log1p(count) / most, _DIGITS)
            steps.append(f"M{ends[0]:g} {_GROUND}v{-height:g}h{max(ends[1] - ends[0], 1):g}v{height:g}z")
    return [f'<path class="{name}" d="{"".join(steps)}" fill="{colour}" fill-opacity="0.55"/>']


def _limit(axis: _Axis, said: str, limit: float, dashes: str, row: int) -> list[str]:
    x = axis.at(limit)
    line = f'<path d="M{x:g} {row - 8}V{_GROUND}" stroke="currentColor" stroke-width="1.2"{dashes} fill="none"/>'
    return [line, _beside(x, row, said)]


def _mark(axis: _Axis, value: float, said: str) -> list[str]:
    x = axis.at(value)
    return [
        f'<path class="plot-value" d="M{x:g} {_ROWS[0] - 8}V{_GROUND}" stroke="currentColor" stroke-width="2.6"/>',
        f'<path class="plot-value" d="M{x:g} {_GROUND}l-5 8h10z"/>',
        _beside(x, _ROWS[0], f"this image {said}", weight=' font-weight="700"'),
    ]


def _beside(x: float, y: int, said: str, weight: str = "") -> str:
    """Words on the side of a line where there is room for them."""
    fits_left = x - 4 - _LETTER * len(said) >= 0
    return _words(x - 4 if fits_left else x + 4, y, "end" if fits_left else "start", said, weight)


def _words(x: float, y: int, anchor: str, said: str, weight: str = "") -> str:
    return f'<text x="{x:g}" y="{y}" text-anchor="{anchor}"{weight}>{escape(said)}</text>'
