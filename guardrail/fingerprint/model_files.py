"""Read a model file of the user's whole, so that what is loaded is what was digested."""

from __future__ import annotations

import hashlib
from pathlib import Path

from guardrail.errors import WeightsUnusable

__all__ = ["WHERE_MODELS_LIE", "read_model"]

WHERE_MODELS_LIE = "by its path, or by its name where it lies in the folder of the setting `weights`"


def read_model(path: Path, kind: str) -> tuple[bytes, str]:
    """The content of a model file, and its digest.

    Args:
        path: the file.
        kind: what it should be, for the error.

    Returns:
        The bytes, and their sha256 as 64 hex digits.

    Raises:
        WeightsUnusable: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        found = error.strerror or str(error)
        raise WeightsUnusable(str(path), found, f"{kind}, {WHERE_MODELS_LIE}") from error
    return content, hashlib.sha256(content).hexdigest()
