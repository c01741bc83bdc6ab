"""How an index lies in Milvus: one set of collections, named by one alias.

State:     its header, its banks, the background that normalises, and the token that names its state.
Works:     one row a work, keyed by a digest of bank and id: what it is, its digests, and the row that counts.
By signal: one collection for each column, because a collection of Milvus 2.3 has one vector: `pdq`, `phash`, `copy`,
           `tiles`, `clip`; a row's id, its work's number, its dates as numbers, and its vector.
Pictures:  a row's 32x32 pixels as a binary vector and its preview, base64, in a field.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from guardrail.errors import IndexUnsupported, IndexUnwritable
from guardrail.index.milvus.cluster import Cluster
from guardrail.index.store.columns import micros
from guardrail.records import Disposition, IndexHeader, Work

__all__ = [
    "HASHES",
    "KEPT_CHARACTERS",
    "STRUCTURES",
    "TILES_A_ROW",
    "CollectionSet",
    "Structure",
    "alias_of",
    "is_other",
    "is_protected",
    "key_of",
    "make_collections",
    "number_of",
    "roles_of",
    "standing_fields",
]

KEPT_CHARACTERS = 65_535  # of a VARCHAR, the most that Milvus takes
TILES_A_ROW = 16  # ids of tiles are row * 16 + tile; a work has at most 13
HASHES = ("pdq", "phash")
_KEY_BYTES = 18  # of a sha256: 24 characters of base64
_NUMBER_BYTES = 8  # of them, less one bit: 63
_DISPOSITIONS = {Disposition.PROTECT: 0, Disposition.CREDIT: 1, Disposition.IGNORE: 2}
_MOST_OF_GPU = 1024  # Milvus' manual, "GPU Index Overview", limits
_PIXELS_BITS = 32 * 32 * 3 * 8


@dataclass(frozen=True, slots=True)
class Structure:
    """A search structure over vectors, and how it is asked.

    Attributes:
        build, search: its parameters, by Milvus' names.
        candidates: how many times the works asked for are fetched and compared exactly.
        most: candidates of one query, as many as Milvus returns.
    """

    build: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    candidates: int = 1
    most: int = 16_384


# Parameters by the names of Milvus' manual; GPU structures need the GPU build of Milvus.
STRUCTURES: Mapping[str, Structure] = {
    "FLAT": Structure(),
    "IVF_FLAT": Structure({"nlist": 4096}, {"nprobe": 64}),
    "IVF_SQ8": Structure({"nlist": 4096}, {"nprobe": 64}, candidates=4),
    "HNSW": Structure({"M": 32, "efConstruction": 200}, {"ef": 256}),
    "GPU_BRUTE_FORCE": Structure(),
    "GPU_CAGRA": Structure(
        {"intermediate_graph_degree": 64, "graph_degree": 32}, {"itopk_size": 128, "search_width": 4}, most=_MOST_OF_GPU
    ),
    "GPU_IVF_PQ": Structure({"nlist": 4096, "m": 0, "nbits": 8}, {"nprobe": 64}, candidates=8, most=_MOST_OF_GPU),
}


@dataclass(frozen=True, slots=True)
class CollectionSet:
    """The collections of one build of an index; an index that is rebuilt has two for a while.

    Attributes:
        index: name of the index.
        build: hexadecimal, names the build.
        structure: one of `STRUCTURES`, of its vectors.
    """

    index: str
    build: str
    structure: str

    def __getitem__(self, role: str) -> str:
        """The name of one of its collections."""
        return f"{alias_of(self.index)}_{self.build}_{role}"


def alias_of(index: str) -> str:
    """The one name that says which set counts: it stands for that set's `state`, and is switched in one step."""
    return f"guardrail_{index}"


def roles_of(header: IndexHeader) -> tuple[str, ...]:
    """The collections of an index by signal."""
    tiles = ("tiles",) if header.sampling.tiles > 1 else ()
    return (*HASHES, "copy", *tiles, *(("clip",) if "clip" in header.embedders else ()))


def key_of(bank: str, work_id: str) -> str:
    """What a work is kept under: 24 safe characters, whatever people called it."""
    named = f"{len(bank)}:{bank}/{work_id}".encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(hashlib.sha256(named).digest()[:_KEY_BYTES]).decode()


def number_of(key: str) -> int:
    """A work's number, in all collections: nearly always its own, and looked up as if it were not."""
    return int.from_bytes(base64.urlsafe_b64decode(key)[:_NUMBER_BYTES], "little") >> 1


def standing_fields(work: Work) -> dict[str, int]:
    """What decides what a match with a work means, as numbers that Milvus can compare."""
    return {
        "disposition": _DISPOSITIONS[work.disposition],
        "opted_out_at": micros(work.opted_out_at),
        "expires_at": micros(work.expires_at),
    }


