"""Verdicts and releases in, a hash-chained ledger and a review queue out; the only room that imports SQLAlchemy."""

from guardrail.memory.ledger import Case, Held, LedgerRow, Memory

__all__ = ["Case", "Held", "LedgerRow", "Memory"]
