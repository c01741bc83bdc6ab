"""Copy an index to a Milvus server: begun, filled in batches that may be repeated, and then switched to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import IndexRows
from guardrail.errors import IndexMismatch, IndexMissing
from guardrail.index.milvus.backend import MilvusIndex
from guardrail.index.milvus.cluster import Cluster
from guardrail.index.milvus.place import MilvusPlace
from guardrail.index.milvus.sets import Described, begin_set, builds_of, discard_set, read_set, renamed, switch_to
from guardrail.records import IndexHeader

__all__ = ["Copied", "CopySource", "copy_index"]

_BUILD_CHARACTERS = 12  # of a digest
_SPECIFIED = ("embedders", "hashes", "sampling", "normalisation")


@dataclass(frozen=True, slots=True)
class CopySource:
    """An index to copy.

    Attributes:
        header: what it says of itself.
        background: float32 (B, D), unit length, where the header has a normalisation.
        batches: its works, some at a time.
    """

    header: IndexHeader
    background: NDArray[np.float32] | None
    batches: Iterable[IndexRows]


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did.

    Attributes:
        header: of the index on the server, afterwards.
        added, replaced, unchanged: works of the source.
        build: the set of collections that counts now.
        discarded: sets that were dropped, because they neither count nor counted last.
    """

    header: IndexHeader
    added: int
    replaced: int
    unchanged: int
    build: str
    discarded: tuple[str, ...] = ()


def copy_index(
    source: CopySource,
    location: str,
    structure: str = "FLAT",
    *,
    rebuild: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Copied:
    """Put every work of an index into the index on a server.

    Where there is none yet, or with `rebuild`, a new set of collections is filled, and searched from the moment it is
    whole. Otherwise works are added to what is there: those of the same bank and id are replaced, the others stay.
    Done again after an interruption it goes on, since works that are there as they are cost one look each.

    Args:
        source: the index to copy.
        location: `milvus://host:port/database`.
        structure: of the vectors, for a new set; see `STRUCTURES`.
        rebuild: whether to fill a new set although there is an index.
        progress: called with (done, total).

    Raises:
        IndexMismatch: the index there was made to another specification; rebuild it.
        IndexUnsupported: the server knows no such structure.
        IndexUnwritable, IndexUnreachable: the server refused or did not answer; run it again, it goes on.
    """
    cluster = Cluster(MilvusPlace.parse(location))
    present = _present(cluster)
    if rebuild or present is None:
        named = f"{source.header.snapshot}/{structure}".encode()
        build = hashlib.sha256(named).hexdigest()[:_BUILD_CHARACTERS]
        described = begin_set(cluster, source.header, source.background, structure, build)
    else:
        _require_same(str(cluster.place), present, source)
        described = renamed(cluster, present, specification=source.header, is_settled=True)
    index = MilvusIndex(cluster, described, is_followed=False)
    counts = {"added": 0, "replaced": 0, "unchanged": 0}
    done = 0
    for rows in source.batches:
        change = index.put(rows)
        done += len(rows)
        counts = {name: count + getattr(change, name) for name, count in counts.items()}
        progress(done, source.header.works)
    switch_to(cluster, described)
    kept = {described.of.build, present.of.build if present else described.of.build}
    discarded = tuple(build for build in builds_of(cluster) if build not in kept) if rebuild else ()
    for build in discarded:
        discard_set(cluster, build)
    return Copied(header=index.header, build=described.of.build, discarded=discarded, **counts)


def _present(cluster: Cluster) -> Described | None:
    try:
        return read_set(cluster)
    except IndexMissing:
        return None


def _require_same(place: str, present: Described, source: CopySource) -> None:
    """Require that works of the source may lie in the set that is there."""
    for name in _SPECIFIED:
        theirs, ours = getattr(present.specification, name), getattr(source.header, name)
        if theirs != ours:
            raise IndexMismatch(place, f"{name} {theirs}", f"{ours} (use --rebuild to replace what is there)")
    if source.background is not None and not np.array_equal(present.background, source.background):  # type: ignore[arg-type]
        raise IndexMismatch(place, "another background's", "normalised by the source's (use --rebuild)")
