"""Says in the signed manifest whom to credit: `org.guardrail.attribution`.

Credit is owed whatever is told of the verdict, so `provenance.detail` has no say in it.
"""

from typing import Any

from guardrail.act import ATTRIBUTION_LABEL, attribution_assertion
from guardrail.carriers import OutputPicture
from guardrail.hookspecs import hookimpl
from guardrail.records import Verdict


@hookimpl
def describe_output(verdict: Verdict, output: OutputPicture) -> dict[str, Any]:
    """The licensed works that the image comes near, with makers, holders and licences; nothing where there are none."""
    said = attribution_assertion(verdict, review=output.review)
    return {} if said is None else {ATTRIBUTION_LABEL: said}
