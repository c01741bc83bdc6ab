"""How near pictures came to works in, small histograms to keep with the limits out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from guardrail.records import Histogram, Signal, SignalLimits
from guardrail.study.calibrate import Unit, unit_of

__all__ = ["histogram_of", "with_histograms"]

_MOST_BINS = 48  # of a histogram: enough for a plot of a few centimetres

Array = NDArray[np.float64]


def histogram_of(nearness: Array, unit: Unit) -> Histogram | None:
    """Count how near pictures came, in the signal's own unit.

    Args:
        nearness: float64 (N,), by `Unit.nearness`; `-inf` where the signal found nothing near, NaN where it says
            nothing of a picture, which is left out.
        unit: the signal's.

    Returns:
        At most 48 bins between the least and the greatest value, a whole number wide where the unit is whole; None
        where no picture came near anything.
    """
    counted = nearness[~np.isnan(nearness)]
    near = unit.sign * counted[np.isfinite(counted)]
    if not len(near):
        return None
    low, high = float(near.min()), float(near.max())
    if unit.whole:
        width = max(1, int(np.ceil((high - low + 1) / _MOST_BINS)))
        bins = int(np.ceil((high - low + 1) / width))
        high = low + bins * width
    else:
        bins, high = (_MOST_BINS, high) if high > low else (1, float(np.nextafter(high, np.inf)))
    counts, _ = np.histogram(near, bins=bins, range=(low, high))
    return Histogram(low=low, high=high, counts=tuple(counts.tolist()), far=int(len(counted) - len(near)))


def with_histograms(
    signals: Sequence[SignalLimits], background: Mapping[Signal, Array], copies: Mapping[Signal, Array]
) -> tuple[SignalLimits, ...]:
    """The same limits with how near the background, and edited copies of the works, came.

    Args:
        signals: as they were fitted.
        background: by signal, float64 (N,), as `fit_limits` takes it.
        copies: the same of edited copies; empty where none were looked at.
    """
    kept = []
    for fitted in signals:
        unit = unit_of(fitted.signal)
        assert unit is not None, "what was fitted has a unit"
        found = {
            name: histogram_of(values[fitted.signal], unit)
            for name, values in (("background", background), ("copies", copies))
            if fitted.signal in values
        }
        kept.append(fitted.model_copy(update=found))
    return tuple(kept)
