"""Tables as a source: parquet files, and Hugging Face `datasets` on disk, with pictures as bytes or by address."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import ipc, parquet

from guardrail.carriers import SourcePicture
from guardrail.errors import SettingsInvalid
from guardrail.intake.files import LARGEST_FILE_BYTES
from guardrail.intake.sources.places import Address, Content, Place, Unread
from guardrail.intake.sources.shards import Shard, plain_facts
from guardrail.intake.sources.web import WebLimits

__all__ = ["Columns", "DatasetSource", "ParquetSource", "dataset_shards"]

_IMAGE_NAMES = ("image", "img", "picture", "bytes", "image_bytes", "content", "jpg", "jpeg", "png", "webp")
_URL_NAMES = ("url", "image_url", "img_url", "uri")
_LISTED_AT_ONCE = 4096  # rows without their pictures
_READ_AT_ONCE = 16  # rows with their pictures held in memory


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what; what is empty is guessed from names and types.

    Attributes:
        image: the bytes of image files, as binary or as a struct with `bytes` and `path` (Hugging Face's images).
        url: addresses, where there are no bytes.
        name: what pictures are called; otherwise by shard and row.
        facts: by field of `Work`, the column that says it.
    """

    image: str = ""
    url: str = ""
    name: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def found_in(self, schema: pa.Schema, place: str) -> "Columns":
        """These columns, with what was left open guessed.

        Raises:
            SettingsInvalid: there is no such column, or none with pictures.
        """
        wanted = [self.image, self.url, self.name, *self.facts.values()]
        if missing := [name for name in wanted if name and name not in schema.names]:
            raise SettingsInvalid(place, f"no columns {missing}; there are {schema.names}")
        if self.image or self.url:
            return self
        if image := _first(schema, _IMAGE_NAMES, _holds_bytes):
            return Columns(image, "", self.name, self.facts)
        if url := _first(schema, _URL_NAMES, pa.types.is_string):
            return Columns("", url, self.name, self.facts)
        raise SettingsInvalid(place, f"no column of pictures or addresses among {schema.names}; name it: image=COLUMN")


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _first(schema: pa.Schema, names: Sequence[str], fits: Any) -> str:
    return next((name for name in names if name in schema.names and fits(schema.field(name).type)), "")


class _Row(NamedTuple):
    shard: int
    row: int
    url: str | None  # None where the table holds bytes