def is_protected(at: datetime) -> str:
    """Milvus' expression for `work.standing(at) is Disposition.PROTECT`."""
    now = micros(at)
    protect, credit = _DISPOSITIONS[Disposition.PROTECT], _DISPOSITIONS[Disposition.CREDIT]
    kept = f"(disposition == {protect} and expires_at > {now}) or (disposition == {credit} and expires_at <= {now})"
    return f"opted_out_at <= {now} or {kept}"


def is_other(at: datetime) -> str:
    """Milvus' expression for a work that counts at a moment and is not protected then."""
    now = micros(at)
    return f"opted_out_at > {now} and expires_at > {now} and disposition != {_DISPOSITIONS[Disposition.PROTECT]}"


def make_collections(cluster: Cluster, of: CollectionSet, header: IndexHeader) -> None:
    """Make the collections of a set that are not there yet, and load them all; those it cannot have leave none behind.

    Raises:
        IndexUnsupported: the server knows no such structure, or cannot search hashes.
        IndexUnwritable, IndexUnreachable: it cannot make them.
    """
    roles = ("state", "works", "pictures", *roles_of(header))
    fresh = [role for role in roles if not cluster.ask("has_collection", of[role])]
    try:
        cluster.together([partial(_make_collection, cluster, of, role, header) for role in roles])
    except IndexUnsupported:
        for role in fresh:
            cluster.tell("drop_collection", of[role])  # one that was not made is no error
        raise
    cluster.together([partial(cluster.tell, "load_collection", of[role]) for role in roles])


def _make_collection(cluster: Cluster, of: CollectionSet, role: str, header: IndexHeader) -> None:
    kinds, make = cluster.pymilvus.DataType, cluster.pymilvus.MilvusClient
    schema = make.create_schema(auto_id=False, enable_dynamic_field=False)
    for name, kind, said in _fields(role, kinds):
        schema.add_field(name, kind, **said)
    bits = {"pdq": 256, "phash": 64, "pictures": _PIXELS_BITS}.get(role, 8)
    embedder = {"copy": "copy", "tiles": "copy", "clip": "clip"}.get(role)
    indexes = make.prepare_index_params()
    if embedder is None:
        schema.add_field("vector", kinds.BINARY_VECTOR, dim=bits)
        indexes.add_index("vector", index_type="BIN_FLAT", metric_type="HAMMING", params={})
    else:
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=header.embedders[embedder].dimensions)  # type: ignore[index]
        build = dict(STRUCTURES[of.structure].build)
        indexes.add_index("vector", index_type=of.structure, metric_type="IP", params=build)
    for name, kind in {"row": "STL_SORT", "number": "STL_SORT", "file_sha256": "Trie", "pixels_sha256": "Trie"}.items():
        if role == "works":
            indexes.add_index(name, index_type=kind)
    if not cluster.ask("has_collection", of[role]):
        cluster.tell("create_collection", of[role], schema=schema, consistency_level="Strong")
    try:
        cluster.tell("create_index", of[role], indexes, sync=False)  # there is nothing in it to build from
    except IndexUnwritable as error:
        if "index type" in str(error) or "metric type" in str(error):
            wanted = of.structure if embedder else "HAMMING over binary vectors"
            raise IndexUnsupported(str(cluster.place), f"one that says {error.args[1]!r}", wanted) from error
        raise


def _fields(role: str, kinds: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    """Name, kind and options of the fields of a collection, its vector apart."""
    text = {"max_length": KEPT_CHARACTERS}
    digest = {"max_length": 64}
    if role == "state":
        return [("name", kinds.VARCHAR, {"is_primary": True, "max_length": 64}), ("content", kinds.VARCHAR, text)]
    if role == "works":
        return [
            ("key", kinds.VARCHAR, {"is_primary": True, "max_length": 24}),
            ("row", kinds.INT64, {}),
            ("number", kinds.INT64, {}),
            ("bank", kinds.VARCHAR, {"max_length": 24}),
            ("file_sha256", kinds.VARCHAR, digest),
            ("pixels_sha256", kinds.VARCHAR, digest),
            ("content", kinds.VARCHAR, digest),
            ("line", kinds.VARCHAR, text),
        ]
    if role == "pictures":
        return [
            ("id", kinds.INT64, {"is_primary": True}),
            ("has_pixels", kinds.BOOL, {}),
            ("preview", kinds.VARCHAR, text),
        ]
    dates: list[tuple[str, Any, dict[str, Any]]] = [
        (name, kinds.INT64, {}) for name in ("number", "opted_out_at", "expires_at")
    ]
    return [("id", kinds.INT64, {"is_primary": True}), ("disposition", kinds.INT8, {}), *dates]
