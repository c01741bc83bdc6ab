"""Logs every released file, one line each."""

import logging
from pathlib import Path

from guardrail.hookspecs import hookimpl
from guardrail.records import Release

log = logging.getLogger("guardrail.releases")


@hookimpl
def output_released(release: Release, path: Path) -> None:
    """Log the verdict, the manifest and the file."""
    log.info("%s released as %s in %s", release.verdict_id, release.manifest_id, path)
