"""Read a works table: which file is which work, whose it is, and what a match with it means."""

import csv
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

from pydantic import ValidationError

from guardrail.errors import WorksTableInvalid
from guardrail.records import Work

__all__ = ["WorkRow", "described_work", "read_works", "unnamed_work"]

_COLUMNS = (
    "file",
    "work_id",
    "title",
    "creator",
    "rights_holder",
    "licence",
    "source",
    "disposition",
    "bank",
    "opted_out_at",
    "expires_at",
)
_MOMENTS = ("opted_out_at", "expires_at")


@dataclass(frozen=True, slots=True)
class WorkRow:
    """One row of a works table: the file, relative to the images' folder, and the work it shows."""

    file: str
    work: Work


def read_works(path: Path) -> tuple[WorkRow, ...]:
    """Read a works table from CSV (UTF-8) or parquet.

    Columns: `file` is required, all others (title, creator, ...) may be missing or empty. `work_id` defaults to a
    digest of the path and `title` to the file's stem; dates without a time zone are UTC.

    Raises:
        WorksTableInvalid: naming the line and what is wrong: an unknown column, a bad value, a file or a work twice.
    """
    rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
    works = tuple(_work_row(path, place, row) for place, row in rows)
    _refuse_repeats(path, "file", (row.file for row in works))
    _refuse_repeats(path, "work_id", (f"{row.work.bank}/{row.work.work_id}" for row in works))
    return works


def unnamed_work(file: str) -> str:
    """The id of a work that was given none: a digest of its path; ids leave in signed files, and paths must not."""
    return f"file-{hashlib.sha256(file.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def described_work(file: str, said: Mapping[str, object]) -> Work:
    """The work that a file shows.

    Args:
        file: the picture's name in its source; id and title are made from it where they are not said.
        said: fields of `Work`; dates may be text, and without a time zone they are UTC.

    Raises:
        ValueError: a field is unknown or cannot be read.
    """
    dates = {name: _moment(said[name]) for name in _MOMENTS if name in said}
    unsaid = {"work_id": unnamed_work(file), "title": Path(file).stem}
    return Work.model_validate({**unsaid, **said, **dates})


def _csv_rows(path: Path) -> list[tuple[str, Mapping[str, object]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows: list[tuple[str, Mapping[str, object]]] = [(f"line {reader.line_num}", row) for row in reader]
            _refuse_columns(path, reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorksTableInvalid(str(path), "whole file", str(error)) from error
    for place, row in rows:
        if None in row or None in row.values():
            raise WorksTableInvalid(str(path), place, "it has another number of fields than the header")
    return rows


def _parquet_rows(path: Path) -> list[tuple[str, Mapping[str, object]]]:
    from pyarrow import ArrowException, parquet  # when a table needs it: it takes a hundred megabytes

    try:
        table = parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise WorksTableInvalid(str(path), "whole file", str(error)) from error
    _refuse_columns(path, table.column_names)
    return [(f"row {number}", row) for number, row in enumerate(table.to_pylist(), start=1)]


def _refuse_columns(path: Path, names: Iterable[str]) -> None:
    names = tuple(names)
    unknown = [name for name in names if name not in _COLUMNS]
    if unknown or "file" not in names:
        what = f"unknown columns {unknown}" if unknown else "no column 'file'"
        raise WorksTableInvalid(str(path), "header", f"{what}; the columns are {', '.join(_COLUMNS)}")


def _refuse_repeats(path: Path, column: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise WorksTableInvalid(str(path), f"column {column!r}", f"{value!r} stands there twice")
        seen.add(value)


def _work_row(path: Path, place: str, row: Mapping[str, object]) -> WorkRow:
    said = {name: value for name, value in row.items() if value not in (None, "")}
    file = str(said.pop("file", ""))
    if not file or Path(file).is_absolute() or ".." in Path(file).parts:
        raise WorksTableInvalid(str(path), place, f"file is {file!r}, not a path inside the images' folder")
    try:
        return WorkRow(Path(file).as_posix(), described_work(Path(file).as_posix(), said))
    except (ValidationError, ValueError) as error:
        raise WorksTableInvalid(str(path), place, str(error)) from error


def _moment(value: object) -> datetime:
    """A date or time as an aware moment; without a zone it is UTC."""
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
