"""What a ledger hands out about one of its rows."""

from typing import Literal

from pydantic import Field

from guardrail.records.base import Record, Sha256

__all__ = ["InclusionProof"]


class InclusionProof(Record):
    """That a row is in a ledger, for people who do not have the ledger.

    `leaf` is the row itself, canonical JSON (RFC 8785) of its kind and content, None once it was erased; `leaf_sha256`
    its hash in the tree, `index` its place there, from 0. `path` are the hashes that lead from it to the root which
    the signed `checkpoint` names, lowest first.
    """

    schema_version: Literal[1] = 1
    index: int = Field(ge=0)
    leaf: str | None
    leaf_sha256: Sha256
    path: tuple[Sha256, ...]
    checkpoint: str
