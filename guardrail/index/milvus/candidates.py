"""Near rows by each signal: asked of Milvus, measured again from what is stored, the best of each row kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints, Look
from guardrail.index.milvus.cluster import Cluster, in_batches
from guardrail.index.milvus.encoding import vector_of
from guardrail.index.milvus.layout import HASHES, STRUCTURES, TILES_A_ROW, roles_of
from guardrail.index.milvus.sets import Described
from guardrail.index.scans.reference import distances_of, similarities_of
from guardrail.index.search import Background, Near
from guardrail.records import VIEWS, Signal, tiles_of

__all__ = ["MOST_CANDIDATES", "Asked", "best_of", "is_short", "measure_rows", "requests_of"]

MOST_CANDIDATES = 16_384  # of one query, the most that Milvus returns
_ANSWERED_AT_A_TIME_BYTES = 16 * 2**20
_WHOLE = Look("identity", None)
_AT_LEAST_THE_LIMIT = ("ef", "itopk_size")  # search parameters that bound how many are found
_SIGNALS = (Signal.COPY, Signal.TILE, Signal.CLIP, Signal.PDQ, Signal.PHASH)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one query found.

    Attributes:
        image: which image it was of.
        shelf: 0 for rows that are protected, 1 for others.
        hits: nearest first.
        numbers: by row, the number of its work.
        is_cut: whether there may be more.
    """

    image: int
    shelf: int
    hits: tuple[Near, ...]
    numbers: Mapping[int, int]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class _Questions:
    """All queries to one collection: of which image, by which look, and what the background takes off."""

    role: str
    queries: NDArray[Any]
    images: tuple[int, ...]
    looks: tuple[Look, ...]
    common: NDArray[np.float32]


def requests_of(
    cluster: Cluster, described: Described, prints: Fingerprints, shelves: Sequence[str], limit: int
) -> list[Callable[[], list[Asked]]]:
    """Requests for the nearest rows of every image that has fingerprints, by every signal, on each shelf.

    Args:
        cluster: where.
        described: the set to search.
        prints: of the images.
        shelves: Milvus' expression of each.
        limit: how many works to find for each query, >= 1.

    Raises:
        ValueError: a query is not finite, so that nothing would be near it.
    """
    calls: list[Callable[[], list[Asked]]] = []
    for questions in _questions(described, prints):
        if not np.isfinite(questions.queries).all():
            raise ValueError("a query with NaN or infinity, expected unit vectors; judge that picture as not checked")
        for shelf, expression in enumerate(shelves):
            calls += _calls(cluster, described, questions, (shelf, expression), limit)
    return calls


def best_of(asked: Iterable[Asked], limit: int, without: set[int]) -> Iterator[tuple[int, Near]]:
    """Images and their hits: on each shelf by each signal at most `limit` rows, nearest first, each once.

    Args:
        asked: what was found.
        limit: how many rows.
        without: rows that count for nothing.
    """
    lists: dict[tuple[int, int, int], list[Near]] = {}
    for one in asked:
        for hit in one.hits:
            if hit.row not in without:
                lists.setdefault((one.image, one.shelf, _SIGNALS.index(hit.signal)), []).append(hit)
    for image, shelf, signal in sorted(lists):
        best: dict[int, Near] = {}
        for hit in sorted(lists[image, shelf, signal], key=_order):
            best.setdefault(hit.row, hit)
        yield from ((image, hit) for hit in list(best.values())[:limit])


def is_short(asked: Iterable[Asked], limit: int, without: set[int]) -> bool:
    """Whether a query that may have found more has found fewer than `limit` rows that count."""
    return any(one.is_cut and len({hit.row for hit in one.hits} - without) < limit for one in asked)


def _questions(described: Described, prints: Fingerprints) -> Iterator[_Questions]:
    images = [at for at in range(len(prints)) if prints.failures[at] is None]
    header = described.specification
    if not images:
        return
    looks = (_WHOLE, *prints.looks) if prints.copy_looks is not None else (_WHOLE,)
    queries = prints.copy[images][:, None]
    if prints.copy_looks is not None:
        queries = np.concatenate([queries, prints.copy_looks[images]], axis=1)
    flat = queries.reshape(-1, queries.shape[-1])
    owners = tuple(image for image in images for _ in looks)
    copy = _Questions("copy", flat, owners, looks * len(images), _commonness(described, flat))
    yield copy
    if "tiles" in roles_of(header):  # tiles are not compared with tiles: pieces of two pictures are alike too easily
        at = [number for number, look in enumerate(copy.looks) if look.region is None]
        kept = tuple(copy.images[number] for number in at), tuple(copy.looks[number] for number in at)
        yield _Questions("tiles", flat[at], *kept, copy.common[at])
    none = np.zeros(len(images) * len(VIEWS), np.float32)
    if "clip" in header.embedders and prints.clip is not None:
        yield _Questions("clip", prints.clip[images], tuple(images), (_WHOLE,) * len(images), none)
    views = tuple(Look(view, None) for view in VIEWS) * len(images)
    owners = tuple(image for image in images for _ in VIEWS)
    for role, codes in (("pdq", prints.pdq), ("phash", prints.phash)):
        yield _Questions(role, codes[images].reshape(len(views), -1), owners, views, none)


