"""Says in the signed manifest whether others may mine an image or train on it: `cawg.training-mining`."""

from typing import Any

from guardrail.act import MINING_LABEL, mining_assertion
from guardrail.hookspecs import hookimpl
from guardrail.settings import Settings


@hookimpl
def describe_output(settings: Settings) -> dict[str, Any]:
    """What `provenance.training_mining` says; nothing where it is empty."""
    said = mining_assertion(settings.provenance)
    return {} if said is None else {MINING_LABEL: said}
