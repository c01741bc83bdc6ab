"""The ledger in, what was released with which adapters and near which licensed works out: the usage ledger."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from guardrail.errors import LedgerBroken
from guardrail.memory.appending import LedgerRow, row_of
from guardrail.memory.attributions import attributions_on
from guardrail.memory.database import Database
from guardrail.memory.finding import Withdrawals, labelled, size_of
from guardrail.memory.tables import StoredRow
from guardrail.records import AdapterShare, Credit, GenerationContext, Release, Verdict

__all__ = ["Usage", "UsedImage"]

_ROWS_AT_A_TIME = 200  # releases, with all that is kept beside them
_LEAST_TIME = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UsedImage:
    """An image that was released and stands, with what it was made with.

    Attributes:
        sequence: the row of its release.
        at: when it was released.
        verdict_id: of the verdict on it as it was generated.
        run: how it was made; None where nobody knows: then adapters are not known either.
        credits: licensed works that it comes near; those of the verdict, and of a person's release with credit.
        shares: of adapters, from the last attribution that was kept; None where there is none.
    """

    sequence: int
    at: datetime
    verdict_id: str
    run: GenerationContext | None
    credits: tuple[Credit, ...]
    shares: tuple[AdapterShare, ...] | None


class Usage:
    """What one memory says of use; the rows are those of the ledger, so that `verify` checks them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def images(
        self, since: datetime | None = None, until: datetime | None = None, organisation: str = "default"
    ) -> Iterator[UsedImage]:
        """Images whose first release that stands lies in a time, oldest first; each image once.

        An image that was released twice counts at its first release. Releases that were withdrawn, as when a decision
        was taken back, and images that were erased do not count.

        Args:
            since: that and later; aware. Default: from the beginning.
            until: before that; aware. Default: until now.
            organisation: whose images.

        Raises:
            MemoryUnwritable: the ledger cannot be read.
            LedgerBroken: a row was edited.
        """
        with self._database.reading() as session:
            withdrawals = Withdrawals(session)
        after, met = 0, set[str]()
        while rows := self._releases_after(after):
            after = rows[-1].sequence
            standing = [row for row in rows if not row.erased and not withdrawals.takes_back(row)]
            with self._database.reading() as session:
                yield from _in_time(_used(session, standing, organisation, met), since, until)

    def erased(self) -> int:
        """How many releases were erased, at any time: what they used nobody can tell.

        Raises:
            MemoryUnwritable: the ledger cannot be read.
        """
        with self._database.reading() as session:
            of_releases = (StoredRow.kind == "release", StoredRow.leaf.is_(None))
            return session.scalar(select(func.count()).select_from(StoredRow).where(*of_releases)) or 0

    def _releases_after(self, sequence: int) -> list[LedgerRow]:
        with self._database.reading() as session:
            of_tree = StoredRow.sequence.between(sequence + 1, size_of(session))
            query = select(StoredRow).where(StoredRow.kind == "release", of_tree).order_by(StoredRow.sequence)
            return [row_of(stored) for stored in session.scalars(query.limit(_ROWS_AT_A_TIME))]


def _in_time(images: Iterable[UsedImage], since: datetime | None, until: datetime | None) -> list[UsedImage]:
    return [one for one in images if (since or _LEAST_TIME) <= one.at and (until is None or one.at < until)]


def _used(session: Session, rows: Sequence[LedgerRow], organisation: str, met: set[str]) -> list[UsedImage]:
    """The images of releases that were not met before."""
    releases = [(row.sequence, _read(Release, row, "release")) for row in rows]
    said = _verdicts(session, {release.verdict_id for _, release in releases})
    said |= _verdicts(session, {first for one in said.values() if (first := one.verdict.earlier_verdict_id)} - {*said})
    outcomes = _outcomes(session, {one.decision_id for _, one in releases if one.decision_id is not None})
    fresh: list[tuple[int, Release, _Said]] = []
    for sequence, release in releases:
        about = said.get(release.verdict_id)
        if about is None:
            raise LedgerBroken(sequence, "a release without its verdict", "the verdict that it names")
        if about.first not in met and about.organisation == organisation:
            met.add(about.first)
            fresh.append((sequence, release, about))
    kept = attributions_on(session, sorted({i for _, _, one in fresh for i in (one.first, one.verdict.verdict_id)}))
    found = []
    for sequence, release, about in fresh:
        attributed = [*kept.get(about.first, ()), *kept.get(about.verdict.verdict_id, ())] if kept else []
        shares = [one.adapters for one in sorted(attributed, key=lambda one: one.at) if one.adapters]
        earlier = said.get(about.first, about)
        with_credit = release.decision_id is not None and outcomes.get(release.decision_id) == "release_with_credit"
        owed = _credits(about.verdict, with_credit=with_credit)
        run = about.run or earlier.run
        found.append(UsedImage(sequence, release.at, about.first, run, owed, shares[-1] if shares else None))
    return found


@dataclass(frozen=True, slots=True)
class _Said:
    """What the row of a verdict says."""

    verdict: Verdict
    run: GenerationContext | None
    organisation: str

    @property
    def first(self) -> str:
        """The verdict on the image as it was generated."""
        return self.verdict.earlier_verdict_id or self.verdict.verdict_id


def _verdicts(session: Session, verdict_ids: set[str]) -> dict[str, _Said]:
    found: dict[str, _Said] = {}
    names = [f"v:{one}" for one in sorted(verdict_ids)]
    for row in labelled(session, names, ("verdict",)):
        if row.erased:
            continue
        content = row.content
        verdict = _read(Verdict, row, "verdict")
        run = _read(GenerationContext, row, "context") if content.get("context") else None
        if verdict.verdict_id in verdict_ids:  # a row is found by the verdict before it, too
            found[verdict.verdict_id] = _Said(verdict, run, content.get("organisation") or "default")
    return found


def _outcomes(session: Session, decision_ids: set[str]) -> dict[str, str]:
    """What people decided, by the id of the decision."""
    names = [f"d:{one}" for one in sorted(decision_ids)]
    rows = [row for row in labelled(session, names, ("review",)) if not row.erased]
    return {row.content["review"]["decision_id"]: str(row.content["review"].get("outcome")) for row in rows}


def _credits(verdict: Verdict, *, with_credit: bool) -> tuple[Credit, ...]:
    """The licensed works: of the verdict, and of a release with credit the nearest one, too."""
    owed = {(one.bank, one.work_id): one for one in verdict.credits}
    for near in verdict.nearest[:1] if with_credit else ():
        fields = {name: getattr(near.work, name) for name in Credit.model_fields}
        owed.setdefault((near.work.bank, near.work.work_id), Credit(**fields))
    return tuple(owed.values())


def _read(record: Any, row: LedgerRow, name: str) -> Any:
    try:
        return record.model_validate(row.content[name])
    except ValidationError as error:
        wrong = f"{error.error_count()} fields of {name!r} that are wrong"
        raise LedgerBroken(row.sequence, wrong, f"the record of {name!r}") from error
