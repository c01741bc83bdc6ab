"""Works as entities of Milvus, and back."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import IndexRows
from guardrail.errors import IndexDamaged, IndexUnwritable
from guardrail.index.milvus.layout import HASHES, KEPT_CHARACTERS, TILES_A_ROW, key_of, number_of, standing_fields
from guardrail.records import Work

__all__ = ["WORK_FIELDS", "content_digest", "entities_of", "rows_again", "vector_of", "work_entity", "work_of"]

WORK_FIELDS = ("key", "row", "number", "content", "line")
_NO_VECTOR = b"\0"  # a collection must have one
_NO_PIXELS = bytes(32 * 32 * 3)


def content_digest(rows: IndexRows, at: int) -> str:
    """A digest of all that is kept of one work: equal when putting it again would change nothing."""
    digest = hashlib.sha256(_line(rows, at).encode())
    for text in (rows.file_sha256[at], rows.pixels_sha256[at]):
        digest.update((text or "").encode() + b"\0")
    for name in sorted(rows.arrays):
        digest.update(np.ascontiguousarray(rows.arrays[name][at]).tobytes())
    digest.update(rows.previews[at])
    return digest.hexdigest()


def _line(rows: IndexRows, at: int) -> str:
    said = {
        "work": rows.works[at].model_dump(mode="json"),
        "file": rows.files[at],
        "columns": sorted(name for name in rows.arrays),
    }
    text = json.dumps(said, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, from a file name that is not UTF-8
        text = json.dumps(said)
    return text


def work_entity(place: str, rows: IndexRows, at: int, row: int) -> dict[str, Any]:
    """The entity of one work in `works`.

    Raises:
        IndexUnwritable: what is said of it is longer than Milvus takes.
    """
    work, line = rows.works[at], _line(rows, at)
    key = key_of(work.bank, work.work_id)
    if len(line.encode()) > KEPT_CHARACTERS:
        raise IndexUnwritable(place, f"what is said of the work {work.work_id!r} takes over {KEPT_CHARACTERS} bytes")
    return {
        "key": key,
        "row": row,
        "number": number_of(key),
        "bank": key_of(work.bank, ""),
        "file_sha256": rows.file_sha256[at] or "",
        "pixels_sha256": rows.pixels_sha256[at] or "",
        "content": content_digest(rows, at),
        "line": line,
        "vector": _NO_VECTOR,
    }


def entities_of(place: str, rows: IndexRows, numbers: Mapping[int, int]) -> dict[str, list[dict[str, Any]]]:
    """By collection, the entities of some works, `works` apart.

    Args:
        place: of the index, for errors.
        rows: all of them.
        numbers: by place in `rows`, the row id of each that is to be written.

    Raises:
        IndexUnwritable: a preview is larger than Milvus takes.
    """
    entities: dict[str, list[dict[str, Any]]] = {name: [] for name in rows.arrays if name != "pixels"}
    pictures = []
    for at, row in numbers.items():
        work = rows.works[at]
        said = {"number": number_of(key_of(work.bank, work.work_id)), **standing_fields(work)}
        for name, made in entities.items():
            made += [
                {"id": one, **said, "vector": vector} for one, vector in _vectors(name, rows.arrays[name][at], row)
            ]
        if picture := _picture(place, rows, at):
            pictures.append({"id": row, **picture})
    return entities | {"pictures": pictures}


def _vectors(name: str, value: NDArray[Any], row: int) -> Iterator[tuple[int, Any]]:
    """The ids and vectors of one row of a column."""
    if name in HASHES:
        yield row, value.tobytes()
    elif name == "tiles":
        for tile, vector in enumerate(value):
            yield row * TILES_A_ROW + tile, vector.astype(np.float32)
    else:
        yield row, value.astype(np.float32)


def _picture(place: str, rows: IndexRows, at: int) -> dict[str, Any] | None:
    """Pixels and preview of a work; None where it has neither."""
    preview = base64.b64encode(rows.previews[at]).decode()
    if len(preview) > KEPT_CHARACTERS:
        name = rows.works[at].work_id
        raise IndexUnwritable(place, f"the preview of {name!r} has {len(rows.previews[at])} bytes; Milvus takes 49151")
    pixels = rows.arrays["pixels"][at].tobytes() if "pixels" in rows.arrays else _NO_PIXELS
    if not preview and "pixels" not in rows.arrays:
        return None
    return {"has_pixels": "pixels" in rows.arrays, "preview": preview, "vector": pixels}


def work_of(place: str, line: str) -> Work:
    """The work of a line of `works`.

    Raises:
        IndexDamaged: it is none that guardrail wrote.
    """
    try:
        return Work.model_validate(json.loads(line)["work"])
    except (ValueError, KeyError, TypeError) as error:
        raise IndexDamaged(place, "a work that cannot be read", "one that guardrail wrote") from error


def vector_of(entity: Mapping[str, Any], name: str) -> NDArray[Any]:
    """The vector of an entity as it was put: uint8 codes or pixels, float16 else."""
    value = entity["vector"]
    if name in (*HASHES, "pictures"):
        packed = b"".join(value) if isinstance(value, list) else bytes(value)
        return np.frombuffer(packed, np.uint8)
    return np.asarray(value, np.float32).astype(np.float16)


def rows_again(
    place: str,
    found: Sequence[Mapping[str, Any]],
    kept: Mapping[str, Mapping[int, NDArray[Any]]],
    previews: Mapping[int, bytes],
) -> IndexRows:
    """What is kept of some works.

    Args:
        place: of the index, for errors.
        found: their entities in `works`.
        kept: by column, by row id, its values; a column that one of them lacks is left out.
        previews: by row id.
    """
    numbers = [int(entity["row"]) for entity in found]
    arrays = {}
    for name, values in kept.items():
        if numbers and all(row in values for row in numbers):
            arrays[name] = np.stack([values[row] for row in numbers])
    return IndexRows(
        works=tuple(work_of(place, entity["line"]) for entity in found),
        files=tuple(str(json.loads(entity["line"])["file"]) for entity in found),
        file_sha256=tuple(entity["file_sha256"] or None for entity in found),
        pixels_sha256=tuple(entity["pixels_sha256"] or None for entity in found),
        arrays=arrays,
        previews=tuple(previews.get(row, b"") for row in numbers),
    )
