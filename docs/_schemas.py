"""mkdocs hook: publishes the JSON schemas of what leaves a process, made from the records at every build."""

import json

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from guardrail import records
from guardrail.act import STATEMENTS, assertion_schema

__all__ = ["PUBLISHED", "on_files"]

PUBLISHED = (
    "AuditReport",
    "DisputeReport",
    "GenerationContext",
    "IndexHeader",
    "Release",
    "Verdict",
    "VerifyReport",
    "Work",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add `reference/schemas/NAME.json` for each published record, and for each assertion of a manifest."""
    schemas = {label: assertion_schema(label) for label in STATEMENTS}
    for name in PUBLISHED:
        schemas[name] = getattr(records, name).model_json_schema(mode="serialization")
    for name, schema in schemas.items():
        content = json.dumps(schema, indent=2, sort_keys=True) + "\n"
        files.append(File.generated(config, f"reference/schemas/{name}.json", content=content))
    return files
