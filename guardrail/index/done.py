"""Which pictures of a source have fingerprints, and in which shard: a table on disk, so that millions fit."""

import sqlite3
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Done", "Met"]

_SCHEMA = """
CREATE TABLE picture(name BLOB PRIMARY KEY, stamp TEXT, shard INTEGER, place INTEGER, wanted INTEGER) WITHOUT ROWID;
CREATE TABLE work(key TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_NOWHERE = -1


class Met(Enum):
    """What is known of a picture when it is listed."""

    NEW = "it has no fingerprints yet"
    DONE = "it has, and has not changed since"
    AGAIN = "another picture of this name was listed before"


class Done:
    """A table of pictures; made anew from the shards every time, so that nothing depends on it after a crash.

    Args:
        path: where it is kept; what is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.path = path
        self._table = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._table.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA)
        self._table.execute("BEGIN")

    def close(self) -> None:
        """Close the table and remove its file."""
        self._table.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> "Done":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, shard: int, names: Sequence[str], stamps: Sequence[str], *, wanted: bool) -> None:
        """Note where pictures lie: row n of the shard is the n-th of them; an older place of theirs is forgotten.

        Args:
            shard: its number.
            names: all of its rows.
            stamps: empty for a picture that is to be tried again.
            wanted: whether they were listed in this run.
        """
        rows = [
            (name.encode(), stamp, shard, place, wanted)
            for place, (name, stamp) in enumerate(zip(names, stamps, strict=True))
        ]
        self._table.executemany("REPLACE INTO picture VALUES (?, ?, ?, ?, ?)", rows)

    def meet(self, name: str, stamp: str) -> Met:
        """List a picture: it is wanted from now on."""
        found = self._table.execute("SELECT stamp, wanted FROM picture WHERE name = ?", [name.encode()]).fetchone()
        if found is None:
            self._table.execute("INSERT INTO picture VALUES (?, '', ?, ?, 1)", [name.encode(), _NOWHERE, _NOWHERE])
            return Met.NEW
        if found[1]:
            return Met.AGAIN
        self._table.execute("UPDATE picture SET wanted = 1 WHERE name = ?", [name.encode()])
        return Met.DONE if stamp and found[0] == stamp else Met.NEW

    def is_listed(self, name: str) -> bool:
        """Whether a picture is wanted."""
        found = self._table.execute("SELECT wanted FROM picture WHERE name = ?", [name.encode()]).fetchone()
        return bool(found and found[0])

    def leave_out(self, name: str) -> None:
        """Want a picture no more."""
        self._table.execute("UPDATE picture SET wanted = 0 WHERE name = ?", [name.encode()])

    def index_shards(self) -> None:
        """Make `places` quick: called once, when all pictures are in."""
        self._table.execute("CREATE INDEX IF NOT EXISTS by_shard ON picture(shard, place, wanted)")

    def places(self, shard: int) -> NDArray[np.int64]:
        """The rows of a shard that are wanted and have no newer place: int64 (n,), ascending."""
        asked = "SELECT place FROM picture WHERE shard = ? AND wanted = 1 ORDER BY place"
        return np.array([row[0] for row in self._table.execute(asked, [shard])], np.int64)

    def count(self) -> int:
        """How many pictures are wanted."""
        return int(self._table.execute("SELECT COUNT(*) FROM picture WHERE wanted = 1").fetchone()[0])

    def unlisted(self) -> Iterator[str]:
        """Pictures that lie in a shard and were not listed."""
        return (row[0].decode() for row in self._table.execute("SELECT name FROM picture WHERE wanted = 0"))

    def nowhere(self) -> Iterator[str]:
        """Pictures that were listed and lie in no shard."""
        asked = "SELECT name FROM picture WHERE shard = ? AND wanted = 1"
        return (row[0].decode() for row in self._table.execute(asked, [_NOWHERE]))

    def claim(self, key: str) -> bool:
        """Note the id of a work; whether it is the first of that id."""
        return self._table.execute("INSERT OR IGNORE INTO work VALUES (?)", [key]).rowcount == 1
