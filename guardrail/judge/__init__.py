"""Neighbours in, verdicts out: gathers evidence and applies the policy; pure Python, without I/O or arrays."""

from guardrail.judge.decide import Findings, decide, graver
from guardrail.judge.gather import gather, nearest_works, reached

__all__ = ["Findings", "decide", "gather", "graver", "nearest_works", "reached"]
