"""A ledger in, its size and root out, or the first row that does not hold."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from guardrail.errors import LedgerBroken
from guardrail.memory.agreeing import Beside, decisions_beside, is_as_entered
from guardrail.memory.appending import holds_kind, labels_of, leaf_of
from guardrail.memory.database import Database
from guardrail.memory.finding import size_of
from guardrail.memory.releases import checked
from guardrail.memory.shapes import content_of
from guardrail.memory.tables import Case, Label, LedgerState, Print, Sighting, StoredRow, Unfinished
from guardrail.memory.tree import LEAF, Frontier

__all__ = ["LedgerTip", "check_ledger"]

_ROWS_AT_A_TIME = 2000
_PRINTS_AT_A_TIME = 200
_WITH_PRINTS = b'{"content":{"prints_sha256":"'  # how the leaf of a release with prints begins: its keys are sorted

_BYTES_OR_NONE = (bytes, type(None))

Row = tuple[int, str, bytes | None, bytes]  # sequence, kind, leaf, hash


class LedgerTip(NamedTuple):
    """How far a ledger goes: its number of rows, and the root of the tree over them, as hex."""

    rows: int
    root: str


def check_ledger(
    database: Database,
    roots: Mapping[int, bytes],
    *,
    deep: bool = False,
    told: Callable[[int, int], None] | None = None,
) -> LedgerTip:
    """Check every row, the tree over them, and what other tables say of rows.

    Args:
        database: where it lies.
        roots: by size, roots that the tree has had, from checkpoints.
        deep: read every row's content again, too: that it is canonical JSON, is found by its ids and that every intent
            has an outcome; and the bytes of all prints. Withdrawals and erased rows are found by their ids without it.
        told: called with how many rows are checked, and how many there are.

    Returns:
        Its rows and root.

    Raises:
        LedgerBroken: naming the first row that does not hold.
        MemoryUnwritable: the database cannot be read.
    """
    with database.reading() as session:
        expected = _said_of_rows(session)
        size = size_of(session)
    check = _Check(database, dict(roots), expected, deep)
    while True:
        for rows in _chunks(database, check.count):
            check.rows(rows)
            if told is not None:
                told(min(check.count, size), size)
        if check.reached_the_end():
            break
    check.finish()
    if deep:
        _check_prints(database)
    return LedgerTip(check.count, check.frontier.root().hex())


@dataclass
class _Said:
    """What other tables say of rows, by sequence; `cases` are those that verdicts opened, or were seen in again."""

    cases: dict[int, str] = field(default_factory=dict)
    decisions: dict[int, Beside] = field(default_factory=dict)
    prints: set[int] = field(default_factory=set)
    unfinished: set[str] = field(default_factory=set)


class _Check:
    """What is known while rows are gone through."""

    def __init__(self, database: Database, roots: dict[int, bytes], said: _Said, deep: bool) -> None:
        self.database, self.roots, self.said, self.deep = database, roots, said, deep
        self.frontier = Frontier()
        self.count = 0
        if 0 in self.roots:
            self._agree(0)
        self.erased: dict[int, tuple[str, str]] = {}
        self.erasures: dict[int, tuple[str, str]] = {}
        self.ids: dict[int, list[str]] = {}  # of erased rows, by their erasures
        self.withdrawn: set[str] = set()
        self.without_prints: list[tuple[int, dict[str, Any]]] = []
        self.without_decision: list[int] = []
        self.intents: dict[str, int] = {}

    def rows(self, rows: Sequence[Row]) -> None:
        """Check some rows, and put them into the tree."""
        hashes = []
        for sequence, kind, leaf, digest in rows:
            self.count += 1
            if sequence != self.count:
                raise LedgerBroken(sequence, "a row out of order", f"row {self.count}")
            if type(digest) is not bytes or type(leaf) not in _BYTES_OR_NONE or type(kind) is not str:
                raise LedgerBroken(sequence, "content or a hash that are no bytes", "bytes, and the name of a kind")
            hashes.append(digest)
            if leaf is None:
                self.erased[sequence] = kind, digest.hex()
                continue
            if sha256(LEAF + leaf).digest() != digest:
                raise LedgerBroken(sequence, "content that was edited", f"a leaf of hash {digest.hex()[:12]}")
            if not holds_kind(leaf, kind):
                raise LedgerBroken(sequence, f"kind {kind!r}", f"the kind in its leaf, {leaf[-24:]!r}")
            self._one(sequence, kind, leaf)
        self._grow(hashes)
        found_by = [row for row in rows if row[2] is not None and (self.deep or row[1] == "withdrawal")]
        if found_by:
            self._found_by_ids(found_by)

    def _one(self, sequence: int, kind: str, leaf: bytes) -> None:
        """What other rows and tables say of one row."""
        if kind == "erasure":
            self._erasure(content_of(sequence, kind, leaf))
        elif kind == "withdrawal":
            content = content_of(sequence, kind, leaf)
            self.withdrawn.add(content.get("intent_id") or content["verdict_id"])
        elif kind == "release" and leaf.startswith(_WITH_PRINTS) and sequence not in self.said.prints:
            self.without_prints.append((sequence, content_of(sequence, kind, leaf)["release"]))
        if kind == "review" or sequence in self.said.decisions:
            self._review(sequence, kind, leaf)
        if (verdict_id := self.said.cases.pop(sequence, None)) is not None:
            named = kind == "verdict" and content_of(sequence, kind, leaf)["verdict"]["verdict_id"]
            if named != verdict_id:
                raise LedgerBroken(sequence, f"a case of verdict {verdict_id[:12]}", f"one of {named or kind}")
        if sequence in self.said.prints:
            if kind != "release" or not leaf.startswith(_WITH_PRINTS):
                raise LedgerBroken(sequence, "prints beside it", f"none for a {kind}")
            self.said.prints.discard(sequence)

    def _erasure(self, content: dict[str, Any]) -> None:
        for one in content["rows"]:
            self.erasures[one["sequence"]] = one["kind"], one["leaf_sha256"]
            if one.get("ids") is not None:
                self.ids[one["sequence"]] = sorted(one["ids"])

    def _review(self, sequence: int, kind: str, leaf: bytes) -> None:
        """A decision is a row, and beside it what the desk shows of it: both, and the same."""
        beside = self.said.decisions.pop(sequence, None)
        if kind != "review":
            raise LedgerBroken(sequence, "a decision beside it", f"none for a {kind}")
        if beside is None:
            self.without_decision.append(sequence)
        elif not is_as_entered(beside, content_of(sequence, kind, leaf)):
            raise LedgerBroken(sequence, "another decision beside it", "the decision that it says")

    def _grow(self, hashes: list[bytes]) -> None:
        """Put leaves into the tree, and compare its root where a checkpoint names one."""
        done, before = 0, self.count - len(hashes)
        for size in sorted(self.roots):
            if size <= self.count:
                self.frontier.extend(hashes[done : size - before])
                done = size - before
                self._agree(size)
        self.frontier.extend(hashes[done:])

    def _agree(self, size: int) -> None:
        expected, found = self.roots.pop(size), self.frontier.root()
        if found != expected:
            what = f"root {found.hex()[:12]} of the first {size} rows"
            raise LedgerBroken(size, what, f"{expected.hex()[:12]}, which a checkpoint names; rows up to it changed")

    def _found_by_ids(self, rows: Sequence[Row]) -> None:
        """Read contents again, canonical, and compare the ids that rows say with those that they are found by."""
        labels = self._labels([row[0] for row in rows])
        for sequence, kind, leaf, _ in rows:
            content = _canonical(sequence, kind, leaf or b"")
            _agree_on_ids(sequence, labels.get(sequence, ()), sorted(labels_of(content)))
            if kind == "intent":
                self.intents[content["intent"]["intent_id"]] = sequence
            elif kind in {"release", "withdrawal"}:
                self.intents.pop(content.get("release", content).get("intent_id"), None)

    def _labels(self, sequences: Sequence[int]) -> dict[int, list[str]]:
        labels: dict[int, list[str]] = {}
        query = select(Label.name, Label.sequence).where(Label.sequence.in_(sequences))
        with self.database.reading() as session:
            for name, sequence in session.execute(query):
                labels.setdefault(sequence, []).append(str(name))
        return labels

    def reached_the_end(self) -> bool:
        """Whether no row was added meanwhile; the tree that is kept is that of the rows."""
        with self.database.reading() as session:
            size, frontier = size_of(session), session.scalars(select(LedgerState.frontier)).one()
            last = session.scalar(select(func.max(StoredRow.sequence))) or 0
            self.said.unfinished = set(session.scalars(select(Unfinished.intent_id)))
            if self.count < last == size:
                return False
            if not self.count == last == size:
                raise LedgerBroken(min(last, size) + 1, f"{last} rows", f"{size}, the size of its tree")
            if frontier != self.frontier.to_bytes():
                raise LedgerBroken(last, "a tree of other rows", "the tree over the rows that are there")
            beside = select(Label.sequence).where(or_(Label.sequence < 1, Label.sequence > size)).limit(1)
            for sequence in session.scalars(beside):
                raise LedgerBroken(sequence, "an id of a row that is not there", "that row")
        return True

    def finish(self) -> None:
        """What can only be said once all rows were seen."""
        for size in sorted(self.roots):
            raise LedgerBroken(self.count + 1, f"only {self.count} rows", f"the {size} that a checkpoint names")
        self._check_erased()
        with self.database.reading() as session:  # again: what other tables say may have come and gone meanwhile
            said = _said_of_rows(session)
            gone = set(session.scalars(select(StoredRow.sequence).where(StoredRow.leaf.is_(None))))
        for sequence in sorted(set(self.erasures) - gone):
            raise LedgerBroken(sequence, "content, or no such row", "nothing: it was erased")
        for sequence, release in self.without_prints:
            if sequence not in said.prints and not {release.get("intent_id"), release["verdict_id"]} & self.withdrawn:
                raise LedgerBroken(sequence, "no prints beside it", "those that it names")
        self._check_decisions(said, gone)
        for sequence in sorted({*self.said.cases, *self.said.prints} & {*said.cases, *said.prints}, key=str):
            raise LedgerBroken(sequence, "a case or prints of a row that is erased or not there", "that row")
        for intent_id in sorted(self.intents, key=self.intents.__getitem__):
            if intent_id not in self.said.unfinished and self.intents[intent_id] not in gone:
                raise LedgerBroken(self.intents[intent_id], "an intent without an outcome", "a release or withdrawal")

    def _check_decisions(self, said: "_Said", gone: set[int]) -> None:
        """Every decision of the desk has its row, and every such row its decision."""
        for sequence in self.without_decision:
            if sequence not in said.decisions and sequence not in gone:
                raise LedgerBroken(sequence, "no decision beside it", "the one that it says")
        for sequence in sorted({*self.said.decisions} & {*said.decisions} - gone, key=str):
            raise LedgerBroken(sequence, "a decision of a row that is not there", "that row")

    def _check_erased(self) -> None:
        """Every row without content is named by an erasure, and found by the ids that this names."""
        for sequence in sorted(self.erased):
            if self.erasures.get(sequence) != self.erased[sequence]:
                raise LedgerBroken(sequence, "no content", "an erasure among the rows that names it")
        known = sorted({*self.erased} & {*self.ids})  # older erasures name no ids, and nothing is found by them
        for at in range(0, len(known), _ROWS_AT_A_TIME):
            sequences = known[at : at + _ROWS_AT_A_TIME]
            labels = self._labels(sequences)
            for sequence in sequences:
                _agree_on_ids(sequence, labels.get(sequence, ()), self.ids[sequence])


def _agree_on_ids(sequence: int, labels: Sequence[str], expected: list[str]) -> None:
    if sorted(labels) != expected:
        raise LedgerBroken(sequence, f"the ids {sorted(labels)}", f"the ids {expected}")


def _said_of_rows(session: Session) -> _Said:
    cases = select(Case.sequence, Case.verdict_id).where(Case.state != "erased")
    verdicts = [*session.execute(cases), *session.execute(select(Sighting.sequence, Sighting.verdict_id))]
    prints = set(session.scalars(select(Print.sequence)))
    return _Said({one.sequence: one.verdict_id for one in verdicts}, decisions_beside(session), prints)


def _chunks(database: Database, after: int) -> Iterator[list[Row]]:
    """All rows, each chunk read in a transaction of its own, so that no check holds up a writer."""
    columns = (StoredRow.sequence, StoredRow.kind, StoredRow.leaf, StoredRow.leaf_hash)
    query = select(*columns).order_by(StoredRow.sequence).limit(_ROWS_AT_A_TIME)
    rest = query.where(StoredRow.sequence > after) if after else query  # no number is so low that it is passed over
    while True:
        with database.reading() as session:
            rows: list[Row] = [tuple(row) for row in session.execute(rest)]  # type: ignore[misc]
        if not rows:
            return
        yield rows
        rest = query.where(StoredRow.sequence > rows[-1][0])


def _canonical(sequence: int, kind: str, leaf: bytes) -> dict[str, Any]:
    """The content of a leaf, which is canonical JSON.

    Raises:
        LedgerBroken: it is not.
    """
    content = content_of(sequence, kind, leaf)
    try:
        again = leaf_of(kind, content)
    except (ValueError, RecursionError) as error:
        raise LedgerBroken(sequence, f"content that cannot be read ({error})", "canonical JSON") from error
    if again != leaf:
        raise LedgerBroken(sequence, "content that is not canonical", "canonical JSON of a kind and a content")
    return content


def _check_prints(database: Database) -> None:
    """Compare the bytes of all prints with the digests that rows name."""
    last = 0
    while True:
        query = (
            select(Print, StoredRow)
            .join(StoredRow, StoredRow.sequence == Print.sequence)
            .where(Print.sequence > last)
            .order_by(Print.sequence)
            .limit(_PRINTS_AT_A_TIME)
        )
        with database.reading() as session:
            found = list(session.execute(query))
            for one, row in found:
                checked(one, row)
                last = one.sequence
        if not found:
            return
