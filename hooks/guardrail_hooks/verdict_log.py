"""Logs every verdict, one line each: severe ones as warnings. Never logs a prompt."""

import logging

from guardrail.hookspecs import hookimpl
from guardrail.records import Decision, Verdict

log = logging.getLogger("guardrail.verdicts")


@hookimpl
def verdict_reached(verdict: Verdict) -> None:
    """Log the decision and its explanation."""
    level = logging.INFO if verdict.decision is Decision.ACCEPT else logging.WARNING
    log.log(level, "%s %s: %s", verdict.verdict_id, verdict.image, verdict.explanation)
