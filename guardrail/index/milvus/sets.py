"""Sets of collections: made, described, read, and switched by the one alias that says which set counts."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import rfc8785
from numpy.typing import NDArray
from pydantic import ValidationError

from guardrail.errors import IndexDamaged, IndexMissing, IndexUnsupported
from guardrail.index.milvus.cluster import Cluster
from guardrail.index.milvus.layout import STRUCTURES, CollectionSet, alias_of, key_of, make_collections
from guardrail.records import IndexHeader

__all__ = ["Described", "begin_set", "builds_of", "discard_set", "read_set", "renamed", "switch_to"]

_FORMAT = 1  # of what lies in Milvus
_CHUNK_BYTES = 48_000  # of the background, in one row: 64,000 characters of base64
_COUNTED = ("snapshot", "works", "banks", "withdrawn", "generation", "compacted_at")  # of a header, known on reading
_DUMMY = b"\0"  # a collection must have a vector


@dataclass(frozen=True, slots=True)
class Described:
    """A set of collections and what it says of itself.

    Attributes:
        of: its collections.
        specification: the header it was made with; counts and snapshot in it mean nothing.
        background: float32 (B, D), unit length, where the specification has a normalisation.
        token: random, another one before and after every change.
        is_settled: whether the change that wrote the token was done.
        banks: every bank that ever was in it.
    """

    of: CollectionSet
    specification: IndexHeader
    background: NDArray[np.float32] | None
    token: str
    is_settled: bool
    banks: tuple[str, ...]

    @property
    def snapshot(self) -> str:
        """The name of this state: no other state of any set has it."""
        said = self.specification.model_dump(mode="json", exclude=set(_COUNTED))
        named: dict[str, Any] = {
            "format": _FORMAT,
            "build": self.of.build,
            "structure": self.of.structure,
            "token": self.token,
        }
        return hashlib.sha256(rfc8785.dumps(named | {"specification": said})).hexdigest()


def begin_set(
    cluster: Cluster, header: IndexHeader, background: NDArray[np.float32] | None, structure: str, build: str = ""
) -> Described:
    """Make a set, or take up one of that name that was begun; nobody searches it until `switch_to`.

    Args:
        cluster: where.
        header: the specification: embedders, hashes, sampling, normalisation, limits, built_at.
        background: float32 (B, D), unit length, where the header has a normalisation.
        structure: one of `STRUCTURES`, for all vectors; hashes are compared exactly.
        build: hexadecimal, to find a set again that was begun; by default a new one.

    Raises:
        IndexUnsupported: the server knows no such structure.
        IndexUnwritable, IndexUnreachable: it cannot be made.
    """
    if structure not in STRUCTURES:
        raise IndexUnsupported(str(cluster.place), f"asked for the structure {structure!r}", ", ".join(STRUCTURES))
    of = CollectionSet(cluster.place.name, build or secrets.token_hex(6), structure)
    make_collections(cluster, of, header)
    content = {
        "set": json.dumps({"format": _FORMAT, "build": of.build, "structure": of.structure}),
        "header": _header(header),
        "token": _token(secrets.token_hex(16), is_settled=True),
    }
    if background is not None:
        packed = np.ascontiguousarray(background, np.float32).tobytes()
        for at, start in enumerate(range(0, len(packed), _CHUNK_BYTES)):
            content[f"background/{at:06}"] = base64.b64encode(packed[start : start + _CHUNK_BYTES]).decode()
    if not cluster.query(of["state"], 'name == "set"', ["name"]):
        _write_state(cluster, of, content)
    return _described(cluster, of["state"])


def read_set(cluster: Cluster, known: Described | None = None, *, is_followed: bool = True) -> Described:
    """The set that counts now.

    Args:
        cluster: where.
        known: what was read before; what never changes in a set is taken from it.
        is_followed: whether to read the set that counts, or that which is known.

    Raises:
        IndexMissing: there is none.
        IndexDamaged: it is of another format, or not one of ours.
        IndexUnreachable: the server does not answer.
    """
    alias = alias_of(cluster.place.name)
    if known is None and not cluster.ask("has_collection", alias):
        found = "no index of that name on this server; fill one with: guardrail index copy FOLDER URL"
        raise IndexMissing(str(cluster.place), found)
    return _described(cluster, alias if known is None or is_followed else known.of["state"], known)


def switch_to(cluster: Cluster, described: Described) -> None:
    """Let a set count from now on, in one step: every search that starts later asks it."""
    alias, state = alias_of(cluster.place.name), described.of["state"]
    method = "alter_alias" if cluster.ask("has_collection", alias) else "create_alias"
    cluster.tell(method, state, alias)


def builds_of(cluster: Cluster) -> tuple[str, ...]:
    """The builds of this index that lie on the server, whole or not."""
    start = alias_of(cluster.place.name) + "_"
    names = [str(name) for name in cluster.ask("list_collections")]
    return tuple(
        sorted(
            name[len(start) : -len("_state")] for name in names if name.startswith(start) and name.endswith("_state")
        )
    )


def discard_set(cluster: Cluster, build: str) -> None:
    """Drop all collections of a build; the one that counts is not to be dropped.

    Raises:
        IndexUnwritable: it is the one that counts, or the server refuses.
    """
    start = f"{alias_of(cluster.place.name)}_{build}_"
    for name in cluster.ask("list_collections"):
        if str(name).startswith(start) and name != start + "state":
            cluster.tell("drop_collection", name)
    cluster.tell("drop_collection", start + "state")  # last, so that what is left of a cut run is still found


def renamed(
    cluster: Cluster,
    described: Described,
    banks: Sequence[str] = (),
    specification: IndexHeader | None = None,
    *,
    is_settled: bool,
) -> Described:
    """Give the state a name that it never had.

    Args:
        cluster: where.
        described: the state as it was read.
        banks: those that it is to know of from now on, if it does not yet.
        specification: what takes the place of its header, if that changes: new limits.
        is_settled: whether the change is done, or begins.

    Raises:
        IndexUnwritable: the server refused or did not answer.
    """
    fresh = {bank: json.dumps(bank) for bank in sorted(set(banks) - set(described.banks))}
    token = secrets.token_hex(16)
    content = {f"bank/{key_of(bank, '')}": text for bank, text in fresh.items()}
    if specification is not None:
        content["header"] = _header(specification)
    _write_state(cluster, described.of, content | {"token": _token(token, is_settled=is_settled)})
    known = tuple(sorted({*described.banks, *fresh}))
    said = specification or described.specification
    return replace(described, specification=said, token=token, is_settled=is_settled, banks=known)


def _header(header: IndexHeader) -> str:
    """A header without what changes."""
    empty = {"snapshot": "0" * 64, "works": 0, "banks": {}, "withdrawn": 0, "generation": 0, "compacted_at": None}
    return header.model_copy(update=empty).model_dump_json()


def _token(token: str, *, is_settled: bool) -> str:
    return json.dumps({"token": token, "is_settled": is_settled})


def _write_state(cluster: Cluster, of: CollectionSet, content: dict[str, str]) -> None:
    entities = [{"name": name, "content": text, "vector": _DUMMY} for name, text in content.items()]
    cluster.write(of["state"], entities, max(map(len, content.values())))


def _described(cluster: Cluster, state: str, known: Described | None = None) -> Described:
    """What a state collection, or the alias of one, says."""
    wanted = 'name in ["set", "header", "token"] or name like "bank/%"'
    said = {row["name"]: row["content"] for row in cluster.query(state, wanted, ["name", "content"])}
    try:
        about, token = json.loads(said["set"]), json.loads(said["token"])
        if about["format"] != _FORMAT:
            raise IndexDamaged(str(cluster.place), f"format {about['format']!r}", f"format {_FORMAT}")
        of = CollectionSet(cluster.place.name, str(about["build"]), str(about["structure"]))
        banks = tuple(sorted(json.loads(text) for name, text in said.items() if name.startswith("bank/")))
        described = Described(
            of,
            IndexHeader.model_validate_json(said["header"]),
            None,
            str(token["token"]),
            bool(token["is_settled"]),
            banks,
        )
        STRUCTURES[of.structure]
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        if isinstance(error, IndexDamaged):
            raise
        raise IndexDamaged(
            str(cluster.place),
            f"a description that cannot be read ({type(error).__name__})",
            "one that guardrail wrote",
        ) from error
    if known is not None and known.of == of:
        return replace(described, background=known.background)
    return replace(described, background=_background(cluster, state, described.specification))


def _background(cluster: Cluster, state: str, header: IndexHeader) -> NDArray[np.float32] | None:
    if header.normalisation is None:
        return None
    rows: list[dict[str, Any]] = cluster.query(state, 'name like "background/%"', ["name", "content"])
    packed = b"".join(base64.b64decode(row["content"]) for row in sorted(rows, key=lambda row: str(row["name"])))
    shape = (header.normalisation.background, header.embedders["copy"].dimensions)
    if len(packed) != shape[0] * shape[1] * 4:
        raise IndexDamaged(str(cluster.place), f"a background of {len(packed)} bytes", f"float32 {shape}")
    return np.frombuffer(packed, np.float32).reshape(shape)
