"""Apply a hash list to an index: works that came from it are put, replaced and withdrawn, and no others."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import IndexRows
from guardrail.errors import HashListUnusable, IndexUnwritable
from guardrail.index.folder import FolderIndex
from guardrail.index.interchange.foreign import Dialect, foreign_items
from guardrail.index.interchange.form import ListedWork, ListHead, Vectors, WithdrawnWork, decoded_vectors
from guardrail.index.interchange.lines import said_wrong
from guardrail.index.interchange.origins import (
    FOREIGN,
    Imported,
    read_origins,
    require_turn,
    tag_of,
    write_origins,
)
from guardrail.index.interchange.parquet import shapes_of
from guardrail.index.interchange.reading import HashList, Item, Survey
from guardrail.index.store.columns import key_prefix
from guardrail.records import IndexChange, IndexHeader, Work

__all__ = ["ImportReport", "Trusted", "import_foreign", "import_list"]

_ROWS_AT_A_TIME = 4096  # put in one step
_NAMED = 1000  # lines of each kind that are named; all are counted
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Trusted:
    """Under whom a list is taken.

    Attributes:
        signer: whom it names, for people; empty where it is not signed.
        anchor: sha256 of the root certificate, or `unsigned`.
    """

    signer: str
    anchor: str


@dataclass
class ImportReport:
    """What became of a list.

    Attributes:
        change: what it did to the index.
        bad: line number and what is wrong with it, of the first lines that are; `bad_lines` counts all.
        clashes: works, as `bank/work_id`, that the index has from elsewhere and that were left as they are;
            `clashing` counts all.
        left_out: why lines or vectors were passed over, and how many.
    """

    change: IndexChange
    bad: list[tuple[int, str]] = field(default_factory=list)
    bad_lines: int = 0
    clashes: list[str] = field(default_factory=list)
    clashing: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def note_bad(self, number: int, problem: str) -> None:
        """One line that cannot be used."""
        self.bad_lines += 1
        if len(self.bad) < _NAMED:
            self.bad.append((number, problem))

    def note_clash(self, bank: str, work_id: str) -> None:
        """One work that came from elsewhere."""
        self.clashing += 1
        if len(self.clashes) < _NAMED:
            self.clashes.append(f"{bank}/{work_id}")

    def add(self, change: IndexChange) -> None:
        """Another step of the change."""
        counts = {
            name: getattr(self.change, name) + getattr(change, name)
            for name in ("added", "replaced", "unchanged", "withdrawn")
        }
        self.change = change.model_copy(update={**counts, "unknown": ()})


def import_list(
    index: FolderIndex,
    listed: HashList,
    survey: Survey,
    trusted: Trusted,
    *,
    bank: str | None = None,
    progress: Progress = lambda done, total: None,
) -> ImportReport:
    """Apply a list of ours. Interrupted or done twice, the same call ends in the same state.

    A full list takes the place of what was imported of its origin before: works that it lacks are withdrawn. A delta
    has to go on from the list that was imported last. A work that the index has from elsewhere is left as it is.

    Args:
        index: takes it.
        listed: the list.
        survey: of the same file, with the same `bank`.
        trusted: who signed it.
        bank: put all works into this bank, or None.
        progress: called with (bytes, bytes in all), or rows of parquet.

    Raises:
        HashListUnusable: a delta out of turn, an older list, or nothing of it can be compared in this index.
        IndexDamaged: the record of what was imported was edited.
        IndexLocked, IndexUnwritable: see `WritableIndex.put`.
    """
    with index.writing():
        header, tag = index.header, tag_of(listed.head.origin, trusted.anchor, bank)
        origins = read_origins(index.folder, header.built_at)
        last = origins.origins.get(tag)
        require_turn(listed.path, listed.head, survey.sha256, last)
        begun = Imported(
            origin=listed.head.origin,
            signer=trusted.signer,
            anchor=trusted.anchor,
            sha256=last.sha256 if last else "",
            applying=survey.sha256,
            snapshot=(last or listed.head).snapshot,
            made_at=(last or listed.head).made_at,
            imported_at=datetime.now(UTC),
        )
        applying = _Applying(index, tag, _Columns(listed.head, header))
        if not applying.columns.names:
            made = f"{listed.head.hashes} and {_embedders(listed.head.embedders)}"
            expected = f"{header.hashes} or {_embedders(header.embedders)}"
            told = "build an index of that specification"
            raise HashListUnusable(str(listed.path), f"hashes and vectors of {made}", expected, told)
        try:
            write_origins(index.folder, origins.with_list(tag, begun))
            applying.run(_kept(listed.items(survey.sha256, progress), survey, bank, applying.report), bank)
            if listed.head.since is None and last is not None:
                applying.withdraw_others(survey.keys)
            write_origins(index.folder, origins.with_list(tag, begun.ended(listed.head)))
        except OSError as error:
            ours = type(error).__module__ == IndexUnwritable.__module__
            raise error if ours else IndexUnwritable(str(index.folder), str(error)) from error
    return applying.report


def import_foreign(
    index: FolderIndex,
    path: Path,
    dialect: Dialect,
    bank: str,
    progress: Progress = lambda done, total: None,
) -> ImportReport:
    """Add the PDQ hashes of a list that others wrote, and withdraw those that it says are deleted.

    Args:
        index: takes it.
        path: the list.
        dialect: how it is written, see `guess_dialect`.
        bank: the bank that they go into.
        progress: called with (bytes, bytes in all).

    Raises:
        HashListUnusable: it cannot be read.
        IndexLocked, IndexUnwritable: see `WritableIndex.put`.
    """
    with index.writing():
        applying = _Applying(index, FOREIGN, None)
        applying.run(foreign_items(path, dialect, bank, progress), None)
    return applying.report


def _embedders(specs: Any) -> str:
    return ", ".join(f"{role} {spec}" for role, spec in sorted(specs.items())) or "no vectors"


def _kept(items: Iterator[Item], survey: Survey, bank: str | None, report: ImportReport) -> Iterator[Item]:
    """The items, each work once: of one that stands there twice the first line counts, the others are bad."""
    seen: set[tuple[str, str]] = set()
    for item in items:
        entry = item.entry
        if entry is not None and survey.repeated:
            key = (bank or entry.bank, entry.work_id)
            if key_prefix(*key) in survey.repeated:
                if key in seen:
                    report.note_bad(item.number, f"the work {'/'.join(key)!r}, which stands there twice")
                    continue
                seen.add(key)
        yield item


class _Columns:
    """Which hashes and vectors of a list compare with those of an index, and why others do not."""

    def __init__(self, head: ListHead, header: IndexHeader) -> None:
        self.shapes = shapes_of(head)
        self.refused: dict[str, str] = {}
        for name in ("pdq", "phash"):
            if head.hashes.get(name) != header.hashes.get(name):
                self.refused[name] = f"{name} of another version ({head.hashes.get(name)!r})"
        for role in ("copy", "clip"):
            theirs, ours = head.embedders.get(role), header.embedders.get(role)
            if theirs != ours or ours is None:
                self.refused[role] = f"{role} vectors of another embedder ({theirs})"
        if head.sampling.tiles != header.sampling.tiles or "copy" in self.refused:
            self.refused["tiles"] = "tile vectors of another specification"
        self.names = [name for name in ("pdq", "phash", *head.vectors) if name not in self.refused]

    def vectors(self, work: ListedWork, left_out: Counter[str]) -> dict[str, NDArray[Any]]:
        """The vectors that compare."""
        taken: dict[str, NDArray[Any]] = {}
        for name, text in work.vectors.items():
            if (why := self.refused.get(name)) is not None:
                left_out[why] += 1
            else:
                taken[name] = self._decoded(name, text)
        return taken

    def _decoded(self, name: Vectors, text: str) -> NDArray[Any]:
        if name not in self.shapes:
            raise ValueError(f"{name} vectors, of which the head says nothing")
        return decoded_vectors(text, self.shapes[name])


_Row = tuple[Work, str | None, str | None, dict[str, NDArray[Any]]]


class _Applying:
    """One list on its way into an index, whose writer's lock is held."""

    def __init__(self, index: FolderIndex, tag: str, columns: _Columns | None) -> None:
        self._index, self._tag = index, tag
        self._columns = columns
        header = index.header
        self.report = ImportReport(IndexChange(snapshot=header.snapshot, works=header.works))
        self._waiting: dict[tuple[str, ...], dict[tuple[str, str], _Row]] = {}
        self._gone: dict[tuple[str, str], None] = {}

    @property
    def columns(self) -> _Columns:
        """Of a list of ours."""
        assert self._columns is not None, "a foreign list has hashes alone"
        return self._columns

    def run(self, items: Iterable[Item], bank: str | None) -> None:
        """Apply every item, in steps."""
        for item in items:
            if item.problem:
                self.report.note_bad(item.number, item.problem)
            elif item.left_out:
                self.report.left_out[item.left_out] += 1
            elif isinstance(item.entry, WithdrawnWork):
                self._give_up(bank or item.entry.bank, item.entry.work_id)
            elif item.entry is not None:
                self._take(item.number, item.entry, bank)
        for names in tuple(self._waiting):
            self._flush(names)
        self._withdraw()

    def _give_up(self, bank: str, work_id: str) -> None:
        for rows in self._waiting.values():
            rows.pop((bank, work_id), None)
        self._gone[bank, work_id] = None
        if len(self._gone) >= _ROWS_AT_A_TIME:
            self._withdraw()

    def _take(self, number: int, listed: ListedWork, bank: str | None) -> None:
        arrays: dict[str, NDArray[Any]] = {}
        try:
            for name, text in (("pdq", listed.pdq), ("phash", listed.phash)):
                if text is not None and (self._columns is None or name not in self._columns.refused):
                    arrays[name] = np.frombuffer(bytes.fromhex(text), np.uint8)
            if self._columns is not None:
                arrays |= self._columns.vectors(listed, self.report.left_out)
            if not (arrays or listed.file_sha256 or listed.pixels_sha256):
                raise ValueError("nothing that compares in this index")  # noqa: TRY301
        except ValueError as error:
            self.report.note_bad(number, said_wrong(error))
            return
        facts = listed.model_dump(exclude={"kind", "pdq", "phash", "file_sha256", "pixels_sha256", "vectors"})
        work = Work.model_validate(facts | {"bank": bank or listed.bank, "source": self._tag})
        rows = self._waiting.setdefault(tuple(sorted(arrays)), {})
        key = (work.bank, work.work_id)
        self._gone.pop(key, None)
        if key in rows:
            self.report.left_out["the same hash again"] += 1
        rows[key] = (work, listed.file_sha256, listed.pixels_sha256, arrays)
        if len(rows) >= _ROWS_AT_A_TIME:
            self._flush(tuple(sorted(arrays)))

    def _flush(self, names: tuple[str, ...]) -> None:
        rows = [row for key, row in self._waiting.pop(names, {}).items() if self._is_ours(key)]
        if not rows:
            return
        self.report.add(
            self._index.put(
                IndexRows(
                    works=tuple(row[0] for row in rows),
                    files=("",) * len(rows),
                    file_sha256=tuple(row[1] for row in rows),
                    pixels_sha256=tuple(row[2] for row in rows),
                    arrays={name: np.stack([row[3][name] for row in rows]) for name in names},
                    previews=(b"",) * len(rows),
                )
            )
        )

    def _is_ours(self, key: tuple[str, str]) -> bool:
        """Whether a work may be put: it is not there, or came from lists of this origin."""
        state = self._index.pinned().state
        row = state.find_key(*key)
        if row is None or state.work(row).source == self._tag:
            return True
        self.report.note_clash(*key)
        return False

    def _withdraw(self) -> None:
        state = self._index.pinned().state
        found = {key: state.find_key(*key) for key in self._gone}
        self._gone = {}
        keys = [key for key, row in found.items() if row is not None and self._is_ours(key)]
        if keys:
            self.report.add(self._index.withdraw(keys))

    def withdraw_others(self, keys: NDArray[np.uint64]) -> None:
        """Withdraw what came from earlier lists of this origin and is not in this one.

        Args:
            keys: uint64 (n,), ascending: of the works that are in it.
        """
        state, needle = self._index.pinned().state, f'"{self._tag}"'.encode()
        for part in state.parts:
            for position in np.flatnonzero(state.alive[part.ids]).tolist():
                if needle not in part.piece("rows", position):
                    continue
                work = part.work(position)
                key = np.uint64(key_prefix(work.bank, work.work_id))
                at = int(np.searchsorted(keys, key))
                if work.source == self._tag and not (at < len(keys) and keys[at] == key):
                    self._gone[work.bank, work.work_id] = None
        self._withdraw()
