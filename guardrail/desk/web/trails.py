"""Which cases a person went through, said in the address: the next is another one, and the one before is found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Trail", "trail_of"]

_LONGEST = 40  # cases: those before are forgotten, and may come again
_DIGITS = 12  # of a case's number


@dataclass(frozen=True, slots=True)
class Trail:
    """The cases that were opened one after another, newest last."""

    past: tuple[int, ...] = ()

    @property
    def last(self) -> int | None:
        """The case that was opened last."""
        return self.past[-1] if self.past else None

    @property
    def said(self) -> str:
        """As it stands in an address."""
        return ".".join(str(one) for one in self.past)

    def with_case(self, case_id: int) -> Trail:
        """One case further."""
        kept = tuple(one for one in self.past if one != case_id)
        return Trail((*kept, case_id)[-_LONGEST:])

    def without_last(self) -> Trail:
        """One case back."""
        return Trail(self.past[:-1])


def trail_of(query: Mapping[str, str]) -> Trail:
    """The trail that an address says; what is no number in it is left out."""
    parts = query.get("past", "").split(".")
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) <= _DIGITS]
    return Trail(tuple(one for one in numbers if one > 0)[-_LONGEST:])
