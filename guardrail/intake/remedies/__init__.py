"""A call whose images were blocked in, altered calls out, one remedy after the other."""

from guardrail.intake.remedies.ladder import Altered, Hit, Ladder, matched_rows

__all__ = ["Altered", "Hit", "Ladder", "matched_rows"]
