"""Take the content of one image's rows out of a ledger, so that the ledger still holds and says that it was done."""

from datetime import UTC, datetime

from sqlalchemy import delete, null, select, update
from sqlalchemy.orm import Session

from guardrail.errors import LedgerRowMissing, MemoryUnwritable
from guardrail.memory.appending import LedgerRow, append, labels_of
from guardrail.memory.database import Database
from guardrail.memory.finding import labelled
from guardrail.memory.tables import Case, Print, StoredRow, Unfinished

__all__ = ["erase_rows"]

_ERASED = ("verdict", "remedy", "intent", "release", "withdrawal")  # the others hold no content of an image


def erase_rows(database: Database, verdict_id: str, reason: str) -> tuple[int, ...]:
    """Erase the content of all rows about the image of a verdict, its case and its prints; append an erasure row.

    The image's other verdict, where it was judged again as it left, is erased with it. The leaves' hashes stay.

    Returns:
        The sequence numbers of the erased rows.

    Raises:
        LedgerRowMissing: no row is about it, or all of them are erased.
        LedgerBroken: a row about it was edited.
        MemoryUnwritable: nothing was erased; or the image is being released right now.
    """
    with database.writing() as (session, state):
        verdicts = _verdicts_of(session, verdict_id)
        rows = _rows_of(session, verdicts)
        if not rows:
            raise LedgerRowMissing(database.shown, verdict_id)
        if session.scalar(select(Unfinished.intent_id).where(Unfinished.verdict_id.in_(verdicts)).limit(1)):
            raise MemoryUnwritable(database.shown, f"the image of verdict {verdict_id} is being released")
        named = [_named(row) for row in rows]
        content = {"verdict_id": verdict_id, "rows": named, "reason": reason, "at": datetime.now(UTC).isoformat()}
        append(session, state, "erasure", [content])
        sequences = tuple(row.sequence for row in rows)
        session.execute(update(StoredRow).where(StoredRow.sequence.in_(sequences)).values(leaf=None))
        session.execute(delete(Print).where(Print.sequence.in_(sequences)))
        blank = {"png": b"", "context": null(), "state": "erased"}
        session.execute(update(Case).where(Case.verdict_id.in_(verdicts)).values(**blank))
    return sequences


def _verdicts_of(session: Session, verdict_id: str) -> set[str]:
    """The verdicts on one image: as it was generated, and as it left."""
    known, asked = {verdict_id}, {verdict_id}
    while asked:
        found: set[str] = set()
        for row in _rows_of(session, asked):
            if row.kind == "verdict":
                verdict = row.content["verdict"]
                found |= {verdict["verdict_id"], verdict.get("earlier_verdict_id") or verdict["verdict_id"]}
        asked = found - known
        known |= found
    return known


def _rows_of(session: Session, verdicts: set[str]) -> list[LedgerRow]:
    """The rows about verdicts that still have content."""
    found = labelled(session, [f"v:{one}" for one in sorted(verdicts)], _ERASED)
    return [row for row in found if not row.erased]


def _named(row: LedgerRow) -> dict[str, object]:
    """What an erasure says of a row: enough to know it again, and its ids, lest a label be all that names them."""
    ids = sorted(labels_of(row.content))
    return {"sequence": row.sequence, "kind": row.kind, "leaf_sha256": row.leaf_sha256, "ids": ids}
