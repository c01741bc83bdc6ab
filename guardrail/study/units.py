"""How each signal is measured: which way is nearer, and by which names `Limits` knows it."""

from __future__ import annotations

import math
from typing import NamedTuple

from guardrail.records import Limits, Signal

__all__ = ["Unit", "unit_of"]


class Unit(NamedTuple):
    """How a signal is measured: the name of its field in `Limits`, of the limits in there, and which way is nearer."""

    field: str
    flag: str
    block: str
    sign: int
    whole: bool
    nearest: float

    def nearness(self, measured: float) -> float:
        """A similarity, distance or count as a number that is higher when nearer."""
        return self.sign * measured

    def measured(self, nearness: float) -> float:
        """A nearness in the signal's own unit; whole where that is."""
        value = self.sign * nearness + 0.0  # no -0
        return float(round(value)) + 0.0 if self.whole else value


def unit_of(signal: Signal) -> Unit | None:
    """How a signal is measured; None for exact matches, which have no limit."""
    names = {field.alias or name: name for name, field in Limits.model_fields.items()}
    if signal not in names:
        return None
    field = names[signal]
    fields = type(getattr(Limits(), field)).model_fields
    flag, block = (next(name for name in fields if name.startswith(decision)) for decision in ("flag", "block"))
    sign = -1 if "within" in flag else 1
    whole = "float" not in str(fields[flag].annotation)
    return Unit(field, flag, block, sign, whole, 0.0 if sign < 0 else math.inf if whole else 1.0)
