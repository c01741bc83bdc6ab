"""Whose adapters are whose, and what their use costs: rows of the ledger, so that no price changes afterwards."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import select

from guardrail.attribution_errors import AdapterRefused
from guardrail.errors import LedgerBroken
from guardrail.memory.appending import LedgerRow, append, row_of
from guardrail.memory.database import Database
from guardrail.memory.finding import size_of
from guardrail.memory.tables import StoredRow
from guardrail.records import RegisteredAdapter

__all__ = ["AdapterEntry", "Adapters"]

AdapterChange = Literal["registered", "removed"]
_KIND: Literal["adapter"] = "adapter"
_SHOWN = 12  # digits of a digest, for people
_UNLIKE = {"registered_at"}  # what two entries may differ in and yet say the same


@dataclass(frozen=True, slots=True)
class AdapterEntry:
    """One change of the register.

    Attributes:
        sequence: its row in the ledger; it holds for releases after that, until the next one of the same weights.
        change: `registered` (also: anew, with another price, holder or name), or `removed`.
        adapter: what was registered; of one that was removed, what held until then.
        at: when; aware UTC.
    """

    sequence: int
    change: AdapterChange
    adapter: RegisteredAdapter
    at: datetime


class Adapters:
    """The register of adapters of one memory; every organisation has its own. Rows are appended only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, adapter: RegisteredAdapter, organisation: str = "default") -> RegisteredAdapter:
        """Register an adapter, or say other things of one that is: they hold from now on, never for what was before.

        Args:
            adapter: what is said of it; when it is registered is now, whatever it says.
            organisation: whose register.

        Returns:
            It, as it was entered.

        Raises:
            AdapterRefused: a price without a currency, an extraction that names no work, a name that another adapter
                has, or nothing that is new.
            MemoryUnwritable: nothing was entered.
            LedgerBroken: the register was edited.
        """
        _require_whole(adapter)
        at = datetime.now(UTC)
        entered = adapter.model_copy(update={"registered_at": at})
        with self._database.writing() as (session, state):
            for one in _standing(_entries(session, organisation)):
                if one.weights_sha256 != adapter.weights_sha256 and one.name == adapter.name:
                    found = f"another of that name (sha256 {one.weights_sha256[:_SHOWN]})"
                    raise AdapterRefused(adapter.name, found, "a name of its own")
                if one.model_dump(exclude=_UNLIKE) == adapter.model_dump(exclude=_UNLIKE):
                    raise AdapterRefused(adapter.name, "just this registered already", "something that is new")
            append(session, state, _KIND, [_content(entered, "registered", organisation, at)])
        return entered

    def remove(self, named: str, organisation: str = "default") -> RegisteredAdapter:
        """Take an adapter out of the register: from now on its use is listed as that of an unknown one.

        Args:
            named: its name, or the sha256 of its weights.
            organisation: whose register.

        Returns:
            What held until now.

        Raises:
            AdapterRefused: there is none.
            MemoryUnwritable: nothing was entered.
            LedgerBroken: the register was edited.
        """
        with self._database.writing() as (session, state):
            standing = _standing(_entries(session, organisation))
            found = next((one for one in standing if named in (one.name, one.weights_sha256)), None)
            if found is None:
                raise AdapterRefused(named, "no such adapter registered", "a name or sha256 that `adapters list` shows")
            append(session, state, _KIND, [_content(found, "removed", organisation, datetime.now(UTC))])
        return found

    def entries(self, organisation: str = "default") -> tuple[AdapterEntry, ...]:
        """All that was ever entered, oldest first.

        Raises:
            MemoryUnwritable: the ledger cannot be read.
            LedgerBroken: such a row was edited.
        """
        with self._database.reading() as session:
            return _entries(session, organisation)

    def standing(self, organisation: str = "default") -> tuple[RegisteredAdapter, ...]:
        """What is registered now, by name.

        Raises:
            MemoryUnwritable: the ledger cannot be read.
            LedgerBroken: such a row was edited.
        """
        return _standing(self.entries(organisation))


def _require_whole(adapter: RegisteredAdapter) -> None:
    """What no field says alone."""
    if adapter.price is not None and not adapter.currency:
        raise AdapterRefused(adapter.name, f"a price of {adapter.price} in no currency", "one, such as EUR")
    bank, _, work_id = adapter.extracts.partition("/")
    if adapter.purpose == "extract" and not (bank and work_id):
        raise AdapterRefused(adapter.name, f"that it takes out {adapter.extracts!r}", "a work, as BANK/ID")
    if adapter.purpose == "add" and adapter.extracts:
        raise AdapterRefused(adapter.name, "a work that it takes out, and that it adds one", "the purpose 'extract'")


def _content(adapter: RegisteredAdapter, change: AdapterChange, organisation: str, at: datetime) -> dict[str, Any]:
    said = adapter.model_dump(mode="json")
    return {"adapter": said, "change": change, "organisation": organisation, "at": at.isoformat()}


def _entries(session: Any, organisation: str) -> tuple[AdapterEntry, ...]:
    of_tree = StoredRow.sequence.between(1, size_of(session))
    query = select(StoredRow).where(StoredRow.kind == _KIND, of_tree).order_by(StoredRow.sequence)
    rows = [row_of(stored) for stored in session.scalars(query)]
    return tuple(_entry(row) for row in rows if row.content["organisation"] == organisation)


def _entry(row: LedgerRow) -> AdapterEntry:
    said = row.content
    try:
        adapter = RegisteredAdapter.model_validate(said["adapter"])
        at = datetime.fromisoformat(said["at"])
    except (ValidationError, ValueError) as error:
        raise LedgerBroken(row.sequence, "an adapter in another shape", "the record of one, and when") from error
    return AdapterEntry(row.sequence, "removed" if said["change"] == "removed" else "registered", adapter, at)


def _standing(entries: tuple[AdapterEntry, ...]) -> tuple[RegisteredAdapter, ...]:
    last = {one.adapter.weights_sha256: one for one in entries}
    held = [one.adapter for one in last.values() if one.change == "registered"]
    return tuple(sorted(held, key=lambda one: (one.name, one.weights_sha256)))
