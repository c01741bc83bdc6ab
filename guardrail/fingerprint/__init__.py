"""Images in, fingerprints out. The only room that imports open_clip and timm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardrail.lazy import lazy_names

if TYPE_CHECKING:
    from guardrail.fingerprint.clip import OpenClipEmbedder
    from guardrail.fingerprint.devices import resolve_device
    from guardrail.fingerprint.embedders import MiniEmbedder
    from guardrail.fingerprint.fingerprinter import HASHES, Fingerprinter, pixels_digest
    from guardrail.fingerprint.looks import query_looks, work_looks
    from guardrail.fingerprint.onnx import OnnxEmbedder
    from guardrail.fingerprint.pdq import hash_pdq
    from guardrail.fingerprint.phash import hash_phash
    from guardrail.fingerprint.sscd import SscdEmbedder

__all__ = [
    "HASHES",
    "Fingerprinter",
    "MiniEmbedder",
    "OnnxEmbedder",
    "OpenClipEmbedder",
    "SscdEmbedder",
    "hash_pdq",
    "hash_phash",
    "pixels_digest",
    "query_looks",
    "resolve_device",
    "work_looks",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "guardrail.fingerprint.clip": ("OpenClipEmbedder",),
        "guardrail.fingerprint.devices": ("resolve_device",),
        "guardrail.fingerprint.embedders": ("MiniEmbedder",),
        "guardrail.fingerprint.fingerprinter": ("Fingerprinter", "HASHES", "pixels_digest"),
        "guardrail.fingerprint.looks": ("query_looks", "work_looks"),
        "guardrail.fingerprint.onnx": ("OnnxEmbedder",),
        "guardrail.fingerprint.pdq": ("hash_pdq",),
        "guardrail.fingerprint.phash": ("hash_phash",),
        "guardrail.fingerprint.sscd": ("SscdEmbedder",),
    },
)
