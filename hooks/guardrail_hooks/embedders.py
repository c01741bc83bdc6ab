"""Offers the embedders that ship: `mini`, with its weights, and three that take a model of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardrail.errors import EmbedderUnknown
from guardrail.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from guardrail.protocols import Embedder


@hookimpl
def register_embedders() -> Mapping[str, Callable[[str, str], Embedder]]:
    """Offer `mini`, `clip:<arch>/<tag or path>`, `sscd:<file>` and `onnx:<file>`."""
    return {"mini": _mini, "clip": _clip, "sscd": _sscd, "onnx": _onnx}


def _mini(rest: str, device: str) -> Embedder:
    from guardrail.fingerprint import MiniEmbedder  # torch and timm are loaded when an embedder is built, not listed

    if rest:
        raise EmbedderUnknown(f"mini:{rest}", "mini, which takes nothing after a colon")
    return MiniEmbedder(device)


def _clip(rest: str, device: str) -> Embedder:
    from guardrail.fingerprint import OpenClipEmbedder  # as above, and open_clip

    return OpenClipEmbedder(rest, device)


def _sscd(rest: str, device: str) -> Embedder:
    from guardrail.fingerprint import SscdEmbedder

    return SscdEmbedder(rest, device)


def _onnx(rest: str, device: str) -> Embedder:
    from guardrail.fingerprint import OnnxEmbedder

    return OnnxEmbedder(rest, device)
