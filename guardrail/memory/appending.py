"""Rows in, leaves of the tree out: how a row is written down, hashed and found again."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import rfc8785
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from guardrail.errors import LedgerBroken, MemoryUnwritable
from guardrail.memory.shapes import content_of
from guardrail.memory.tables import Label, LedgerState, StoredRow
from guardrail.memory.tree import Frontier, leaf_hash

__all__ = ["LedgerRow", "RowKind", "append", "holds_kind", "labels_of", "leaf_of", "row_of"]

RowKind = Literal[
    "verdict",
    "remedy",
    "intent",
    "release",
    "withdrawal",
    "erasure",
    "migration",
    "review",
    "change",
    "adapter",
    "attribution",
]
_ID_FIELDS = {  # label by field
    "verdict_id": "v",
    "earlier_verdict_id": "v",
    "intent_id": "i",
    "manifest_id": "m",
    "decision_id": "d",
}


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One row of the ledger.

    Attributes:
        sequence: its number, from 1; its leaf has the index `sequence - 1`.
        kind: what it is about, one of `RowKind`.
        leaf: canonical JSON (RFC 8785) of kind and content; None once the row was erased.
        leaf_sha256: hash of the leaf in the tree, as hex.
    """

    sequence: int
    kind: str
    leaf: bytes | None
    leaf_sha256: str

    @property
    def erased(self) -> bool:
        """Whether its content was taken out."""
        return self.leaf is None

    @property
    def content(self) -> dict[str, Any]:
        """What it says; of an erased row, nothing.

        Raises:
            LedgerBroken: it is not what was written, or not in the shape of its kind.
        """
        if self.leaf is None:
            return {}
        if leaf_hash(self.leaf).hex() != self.leaf_sha256:
            raise LedgerBroken(self.sequence, "content that was edited", f"a leaf of hash {self.leaf_sha256[:12]}")
        return content_of(self.sequence, self.kind, self.leaf)


def leaf_of(kind: str, content: dict[str, Any]) -> bytes:
    """The canonical JSON (RFC 8785) of a row."""
    return rfc8785.dumps({"kind": kind, "content": content})


def holds_kind(leaf: bytes, kind: str) -> bool:
    """Whether a leaf is of a kind; its keys are sorted, so that the kind comes last."""
    return leaf.endswith(b',"kind":"' + kind.encode() + b'"}')


def row_of(stored: StoredRow) -> LedgerRow:
    """A row as it is handed out.

    Raises:
        LedgerBroken: it holds no bytes, or its number is none.
    """
    if not isinstance(stored.leaf_hash, bytes) or not isinstance(stored.leaf, bytes | None):
        raise LedgerBroken(stored.sequence, "content or a hash that are no bytes", "bytes")
    if not isinstance(stored.sequence, int) or not isinstance(stored.kind, str):
        raise LedgerBroken(stored.sequence, f"a row of kind {stored.kind!r}", "a number and the name of a kind")
    return LedgerRow(stored.sequence, stored.kind, stored.leaf, stored.leaf_hash.hex())


def labels_of(content: dict[str, Any]) -> set[str]:
    """By which ids a row is found."""
    inner = (content, *(one for one in content.values() if isinstance(one, dict)))
    return {
        f"{letter}:{part[field]}"
        for part in inner
        for field, letter in _ID_FIELDS.items()
        if isinstance(part.get(field), str)
    }


def append(session: Session, state: LedgerState, kind: RowKind, contents: Iterable[dict[str, Any]]) -> list[int]:
    """Append rows of a kind to the ledger, in the transaction of its only writer.

    Returns:
        Their sequence numbers.

    Raises:
        MemoryUnwritable: rows were cut off or added beside the tree, or a content is nothing that JSON can hold.
    """
    last = session.scalar(select(func.max(StoredRow.sequence))) or 0
    contents = list(contents)
    try:
        frontier = Frontier.from_bytes(state.size, state.frontier)
        leaves = [leaf_of(kind, content) for content in contents]
    except (TypeError, ValueError) as error:
        raise MemoryUnwritable(_place(session), str(error)) from error
    if last != state.size:
        found = f"found {last} rows in the ledger and {state.size} in its tree; see guardrail ledger verify"
        raise MemoryUnwritable(_place(session), found)
    sequences = list(range(last + 1, last + 1 + len(leaves)))
    hashes = [leaf_hash(leaf) for leaf in leaves]
    rows = [
        {"sequence": sequence, "kind": kind, "leaf": leaf, "leaf_hash": digest}
        for sequence, leaf, digest in zip(sequences, leaves, hashes, strict=True)
    ]
    if rows:
        session.execute(insert(StoredRow), rows)
        labels = [
            {"name": name, "sequence": sequence}
            for sequence, content in zip(sequences, contents, strict=True)
            for name in sorted(labels_of(content))
        ]
        if labels:
            session.execute(insert(Label), labels)
    frontier.extend(hashes)
    state.size, state.frontier = frontier.size, frontier.to_bytes()
    session.flush()
    return sequences


def _place(session: Session) -> str:
    bind = session.get_bind()
    return bind.engine.url.render_as_string(hide_password=True)
