"""Take the content of one image's rows out of a ledger, so that the ledger still holds and says that it was done."""

from datetime import UTC, datetime

from sqlalchemy import String, cast, delete, null, or_, select, update
from sqlalchemy.orm import Session

from guardrail.errors import LedgerRowMissing, MemoryUnwritable
from guardrail.memory.appending import LedgerRow, append, labels_of
from guardrail.memory.database import Database
from guardrail.memory.finding import labelled
from guardrail.memory.held import forget_unnamed
from guardrail.memory.pictures import Pictures
from guardrail.memory.review_tables import Appeal, CaseFact, Idempotent, Job, StoredDecision
from guardrail.memory.tables import Case, Print, Sighting, StoredRow, Unfinished

__all__ = ["erase_rows"]

_ERASED = (  # the others hold no content of an image
    "verdict",
    "remedy",
    "intent",
    "release",
    "withdrawal",
    "review",
    "attribution",
)


_BLANK = {  # of a case; its number, its verdict's id and when it was opened and decided stay
    "png": None,
    "context": null(),
    "state": "erased",
    "picture_sha256": None,
    "pixels_sha256": None,
    "pdq": None,
    **dict.fromkeys(("rule", "image", "nearest_work", "nearest_title", "nearest_bank", "nearest_holder"), ""),
    "lease_account": None,
    "lease_until": None,
}


def erase_rows(database: Database, pictures: Pictures, verdict_id: str, reason: str) -> tuple[int, ...]:
    """Erase the content of all rows about the image of a verdict, its case and its prints; append an erasure row.

    The image's other verdicts, where it was judged again as it left, or seen again while its case was open, are erased
    with it. The leaves' hashes stay. Its picture is deleted where no other case has the same.

    Returns:
        The sequence numbers of the erased rows.

    Raises:
        LedgerRowMissing: no row is about it, or all of them are erased.
        LedgerBroken: a row about it was edited.
        MemoryUnwritable: nothing was erased, save perhaps its picture; or the image is being released right now.
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
        forget_unnamed(session, pictures, _blank_cases(session, verdicts))
    database.forget_old_pages()
    return sequences


def _blank_cases(session: Session, verdicts: set[str]) -> list[str | None]:
    """Take out what the desk has of verdicts, and the answers that were kept for those who asked.

    Returns:
        The digests of the pictures of their cases.
    """
    cases = select(Case.case_id, Case.picture_sha256).where(Case.verdict_id.in_(verdicts))
    digests = {case.case_id: case.picture_sha256 for case in session.execute(cases)}
    for kept in (CaseFact, Appeal, Sighting):
        session.execute(delete(kept).where(kept.case_id.in_(digests)))
    session.execute(delete(Sighting).where(Sighting.verdict_id.in_(verdicts)))
    emptied = {"note": "", "answers": {}, "reasons": []}
    session.execute(update(StoredDecision).where(StoredDecision.case_id.in_(digests)).values(**emptied))
    session.execute(update(Case).where(Case.case_id.in_(digests)).values(**_BLANK, revision=Case.revision + 1))
    named = [cast(Job.answer, String).contains(one) for one in sorted(verdicts)]
    session.execute(delete(Job).where(Job.kind == "check", or_(*named)).execution_options(synchronize_session=False))
    for one in list(session.scalars(select(Idempotent).where(Idempotent.answer.is_not(None)))):
        if any(verdict.encode() in (one.answer or b"") for verdict in verdicts):
            session.delete(one)
    return list(digests.values())


def _verdicts_of(session: Session, verdict_id: str) -> set[str]:
    """The verdicts on one image: as it was generated, as it was seen again in its case, and as it left."""
    known, asked = {verdict_id}, {verdict_id}
    while asked:
        found: set[str] = _seen_with(session, asked)
        for row in _rows_of(session, asked):
            if row.kind == "verdict":
                verdict = row.content["verdict"]
                found |= {verdict["verdict_id"], verdict.get("earlier_verdict_id") or verdict["verdict_id"]}
        asked = found - known
        known |= found
    return known


def _seen_with(session: Session, verdicts: set[str]) -> set[str]:
    """The verdicts of all cases that these opened, or were seen in again."""
    opened = select(Case.case_id).where(Case.verdict_id.in_(verdicts))
    cases = {
        *session.scalars(opened),
        *session.scalars(select(Sighting.case_id).where(Sighting.verdict_id.in_(verdicts))),
    }
    again = select(Sighting.verdict_id).where(Sighting.case_id.in_(cases))
    return {*session.scalars(select(Case.verdict_id).where(Case.case_id.in_(cases))), *session.scalars(again)}


def _rows_of(session: Session, verdicts: set[str]) -> list[LedgerRow]:
    """The rows about verdicts that still have content."""
    found = labelled(session, [f"v:{one}" for one in sorted(verdicts)], _ERASED)
    return [row for row in found if not row.erased]


def _named(row: LedgerRow) -> dict[str, object]:
    """What an erasure says of a row: enough to know it again, and its ids, lest a label be all that names them."""
    ids = sorted(labels_of(row.content))
    return {"sequence": row.sequence, "kind": row.kind, "leaf_sha256": row.leaf_sha256, "ids": ids}
