"""Logs every decision of a reviewer, one line each."""

import logging

from guardrail.hookspecs import hookimpl
from guardrail.records import ReviewDecision, Verdict

log = logging.getLogger("guardrail.reviews")


@hookimpl
def review_recorded(decision: ReviewDecision, verdict: Verdict) -> None:
    """Log case, outcome and reasons; neither who decided nor their note."""
    what = f"took back {decision.undoes}" if decision.undoes else decision.outcome
    reasons = f" ({', '.join(decision.reasons)})" if decision.reasons else ""
    log.info("case %d of %s: %s%s", decision.case_id, verdict.verdict_id, what, reasons)
