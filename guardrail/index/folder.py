"""An index in a folder: searched, and changed while it is searched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import Fingerprints, IndexRows
from guardrail.index.bank_limits import bank_limits_stamp
from guardrail.index.pinned import Known, PinnedIndex
from guardrail.index.scans.ivf import IvfScan
from guardrail.index.store.opening import newest, open_state
from guardrail.index.store.state import State, continues
from guardrail.index.store.writing import clear_up, compacted, put_rows, sealed, withdraw_rows, writing
from guardrail.index.structures import Structures, train, vector_columns, write_cache
from guardrail.records import IndexChange, IndexHeader, Neighbour, Work

__all__ = ["FolderIndex"]

_WAIT_S = 2.0  # for another writer, whose single changes take milliseconds
_SEAL_ROWS = 50_000  # rows in the log: more are put in order, so that opening stays quick
_SEAL_BYTES = 256 * 2**20  # of the log
_SEAL_RECORDS = 2_000  # of the log


class FolderIndex:
    """An index in a folder, opened: every search sees what was written before it began, by whatever process.

    Threads may share it. Reading needs no right to write, and never waits for a writer.

    Args:
        folder: where it lies.
        device: where vectors are searched: `cpu`, or a CUDA device.

    Raises:
        IndexMissing: there is no index in that folder.
        IndexDamaged: a file is missing, cut or edited.
        CalibrationUnfit: the calibration beside it was edited, or is another index's.
    """

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        self.folder = Path(folder)
        self._lock, self._writing = threading.RLock(), threading.RLock()
        self._held = False
        self._training: threading.Thread | None = None
        state = open_state(self.folder)
        self._banks_stamp = bank_limits_stamp(self.folder)
        self._pinned = PinnedIndex(Known(state), state, Structures.of(state, device))
        _ = self._pinned.header  # a calibration that does not fit is told now

    # --- reading ---------------------------------------------------------------------------------------------

    def pinned(self) -> PinnedIndex:
        """See `IndexBackend.pinned`."""
        with self._lock:
            before, stamp = self._pinned, bank_limits_stamp(self.folder)
            state = newest(before.state)
            if state is before.state and stamp == self._banks_stamp:
                return before
            if state is before.state:
                fresh = PinnedIndex(before.known, state, before.structures)
            elif continues(before.state, state):
                fresh = PinnedIndex(before.known, state, before.structures.grown(state))
            else:  # built anew, or another history of it was put in its place: nothing known of it holds
                fresh = PinnedIndex(Known(state), state, Structures.of(state, before.structures.device))
            self._pinned = fresh  # in one step: whatever failed above, what was known goes together
            self._banks_stamp = stamp  # taken before they are read: what comes later is seen by the next search
            self._train_aside()
            return fresh

    @property
    def header(self) -> IndexHeader:
        """See `IndexBackend.header`."""
        return self.pinned().header

    @property
    def works(self) -> tuple[Work, ...]:
        """See `PinnedIndex.works`."""
        return self.pinned().works

    def search(self, prints: Fingerprints, limit: int) -> tuple[tuple[Neighbour, ...], ...]:
        """See `IndexBackend.search`."""
        return self.pinned().search(prints, limit)

    def nearest_to(self, role: str, vector: NDArray[np.float32], limit: int) -> tuple[tuple[Work, float], ...]:
        """See `PinnedIndex.nearest_to`."""
        return self.pinned().nearest_to(role, vector, limit)

    def proof_pixels(self, row: int) -> NDArray[np.uint8]:
        """See `IndexBackend.proof_pixels`."""
        return self.pinned().proof_pixels(row)

    def preview(self, row: int) -> bytes:
        """See `IndexBackend.preview`."""
        return self.pinned().preview(row)

    def kept(self, keys: Sequence[tuple[str, str]]) -> IndexRows:
        """See `WritableIndex.kept`."""
        return self.pinned().kept(keys)

    def export_batches(self) -> Iterator[IndexRows]:
        """See `PinnedIndex.export_batches`."""
        return self.pinned().export_batches()

    # --- writing ---------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self, wait_s: float = _WAIT_S) -> Iterator[None]:
        """Be the writer for several changes: nobody else writes in between.

        Raises:
            IndexLocked: another process writes, and did so for `wait_s` seconds.
            IndexUnwritable: the folder cannot be written.
        """
        with self._writing:  # searches do not wait for it
            if self._held:
                yield
                return
            with writing(self._pinned.state, wait_s):
                self._held = True
                try:
                    yield
                finally:
                    self._held = False

    def put(self, rows: IndexRows) -> IndexChange:
        """See `WritableIndex.put`."""
        with self.writing():
            _, change = put_rows(self.pinned().state, rows)
            return self._changed(change)

    def withdraw(self, keys: Sequence[tuple[str, str]]) -> IndexChange:
        """See `WritableIndex.withdraw`."""
        with self.writing():
            _, change = withdraw_rows(self.pinned().state, keys)
            return self._changed(change)

    def _changed(self, change: IndexChange) -> IndexChange:
        state = self.pinned().state
        records = len(state.parts) - len(state.manifest.segments)
        if state.logged_rows > _SEAL_ROWS or state.end.length > _SEAL_BYTES or records > _SEAL_RECORDS:
            self.seal()
            state = self.pinned().state
        return change.model_copy(update={"snapshot": state.snapshot, "works": state.works})

    def seal(self) -> None:
        """Put the log's rows into a segment, so that opening need not read the log.

        Raises:
            IndexLocked, IndexUnwritable: see `writing`.
        """
        with self.writing():
            if sealed(self.pinned().state) is not None:
                clear_up(self.pinned().state)

    def compact(self, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
        """Put all rows into one segment and purge what was withdrawn from the disk; returns how many rows that were.

        Searches go on meanwhile, and see every change.

        Raises:
            IndexLocked, IndexUnwritable: see `writing`.
        """
        with self.writing():
            before = self.pinned().state
            compacted(before, progress)
            state = self.pinned().state
            clear_up(state)
            for column, scan in self._pinned.structures.approximate.items():
                self._keep(state, column, scan)
            return before.rows - state.rows

    def _keep(self, state: State, column: str, scan: IvfScan) -> None:
        """Purge an approximate structure of rows that were withdrawn."""
        each = vector_columns(state.header)[column]
        dead = np.flatnonzero(~np.repeat(state.alive, each))
        dead = dead[scan.holds(dead)]
        if len(dead):
            scan = scan.without(dead)
            self._take_over(state, column, scan)
        write_cache(state, column, scan)

    # --- search structures ------------------------------------------------------------------------------------

    def prepare(self, progress: Callable[[int, int], None] = lambda done, total: None) -> tuple[str, ...]:
        """Make the approximate structures that so many works call for; returns the columns that got one."""
        pinned = self.pinned()
        wanted = tuple(pinned.structures.needs_training())
        for column in wanted:
            self._take_over(pinned.state, column, train(pinned.state, column, progress))
        return wanted

    def _take_over(self, state: State, column: str, scan: IvfScan) -> None:
        with self._lock:
            now = self._pinned
            if continues(state, now.state):
                structures = now.structures.with_approximate(now.state, column, scan)
                self._pinned = PinnedIndex(now.known, now.state, structures)

    def _train_aside(self) -> None:
        """Make them in the background, while what is there is searched exactly."""
        if self._pinned.structures.needs_training() and (self._training is None or not self._training.is_alive()):
            self._training = threading.Thread(target=self.prepare, name="guardrail-index", daemon=True)
            self._training.start()
