"""The index behind `milvus://`: searched, added to and withdrawn from by any number of machines at once."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints, IndexRows
from guardrail.errors import GuardrailError, IndexDamaged, IndexLocked, IndexUnwritable, PictureNotKept
from guardrail.index.milvus.candidates import MOST_CANDIDATES, Asked, best_of, is_short, measure_rows, requests_of
from guardrail.index.milvus.cluster import Cluster
from guardrail.index.milvus.encoding import (
    WORK_FIELDS,
    content_digest,
    entities_of,
    rows_again,
    vector_of,
    work_entity,
    work_of,
)
from guardrail.index.milvus.layout import TILES_A_ROW, is_other, is_protected, key_of, roles_of
from guardrail.index.milvus.place import MilvusPlace
from guardrail.index.milvus.sets import Described, read_set, renamed
from guardrail.index.search import Near
from guardrail.index.store.writing import require_fit
from guardrail.records import Disposition, IndexChange, IndexHeader, Neighbour, Signal, Work, tiles_of

__all__ = ["MilvusIndex", "open_milvus"]

_ROW_BITS = 52  # rows go into canonical JSON, which holds integers below 2 ** 53
_MORE = 8  # candidates beyond those asked for, because Milvus rounds sums as it likes
_ROUNDS = 16  # of one search, while near works are replaced faster than it looks them up
_LARGEST_PUT_BYTES = 48 * 2**20  # of one request, so that a put counts whole or not at all; gRPC takes 64 MiB


def open_milvus(location: str) -> MilvusIndex:
    """Open the index at `milvus://host:port/database`: what `index = "milvus://..."` in the settings does.

    Raises:
        SettingsInvalid: the location is not of that form, or holds a secret.
        ExtraMissing: pymilvus is not installed.
        IndexUnreachable, IndexUnsupported: there is no server, or one that cannot do what is needed.
        IndexMissing, IndexDamaged: there is no index there, or none of ours.
    """
    cluster = Cluster(MilvusPlace.parse(location))
    return MilvusIndex(cluster, read_set(cluster))


class _Settled(NamedTuple):
    """Works by row id, and the rows that belong to none."""

    works: Mapping[int, Work]
    without: set[int]


class MilvusIndex:
    """An index on a Milvus server as it was when it was opened or pinned.

    A work counts if its row stands in the collection `works`, which is written last and in one request; rows in other
    collections that it does not name count for nothing. So what a search finds is whole, whoever writes meanwhile.

    Args:
        cluster: the connection.
        described: the set of collections to search.
        is_followed: whether writing goes to the set that counts when it is written, or to this one.

    Raises:
        IndexUnreachable: the server does not answer.
    """

    def __init__(self, cluster: Cluster, described: Described, *, is_followed: bool = True) -> None:
        self._cluster, self._described, self._is_followed = cluster, described, is_followed
        self._place = str(cluster.place)
        works = described.of["works"]
        counts = [partial(cluster.count, works)]
        counts += [partial(cluster.count, works, f'bank == "{key_of(bank, "")}"') for bank in described.banks]
        total, *banks = cluster.together(counts)
        self._header = described.specification.model_copy(
            update={
                "snapshot": described.snapshot,
                "works": total,
                "banks": {bank: count for bank, count in zip(described.banks, banks, strict=True) if count},
            }
        )

    @property
    def header(self) -> IndexHeader:
        """See `IndexBackend.header`: the counts are those of when it was opened or pinned."""
        return self._header

    def pinned(self) -> MilvusIndex:
        """See `IndexBackend.pinned`.

        Milvus keeps no older states, so works that are put or withdrawn after this call may be seen by its searches.
        Each search is whole all the same, and the snapshot is a name that the state had when the call was made.
        """
        described = self._read()
        is_same = described.is_settled and described.token == self._described.token
        return self if is_same else MilvusIndex(self._cluster, described)

    def _read(self) -> Described:
        """The set that counts now, or ours as it is now."""
        return read_set(self._cluster, self._described, is_followed=self._is_followed)

    # --- searching -----------------------------------------------------------------------------------------

    def search(self, prints: Fingerprints, limit: int) -> tuple[tuple[Neighbour, ...], ...]:
        """See `IndexBackend.search`.

        Vectors are fetched and compared again, so that similarities are those of every other backend. A row that no
        work has (any more) counts for nothing; where the work has got another row meanwhile, that is compared.

        Raises:
            IndexUnreachable: the server does not answer, or refuses.
            IndexDamaged: rows of puts that were never finished lie so dense that nothing can be said.
            IndexLocked: near works are replaced faster than they can be searched.
        """
        if not any(failure is None for failure in prints.failures):
            return ((),) * len(prints)
        now, depth = datetime.now(UTC), limit + _MORE
        for _ in range(_ROUNDS):
            near = requests_of(self._cluster, self._described, prints, (is_protected(now), is_other(now)), depth)
            same, *found = self._cluster.together([partial(self._same, prints), *near])
            asked = [one for some in found for one in some]
            settled = self._settled(prints, asked, limit, now)
            if settled is None:
                continue
            if not is_short(asked, limit, settled.without):
                best = best_of(asked, limit, settled.without)
                return tuple(map(tuple, _joined(same, best, settled.works)))
            if depth >= MOST_CANDIDATES:
                found_rows = f"{len(settled.without)} rows of puts that were never finished, all near one image"
                raise IndexDamaged(self._place, found_rows, "works: make it anew with guardrail index copy --rebuild")
            depth = min(depth * 4, MOST_CANDIDATES)
        raise IndexLocked(self._place, "so many that a search found no quiet moment")

    def _settled(self, prints: Fingerprints, asked: list[Asked], limit: int, now: datetime) -> _Settled | None:
        """Which of the rows that were found count, and the works of those that are best.

        Where a row belongs to no work, its work may have got another one since: that is measured, and added to `asked`.
        None where works were replaced once more meanwhile.
        """
        numbers = {row: number for one in asked for row, number in one.numbers.items()}
        chosen = {hit.row for _, hit in best_of(asked, limit, set())}
        current = self._current(numbers[row] for row in chosen)
        if chosen <= current.keys():
            return _Settled({row: work for row, (_, work) in current.items()}, set())
        current = self._current(numbers.values())
        without = numbers.keys() - current.keys()
        stale = {numbers[row] for row in without}
        newest = {row: work.standing(now) for row, (number, work) in current.items() if number in stale}
        shelves = {row: int(what is not Disposition.PROTECT) for row, what in newest.items() if what is not None}
        if newest:
            of = {row: current[row][0] for row in shelves}
            asked += measure_rows(self._cluster, self._described, prints, shelves, of)
            if self._current(stale).keys() != newest.keys():
                return None
        return _Settled({row: work for row, (_, work) in current.items()}, without)

    def _current(self, numbers: Iterable[int]) -> dict[int, tuple[int, Work]]:
        """The rows that works of these numbers have now, each with its work's number and its work."""
        found = self._cluster.query_in(self._described.of["works"], "number", sorted(set(numbers)), WORK_FIELDS)
        return {int(row["row"]): (int(row["number"]), work_of(self._place, row["line"])) for row in found}

    def _same(self, prints: Fingerprints) -> list[list[Neighbour]]:
        """Every work with the very bytes or pixels of each image: none may be crowded out by others."""
        found: list[list[Neighbour]] = [[] for _ in range(len(prints))]
        for signal, field, digests in (
            (Signal.BYTES, "file_sha256", prints.file_sha256),
            (Signal.PIXELS, "pixels_sha256", prints.pixels_sha256),
        ):
            wanted = [None if failed else digest for digest, failed in zip(digests, prints.failures, strict=True)]
            values = sorted({digest for digest in wanted if digest})
            rows = self._cluster.query_in(self._described.of["works"], field, values, (*WORK_FIELDS, field))
            for row in sorted(rows, key=lambda row: int(row["row"])):
                work = work_of(self._place, row["line"])
                for at, digest in enumerate(wanted):
                    if digest == row[field]:
                        found[at].append(Neighbour(work=work, row=int(row["row"]), signal=signal, distance_bits=0))
        return found

    def proof_pixels(self, row: int) -> NDArray[np.uint8]:
        """See `IndexBackend.proof_pixels`."""
        found = self._pictures([row], ["has_pixels", "vector"])
        if not found or not found[0]["has_pixels"]:
            raise PictureNotKept(self._place, row)
        return np.array(vector_of(found[0], "pictures").reshape(32, 32, 3))

    def preview(self, row: int) -> bytes:
        """See `IndexBackend.preview`."""
        found = self._pictures([row], ["preview"])
        if not found or not found[0]["preview"]:
            raise PictureNotKept(self._place, row)
        return base64.b64decode(found[0]["preview"])

    def _pictures(self, rows: Sequence[int], fields: Sequence[str]) -> list[dict[str, Any]]:
        return self._cluster.query_in(self._described.of["pictures"], "id", rows, ["id", *fields])

    # --- writing -------------------------------------------------------------------------------------------

    def put(self, rows: IndexRows) -> IndexChange:
        """See `WritableIndex.put`. Several machines may write; of two puts of one work the later one counts.

        Raises:
            IndexMismatch: the rows were made to another specification.
            IndexUnwritable: the server refused or did not answer, or a work is larger than Milvus takes. Nothing was
                changed, or all of it if only the answer was lost; doing it again is right in either case.
        """
        require_fit(rows, self._described.specification, self._place)
        here, before = self._now([(work.bank, work.work_id) for work in rows.works])
        known = [before.get(key_of(work.bank, work.work_id)) for work in rows.works]
        fresh = [at for at, old in enumerate(known) if old is None or old["content"] != content_digest(rows, at)]
        replaced = [int(old["row"]) for at in fresh if (old := known[at]) is not None]
        if fresh:
            here = self._write(here, rows, dict(zip(fresh, self._new_rows(here, len(fresh)), strict=True)), replaced)
        elif not here.is_settled:  # a change was cut short after it had counted: its state gets a name now
            here = renamed(self._cluster, here, is_settled=True)
        counts = {"added": len(fresh) - len(replaced), "replaced": len(replaced), "unchanged": len(rows) - len(fresh)}
        return self._changed(here).model_copy(update=counts)

    def _write(
        self, here: Described, rows: IndexRows, numbers: Mapping[int, int], replaced: Sequence[int]
    ) -> Described:
        """Signals and pictures first, then all works in one request, from which moment they count; then old rows go."""
        works = [work_entity(self._place, rows, at, row) for at, row in numbers.items()]
        size = sum(len(entity["line"]) + 512 for entity in works)  # keys, digests and framing take under 512 bytes
        if size > _LARGEST_PUT_BYTES:
            raise IndexUnwritable(self._place, f"a put of {len(works)} works, {size} bytes, is too large; split it")
        entities = entities_of(self._place, rows, numbers)
        here = renamed(self._cluster, here, [rows.works[at].bank for at in numbers], is_settled=False)
        calls = [
            partial(self._cluster.write, here.of[role], some, _entity_bytes(some[0]))
            for role, some in entities.items()
            if some
        ]
        try:
            self._cluster.together(calls)
            self._cluster.tell("upsert", here.of["works"], works)
        except GuardrailError:
            self._purge_quietly(here, list(numbers.values()))
            raise
        self._purge_quietly(here, replaced)
        return renamed(self._cluster, here, is_settled=True)

    def _purge_quietly(self, here: Described, rows: Sequence[int]) -> None:
        """Delete rows that no work has. What stays behind counts for nothing, so that a failure costs room only."""
        if not rows:
            return
        try:
            still = self._cluster.query_in(here.of["works"], "row", rows, ["row"])
            self._purge(here, sorted(set(rows) - {int(row["row"]) for row in still}))
        except GuardrailError:
            return

    def _purge(self, here: Described, rows: Sequence[int]) -> None:
        count = len(tiles_of(here.specification.sampling.tiles))
        tiles = [row * TILES_A_ROW + tile for row in rows for tile in range(count)]
        ids = {role: tiles if role == "tiles" else rows for role in ("pictures", *roles_of(here.specification))}
        self._cluster.together([partial(self._cluster.delete, here.of[role], "id", ids[role]) for role in ids])

    def withdraw(self, keys: Sequence[tuple[str, str]]) -> IndexChange:
        """See `WritableIndex.withdraw`."""
        here, known = self._now(keys)
        asked = list(dict.fromkeys(keys))
        unknown = tuple(f"{bank}/{work_id}" for bank, work_id in asked if key_of(bank, work_id) not in known)
        if known:
            here = renamed(self._cluster, here, is_settled=False)
            self._cluster.delete(here.of["works"], "key", sorted(known))
            self._purge(here, [int(old["row"]) for old in known.values()])
            here = renamed(self._cluster, here, is_settled=True)
        return self._changed(here).model_copy(update={"withdrawn": len(known), "unknown": unknown})

    def kept(self, keys: Sequence[tuple[str, str]]) -> IndexRows:
        """See `WritableIndex.kept`; the columns that all of these rows have."""
        here, known = self._now(keys)
        found = [known[key] for bank, work_id in dict.fromkeys(keys) if (key := key_of(bank, work_id)) in known]
        rows = [int(entity["row"]) for entity in found]
        roles = roles_of(here.specification)
        calls = [partial(self._column, here, role, rows) for role in roles]
        columns = dict(zip(roles, self._cluster.together(calls), strict=True))
        pictures = self._pictures(rows, ["has_pixels", "preview", "vector"])
        columns["pixels"] = {
            int(entity["id"]): vector_of(entity, "pictures").reshape(32, 32, 3)
            for entity in pictures
            if entity["has_pixels"]
        }
        previews = {int(entity["id"]): base64.b64decode(entity["preview"]) for entity in pictures}
        return rows_again(self._place, found, columns, previews)

    def _column(self, here: Described, role: str, rows: Sequence[int]) -> dict[int, NDArray[Any]]:
        """A column of some rows, by row id."""
        count = len(tiles_of(here.specification.sampling.tiles)) if role == "tiles" else 1
        ids = [row * TILES_A_ROW + tile for row in rows for tile in range(count)] if role == "tiles" else rows
        found = {int(one["id"]): one for one in self._cluster.query_in(here.of[role], "id", ids, ["id", "vector"])}
        if role != "tiles":
            return {number: vector_of(one, role) for number, one in found.items()}
        whole = [row for row in rows if all(row * TILES_A_ROW + tile in found for tile in range(count))]
        return {row: np.stack([vector_of(found[row * TILES_A_ROW + at], role) for at in range(count)]) for row in whole}

    def _now(self, keys: Sequence[tuple[str, str]]) -> tuple[Described, dict[str, dict[str, Any]]]:
        """The set that counts now, and what its `works` says of some works, by key; those not there are left out."""
        wanted = sorted({key_of(bank, work_id) for bank, work_id in keys})
        fields = (*WORK_FIELDS, "file_sha256", "pixels_sha256")
        known = partial(self._cluster.query_in, self._described.of["works"], "key", wanted, fields)
        here, found = self._cluster.together([self._read, known])
        if here.of != self._described.of:  # another set counts by now
            found = self._cluster.query_in(here.of["works"], "key", wanted, fields)
        return here, {str(entity["key"]): entity for entity in found}

    def _new_rows(self, here: Described, count: int) -> list[int]:
        """Row ids that no work has. Drawn, because several machines draw at once and Milvus counts for none of them."""
        rows: set[int] = set()
        while len(rows) < count:
            drawn = sorted({secrets.randbits(_ROW_BITS) for _ in range(count - len(rows))} - rows - {0})
            taken = {int(row["row"]) for row in self._cluster.query_in(here.of["works"], "row", drawn, ["row"])}
            rows |= set(drawn) - taken
        return sorted(rows)

    def _changed(self, here: Described) -> IndexChange:
        """The state after a change, which this object shows from now on."""
        fresh = MilvusIndex(self._cluster, here)
        self._described, self._header = fresh._described, fresh._header
        return IndexChange(snapshot=self._header.snapshot, works=self._header.works)


def _entity_bytes(entity: Mapping[str, Any]) -> int:
    """About how many bytes an entity takes in a request."""
    vector = entity["vector"]
    return 64 + len(entity.get("preview", "")) + (vector.nbytes if isinstance(vector, np.ndarray) else len(vector))


def _joined(
    same: list[list[Neighbour]], best: Iterable[tuple[int, Near]], works: Mapping[int, Work]
) -> list[list[Neighbour]]:
    """By image, the exact matches and then the near works."""
    for image, hit in best:
        same[image].append(Neighbour(work=works[hit.row], **hit._asdict()))
    return same