def _order(near: Near) -> tuple[float, int, int]:
    """Sorts the nearest first; of those that are equally near the lower row, and of one row the first view."""
    far = -near.similarity if near.similarity is not None else float(near.distance_bits or 0)
    return far, near.row, VIEWS.index(near.view)


def _commonness(described: Described, queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """How near the background comes to queries (Q, D): (Q,), zeros where nothing is normalised."""
    how = described.specification.normalisation
    if how is None or described.background is None:
        return np.zeros(len(queries), np.float32)
    return Background(described.background, how.nearest).commonness(queries)


def _calls(
    cluster: Cluster, described: Described, questions: _Questions, shelf: tuple[int, str], limit: int
) -> list[Callable[[], list[Asked]]]:
    """The requests that put some questions to one shelf, few enough queries at a time for the answer to fit."""
    structure = STRUCTURES[described.of.structure]
    is_hash = questions.role in HASHES
    tiles = len(tiles_of(described.specification.sampling.tiles)) if questions.role == "tiles" else 1
    wanted = limit * tiles * (1 if is_hash else structure.candidates)
    depth = min(wanted, MOST_CANDIDATES if is_hash else structure.most)
    wide = {name: max(int(value), depth) for name, value in structure.search.items() if name in _AT_LEAST_THE_LIMIT}
    search = partial(
        cluster.search,
        described.of[questions.role],
        limit=depth,
        search_params={"metric_type": "HAMMING"}
        if is_hash
        else {"metric_type": "IP", "params": structure.search | wide},
        filter=shelf[1],
        output_fields=["number"] if is_hash else ["number", "vector"],
    )
    row_bytes = 32 if is_hash else questions.queries.shape[1] * 4
    at_a_time = max(1, _ANSWERED_AT_A_TIME_BYTES // (depth * row_bytes))
    return [
        partial(_asked, described, questions, tuple(some), shelf[0], search)
        for some in in_batches(range(len(questions.queries)), at_a_time)
    ]


def _asked(
    described: Described, questions: _Questions, numbers: Sequence[int], shelf: int, search: partial[list[list[Any]]]
) -> list[Asked]:
    """Ask some of the questions, by a search that knows collection, shelf and limit."""
    is_hash = questions.role in HASHES
    queries = [questions.queries[at].tobytes() if is_hash else questions.queries[at] for at in numbers]
    answered = []
    for at, hits in zip(numbers, search(queries=queries), strict=True):
        entities = [{**hit["entity"], "id": hit["id"], "distance": hit["distance"]} for hit in hits]
        near = tuple(_measured(described, questions, at, entities))
        works = {one.row: int(entity["number"]) for one, entity in zip(near, entities, strict=True)}
        answered.append(Asked(questions.images[at], shelf, near, works, len(hits) >= search.keywords["limit"]))
    return answered


def measure_rows(
    cluster: Cluster, described: Described, prints: Fingerprints, rows: Mapping[int, int], numbers: Mapping[int, int]
) -> list[Asked]:
    """Compare every image with some rows, whether they are near or not.

    Args:
        cluster: where.
        described: the set that holds them.
        prints: of the images.
        rows: by row id, the shelf it stands on.
        numbers: by row id, the number of its work.
    """
    measured = []
    for questions in _questions(described, prints):
        each = range(len(tiles_of(described.specification.sampling.tiles)))
        ids = [row * TILES_A_ROW + tile for row in rows for tile in each] if questions.role == "tiles" else [*rows]
        for entity in cluster.query_in(described.of[questions.role], "id", ids, ["id", "vector"]):
            for at, image in enumerate(questions.images):
                near = tuple(_measured(described, questions, at, [entity]))
                row = near[0].row
                measured.append(Asked(image, rows[row], near, {row: numbers[row]}, is_cut=False))
    return measured


def _measured(
    described: Described, questions: _Questions, at: int, entities: Sequence[Mapping[str, Any]]
) -> Iterator[Near]:
    """How near some entities are to one query: by what is stored, as every backend measures it."""
    look, role = questions.looks[at], questions.role
    if role in HASHES:
        for entity in entities:
            bits = entity.get("distance")
            if bits is None:
                bits = distances_of(questions.queries[at][None], vector_of(entity, role)[None])[0, 0]
            yield Near(int(entity["id"]), Signal(role), None, round(bits), look.view)
    elif entities:
        stored = np.stack([vector_of(entity, role) for entity in entities])
        similarities = similarities_of(questions.queries[at], stored)
        regions = tiles_of(described.specification.sampling.tiles)
        is_whole = role == "copy" and look.region is None
        signal = Signal.CLIP if role == "clip" else Signal.COPY if is_whole else Signal.TILE
        for entity, similarity in zip(entities, similarities, strict=True):
            near = min(1.0, max(-1.0, float(similarity) - float(questions.common[at])))
            row, tile = divmod(int(entity["id"]), TILES_A_ROW) if role == "tiles" else (int(entity["id"]), 0)
            yield Near(row, signal, near, None, look.view, look.region, regions[tile] if role == "tiles" else None)
