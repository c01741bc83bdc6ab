"""Words of the command line as keyword arguments of a pipeline's call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from guardrail.errors import SettingsInvalid

__all__ = ["read_call"]


def read_call(said: Sequence[str]) -> dict[str, Any]:
    """`guidance_scale=5` as keyword arguments; values are JSON, and text where they are none.

    Raises:
        SettingsInvalid: one is not of the form NAME=VALUE.
    """
    found: dict[str, Any] = {}
    for one in said:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise SettingsInvalid("--call", f"found {one!r}, expected NAME=VALUE, such as guidance_scale=5")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
