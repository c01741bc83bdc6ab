"""Says in the signed manifest why an image was accepted."""

from typing import Any

from guardrail.act import VERDICT_LABEL, verdict_assertion
from guardrail.hookspecs import hookimpl
from guardrail.records import Verdict


@hookimpl
def describe_output(verdict: Verdict) -> dict[str, Any]:
    """The verdict, its policy, index and calibration, the nearest works and the credits; no prompt and no path."""
    return {VERDICT_LABEL: verdict_assertion(verdict)}
