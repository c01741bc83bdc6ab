"""Says in the signed manifest which model made an image: C2PA's own `c2pa.ai-disclosure`."""

from typing import Any

from guardrail.act import DISCLOSURE_LABEL, disclosure_assertion
from guardrail.carriers import OutputPicture
from guardrail.hookspecs import hookimpl
from guardrail.records import GenerationContext
from guardrail.settings import Settings


@hookimpl
def describe_output(context: GenerationContext | None, output: OutputPicture, settings: Settings) -> dict[str, Any]:
    """Type, name and identifier of the model, and the human oversight that the settings declare, or that took place."""
    said = disclosure_assertion(context, settings.provenance, reviewed=output.review is not None)
    return {} if said is None else {DISCLOSURE_LABEL: said}
