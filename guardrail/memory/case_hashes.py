"""The hashes of cases' pictures, for works that come later; they outlive the pictures."""

from collections.abc import Iterator

from sqlalchemy import select

from guardrail.memory.database import Database
from guardrail.memory.tables import Case

__all__ = ["CaseHashes"]

_CASES_AT_A_TIME = 1000


class CaseHashes:
    """The hashes of one memory's cases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, organisation: str) -> Iterator[tuple[int, str, bytes]]:
        """Number, verdict's id and PDQ hash (32 bytes) of every case of an organisation that has one, oldest first.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        after = 0
        while some := self._after(organisation, after):
            yield from some
            after = some[-1][0]

    def _after(self, organisation: str, case_id: int) -> list[tuple[int, str, bytes]]:
        """The next ones, read in a transaction of their own, so that no reader holds up a writer."""
        query = (
            select(Case.case_id, Case.verdict_id, Case.pdq)
            .where(Case.organisation == organisation, Case.case_id > case_id, Case.pdq.is_not(None))
            .order_by(Case.case_id)
            .limit(_CASES_AT_A_TIME)
        )
        with self._database.reading() as session:
            return [(case_id, verdict, pdq) for case_id, verdict, pdq in session.execute(query) if pdq is not None]
