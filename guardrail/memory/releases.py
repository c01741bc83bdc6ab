"""From an intent to a file in its place, step by step, so that what ends between two steps is found at the start."""

import errno
import hashlib
import logging
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from guardrail.carriers import OutputPrints
from guardrail.errors import LedgerBroken, MemoryUnwritable
from guardrail.memory.appending import LedgerRow, append, row_of
from guardrail.memory.database import Database
from guardrail.memory.finding import Withdrawals, labelled, size_of
from guardrail.memory.tables import LedgerState, Print, StoredRow, Unfinished
from guardrail.memory.writers import Writers
from guardrail.records import Release, ReleaseIntent

__all__ = ["Reconciled", "Releases", "checked", "prints_sha256"]

log = logging.getLogger("guardrail")

_PART = re.compile(r"\.[0-9a-f]{32}\.part")  # how our unfinished files are named
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")  # how a byte that is no text stands in a name
_ROWS_AT_A_TIME = 200  # releases read at once with their prints
_COPY_DTYPE = "<f2"  # of the stored descriptors
_R = TypeVar("_R", Release, ReleaseIntent)
_EMPTY_SHA256 = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A release that a process left unfinished, and what became of it.

    Attributes:
        intent_id: which one.
        verdict_id: the verdict on its image.
        file: where to it was to go.
        outcome: `released`: it was in place; `withdrawn`: it was not, and the ledger says so now.
        reason: of a withdrawal; empty otherwise.
    """

    intent_id: str
    verdict_id: str
    file: str
    outcome: Literal["released", "withdrawn"]
    reason: str = ""


class Releases:
    """The part of memory that is about what leaves."""

    def __init__(self, database: Database, writers: Writers) -> None:
        self._database, self._writers = database, writers

    def intend(self, intent: ReleaseIntent) -> None:
        """Append the intent's row, and note that it is unfinished."""
        writer = self._writers.me()
        if not _PART.fullmatch(intent.part):
            raise MemoryUnwritable(self._database.shown, f"found the part {intent.part!r}, expected .<32 hex>.part")
        with self._database.writing() as (session, state):
            append(session, state, "intent", [{"intent": intent.model_dump(mode="json")}])
            session.add(
                Unfinished(
                    intent_id=intent.intent_id,
                    verdict_id=intent.verdict_id,
                    file=intent.file,
                    part=intent.part,
                    stage="intent",
                    writer=writer,
                )
            )

    def commit(self, release: Release, prints: OutputPrints | None) -> None:
        """Append the release's row and keep its prints, in one transaction."""
        content: dict[str, Any] = {"release": release.model_dump(mode="json")}
        if prints is not None:
            content["prints_sha256"] = prints_sha256(prints)
        with self._database.writing() as (session, state):
            if release.intent_id is not None:
                unfinished = session.get(Unfinished, release.intent_id)
                if unfinished is None or unfinished.stage != "intent":
                    found = f"found no open intent {release.intent_id!r} for a release"
                    raise MemoryUnwritable(self._database.shown, found)
                unfinished.stage, unfinished.file_sha256 = "committed", release.file_sha256
            (sequence,) = append(session, state, "release", [content])
            if prints is not None:
                session.add(_stored(sequence, prints))

    def done(self, intent_id: str) -> None:
        """Forget that a release was unfinished: its file is in place."""
        with self._database.writing() as (session, _):
            unfinished = session.get(Unfinished, intent_id)
            if unfinished is None or unfinished.stage != "committed":
                raise MemoryUnwritable(self._database.shown, f"found no committed release of intent {intent_id!r}")
            session.delete(unfinished)

    def withdraw(self, verdict_id: str, reason: str, intent_id: str | None) -> None:
        """Append the row of a release that did not happen; its prints go, for there is no such output."""
        with self._database.writing() as (session, state):
            _withdraw(session, state, verdict_id, reason, intent_id)

    def reconcile(self) -> tuple[Reconciled, ...]:
        """Finish what writers that are gone left unfinished."""
        with self._database.reading() as session:
            writers = list(session.scalars(select(Unfinished.writer).distinct()))
        found: list[Reconciled] = []
        for writer in writers:
            with self._writers.gone(writer) as gone:
                if gone:
                    found += self._finish(writer)
        self._writers.sweep()
        return tuple(found)

    def _finish(self, writer: str) -> list[Reconciled]:
        found = []
        with self._database.writing() as (session, state):
            of_writer = select(Unfinished).where(Unfinished.writer == writer).order_by(Unfinished.intent_id)
            for one in list(session.scalars(of_writer)):
                intent, release = _rows_behind(session, one.intent_id)
                if intent is None or (release is None and one.stage != "intent"):
                    log.warning("found the unfinished release %r without its rows; verify the ledger", one.intent_id)
                    continue
                reason = _left_behind(intent, release)
                if reason:
                    _withdraw(session, state, intent.verdict_id, reason, intent.intent_id)
                else:
                    session.delete(one)
                outcome: Literal["released", "withdrawn"] = "withdrawn" if reason else "released"
                found.append(Reconciled(intent.intent_id, intent.verdict_id, intent.file, outcome, reason))
        return found

    def by_manifest(self, manifest_id: str) -> tuple[Release, ...]:
        """The releases of a manifest that stand: neither withdrawn nor erased."""
        with self._database.reading() as session:
            rows, withdrawals = _rows_of(session, manifest_id)
        return tuple(_release(row) for row in rows if not row.erased and not withdrawals.takes_back(row))

    def by_decision(self, decision_id: str) -> Release | None:
        """The release by a person's decision that stands; None where there is none."""
        with self._database.reading() as session:
            rows = list(labelled(session, [f"d:{decision_id}"], ("release",)))
            withdrawals = Withdrawals(session, rows[0].sequence if rows else size_of(session))
        standing = [row for row in rows if not row.erased and not withdrawals.takes_back(row)]
        return _release(standing[-1]) if standing else None

    def fate(self, manifest_id: str) -> Literal["released", "withdrawn", "erased", "unknown"]:
        """What the ledger says of a manifest; where several rows name it, the one that stands counts."""
        with self._database.reading() as session:
            rows, withdrawals = _rows_of(session, manifest_id)
        if any(not row.erased and not withdrawals.takes_back(row) for row in rows):
            return "released"
        if any(not row.erased for row in rows):
            return "withdrawn"
        return "erased" if rows else "unknown"

    def printed(self) -> Iterator[tuple[Release, OutputPrints]]:
        """Every release that stands and of which prints are kept, oldest first."""
        with self._database.reading() as session:
            withdrawals = Withdrawals(session)
        after = 0
        while found := self._printed_after(after):
            after = found[-1][0].sequence
            yield from ((_release(row), prints) for row, prints in found if not withdrawals.takes_back(row))

    def _printed_after(self, sequence: int) -> list[tuple[LedgerRow, OutputPrints]]:
        """Those of the next releases; a release that is withdrawn has none any more, if nobody put them back."""
        with self._database.reading() as session:
            query = (
                select(Print, StoredRow)
                .join(StoredRow, StoredRow.sequence == Print.sequence)
                .where(Print.sequence.between(sequence + 1, size_of(session)))
                .order_by(Print.sequence)
                .limit(_ROWS_AT_A_TIME)
            )
            return [(row_of(row), checked(one, row)) for one, row in session.execute(query)]


