"""What `check` needs for millions of files: sources one after the other, and a journal of verdicts to go on from."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from guardrail import intake
from guardrail.carriers import Picture, SourcePicture
from guardrail.desk.bulk_pool import Lost, Spread
from guardrail.errors import SettingsInvalid
from guardrail.intake.files import unread_picture
from guardrail.intake.sources import FilesSource, SourceOptions, open_source
from guardrail.protocols import Source

__all__ = ["Journal", "Line", "Listed", "Named", "read_listed", "sources_of"]


class Named(NamedTuple):
    """A picture of a source, by the name that people see.

    Attributes:
        name: its path, or its name in its shard.
        stem: what a copy of it is called, without ending.
        stamp: see `SourcePicture.stamp`.
        source: what lists it.
        picture: what it is there.
    """

    name: str
    stem: str
    stamp: str
    source: Source
    picture: SourcePicture


def sources_of(locations: Sequence[str], options: SourceOptions) -> list[Source]:
    """One source for each folder or pattern, and one for files that stand next to each other.

    A file that is not there is a file still: it is listed, and cannot be checked.
    """
    found: list[Source] = []
    for is_file, some in groupby(locations, key=_is_file):
        if is_file:
            found.append(FilesSource([Path(location) for location in some]))
        else:
            found += [open_source([location], options) for location in some]
    return found


def _is_file(location: str) -> bool:
    """Whether a location is a single picture: neither folder, nor shard, nor pattern."""
    return not location.endswith((".tar", ".parquet")) and "://" not in location and not Path(location).is_dir()


class Line(NamedTuple):
    """A verdict for the journal.

    Attributes:
        listed: of what.
        outcome: what counts for the exit code.
        state: digest of what the verdict depends on.
        again: whether the next run is to check that picture again.
        document: the rest of the line.
    """

    listed: Named
    outcome: str
    state: str
    again: bool
    document: dict[str, Any]


class Listed:
    """The pictures of several sources, each once.

    Args:
        sources: one after the other.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)
        self.left_out = 0

    def __iter__(self) -> Iterator[Named]:
        """List them."""
        for source in self.sources:
            for picture in source:
                path = picture.at if isinstance(picture.at, Path) else Path(picture.name)
                yield Named(intake.shown_path(path), path.name, picture.stamp, source, picture)
            self.left_out += source.left_out

    def estimate(self) -> int:
        """About how many there are."""
        return sum(source.estimate() for source in self.sources)


def read_listed(
    listed: Iterable[Named], largest_px: int, workers: int, batch: int
) -> Iterator[tuple[list[Named], list[Picture]]]:
    """Read pictures, in other processes where there are any, and hand them on in batches, in order."""
    pending: list[Named] = []
    pictures: list[Picture] = []

    def places() -> Iterator[Any]:
        for one in listed:
            pending.append(one)
            yield one.source.open(one.picture)

    for answer in Spread(partial(intake.read_place, largest_px=largest_px), workers)(places()):
        name = pending[len(pictures)].name
        if isinstance(answer, Lost):
            pictures.append(unread_picture(name, answer.reason))
        else:
            pictures.append(answer)
        if len(pictures) == batch:
            yield pending[:batch], pictures
            del pending[:batch]
            pictures = []
    if pictures:
        yield pending[: len(pictures)], pictures


class Journal:
    """Verdicts as JSON lines: every line is on disk before the next batch is read, and a run goes on from them.

    Args:
        path: the file; made when missing. A last line that a crash has cut is dropped.
        state: digest of what verdicts depend on besides the picture; lines of another state do not count.

    Raises:
        SettingsInvalid: it is no journal, or cannot be written.
    """

    def __init__(self, path: Path, state: str) -> None:
        self.path, self.state = path, state
        self._table = sqlite3.connect("", isolation_level=None)  # a file that nobody sees
        self._table.execute("CREATE TABLE line(name TEXT PRIMARY KEY, stamp TEXT, outcome TEXT, met INTEGER)")
        try:
            self._end = self._read() if path.exists() else 0
            self._file = path.open("r+b" if path.exists() else "w+b")
            self._file.truncate(self._end)
            self._file.seek(self._end)
        except OSError as error:
            raise SettingsInvalid(str(path), f"verdicts cannot be written there: {error}") from error

    def _read(self) -> int:
        """Note all lines; returns where the last whole one ends."""
        end = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    said = json.loads(line)
                    fits = said["state"] == self.state
                    row = (said["path"], said["stamp"] if fits else "", said["outcome"])
                except (ValueError, KeyError, TypeError) as error:
                    raise SettingsInvalid(str(self.path), f"a file that is no journal of verdicts ({error})") from error
                self._table.execute("REPLACE INTO line VALUES (?, ?, ?, 0)", row)
                end += len(line)
        return end

    def new(self, listed: Iterable[Named], skipped: Callable[[], None]) -> Iterator[Named]:
        """What is not in the journal as it is now, each once; `skipped` is called for what is."""
        for one in listed:
            found = self._table.execute("SELECT stamp, met FROM line WHERE name = ?", [one.name]).fetchone()
            if found and found[1]:
                continue
            if found and one.stamp and found[0] == one.stamp:
                self._table.execute("UPDATE line SET met = 1 WHERE name = ?", [one.name])
                skipped()
                continue
            self._table.execute("REPLACE INTO line VALUES (?, '', '', 1)", [one.name])
            yield one

    def write(self, lines: Iterable[Line]) -> None:
        """Append verdicts, and wait until they are on disk."""
        try:
            for one, outcome, state, again, document in lines:
                stamp = "" if again else one.stamp
                said = {"path": one.name, "stamp": stamp, "outcome": outcome, "state": state, **document}
                self._file.write((json.dumps(said, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
                self._table.execute("UPDATE line SET outcome = ? WHERE name = ?", [outcome, one.name])
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise SettingsInvalid(str(self.path), f"verdicts cannot be written there: {error}") from error

    def outcomes(self) -> dict[str, int]:
        """How many pictures of this listing have which outcome, those of earlier runs too."""
        asked = "SELECT outcome, COUNT(*) FROM line WHERE met = 1 GROUP BY outcome"
        return dict(self._table.execute(asked))

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._table.close()
