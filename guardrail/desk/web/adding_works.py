"""One work into an organisation's index, and out of it again: the next check sees it."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from guardrail.carriers import IndexRows, SourcePicture
from guardrail.errors import ImageUnreadable, IndexMissing
from guardrail.fingerprint import Fingerprinter, resolve_device, work_looks
from guardrail.index import FolderIndex, shard_rows, take
from guardrail.intake.files import read_content
from guardrail.protocols import WritableIndex
from guardrail.records import Disposition
from guardrail.review_errors import ChangeRefused

if TYPE_CHECKING:
    from guardrail.desk.web.desk import Desk
    from guardrail.guard import Guard
    from guardrail.records import IndexChange, Work

__all__ = ["add_work", "remove_work"]

_WAIT_S = 10.0  # for another writer of the index
_AS_IN_AN_INDEX = ("copy", "tiles", "clip")  # vectors, kept as float16
_one_at_a_time = threading.Lock()  # in this process; other processes are kept out by the index's own lock


def add_work(desk: Desk, organisation: str, work: Work, content: bytes) -> IndexChange:
    """Fingerprint a picture as the organisation's index was built, and put it there; a work of that id is replaced.

    Args:
        desk: whose guard, and embedders, are used.
        organisation: whose index.
        work: whose it is.
        content: an image file.

    Returns:
        The change, durable, and seen by every check that starts from now on.

    Raises:
        ImageUnreadable: it is no picture, or has no fingerprint.
        IndexLocked, IndexUnwritable, IndexMismatch: the index was not changed.
        IndexMissing: it takes no works.
        ChangeRefused: a work of that id is protected, and would be less so.
    """
    guard = desk.guard_for(organisation)
    index = _writable(guard)
    rows = _rows(guard, work, content)
    with _one_at_a_time, _alone(index):
        _require_as_protected(index, work)
        return index.put(rows)


def remove_work(desk: Desk, organisation: str, bank: str, work_id: str) -> IndexChange:
    """Take a work out of the organisation's index; `unknown` names it where it is not there.

    Raises:
        IndexLocked, IndexUnwritable: the index was not changed.
        IndexMissing: it takes no works.
    """
    index = _writable(desk.guard_for(organisation))
    with _one_at_a_time, _alone(index):
        return index.withdraw([(bank, work_id)])


def _require_as_protected(index: WritableIndex, work: Work) -> None:
    """Refuse to replace a protected work by one that protects less: that is for a lead to do, by name, in the ledger.

    Raises:
        ChangeRefused: it would.
    """
    now = datetime.now(UTC)
    for before in index.kept([(work.bank, work.work_id)]).works:
        if before.standing(now) is not Disposition.PROTECT:
            continue
        keeps_opt_out = before.opted_out_at is None or (
            work.opted_out_at is not None and work.opted_out_at <= max(before.opted_out_at, now)
        )
        if work.standing(now) is not Disposition.PROTECT or not keeps_opt_out:
            named, found = f"{work.bank}/{work.work_id}", "a work that is protected, or whose maker opted out"
            raise ChangeRefused(
                named, found, "one that stays so; withdraw it, or call it generic, on the page of works"
            )


def _writable(guard: Guard) -> WritableIndex:
    index = guard.index
    if not isinstance(index, WritableIndex):
        raise IndexMissing(guard.settings.index, f"an index that cannot be changed ({type(index).__name__})")
    return index


def _alone(index: WritableIndex) -> AbstractContextManager[None]:
    """Be the only writer for a moment, where the index has such a lock."""
    return index.writing(_WAIT_S) if isinstance(index, FolderIndex) else nullcontext()


def _rows(guard: Guard, work: Work, content: bytes) -> IndexRows:
    """What the index keeps of one work."""
    header, name = guard.index.header, work.work_id
    of_query = guard.fingerprint
    looks = work_looks(header.sampling)
    fingerprint = Fingerprinter(of_query.copy, of_query.clip, resolve_device(guard.settings.device), 1, looks)
    taken = take(lambda place: read_content(name, place, guard.settings.largest_image_px), content)
    made = shard_rows([SourcePicture(name, stamp="")], [taken], fingerprint)
    if made.text["error"][0]:
        raise ImageUnreadable(name, str(made.text["error"][0]))
    arrays = {
        column: np.asarray(values, np.float16) if column in _AS_IN_AN_INDEX else values
        for column, values in made.arrays.items()
    }
    return IndexRows(
        works=(work,),
        files=("",),
        file_sha256=tuple(made.text["file_sha256"]),
        pixels_sha256=tuple(made.text["pixels_sha256"]),
        arrays=arrays,
        previews=tuple(made.previews),
    )
