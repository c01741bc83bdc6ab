"""Works, whose they are, and what a match with one means."""

from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, Field

from guardrail.records.base import Record

__all__ = [
    "Disposition",
    "Work",
]


class Disposition(StrEnum):
    """What a match with a work means: protect it, credit its maker, or ignore generic imagery."""

    PROTECT = "protect"
    CREDIT = "credit"
    IGNORE = "ignore"


class Work(Record):
    """One work of an index, with its owner and what a match with it means."""

    work_id: str = Field(min_length=1)
    bank: str = "default"
    title: str = ""
    creator: str = ""
    rights_holder: str = ""
    licence: str = ""
    source: str = ""
    disposition: Disposition = Disposition.PROTECT
    opted_out_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    multiplicity: int = Field(default=1, ge=1)

    def standing(self, at: datetime) -> Disposition | None:
        """What a match means at a moment; None when the row no longer counts.

        An opt-out turns any row into `protect` from its date on. When a row expires, protection and
        suppression end (None), and a licence to credit ends, so the work is protected again.
        """
        if self.opted_out_at is not None and self.opted_out_at <= at:
            return Disposition.PROTECT
        if self.expires_at is not None and self.expires_at <= at:
            return Disposition.PROTECT if self.disposition is Disposition.CREDIT else None
        return self.disposition
