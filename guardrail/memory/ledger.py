"""The ledger, one row for every verdict and every step of a release; and the review queue."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import func, select

from guardrail.carriers import OutputPrints
from guardrail.desk_settings import DeskSettings
from guardrail.errors import MemoryUnwritable
from guardrail.memory.accounts import Accounts
from guardrail.memory.adapters import Adapters
from guardrail.memory.appending import LedgerRow, append, row_of
from guardrail.memory.attributions import attributions_on, record_attribution
from guardrail.memory.audit import Audit
from guardrail.memory.case_hashes import CaseHashes
from guardrail.memory.changes import Changes
from guardrail.memory.checking import LedgerTip, check_ledger
from guardrail.memory.database import Database
from guardrail.memory.erasing import erase_rows
from guardrail.memory.finding import size_of
from guardrail.memory.held import Held, keep, keep_again
from guardrail.memory.idempotency import Idempotency
from guardrail.memory.jobs import Jobs
from guardrail.memory.notes import Checkpoint
from guardrail.memory.opening import CaseOpener, Opening
from guardrail.memory.pictures import ORPHAN_AGE_H, Pictures, beside
from guardrail.memory.proving import find_rows, origin_of, prove_row, roots_of
from guardrail.memory.purging import sweep
from guardrail.memory.releases import Reconciled, Releases
from guardrail.memory.reviews import Reviews
from guardrail.memory.tables import Case, Print, StoredRow, Unfinished
from guardrail.memory.usage import Usage
from guardrail.memory.webhooks import Webhooks, enqueue_verdicts
from guardrail.memory.writers import writers_of
from guardrail.records import (
    Attribution,
    GenerationContext,
    InclusionProof,
    Limits,
    Release,
    ReleaseIntent,
    RemedyTried,
)

__all__ = ["Held", "LedgerCounts", "Memory"]

_ROWS_AT_A_TIME = 1000


class LedgerCounts(NamedTuple):
    """How much a ledger holds: rows, those that were erased, cases that wait, unfinished releases, prints."""

    rows: int
    erased: int
    open_cases: int
    unfinished: int
    prints: int


class Memory:
    """Ledger and queue in one database; usable in threads, and in a process that was forked.

    Args:
        url: an SQLAlchemy URL; a SQLite file and its folder are made when missing, for their owner alone.
        must_exist: whether a missing SQLite file is an error instead: to look at a ledger, none is made.
        pictures: where pictures of cases lie, a folder or an fsspec URL; default: in a folder beside a SQLite file
            (`memory.db-pictures` of `memory.db`), and in this process for a database in memory. A server has none.
        desk: how cases are opened and reviewed; default: as the settings' defaults say.

    Raises:
        ExtraMissing: the library for that kind of URL is not installed.
        MemoryUnwritable: the database cannot be opened or made, or is of a format that is not known.
        LedgerBroken: the ledger is of format 1, to be carried over, and does not hold.
    """

    def __init__(
        self, url: str, *, must_exist: bool = False, pictures: str | None = None, desk: DeskSettings | None = None
    ) -> None:
        self._database = Database(url, must_exist=must_exist)
        self.pictures = Pictures(_place_of_pictures(self._database) if pictures is None else pictures)
        self.desk = desk or DeskSettings()
        self._opener = CaseOpener(self.desk)
        self._writers = writers_of(self._database)
        self._releases = Releases(self._database, self._writers)
        self.accounts = Accounts(self._database)
        self.audit = Audit(self._database)
        self.jobs = Jobs(self._database)
        self.changes = Changes(self._database)
        self.adapters = Adapters(self._database)
        self.usage = Usage(self._database)
        self.reviews = Reviews(self._database, self.pictures, self.desk)
        self.hashes = CaseHashes(self._database)
        self.webhooks = Webhooks(self._database)
        self.idempotency = Idempotency(self._database)
        self.url = self._database.shown

    # --- verdicts ----------------------------------------------------------------------------------------

    def record_verdicts(
        self, judged: Sequence[Held], context: GenerationContext | None, limits: Limits | None = None
    ) -> None:
        """Append one row for each verdict, and open a case for each image with a picture; all of them or none.

        Prompts are kept with the cases, where a reviewer needs them, never in the ledger. Pictures are in their store
        before anything names them; of a case that is then not opened, `sweep_pictures` takes it away.

        Args:
            judged: the images.
            context: how the model was run.
            limits: by which they were judged, for how severe a case is; None where they are not known.

        Raises:
            MemoryUnwritable: nothing was written, but perhaps pictures that nothing names.
        """
        run = context.without_prompts().model_dump(mode="json") if context else None
        whole = context.model_dump(mode="json") if context else None
        contents = [
            {"verdict": held.verdict.model_dump(mode="json"), "context": run, "organisation": held.organisation}
            for held in judged
        ]
        digests = keep(self.pictures, judged)
        with self._database.writing() as (session, state):
            sequences = append(session, state, "verdict", contents)
            opened = [
                Opening(held, sequence, sha256)
                for held, sequence, sha256 in zip(judged, sequences, digests, strict=True)
                if sha256 is not None
            ]
            enqueue_verdicts(session, ((held.organisation, held.verdict) for held in judged))
            if opened:
                self._opener.open_cases(session, state, opened, whole, limits)
                keep_again(self.pictures, judged, digests)

    def sweep_pictures(self, *, older_than_h: float = ORPHAN_AGE_H) -> tuple[str, ...]:
        """Take away pictures that nothing names: neither a case, nor a check that is still to be done.

        Those of cases that were then not opened are such. Some are taken away at a time, and only then writers wait.

        Args:
            older_than_h: hours that such a picture is let alone.

        Returns:
            The digests of the pictures that were taken away.

        Raises:
            MemoryUnwritable: the store cannot be gone through, or written.
        """
        return sweep(self._database, self.pictures, older_than_h)

    def record_remedies(self, tried: Sequence[RemedyTried], run_id: str) -> None:
        """Append one row for each remedy that was tried on a run, or did not fit.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        if tried:
            contents = [{"run_id": run_id, "remedy": one.model_dump(mode="json")} for one in tried]
            with self._database.writing() as (session, state):
                append(session, state, "remedy", contents)

    def record_attribution(self, attribution: Attribution) -> int:
        """Append what an image is estimated to owe, beside the verdict that it is about; several may be kept.

        Returns:
            The number of its row.

        Raises:
            LedgerRowMissing: the ledger has no such verdict, or it was erased.
            MemoryUnwritable: nothing was written.
        """
        return record_attribution(self._database, attribution)

    def attributions_of(self, verdict_id: str) -> tuple[Attribution, ...]:
        """The attributions kept beside a verdict, oldest first; none where it has none, or was erased.

        Raises:
            MemoryUnwritable: the ledger cannot be read.
            LedgerBroken: such a row was edited.
        """
        with self._database.reading() as session:
            return tuple(attributions_on(session, [verdict_id]).get(verdict_id, ()))

    def open_cases(self) -> tuple[Case, ...]:
        """Cases that wait for a person, oldest first.

        Raises:
            MemoryUnwritable: they cannot be read.
        """
        with self._database.reading() as session:
            try:
                cases = tuple(session.scalars(select(Case).where(Case.state == "open").order_by(Case.case_id)))
            except (TypeError, ValueError, RecursionError) as error:
                raise MemoryUnwritable(self.url, f"found a case that is no JSON ({error})") from error
            session.expunge_all()
            return cases

    # --- releases ----------------------------------------------------------------------------------------

    def record_intent(self, intent: ReleaseIntent) -> None:
        """Append the row of an image that is about to be signed, and note that it is unfinished.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        self._releases.intend(intent)

    def record_release(self, release: Release, prints: OutputPrints | None = None) -> None:
        """Append the row of a signed file that is about to get its place, and keep its prints; both or neither.

        Raises:
            MemoryUnwritable: nothing was written; or its intent is not open.
        """
        self._releases.commit(release, prints)

    def record_done(self, intent_id: str) -> None:
        """Note that the file of a recorded release is in place: it is unfinished no more.

        Raises:
            MemoryUnwritable: nothing was written; or there is no such release.
        """
        self._releases.done(intent_id)

    def record_withdrawal(self, verdict_id: str, reason: str, intent_id: str | None = None) -> None:
        """Append the row of a release that did not happen after all; its prints are deleted.

        Raises:
            MemoryUnwritable: nothing was written.
        """
        self._releases.withdraw(verdict_id, reason, intent_id)

    def reconcile(self) -> tuple[Reconciled, ...]:
        """Finish what processes that are gone left unfinished; what those that live are at is let alone.

        An intent without a release gets a row that it did not happen, and its part of a file is deleted. A release
        whose file is in place, with the digest that the ledger names, stands; any other gets a row that it did not
        happen. Where a note names no writer, or no intent of the ledger, nothing is touched, and it is logged.

        Raises:
            LedgerBroken: the row of such an intent was edited; nothing was written.
            MemoryUnwritable: nothing was written.
        """
        return self._releases.reconcile()

    def releases_by_manifest(self, manifest_id: str) -> tuple[Release, ...]:
        """The releases with a manifest that stand: neither withdrawn nor erased; none where it is not ours.

        Raises:
            MemoryUnwritable: the ledger cannot be read.
            LedgerBroken: such a row was edited.
        """
        return self._releases.by_manifest(manifest_id)

    def release_of(self, decision_id: str) -> Release | None:
        """The release by a person's decision that stands, neither withdrawn nor erased; None where there is none.

        Raises:
            MemoryUnwritable: the ledger cannot be read.
            LedgerBroken: such a row was edited.
        """
        return self._releases.by_decision(decision_id)

    def fate_of(self, manifest_id: str) -> Literal["released", "withdrawn", "erased", "unknown"]:
        """What the ledger says of a manifest: that its file left, did not leave, was erased from it, or nothing.

        Raises:
            MemoryUnwritable: the ledger cannot be read.
            LedgerBroken: such a row was edited.
        """
        return self._releases.fate(manifest_id)

    def released_prints(self) -> Iterator[tuple[Release, OutputPrints]]:
        """Every release that stands and of which prints are kept, oldest first.

        Raises:
            MemoryUnwritable: the ledger cannot be read.
            LedgerBroken: a release or its prints were edited.
        """
        return self._releases.printed()

    # --- the ledger itself -------------------------------------------------------------------------------

    def rows(self) -> Iterator[LedgerRow]:
        """Every row of the tree, oldest first; rows beside it are for `verify` to find."""
        after = 0
        while rows := self._rows_after(after):
            yield from rows
            after = rows[-1].sequence

    def _rows_after(self, sequence: int) -> list[LedgerRow]:
        """The next rows, read in a transaction of their own, so that no reader holds up a writer."""
        with self._database.reading() as session:
            of_tree = StoredRow.sequence.between(sequence + 1, size_of(session))
            query = select(StoredRow).where(of_tree).order_by(StoredRow.sequence).limit(_ROWS_AT_A_TIME)
            return [row_of(stored) for stored in session.scalars(query)]

    def verify(
        self,
        checkpoints: Sequence[Checkpoint] = (),
        *,
        deep: bool = False,
        told: Callable[[int, int], None] | None = None,
    ) -> LedgerTip:
        """Check every row, the tree over them, and what queue and releases say of rows.

        Args:
            checkpoints: of this ledger, whose signatures were checked: rows that they count must all be there.
            deep: read every row's content again, too, and all prints; takes ten times as long.
            told: called with how many rows are checked, and how many there are.

        Returns:
            The number of rows, and the root of the tree over them as hex.

        Raises:
            LedgerBroken: naming the first row that does not hold.
            LedgerProofInvalid: a checkpoint is another ledger's, or contradicts another one.
            MemoryUnwritable: the ledger cannot be read.
        """
        return check_ledger(self._database, roots_of(checkpoints, self.origin), deep=deep, told=told)

    @property
    def origin(self) -> str:
        """The name under which its checkpoints are signed; no two ledgers have the same."""
        return origin_of(self._database)

    def find(self, wanted: str) -> tuple[LedgerRow, ...]:
        """The rows that a number, or the id of a verdict, a manifest or an intent, stands for, oldest first.

        Raises:
            LedgerRowMissing: there is none.
            LedgerBroken: such a row was edited.
            MemoryUnwritable: the ledger cannot be read.
        """
        return find_rows(self._database, wanted)

    def prove(self, row: LedgerRow, checkpoint: Checkpoint, note: str) -> InclusionProof:
        """That a row is in the ledger which a checkpoint describes.

        Args:
            row: which row.
            checkpoint: of the ledger as it is, or was when it had the row.
            note: the same, signed.

        Raises:
            LedgerBroken: the ledger does not lead to the checkpoint's root.
            LedgerRowMissing: the checkpoint is older than the row.
            MemoryUnwritable: the ledger cannot be read.
        """
        return prove_row(self._database, row, checkpoint, note)

    def erase(self, verdict_id: str, reason: str) -> tuple[int, ...]:
        """Erase the content of all rows about one image, its case with picture and prompts, and its prints.

        The rows' hashes stay, so that the ledger goes on to hold, and a row is appended that says what was erased.

        Args:
            verdict_id: of the verdict on it, as it was generated or as it left.
            reason: kept in the ledger; it should name nobody.

        Returns:
            The numbers of the erased rows.

        Raises:
            LedgerRowMissing: no row is about it, or all of them are erased already.
            LedgerBroken: a row about it was edited.
            MemoryUnwritable: nothing was erased; or it is being released right now.
        """
        return erase_rows(self._database, self.pictures, verdict_id, reason)

    def counts(self) -> LedgerCounts:
        """How much there is.

        Raises:
            MemoryUnwritable: the ledger cannot be read.
        """
        with self._database.reading() as session:

            def count(*what: Any) -> int:
                return session.scalar(select(func.count()).select_from(what[0]).where(*what[1:])) or 0

            return LedgerCounts(
                rows=count(StoredRow),
                erased=count(StoredRow, StoredRow.leaf.is_(None)),
                open_cases=count(Case, Case.state == "open"),
                unfinished=count(Unfinished),
                prints=count(Print),
            )

    def close(self) -> None:
        """Give the database connections and the writer's lock back."""
        self._writers.close()
        self._database.close()


def _place_of_pictures(database: Database) -> str | None:
    if database.file is not None:
        return beside(database.file)
    return "" if database.is_sqlite else None
