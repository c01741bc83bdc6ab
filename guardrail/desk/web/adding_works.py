"""One work into an organisation's index, and out of it again: the next check sees it.

Nothing here asks whether less is protected then, or who wants it: what people and programs ask for goes through
`changing_works` and `changing_filter`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

from guardrail.carriers import ImageBatch, IndexRows, SourcePicture
from guardrail.errors import ImageUnreadable, IndexMissing
from guardrail.index import FolderIndex, shard_rows, take
from guardrail.protocols import WritableIndex

if TYPE_CHECKING:
    from guardrail.carriers import Fingerprints
    from guardrail.desk.web.desk import Desk
    from guardrail.guard import Guard
    from guardrail.records import IndexChange, Work

__all__ = ["add_work", "alone", "prints_of", "remove_work", "rows_of", "writable"]

_WAIT_S = 10.0  # for another writer of the index
_AS_IN_AN_INDEX = ("copy", "tiles", "clip")  # vectors, kept as float16
_one_at_a_time = threading.RLock()  # in this process; other processes are kept out by the index's own lock


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
    """
    guard = desk.guard_for(organisation)
    index = writable(guard)
    rows = rows_of(guard, work, content)
    with alone(index):
        return index.put(rows)


def remove_work(desk: Desk, organisation: str, bank: str, work_id: str) -> IndexChange:
    """Take a work out of the organisation's index; `unknown` names it where it is not there.

    Raises:
        IndexLocked, IndexUnwritable: the index was not changed.
        IndexMissing: it takes no works.
    """
    index = writable(desk.guard_for(organisation))
    with alone(index):
        return index.withdraw([(bank, work_id)])


def writable(guard: Guard) -> WritableIndex:
    """The index of a guard, to be changed.

    Raises:
        IndexMissing: it takes no works.
    """
    index = guard.index
    if not isinstance(index, WritableIndex):
        raise IndexMissing(guard.settings.index, f"an index that cannot be changed ({type(index).__name__})")
    return index


@contextmanager
def alone(index: WritableIndex) -> Iterator[None]:
    """Be the only writer for a moment: in this process, and where the index has such a lock in all of them.

    Raises:
        IndexLocked, IndexUnwritable: another process writes, or the index cannot be written.
    """
    with _one_at_a_time, index.writing(_WAIT_S) if isinstance(index, FolderIndex) else nullcontext():
        yield


def prints_of(guard: Guard, name: str, content: bytes) -> Fingerprints:
    """The fingerprints of one image file, by which the guard's index is searched."""
    from guardrail.intake.files import read_content  # torch, which came with the guard

    picture = read_content(name, content, guard.settings.largest_image_px)
    return guard.fingerprint(ImageBatch((picture,)))


def rows_of(guard: Guard, work: Work, content: bytes) -> IndexRows:
    """What the index keeps of one work, fingerprinted as it was built.

    Raises:
        ImageUnreadable: it is no picture, or has no fingerprint.
    """
    from guardrail.fingerprint import Fingerprinter, resolve_device, work_looks
    from guardrail.intake.files import read_content

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