def prints_sha256(prints: OutputPrints) -> str:
    """The digest of prints, as a release's row names it."""
    return _digest(_stored(0, prints))


def checked(one: Print, row: StoredRow) -> OutputPrints:
    """Prints as they were given.

    Raises:
        LedgerBroken: they are not those that the release's row names.
    """
    named = row_of(row).content.get("prints_sha256")
    try:
        digest = _digest(one)
    except (AttributeError, TypeError) as error:
        raise LedgerBroken(row.sequence, f"prints of another type ({error})", "those that were kept") from error
    if row.kind != "release" or named != digest:
        raise LedgerBroken(row.sequence, "prints that were edited", f"prints of digest {str(named)[:12]}")
    copy = np.frombuffer(one.copy, _COPY_DTYPE).reshape(one.copy_rows, -1).astype(np.float16)
    return OutputPrints(one.pdq, one.embedder, copy, one.iscc, one.preview)


def _stored(sequence: int, prints: OutputPrints) -> Print:
    copy = np.ascontiguousarray(prints.copy, _COPY_DTYPE)
    return Print(
        sequence=sequence,
        pdq=prints.pdq,
        embedder=prints.embedder,
        copy=copy.tobytes(),
        copy_rows=len(copy),
        iscc=prints.iscc,
        preview=prints.preview,
    )


