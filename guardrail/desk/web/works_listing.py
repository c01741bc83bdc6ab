"""The works of an index as a page lists them: searched, filtered, the newest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from guardrail.desk.web.protecting import protects
from guardrail.index import FolderIndex
from guardrail.records import Disposition, Work

if TYPE_CHECKING:
    from guardrail.index.pinned import PinnedIndex
    from guardrail.protocols import IndexBackend

__all__ = ["Listed", "ListedWork", "WorksAsked", "list_works"]

_SEARCHED = ("work_id", "title", "creator", "rights_holder", "source")
_MEANS = {
    Disposition.PROTECT: "protected",
    Disposition.CREDIT: "licensed, credited",
    Disposition.IGNORE: "generic",
    None: "expired",
}


@dataclass(frozen=True, slots=True)
class WorksAsked:
    """Which works: all that is said must hold; `words` are sought in id, title, creator, holder and source."""

    words: str = ""
    bank: str = ""
    disposition: str = ""
    holder: str = ""
    page: int = 1


@dataclass(frozen=True, slots=True)
class ListedWork:
    """A work, what a match with it means now, whether a picture is kept, and whether it protects, now or later."""

    work: Work
    means: str
    has_picture: bool
    protects: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of works.

    Attributes:
        works: those of the page.
        total: how many fit in all.
        pages: how many pages that makes, at least 1.
        banks: all banks of the index.
        of_index: how many works it holds.
        is_listed: whether its works can be listed: those of an index in a folder.
    """

    works: tuple[ListedWork, ...]
    total: int
    pages: int
    banks: tuple[str, ...]
    of_index: int
    is_listed: bool = True


def list_works(index: IndexBackend, asked: WorksAsked, size: int) -> Listed:
    """List works; without filters only those of the page are read, with filters all of them.

    Args:
        index: as it is now is listed.
        asked: which works.
        size: of a page.
    """
    header = index.header
    banks = tuple(sorted(header.banks))
    if not isinstance(index, FolderIndex):
        return Listed((), 0, 1, banks, header.works, is_listed=False)
    pinned, at = index.pinned(), datetime.now(UTC)
    newest_first = pinned.rows()[::-1].tolist()
    if asked.words or asked.bank or asked.disposition or asked.holder:
        newest_first = list(_fitting(pinned, newest_first, asked))
    pages = max(1, -(-len(newest_first) // size))
    start = (min(max(asked.page, 1), pages) - 1) * size
    works = tuple(
        ListedWork(work, _MEANS[work.standing(at)], pinned.has_picture(row), protects(work, at))
        for row in newest_first[start : start + size]
        for work in (pinned.work(row),)
    )
    return Listed(works, len(newest_first), pages, banks, header.works)


def _fitting(pinned: PinnedIndex, rows: list[int], asked: WorksAsked) -> Iterator[int]:
    words = asked.words.casefold().split()
    for row in rows:
        work = pinned.work(row)
        if asked.bank not in ("", work.bank) or asked.disposition not in ("", str(work.disposition)):
            continue
        if asked.holder and asked.holder.casefold() not in work.rights_holder.casefold():
            continue
        text = " ".join(getattr(work, name) for name in _SEARCHED).casefold()
        if all(word in text for word in words):
            yield row
