"""Fingerprints in parquet: what an unfinished build keeps, and what more machines make for one that builds the index.

Every shard carries the specification that its fingerprints were made to, so that those of another are refused.
A row is a picture: `file`, `stamp` (see `SourcePicture`), `error` (why it has no fingerprint, or empty), `facts` (JSON,
what its source says of the work), and the columns of `IndexRows`; the numbers of a row with an error are zeros.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from guardrail.errors import IndexDamaged, IndexMismatch

__all__ = [
    "PROOF_SIDE_PX",
    "ShardRows",
    "read_columns",
    "require_shard",
    "shard_bytes",
    "shard_schema",
    "shard_table",
    "specification_of",
]

_KEY = b"guardrail.fingerprints"  # of the file's key-value metadata
_FORMAT = 1
_ROWS_AT_ONCE = 512
_PDQ_BYTES, _PHASH_BYTES = 32, 8
PROOF_SIDE_PX = 32
_PIXELS_BYTES = 3 * PROOF_SIDE_PX**2
_VECTORS = ("copy", "tiles", "clip")


@dataclass(frozen=True, slots=True)
class ShardRows:
    """N rows of a shard, by column.

    Attributes:
        text: `file`, `stamp`, `error`, `facts`, `file_sha256`, `pixels_sha256`: N strings each, or None for no digest.
        pdq_quality: uint8 (N,), 0..100.
        arrays: see `IndexRows.arrays`.
        previews: JPEG files; empty bytes where there is none.
    """

    text: Mapping[str, Sequence[str | None]]
    pdq_quality: NDArray[np.uint8]
    arrays: Mapping[str, NDArray[Any]]
    previews: Sequence[bytes]


def _dimensions(specification: Mapping[str, Any]) -> dict[str, int]:
    """The length of each vector column, tiles end to end."""
    sizes = {role: int(spec["dimensions"]) for role, spec in specification["embedders"].items()}
    tiles = int(specification["sampling"]["tiles"]) - 1
    return sizes | ({"tiles": tiles * sizes["copy"]} if tiles else {})


def shard_schema(specification: Mapping[str, Any]) -> pa.Schema:
    """The columns of a shard, with the specification in its metadata."""
    sizes = _dimensions(specification)
    vectors = [(name, pa.list_(pa.float16(), sizes[name])) for name in _VECTORS if name in sizes]
    columns = [
        ("file", pa.string()),
        ("stamp", pa.string()),
        ("error", pa.string()),
        ("facts", pa.string()),
        ("file_sha256", pa.string()),
        ("pixels_sha256", pa.string()),
        ("pdq_quality", pa.uint8()),
        ("pdq", pa.binary(_PDQ_BYTES)),
        ("phash", pa.binary(_PHASH_BYTES)),
        *vectors,
        ("pixels", pa.binary(_PIXELS_BYTES)),
        ("preview", pa.binary()),
    ]
    said = {"format": _FORMAT, "specification": specification}
    return pa.schema(columns, metadata={_KEY: json.dumps(said, sort_keys=True).encode()})


def shard_table(rows: ShardRows, specification: Mapping[str, Any]) -> pa.Table:
    """Rows as a table; vectors become float16."""
    schema = shard_schema(specification)
    columns: dict[str, Any] = {name: pa.array(values, pa.string()) for name, values in rows.text.items()}
    columns["pdq_quality"] = pa.array(rows.pdq_quality.astype(np.uint8))
    columns["preview"] = pa.array(list(rows.previews), pa.binary())
    for name, array in rows.arrays.items():
        kind = schema.field(name).type
        flat = np.ascontiguousarray(array).reshape(len(array), -1)
        if name in _VECTORS:
            values = pa.array(flat.astype(np.float16).reshape(-1), pa.float16())
            columns[name] = pa.FixedSizeListArray.from_arrays(values, kind.list_size)
        else:
            columns[name] = pa.FixedSizeBinaryArray.from_buffers(kind, len(flat), [None, pa.py_buffer(flat.tobytes())])
    return pa.table([columns[name] for name in schema.names], schema=schema)


def shard_bytes(table: pa.Table) -> bytes:
    """A shard as a parquet file."""
    whole = io.BytesIO()
    plain = ("file", "stamp", "error", "facts", "file_sha256", "pixels_sha256")
    squeezed = {name: "zstd" if name in plain else "none" for name in table.schema.names}
    how = {"use_dictionary": False, "row_group_size": _ROWS_AT_ONCE, "write_page_checksum": True}
    parquet.write_table(table, whole, compression=squeezed, **how)
    return whole.getvalue()


def specification_of(url: str) -> dict[str, Any] | None:
    """The specification that a parquet file's fingerprints were made to; None if it holds no fingerprints.

    Raises:
        IndexDamaged: it is no parquet file, or one of a format we do not know.
    """
    try:
        with fsspec.open(url, "rb") as file:
            said = json.loads((parquet.read_metadata(file).metadata or {}).get(_KEY, b"null"))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise IndexDamaged(url, f"no parquet file that can be read ({error})", "fingerprints in parquet") from error
    if said is None:
        return None
    if said.get("format") != _FORMAT:
        raise IndexDamaged(url, f"format {said.get('format')!r}", f"format {_FORMAT}")
    specification: dict[str, Any] = said["specification"]
    return specification


def require_shard(url: str, size_bytes: int, specification: Mapping[str, Any]) -> None:
    """Refuse a shard that is not the one listed, or that was made to another specification.

    Raises:
        IndexDamaged: it is missing, cut, or holds no fingerprints.
        IndexMismatch: it was made to another specification.
    """
    files, path = fsspec.core.url_to_fs(url)
    found_bytes = files.size(path) if files.exists(path) else None
    if found_bytes != size_bytes:
        raise IndexDamaged(url, "nothing" if found_bytes is None else f"{found_bytes} bytes", f"{size_bytes} bytes")
    found = specification_of(url)
    if found is None:
        raise IndexDamaged(url, "a parquet file without fingerprints", "fingerprints in parquet")
    if found != json.loads(json.dumps(specification)):
        raise IndexMismatch(url, json.dumps(found, sort_keys=True), json.dumps(specification, sort_keys=True))


def read_columns(url: str, names: Sequence[str], rows: int = _ROWS_AT_ONCE) -> Iterator[dict[str, Any]]:
    """Some columns of a shard, a few hundred rows at a time.

    Args:
        url: a path or an fsspec URL.
        names: of columns; those that the shard has not are left out.
        rows: at a time.

    Returns:
        Text columns as lists; `pdq_quality` uint8 (n,); `pdq`, `phash` uint8 (n, 32 or 8); `pixels` uint8
        (n, 32, 32, 3); vectors float16 (n, D) or, for `tiles`, (n, T * D); `preview` as a list of bytes.

    Raises:
        IndexDamaged: the file is cut or edited.
    """
    try:
        with fsspec.open(url, "rb") as opened:
            file = parquet.ParquetFile(opened, page_checksum_verification=True)
            wanted = [name for name in names if name in file.schema_arrow.names]
            for batch in file.iter_batches(rows, columns=wanted):
                yield {name: _column(name, batch.column(at)) for at, name in enumerate(batch.schema.names)}
    except (OSError, pa.ArrowException) as error:
        raise IndexDamaged(url, f"a file that cannot be read ({error})", "fingerprints in parquet") from error


def _column(name: str, column: pa.Array) -> Any:
    if pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width
        start = column.offset * width
        whole = np.frombuffer(column.buffers()[1], np.uint8)[start : start + len(column) * width]
        shape = (PROOF_SIDE_PX, PROOF_SIDE_PX, 3) if name == "pixels" else (width,)
        return whole.reshape(len(column), *shape)
    return column.to_numpy() if pa.types.is_integer(column.type) else column.to_pylist()
