"""Says in the signed manifest what is claimed of the model's differential privacy, and whether an audit refuted it.

The claim lies beside the model's weights, in `privacy_claim.json`, where `guardrail audit` adds what it found.
"""

from pathlib import Path
from typing import Any

from guardrail.hookspecs import hookimpl
from guardrail.records import GenerationContext, PrivacyStatement

_LABEL = "org.guardrail.privacy_claim"


@hookimpl
def describe_output(context: GenerationContext | None) -> dict[str, Any]:
    """The claim, its audits and its standing, where the model's folder has one; a file that is none withholds."""
    if context is None or not context.model_id:
        return {}
    file = Path(context.model_id) / PrivacyStatement.FILE
    if not file.is_file():
        return {}
    statement = PrivacyStatement.model_validate_json(file.read_text(encoding="utf-8"))
    return {_LABEL: statement.model_dump(mode="json") | {"standing": statement.standing}}
