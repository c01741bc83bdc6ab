"""Puts an ISCC of the image into its manifest, a soft binding that finds it again from the pixels: extra `iscc`."""

from typing import Any

from guardrail.act import SOFT_BINDING_LABEL, iscc_assertion
from guardrail.carriers import OutputPicture
from guardrail.hookspecs import hookimpl
from guardrail.settings import Settings


@hookimpl
def describe_output(output: OutputPicture, settings: Settings) -> dict[str, Any]:
    """The Image-Code of the pixels as they leave, where `provenance.soft_binding` asks for it."""
    return {SOFT_BINDING_LABEL: iscc_assertion(output.pixels)} if settings.provenance.soft_binding else {}
