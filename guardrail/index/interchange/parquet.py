"""A hash list as parquet: one row a line, head and foot as key-value metadata of the same file."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from guardrail.errors import HashListUnusable
from guardrail.index.interchange.form import ListFoot, ListHead, decoded_vectors, encoded_vectors

__all__ = ["ParquetWriter", "parquet_head", "parquet_lines", "shapes_of"]

_HEAD, _FOOT = b"guardrail.head", b"guardrail.foot"
_ROWS_AT_A_TIME = 1024
_LONGEST_METADATA_BYTES = 2**24  # of strings and of lists in the footer of a file
_TEXTS = ("bank", "work_id", "disposition", "title", "creator", "rights_holder", "licence")
_HASHES = ("pdq", "phash", "file_sha256", "pixels_sha256")
_MOMENTS = ("opted_out_at", "expires_at")


def shapes_of(head: ListHead) -> dict[str, tuple[int, ...]]:
    """By name, the shape of a work's vectors as the head describes them: `copy`, `tiles` and `clip` where there are."""
    shapes: dict[str, tuple[int, ...]] = {}
    if (copy := head.embedders.get("copy")) is not None:
        shapes["copy"] = (copy.dimensions,)
        if head.sampling.tiles > 1:
            shapes["tiles"] = (head.sampling.tiles - 1, copy.dimensions)
    if (clip := head.embedders.get("clip")) is not None:
        shapes["clip"] = (clip.dimensions,)
    return shapes


def _schema(head: ListHead) -> pa.Schema:
    fields = [("withdrawn", pa.bool_())]
    fields += [(name, pa.string()) for name in (*_TEXTS, *_HASHES)]
    fields += [(name, pa.timestamp("us", tz="UTC")) for name in _MOMENTS]
    fields += [("multiplicity", pa.int64())]
    shapes = shapes_of(head)
    fields += [(name, pa.list_(pa.float16(), int(np.prod(shapes[name])))) for name in head.vectors]
    return pa.schema(fields)


class ParquetWriter:
    """Writes a list, some rows at a time.

    Args:
        path: the file; it must not be there.
        head: its head.
    """

    def __init__(self, path: Path, head: ListHead) -> None:
        self._schema, self._shapes = _schema(head), shapes_of(head)
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._writer.add_key_value_metadata({_HEAD: json.dumps(head.model_dump(mode="json"))})
        self._rows: list[dict[str, Any]] = []

    def add(self, line: dict[str, Any]) -> None:
        """One line of the body."""
        row = {name: line.get(name) for name in (*_TEXTS, *_HASHES)}
        row["withdrawn"] = line["kind"] == "withdrawn"
        row["multiplicity"] = line.get("multiplicity", 1) if line["kind"] == "work" else None
        row |= {name: datetime.fromisoformat(line[name]) for name in _MOMENTS if name in line}
        for name, text in line.get("vectors", {}).items():
            row[name] = decoded_vectors(text, self._shapes[name]).ravel()
        self._rows.append(row)
        if len(self._rows) >= _ROWS_AT_A_TIME:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, self._schema))
            self._rows = []

    def close(self, foot: ListFoot | None) -> None:
        """End the file; without a foot it is no list."""
        self._flush()
        if foot is not None:
            self._writer.add_key_value_metadata({_FOOT: json.dumps(foot.model_dump(mode="json"))})
        self._writer.close()


def _opened(path: Path) -> parquet.ParquetFile:
    try:
        return parquet.ParquetFile(
            path,
            thrift_string_size_limit=_LONGEST_METADATA_BYTES,
            thrift_container_size_limit=_LONGEST_METADATA_BYTES,
        )
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> HashListUnusable:
    found = f"a file that is cut or edited ({str(error).splitlines()[0][:200]})"
    return HashListUnusable(str(path), found, "a parquet file", "get it again from whoever made it")


def parquet_head(path: Path) -> tuple[bytes | None, bytes | None]:
    """Head and foot of a parquet file as they stand there; None where there is none.

    Raises:
        HashListUnusable: the file is cut or edited.
    """
    said = _opened(path).metadata.metadata or {}
    return said.get(_HEAD), said.get(_FOOT)


def parquet_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a list, as they would stand in JSON lines.

    Raises:
        HashListUnusable: the file is cut or edited.
    """
    try:
        for batch in _opened(path).iter_batches(_ROWS_AT_A_TIME):
            vectors = {
                name: batch.column(name)
                for name in ("copy", "tiles", "clip")
                if name in batch.schema.names and pa.types.is_fixed_size_list(batch.schema.field(name).type)
            }
            rest = [name for name in batch.schema.names if name not in vectors]
            for at, row in enumerate(batch.select(rest).to_pylist()):
                yield _line(row, {name: column[at] for name, column in vectors.items() if column[at].is_valid})
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, HashListUnusable):
            raise
        raise _damaged(path, error) from error


def _line(row: dict[str, Any], vectors: dict[str, Any]) -> dict[str, Any]:
    if row.pop("withdrawn", False):
        return {"kind": "withdrawn", "bank": row.get("bank"), "work_id": row.get("work_id")}
    said = {name: value for name, value in row.items() if value not in (None, "")}
    said |= {name: said[name].isoformat().replace("+00:00", "Z") for name in _MOMENTS if name in said}
    if said.get("multiplicity") == 1:
        del said["multiplicity"]
    if vectors:
        said["vectors"] = {
            name: encoded_vectors(cell.values.to_numpy(zero_copy_only=False)) for name, cell in vectors.items()
        }
    return {"kind": "work"} | said
