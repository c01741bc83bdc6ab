"""Read a hash list of ours: every line or why it cannot be used, and whether the file is whole."""

import hashlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import HashListUnusable
from guardrail.index.interchange.form import (
    FORMAT,
    VERSION,
    ListedWork,
    ListFoot,
    ListHead,
    WithdrawnWork,
    canonical,
)
from guardrail.index.interchange.lines import numbered_lines, parsed, said_wrong
from guardrail.index.interchange.parquet import parquet_head, parquet_lines
from guardrail.index.store.columns import key_prefix

__all__ = ["HashList", "Item", "Survey", "is_hash_list"]

_PARQUET = b"PAR1"
_FOOT = b'{"kind":"foot"'  # how the last line begins, and no other
_GET_AGAIN = "get it again from whoever made it"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a list: what it says, or why nothing can be made of it.

    Attributes:
        number: of the line, from 1; of a parquet file, of the row.
        entry: a work that is listed, or one that is withdrawn; None where there is none.
        problem: what is wrong with the line; empty where nothing is.
        left_out: why it is passed over though nothing is wrong with it; empty where it is not.
        digest: sha256 of its canonical text, the first 8 bytes; 0 where that is not known.
    """

    number: int
    entry: ListedWork | WithdrawnWork | None = None
    problem: str = ""
    left_out: str = ""
    digest: int = 0


@dataclass(frozen=True, slots=True)
class Survey:
    """What a list holds, once it was read to its end.

    Attributes:
        sha256: of its canonical text; what a delta on it names, and what is signed.
        keys: uint64 (n,), ascending: of the works that are listed, see `store.columns.key_prefix`.
        repeated: those of them that stand there twice, and those that are listed and withdrawn.
        signature: of that digest, or None.
    """

    sha256: str
    keys: NDArray[np.uint64]
    repeated: frozenset[int]
    signature: str | None


def is_hash_list(path: Path) -> bool:
    """Whether a file is a hash list of ours, by what it begins with; it may be damaged all the same.

    Raises:
        HashListUnusable: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise HashListUnusable(str(path), str(error), "a file we may read", "correct its name") from error
    return start.startswith(_PARQUET) or (start.lstrip().startswith(b"{") and FORMAT.encode() in start)


