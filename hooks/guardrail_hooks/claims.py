"""Says in the signed manifest why an image was accepted: `org.guardrail.verdict`."""

from typing import Any

from guardrail.act import VERDICT_LABEL, verdict_assertion
from guardrail.carriers import OutputPicture
from guardrail.hookspecs import hookimpl
from guardrail.records import Verdict
from guardrail.settings import Settings


@hookimpl
def describe_output(verdict: Verdict, output: OutputPicture, settings: Settings) -> dict[str, Any]:
    """The verdict, its policy, index and calibration, and the nearest works, as far as `provenance.detail` goes."""
    detail = settings.provenance.detail
    return {} if detail == "none" else {VERDICT_LABEL: verdict_assertion(verdict, detail, output.limits, output.review)}