def _digest(one: Print) -> str:
    """sha256 over the parts, each after its length in 8 bytes, so that nothing moves from one part to the next."""
    whole = hashlib.sha256()
    for part in (one.pdq, one.embedder.encode(), one.copy, str(one.copy_rows).encode(), one.iscc.encode(), one.preview):
        whole.update(len(part).to_bytes(8))
        whole.update(part)
    return whole.hexdigest()


def _release(row: LedgerRow) -> Release:
    return _read(Release, row)


def _read(record: type[_R], row: LedgerRow) -> _R:
    try:
        return record.model_validate(row.content[row.kind])
    except ValidationError as error:
        wrong = f"{error.error_count()} fields that are wrong"
        raise LedgerBroken(row.sequence, wrong, f"the record of {row.kind!r}") from error


def _rows_of(session: Session, manifest_id: str) -> tuple[list[LedgerRow], Withdrawals]:
    """The releases of a manifest, erased ones too, and the withdrawals after the first of them."""
    rows = list(labelled(session, [f"m:{manifest_id}"], ("release",)))
    return rows, Withdrawals(session, rows[0].sequence if rows else size_of(session))


def _rows_behind(session: Session, intent_id: str) -> tuple[ReleaseIntent | None, Release | None]:
    """What the rows say of an unfinished release: what lies beside them may be anybody's."""
    intent, release = None, None
    for row in labelled(session, [f"i:{intent_id}"], ("intent", "release")):
        if row.kind == "release" and not row.erased:
            release = _release(row)
        elif not row.erased:
            intent = _read(ReleaseIntent, row)
    return intent, release


def _names(verdict_id: str, intent_id: str | None) -> list[str]:
    return [f"v:{verdict_id}", *([f"i:{intent_id}"] if intent_id is not None else [])]


def _withdraw(session: Session, state: LedgerState, verdict_id: str, reason: str, intent_id: str | None) -> None:
    at = datetime.now(UTC).isoformat()
    content = {"verdict_id": verdict_id, "reason": reason, "at": at, "intent_id": intent_id}
    append(session, state, "withdrawal", [content])
    rows = [row for row in labelled(session, _names(verdict_id, intent_id), ("release",)) if not row.erased]
    withdrawals = Withdrawals(session, rows[0].sequence if rows else state.size)
    for row in rows:
        if withdrawals.takes_back(row):
            session.execute(delete(Print).where(Print.sequence == row.sequence))
    if intent_id is not None and (unfinished := session.get(Unfinished, intent_id)) is not None:
        session.delete(unfinished)


def _left_behind(intent: ReleaseIntent, release: Release | None) -> str:
    """Tidy up after a release that was cut short; why it did not happen, or nothing where its file is in place."""
    file = _path_of(intent.file)
    if _PART.fullmatch(intent.part):
        with suppress(FileNotFoundError):
            file.with_name(intent.part).unlink()
    if release is None:
        return "interrupted before it was signed and recorded"
    found = _sha256_of(file)
    if found == release.file_sha256:
        return ""
    if found == _EMPTY_SHA256:  # without hard links a name is taken by an empty file first
        file.unlink()
        found = None
    return "interrupted, and never put in place" if found is None else "interrupted; another file is in its place"


def _sha256_of(path: Path) -> str | None:
    """The digest of a file; None where there is none, empty of a link, a pipe and whatever else is no plain file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link; a socket
            return ""
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    finally:
        os.close(descriptor)


def _path_of(file: str) -> Path:
    """The path of a file by its name in the ledger, where bytes that are no text stand escaped."""
    if _ESCAPED.search(file) and not os.path.lexists(file):
        raw = b"".join(
            bytes.fromhex(piece) if at % 2 else piece.encode() for at, piece in enumerate(_ESCAPED.split(file))
        )
        return Path(os.fsdecode(raw))
    return Path(file)
