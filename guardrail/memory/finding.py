"""Ids in, the rows that say them out; labels only say where to look, and rows beside the tree are none."""

from collections.abc import Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from guardrail.errors import LedgerBroken
from guardrail.memory.appending import LedgerRow, labels_of, row_of
from guardrail.memory.tables import STATE_ID, Label, LedgerState, StoredRow

__all__ = ["Withdrawals", "labelled", "size_of"]


def size_of(session: Session) -> int:
    """The number of rows of the tree; whatever has another number is no row of the ledger.

    Raises:
        LedgerBroken: it is no number.
    """
    size = session.scalars(select(LedgerState.size).where(LedgerState.state_id == STATE_ID)).one()
    if not isinstance(size, int):
        raise LedgerBroken(0, f"the size {size!r} of its tree", "a number of rows")
    return size


def labelled(session: Session, names: Sequence[str], kinds: Sequence[str]) -> Iterator[LedgerRow]:
    """The rows of some kinds that have one of these labels and say so themselves, oldest first.

    An erased row is among them if the row that says that it was erased names the id.

    Raises:
        LedgerBroken: such a row was edited.
    """
    size = size_of(session)
    found = sorted(
        set(session.scalars(select(Label.sequence).where(Label.name.in_(names), Label.sequence.between(1, size))))
    )
    query = (
        select(StoredRow).where(StoredRow.sequence.in_(found), StoredRow.kind.in_(kinds)).order_by(StoredRow.sequence)
    )
    for stored in list(session.scalars(query)):
        row = row_of(stored)
        if (_erased_ids(session, row) if row.erased else labels_of(row.content)) & set(names):
            yield row


class Withdrawals:
    """The withdrawals that come after a row; found by their kind, so that no label has to lead to them.

    Args:
        session: of a transaction on the ledger.
        after: the row's number.

    Raises:
        LedgerBroken: one was edited, or its content was taken away though no row says that it was erased.
    """

    def __init__(self, session: Session, after: int = 0) -> None:
        self._by_intent: dict[str, int] = {}  # the last row that names it
        self._by_verdict: dict[str, int] = {}
        for row in _of_kind(session, "withdrawal", after):
            if row.erased:
                _erased_ids(session, row)
                continue
            said = row.content
            if said.get("intent_id") is None:
                self._by_verdict[said["verdict_id"]] = row.sequence
            else:
                self._by_intent[said["intent_id"]] = row.sequence

    def takes_back(self, release: LedgerRow) -> bool:
        """Whether one is of a release's intent, or of its verdict and of no intent, and comes after it."""
        said = release.content["release"]
        last = max(self._by_verdict.get(said["verdict_id"], 0), self._by_intent.get(said.get("intent_id"), 0))
        return last > release.sequence


def _erased_ids(session: Session, row: LedgerRow) -> set[str]:
    """The ids that an erased row said, by the row that says that it was erased.

    Raises:
        LedgerBroken: there is none.
    """
    for erasure in _of_kind(session, "erasure", row.sequence):
        for one in erasure.content["rows"]:
            if (one["sequence"], one["kind"], one["leaf_sha256"]) == (row.sequence, row.kind, row.leaf_sha256):
                return set(one.get("ids") or ())
    raise LedgerBroken(row.sequence, "no content", "an erasure among the rows that names it")


def _of_kind(session: Session, kind: str, after: int) -> Iterator[LedgerRow]:
    query = (
        select(StoredRow)
        .where(StoredRow.kind == kind, StoredRow.sequence.between(max(after, 0) + 1, size_of(session)))
        .order_by(StoredRow.sequence)
    )
    for stored in session.scalars(query):
        yield row_of(stored)
