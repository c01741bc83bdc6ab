"""One connection to a Milvus server: requests in plain terms, errors of ours, and only reads that see every write."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from guardrail.errors import GuardrailError, IndexMissing, IndexUnreachable, IndexUnsupported, IndexUnwritable
from guardrail.extras import need
from guardrail.index.milvus.place import MilvusPlace

__all__ = ["Cluster", "in_batches"]

_OLDEST = (2, 3)  # the first Milvus with upsert, count(*) and vectors in answers
_CONSISTENCY = "Strong"  # a read sees all that was acknowledged before it began
_REQUESTS_AT_ONCE = 8
_IDS_AT_A_TIME = 500  # of one query by ids: expression and answer stay far below gRPC's 64 MiB
_WRITTEN_AT_A_TIME_BYTES = 4 * 2**20
_COLLECTION_GONE = 100  # pymilvus.exceptions.ErrorCode.COLLECTION_NOT_FOUND


class Cluster:
    """A Milvus server that can do what an index needs. Threads may share it.

    Raises:
        ExtraMissing: pymilvus is not installed.
        IndexUnreachable: no server answers there, or it turns us away.
        IndexUnsupported: it is too old.
        IndexMissing: it has no such database.
    """

    def __init__(self, place: MilvusPlace) -> None:
        self.place = place
        self.pymilvus = need("pymilvus", extra="milvus", purpose="search an index on a Milvus server")
        self._patience_s = place.patience_s
        self._threads = ThreadPoolExecutor(_REQUESTS_AT_ONCE, thread_name_prefix="guardrail-milvus")
        self._inside = threading.local()  # set in our own threads, which must not wait for one another
        self._client = self._called(lambda: self.pymilvus.MilvusClient(**place.connection()))
        self._require_version(str(self.ask("get_server_version")))

    def _require_version(self, version: str) -> None:
        numbers = re.match(r"v?(\d+)\.(\d+)", version)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < _OLDEST:
            wanted = ".".join(map(str, _OLDEST))
            raise IndexUnsupported(str(self.place), f"Milvus {version}", f"Milvus {wanted} or newer, which can upsert")

    def _called(self, request: Callable[[], Any], *, is_write: bool = False) -> Any:
        """Make a request; whatever it raises becomes one of our errors, without secrets."""
        try:
            return request()
        except GuardrailError:
            raise
        except Exception as error:  # noqa: BLE001 - pymilvus, gRPC and sockets raise what they like; none may pass
            text = MilvusPlace.hidden(" ".join(str(getattr(error, "message", "") or error).split()))
            kind: type[GuardrailError] = IndexUnwritable if is_write else IndexUnreachable
            if getattr(error, "code", None) == _COLLECTION_GONE or "database not found" in text:
                kind = IndexMissing
        raise kind(str(self.place), text)  # outside the handler: what pymilvus raised may hold what we hide

    def ask(self, method: str, *args: Any, **said: Any) -> Any:
        """Call a method of the client that changes nothing."""
        return self._called(partial(getattr(self._client, method), *args, timeout=self._patience_s, **said))

    def tell(self, method: str, *args: Any, **said: Any) -> Any:
        """Call a method of the client that changes something.

        Raises:
            IndexUnwritable: it was refused, or nobody answered: whether it was done is not known.
        """
        request = partial(getattr(self._client, method), *args, timeout=self._patience_s, **said)
        return self._called(request, is_write=True)

    def together(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Make several calls at once; their answers in order. One that is made by another waits for nobody."""
        if getattr(self._inside, "is_so", False):
            return [call() for call in calls]
        return list(self._threads.map(self._run, calls))

    def _run(self, call: Callable[[], Any]) -> Any:
        self._inside.is_so = True
        return call()

    def search(
        self, collection: str, queries: Sequence[Any], limit: int, search_params: Mapping[str, Any], **said: Any
    ) -> list[list[Any]]:
        """The nearest rows of each query, as pymilvus hits, at most `limit`; `said` may hold filter, output_fields."""
        found = self.ask(
            "search",
            collection,
            list(queries),
            limit=limit,
            search_params=dict(search_params),
            anns_field="vector",
            consistency_level=_CONSISTENCY,
            **said,
        )
        return [list(hits) for hits in found]

    def query(self, collection: str, expression: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        """The rows that an expression is true of."""
        rows = self.ask(
            "query", collection, filter=expression, output_fields=list(fields), consistency_level=_CONSISTENCY
        )
        return [dict(row) for row in rows]

    def query_in(
        self, collection: str, field: str, values: Sequence[int] | Sequence[str], fields: Sequence[str]
    ) -> list[dict[str, Any]]:
        """The rows whose field is one of many values (ids, digests: nothing that people wrote)."""
        calls = [
            partial(self.query, collection, f"{field} in {_listed(some)}", fields)
            for some in in_batches(values, _IDS_AT_A_TIME)
        ]
        return [row for rows in self.together(calls) for row in rows]

    def count(self, collection: str, expression: str = "") -> int:
        """How many rows an expression is true of."""
        return int(self.query(collection, expression, ["count(*)"])[0]["count(*)"])

    def write(self, collection: str, entities: Sequence[Mapping[str, Any]], entity_bytes: int) -> None:
        """Put rows into a collection, in as many requests as it takes; those that are there are replaced."""
        for some in in_batches(entities, max(1, _WRITTEN_AT_A_TIME_BYTES // max(entity_bytes, 1))):
            self.tell("upsert", collection, [dict(entity) for entity in some])

    def delete(self, collection: str, field: str, values: Sequence[int] | Sequence[str]) -> None:
        """Delete the rows whose field is one of many values."""
        for some in in_batches(values, _IDS_AT_A_TIME):
            self.tell("delete", collection, filter=f"{field} in {_listed(some)}")


def in_batches(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """A sequence, piece by piece."""
    return (values[start : start + size] for start in range(0, len(values), size))


def _listed(values: Sequence[int] | Sequence[str]) -> str:
    """Values as an expression of Milvus lists them."""
    return "[" + ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values) + "]"
