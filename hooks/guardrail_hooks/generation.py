"""Says in the signed manifest how an image was made: model, adapters, inputs, settings; of prompts keyed digests."""

from typing import Any

from guardrail.act import GENERATION_LABEL, generation_assertion
from guardrail.hookspecs import hookimpl
from guardrail.records import GenerationContext, Verdict
from guardrail.settings import Settings


@hookimpl
def describe_output(verdict: Verdict, context: GenerationContext | None, settings: Settings) -> dict[str, Any]:
    """How the run went, as far as `provenance.detail` tells it; nothing at `none`, or of images without a run.

    Raises:
        PromptKeyUnusable: the key of prompt digests cannot be used.
    """
    if context is None or settings.provenance.detail == "none":
        return {}
    return {GENERATION_LABEL: generation_assertion(verdict, context, settings)}
