"""Images in, fingerprints out. The only room that imports open_clip and timm."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardrail.fingerprint.clip import OpenClipEmbedder
    from guardrail.fingerprint.devices import resolve_device
    from guardrail.fingerprint.embedders import MiniEmbedder
    from guardrail.fingerprint.fingerprinter import HASHES, Fingerprinter, pixels_digest
    from guardrail.fingerprint.pdq import hash_pdq
    from guardrail.fingerprint.phash import hash_phash

__all__ = [
    "HASHES",
    "Fingerprinter",
    "MiniEmbedder",
    "OpenClipEmbedder",
    "hash_pdq",
    "hash_phash",
    "pixels_digest",
    "resolve_device",
]

_HOMES = {
    "HASHES": "fingerprinter",
    "Fingerprinter": "fingerprinter",
    "MiniEmbedder": "embedders",
    "OpenClipEmbedder": "clip",
    "hash_pdq": "pdq",
    "hash_phash": "phash",
    "pixels_digest": "fingerprinter",
    "resolve_device": "devices",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: `mini` does not pay for open_clip."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