class _TableSource:
    """What parquet files and datasets share: pictures are named `shard#row` unless a column names them."""

    def __init__(self, shards: Sequence[Shard], columns: Columns, limits: WebLimits) -> None:
        self.shards = tuple(shards)
        self.columns = columns
        self.limits = limits
        self.left_out = 0
        self._reading: tuple[int, int, Iterator[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reading": None}

    @property
    def location(self) -> str:
        """See `Source.location`."""
        said = self.columns
        chosen = [said.image, said.url, said.name, dict(said.facts)]
        return json.dumps([[shard.path for shard in self.shards], chosen], sort_keys=True)

    def __iter__(self) -> Iterator[SourcePicture]:
        """See `Source`: shard by shard, row by row."""
        for number, shard in enumerate(self.shards):
            try:
                yield from self._pictures(number)
            except (OSError, pa.ArrowException) as error:
                reason = f"a table that cannot be read to its end: {type(error).__name__}: {error}"
                yield SourcePicture(f"{shard.name} (rest)", "", Unread(shard.name, reason))

    def _pictures(self, number: int) -> Iterator[SourcePicture]:
        shard = self.shards[number]
        schema, rows = self._rows(number)
        columns = self.columns.found_in(schema, shard.path)
        picture_columns = [columns.image] if columns.image else []
        plain = [name for name in schema.names if name not in picture_columns and _is_plain(schema.field(name).type)]
        for at, row in enumerate(rows(plain)):
            named = row.get(columns.name) if columns.name else None
            name = str(named) if named not in (None, "") else f"{shard.name}#{at}"
            url = str(row.get(columns.url) or "") if columns.url else None
            stamp = f"{shard.stamp}:{at}" if shard.stamp else ""
            yield SourcePicture(name, stamp, _Row(number, at, url), plain_facts(row, columns.facts))

    def _rows(self, number: int) -> tuple[pa.Schema, Any]:
        """The schema of a shard, and what lists some of its columns row by row."""
        raise NotImplementedError

    def _images(self, number: int, start: int) -> Iterator[tuple[Any, bool]]:
        """The picture column of a shard from a row on, and whether paths in it may be followed."""
        raise NotImplementedError

    def find(self, name: str) -> SourcePicture | None:
        """See `Source.find`: all pictures are listed."""
        del name
        return None

    def open(self, picture: SourcePicture) -> Place:
        """See `Source.open`: the bytes or the address."""
        at = picture.at
        if not isinstance(at, _Row):
            place: Place = at
            return place
        if at.url is not None:
            return Address(picture.name, at.url, self.limits) if at.url else _place(picture.name, None, follow=False)
        try:
            value, follow = self._value(at)
        except (OSError, pa.ArrowException, StopIteration) as error:
            self._reading = None
            return Unread(picture.name, f"{type(error).__name__}: {error}")
        return _place(picture.name, value, follow=follow)

    def _value(self, at: _Row) -> tuple[Any, bool]:
        """One value of the picture column; those of one shard are read on from row to row."""
        number, row, values = self._reading or (-1, 0, iter(()))
        if number != at.shard or at.row < row:
            row, values = at.row, self._images(at.shard, at.row)
        while row < at.row:
            next(values)
            row += 1
        found: tuple[Any, bool] = next(values)
        self._reading = (at.shard, row + 1, values)
        return found


def _is_plain(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_primitive(kind))


def _place(name: str, value: Any, *, follow: bool) -> Place:
    """A value of a picture column: bytes, or a struct of bytes and path as Hugging Face's `datasets` has them."""
    path = ""
    if isinstance(value, dict):
        value, path = value.get("bytes"), str(value.get("path") or "")
    if isinstance(value, bytes):
        if len(value) > LARGEST_FILE_BYTES:
            return Unread(name, f"a file of {len(value)} bytes, more than {LARGEST_FILE_BYTES}")
        return Content(name, value)
    if path and follow:
        return Path(path)
    return Unread(name, f"no bytes, only the path {path!r}" if path else "a row without a picture")


class ParquetSource(_TableSource):
    """Parquet files, on local disk or an object store, with pictures as bytes or addresses.

    Args:
        shards: the files.
        columns: which columns hold what.
        limits: what is spent on addresses.
    """

    def _rows(self, number: int) -> tuple[pa.Schema, Any]:
        file = parquet.ParquetFile(self.shards[number].open())

        def rows(names: list[str]) -> Iterator[dict[str, Any]]:
            if not names:
                yield from ({} for _ in range(file.metadata.num_rows))
            else:
                for batch in file.iter_batches(_LISTED_AT_ONCE, columns=names):
                    yield from batch.to_pylist()

        return file.schema_arrow, rows

    def _images(self, number: int, start: int) -> Iterator[tuple[Any, bool]]:
        file = parquet.ParquetFile(self.shards[number].open())
        column = self.columns.found_in(file.schema_arrow, self.shards[number].path).image
        first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if first + rows > start:
                for batch in file.iter_batches(_READ_AT_ONCE, row_groups=[group], columns=[column]):
                    for value in batch.column(0):
                        if first >= start:
                            yield value.as_py(), False
                        first += 1
            else:
                first += rows

    def estimate(self) -> int:
        """See `Source.estimate`: what the files say of themselves."""
        total = 0
        for shard in self.shards:
            try:
                with shard.open() as file:
                    total += parquet.read_metadata(file).num_rows
            except (OSError, pa.ArrowException):
                continue
        return total


class DatasetSource(_TableSource):
    """A Hugging Face dataset that `save_to_disk` wrote; see `dataset_shards`."""

    def _table(self, number: int) -> pa.Table:
        shard = self.shards[number]
        return ipc.open_stream(pa.memory_map(shard.path)).read_all()  # nothing is read before it is looked at

    def _rows(self, number: int) -> tuple[pa.Schema, Any]:
        table = self._table(number)

        def rows(names: list[str]) -> Iterator[dict[str, Any]]:
            if not names:
                yield from ({} for _ in range(table.num_rows))
            else:
                for batch in table.select(names).to_batches(_LISTED_AT_ONCE):
                    yield from batch.to_pylist()

        return table.schema, rows

    def _images(self, number: int, start: int) -> Iterator[tuple[Any, bool]]:
        table = self._table(number)
        column = self.columns.found_in(table.schema, self.shards[number].path).image
        for value in table.column(column).slice(start):
            yield value.as_py(), True

    def estimate(self) -> int:
        """See `Source.estimate`."""
        total = 0
        for number in range(len(self.shards)):
            try:
                total += self._table(number).num_rows
            except (OSError, pa.ArrowException):
                continue
        return total


def dataset_shards(folder: Path) -> tuple[Path, ...]:
    """The arrow files of a folder that `save_to_disk` wrote, of every split; none where it is no such folder.

    Raises:
        SettingsInvalid: rows were picked or shuffled and not written so, or its description cannot be read.
    """
    splits = folder / "dataset_dict.json"
    try:
        if splits.is_file():
            names = json.loads(splits.read_text(encoding="utf-8"))["splits"]
            return tuple(path for name in names for path in dataset_shards(folder / str(name)))
        state = folder / "state.json"
        if not state.is_file() or not (folder / "dataset_info.json").is_file():
            return ()
        said = json.loads(state.read_text(encoding="utf-8"))
        if said.get("_indices_data_files"):
            raise SettingsInvalid(str(folder), "a dataset with picked rows; write it anew after flatten_indices()")
        return tuple(folder / str(entry["filename"]) for entry in said["_data_files"])
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, SettingsInvalid):
            raise
        raise SettingsInvalid(str(folder), f"a description of a dataset that cannot be read: {error}") from error
