"""What a run is called in, names that may leave this machine out: no path, no word of a prompt, no user's folder."""

from __future__ import annotations

import re
from pathlib import Path

from guardrail.records import Adapter, GenerationContext

__all__ = ["hub_name", "plain_name"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")  # as the hub allows
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+-]{0,63}")
_FILE_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")  # of weights: a name with one is a file's


def hub_name(context: GenerationContext) -> str:
    """The name of a run's model on a hub, `organisation/name`; empty where its id may be a path of this machine.

    An id counts as a name where it is no path that exists here, and where the model's parts were loaded from the cache
    that a hub keeps by commit (`model_revision` is known): `models/mine` looks like a name, too.
    """
    name = context.model_id or ""
    if context.model_revision is None or not _HUB_NAME.fullmatch(name) or Path(name).exists():
        return ""
    return name


def plain_name(adapter: Adapter) -> str:
    """An adapter's name: the one in the settings or its own; empty where it looks like a path, or is part of a prompt.

    A textual inversion is called by a word of the prompt, so its name is never said.
    """
    name = adapter.known_as or adapter.name
    if adapter.kind == "textual_inversion" or not _PLAIN_NAME.fullmatch(name):
        return ""
    return "" if name.lower().endswith(_FILE_ENDINGS) else name
