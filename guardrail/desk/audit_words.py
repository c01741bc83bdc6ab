"""The figures of an audit in plain words: what was counted, as counts and percentages."""

from __future__ import annotations

import re
from typing import NamedTuple

from guardrail.records import Measured

__all__ = ["Figure", "figure"]

_WHOSE = {"generations": "generations that copy a work", "held_out": "held-out pictures that would be taken for copies"}
_BY = {
    "copies": "",
    "by_pixels": ", by their pixels",
    "by_correlation": ", by correlation alone",
    "by_tile_l2_alone": ", by tile l2 alone",
    "by_guard": ", by guardrail's own look",
    "by_adaptive_l2": ", by the adaptive distance",
}
_COUNTS = {
    "works_asked": "works that were asked for",
    "works_extracted": "works given back",
    "cliques": "pictures that come again and again",
}
_SHARES = {
    "in_cliques": "generations that show one of these",
    "smallest_share_seen": "a picture is seen where it makes this share of generations",
}
_EIDETIC = re.compile(r"eidetic_k(\d+)")


class Figure(NamedTuple):
    """One row of a table: what was measured, how much, the 95 % interval or nothing, and over how many."""

    what: str
    value: str
    interval: str
    over: str


def figure(measured: Measured) -> Figure:
    """A figure as people read it; one that is known by no plain words keeps its name, with spaces."""
    over = f"{measured.over:,}"
    if what := _counted(measured.name):
        return Figure(what, f"{measured.value:,.0f}", "", over)
    what = _shared(measured.name)
    low, high = measured.low, measured.high
    if low is None or high is None:
        value = _percent(measured.value) if measured.name in _SHARES else f"{measured.value:.4g}"
        return Figure(what, value, "", over)
    return Figure(what, _percent(measured.value), f"{_percent(low)} to {_percent(high)}", over)


def _counted(name: str) -> str:
    """The words for a count of works or pictures; empty where it is none."""
    if eidetic := _EIDETIC.fullmatch(name):
        most = int(eidetic[1])
        return "of them, shown by one training picture" if most == 1 else f"of them, shown by {most} at most"
    return _COUNTS.get(name, "")


def _shared(name: str) -> str:
    for whose, words in _WHOSE.items():
        if name.startswith(f"{whose}_") and (by := _BY.get(name.removeprefix(f"{whose}_"))) is not None:
            return words + by
    return _SHARES.get(name, name.replace("_", " "))


def _percent(share: float) -> str:
    return f"{share:.1%}"
