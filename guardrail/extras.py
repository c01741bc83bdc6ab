"""The one door to packages that only some users need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from guardrail.errors import ExtraMissing

__all__ = ["need"]


def need(package: str, extra: str, purpose: str) -> Any:
    """Import an optional package, when it is used and not before.

    Args:
        package: the module to import.
        extra: the extra of `diffusion-guardrail` that installs it.
        purpose: what it is needed for, to go on after "to".

    Returns:
        The module.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ExtraMissing(package, extra, purpose) from error
