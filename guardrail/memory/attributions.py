"""What images are estimated to owe, kept beside their verdicts as rows of the ledger."""

from pydantic import ValidationError
from sqlalchemy.orm import Session

from guardrail.errors import LedgerBroken, LedgerRowMissing
from guardrail.memory.appending import append
from guardrail.memory.database import Database
from guardrail.memory.finding import labelled
from guardrail.records import Attribution

__all__ = ["attributions_on", "record_attribution"]

_LABELS_AT_A_TIME = 500


def record_attribution(database: Database, attribution: Attribution) -> int:
    """Append an attribution to the ledger, beside the verdict that it is about.

    Returns:
        The number of its row.

    Raises:
        LedgerRowMissing: the ledger has no such verdict, or it was erased.
        MemoryUnwritable: nothing was written.
    """
    wanted = attribution.verdict_id or ""
    with database.writing() as (session, state):
        if not any(not row.erased for row in labelled(session, [f"v:{wanted}"], ("verdict",))):
            raise LedgerRowMissing(database.shown, wanted or "of no verdict")
        (sequence,) = append(session, state, "attribution", [{"attribution": attribution.model_dump(mode="json")}])
    return sequence


def attributions_on(session: Session, verdict_ids: list[str]) -> dict[str, list[Attribution]]:
    """The attributions of images by the ids of their verdicts, oldest first; erased ones are none.

    Raises:
        LedgerBroken: such a row was edited.
    """
    found: dict[str, list[Attribution]] = {}
    for at in range(0, len(verdict_ids), _LABELS_AT_A_TIME):
        names = [f"v:{one}" for one in verdict_ids[at : at + _LABELS_AT_A_TIME]]
        for row in labelled(session, names, ("attribution",)):
            if row.erased:
                continue
            try:
                one = Attribution.model_validate(row.content["attribution"])
            except ValidationError as error:
                wrong = f"{error.error_count()} fields that are wrong"
                raise LedgerBroken(row.sequence, wrong, "the record of an attribution") from error
            found.setdefault(str(one.verdict_id), []).append(one)
    return found
