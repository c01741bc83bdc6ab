"""The bytes of a row in, what it says out: in the shape that its kind is written in, or the ledger is broken."""

import json
from typing import Any

from guardrail.errors import LedgerBroken

__all__ = ["content_of", "is_shaped"]

_ID = str
_MAYBE_ID = (str, None)

# What readers and checks rely on, by kind: a type, a part, a list of one shape, or a tuple of what it may be.
_SHAPES: dict[str, Any] = {
    "verdict": {"verdict": {"verdict_id": _ID, "earlier_verdict_id": _MAYBE_ID}},
    "intent": {"intent": {"intent_id": _ID, "verdict_id": _ID}},
    "release": {"release": {"verdict_id": _ID, "manifest_id": _ID, "intent_id": _MAYBE_ID}},
    "withdrawal": {"verdict_id": _ID, "intent_id": _MAYBE_ID},
    "review": {"review": {"decision_id": _ID, "verdict_id": _ID}},
    "change": {"change": {"change_id": _ID, "kind": str, "undoes": _MAYBE_ID}},
    "adapter": {"adapter": {"weights_sha256": str}, "change": str, "organisation": str, "at": str},
    "attribution": {"attribution": {"attribution_id": _ID, "verdict_id": _ID}},
    "erasure": {"rows": [{"sequence": int, "kind": str, "leaf_sha256": str, "ids": ([str], None)}]},
}


def is_shaped(kind: str, content: object) -> bool:
    """Whether a content has the parts that its kind is written with; of kinds without any, whether it is an object."""
    return _fits(content, _SHAPES.get(kind, {}))


def content_of(sequence: int, kind: str, leaf: bytes) -> dict[str, Any]:
    """What a leaf says.

    Raises:
        LedgerBroken: it cannot be read, is of another kind, or not in the shape of its kind.
    """
    try:
        document = json.loads(leaf)
    except (ValueError, RecursionError) as error:
        raise LedgerBroken(sequence, f"content that cannot be read ({error})", "canonical JSON") from error
    if not isinstance(document, dict) or document.get("kind") != kind or not is_shaped(kind, document.get("content")):
        raise LedgerBroken(sequence, "content in another shape", f"that of {kind!r}")
    content: dict[str, Any] = document["content"]
    return content


def _fits(value: object, shape: Any) -> bool:
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(_fits(value.get(name), inner) for name, inner in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(one, shape[0]) for one in value)
    if isinstance(shape, tuple):
        return any(_fits(value, one) for one in shape)
    return value is None if shape is None else isinstance(value, shape)
