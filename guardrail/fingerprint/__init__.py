"""Images in, fingerprints out. The only room that imports open_clip and timm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardrail.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "guardrail.fingerprint.clip": ("OpenClipEmbedder",),
        "guardrail.fingerprint.devices": ("resolve_device",),
        "guardrail.fingerprint.embedders": ("MiniEmbedder",),
        "guardrail.fingerprint.fingerprinter": ("Fingerprinter", "HASHES", "pixels_digest"),
        "guardrail.fingerprint.pdq": ("hash_pdq",),
        "guardrail.fingerprint.phash": ("hash_phash",),
    },
)
