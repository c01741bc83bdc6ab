"""Accepts no image of a run whose model should be signed and is not: the check that failed becomes evidence."""

from guardrail.errors import ModelUnsigned
from guardrail.hookspecs import hookimpl
from guardrail.records import GenerationContext
from guardrail.settings import Settings


@hookimpl
def find_evidence(context: GenerationContext | None, settings: Settings) -> None:
    """Nothing where no signature is asked for, it holds, or the image comes without a run.

    Raises:
        ModelUnsigned: the signature does not hold, or was not checked.
    """
    if context is None or settings.model.signature is None:
        return
    found = context.model_signature
    if found is None:
        raise ModelUnsigned("none that was checked")
    if found.outcome != "verified":
        raise ModelUnsigned(found.reason)