class HashList:
    """A hash list of ours, in a file.

    Args:
        path: JSON lines, or parquet.

    Raises:
        HashListUnusable: it is no such list, or of a version we do not know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.is_parquet = file.read(len(_PARQUET)) == _PARQUET
                file.seek(0)
                first = parquet_head(path)[0] if self.is_parquet else file.readline(2**20)
            self.bytes = path.stat().st_size
        except OSError as error:
            raise HashListUnusable(str(path), str(error), "a file we may read", "correct its name") from error
        self.head = self._head(first or b"")

    def _head(self, content: bytes) -> ListHead:
        try:
            said = parsed(content)
            if not isinstance(said, dict) or said.get("format") != FORMAT:
                raise ValueError("another kind of file")  # noqa: TRY301 - one message for all that is wrong
            if said.get("version") != VERSION:
                raise ValueError(f"version {said.get('version')!r}")  # noqa: TRY301
            return ListHead.model_validate(said)
        except ValueError as error:
            expected = f"a head of {FORMAT}, version {VERSION}"
            raise HashListUnusable(str(self.path), said_wrong(error), expected, "have it exported again") from error

    def survey(self, progress: Progress, bank: str | None = None) -> Survey:
        """Read all of it: whether it is as it was written, and which works it lists.

        Args:
            progress: called with (bytes, bytes in all), or rows of parquet.
            bank: the bank that all works are put into, or None.

        Raises:
            HashListUnusable: it is cut or was edited.
        """
        reader = _Reader(self, progress)
        listed, withdrawn = array("Q"), array("Q")
        for item in reader.items():
            if item.entry is not None:
                some = listed if isinstance(item.entry, ListedWork) else withdrawn
                some.append(key_prefix(bank or item.entry.bank, item.entry.work_id))
        keys, counts = np.unique(np.array(listed, np.uint64), return_counts=True)
        both = np.intersect1d(keys, np.array(withdrawn, np.uint64))
        repeated = frozenset([*keys[counts > 1].tolist(), *both.tolist()])
        return Survey(reader.sha256, keys, repeated, reader.signature)

    def items(self, sha256: str, progress: Progress = lambda done, total: None) -> Iterator[Item]:
        """Every line of its body.

        Args:
            sha256: what a survey found; the file must be the same still.
            progress: called with (bytes, bytes in all), or rows of parquet.

        Raises:
            HashListUnusable: it is cut or was edited, since the survey perhaps.
        """
        reader = _Reader(self, progress)
        yield from reader.items()
        if reader.sha256 != sha256:
            raise HashListUnusable(
                str(self.path), "a file that changed while it was read", "one that stays", _GET_AGAIN
            )


class _Reader:
    """One reading of a list, which digests what it reads."""

    def __init__(self, listed: HashList, progress: Progress) -> None:
        self._list, self._progress = listed, progress
        self._digest = hashlib.sha256()
        self.sha256 = ""
        self.signature: str | None = None

    def items(self) -> Iterator[Item]:
        """The lines of the body; then `sha256` and `signature` are known, and the file is whole."""
        yield from self._parquet() if self._list.is_parquet else self._json()

    def _finish(self, content: bytes, lines: int) -> None:
        try:
            foot = ListFoot.model_validate(parsed(content))
        except ValueError as error:
            raise self._unusable(f"no foot ({said_wrong(error)})", "its last line") from error
        found = self._digest.hexdigest()
        if (foot.sha256, foot.lines) != (found, lines):
            what = f"{lines} lines of sha256 {found[:12]}..."
            raise self._unusable(what, f"{foot.lines} lines of sha256 {foot.sha256[:12]}...")
        self.sha256, self.signature = found, foot.signature

    def _unusable(self, found: str, expected: str) -> HashListUnusable:
        return HashListUnusable(str(self._list.path), found, expected, _GET_AGAIN)

    def _json(self) -> Iterator[Item]:
        read, lines, begins = 0, 0, True

        def take(piece: bytes) -> None:
            nonlocal read, begins
            read += len(piece)
            if not (begins and piece.startswith(_FOOT)):
                self._digest.update(piece)
            begins = piece.endswith(b"\n")

        with self._list.path.open("rb") as file:
            for line in numbered_lines(file, take):
                if line.content.startswith(_FOOT):
                    if file.read(1):
                        raise self._unusable("lines behind the foot", "the foot as the last line")
                    self._finish(line.content, lines)
                    return
                lines += 1
                self._progress(read, self._list.bytes)
                if line.number > 1:
                    yield _item_of(line.number, line.content, "a line that is too long" if line.is_too_long else "")
        raise self._unusable("the end of the file", "a foot: it was cut")

    def _parquet(self) -> Iterator[Item]:
        _, foot = parquet_head(self._list.path)
        if foot is None:
            raise self._unusable("no foot", "one in its metadata")
        self._digest.update(canonical(self._list.head.model_dump(mode="json")))
        total = self._list.head.works + self._list.head.withdrawn
        lines = 1
        for line in parquet_lines(self._list.path):
            try:
                content = canonical(line)
            except (UnicodeEncodeError, TypeError) as error:
                raise self._unusable(f"row {lines} with {error}", "text and numbers") from error
            self._digest.update(content)
            lines += 1
            self._progress(lines - 1, total)
            yield _item_of(lines - 1, content, "")
        self._finish(foot, lines)


def _item_of(number: int, content: bytes, problem: str) -> Item:
    """What a line says."""
    if problem:
        return Item(number, problem=problem)
    try:
        said = parsed(content)
        entry = _entry(said)
        if isinstance(entry, ListedWork) and not _is_comparable(entry):
            return Item(number, problem="no hash, no vector and no digest: nothing could be compared with it")
    except ValueError as error:
        return Item(number, problem=said_wrong(error))
    digest = int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
    return Item(number, entry, digest=digest)


def _entry(said: Any) -> ListedWork | WithdrawnWork:
    kind = said.get("kind") if isinstance(said, dict) else None
    if kind == "work":
        return ListedWork.model_validate(said)
    if kind == "withdrawn":
        return WithdrawnWork.model_validate(said)
    raise ValueError(f"a line of the kind {kind!r}, expected 'work' or 'withdrawn'")


def _is_comparable(work: ListedWork) -> bool:
    return bool(work.pdq or work.phash or work.file_sha256 or work.pixels_sha256 or work.vectors)
