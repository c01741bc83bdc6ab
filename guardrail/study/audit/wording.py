"""Words that several parts of an audit say alike."""

from __future__ import annotations

__all__ = ["counted"]


def counted(count: int, thing: str) -> str:
    """`1 clique`, `2 cliques`: a count, >= 0, with the thing counted, whose plural takes an s."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
