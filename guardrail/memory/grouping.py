"""Which of the groups of nearly the same picture a new case belongs to, without reading all hashes for each case."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from guardrail.memory.review_rights import UNDECIDED
from guardrail.memory.tables import Case

__all__ = ["PDQ_BYTES", "Groups", "GroupsSeen"]

PDQ_BYTES = 32  # of a PDQ hash, 256 bits
_WORKS_KEPT = 4096  # nearest works whose groups are kept in this process; those of others are read again
_ASKED_AT_ONCE = 100  # groups that are near enough, in one question to the database

_FIRST = aliased(Case)  # the first case of a group, whose number is the group's


@dataclass(slots=True)
class _Hashes:
    """The groups near one work: their numbers, ascending, and the hashes of their first pictures, end to end."""

    numbers: list[int]
    pdqs: bytes = b""

    @property
    def last(self) -> int:
        return self.numbers[-1] if self.numbers else 0

    def with_more(self, rows: list[tuple[int, bytes]]) -> "_Hashes":
        if not rows:
            return self
        return _Hashes([*self.numbers, *(number for number, _ in rows)], self.pdqs + b"".join(pdq for _, pdq in rows))

    def within(self, pdq: bytes, bits: int) -> list[int]:
        """The groups that are near enough, the nearest first, and of those the oldest."""
        words = np.frombuffer(self.pdqs, np.uint64).reshape(-1, PDQ_BYTES // 8)
        away = np.bitwise_count(words ^ np.frombuffer(pdq, np.uint64)).sum(axis=1, dtype=np.int64)
        near = np.flatnonzero(away <= bits)
        return [self.numbers[at] for at in near[np.argsort(away[near], kind="stable")]]


class Groups:
    """The groups of one memory, by the hashes of their first pictures.

    Cases are opened one transaction at a time and never deleted, so that what was read once is kept, and of a work
    only groups that were founded since are read. Whether a group still waits, and its first picture was not erased,
    is asked of the database each time, of those that are near enough.

    Args:
        within_bits: how near two pictures must be to be shown as one, of 256 bits.
    """

    def __init__(self, within_bits: int) -> None:
        self.within_bits = within_bits
        self._kept: OrderedDict[tuple[str, str], _Hashes] = OrderedDict()

    def seen_in(self, session: Session) -> "GroupsSeen":
        """The groups as one transaction sees them; nobody else writes beside it, and it has opened no case yet."""
        return GroupsSeen(self, session)

    def read(self, session: Session, organisation: str, work: str) -> _Hashes:
        """The groups near a work, those of before this transaction; asked before it opens one there."""
        known = self._kept.pop((organisation, work), None) or _Hashes([])
        query = (
            select(Case.case_id, Case.pdq)
            .where(Case.nearest_work == work, Case.case_id > known.last)
            .where(Case.organisation == organisation, Case.group_id == Case.case_id, Case.pdq.is_not(None))
            .order_by(Case.case_id)
        )
        rows = [(number, pdq) for number, pdq in session.execute(query) if pdq is not None and len(pdq) == PDQ_BYTES]
        self._kept[organisation, work] = known = known.with_more(rows)
        if len(self._kept) > _WORKS_KEPT:
            self._kept.popitem(last=False)
        return known


class GroupsSeen:
    """The groups as one transaction sees them; those that it founds are forgotten with it, for it may be undone.

    Args:
        groups: of the memory.
        session: of the transaction.
    """

    def __init__(self, groups: Groups, session: Session) -> None:
        self._groups, self._session = groups, session
        self._seen: dict[tuple[str, str], _Hashes] = {}

    def nearest(self, case: Case) -> int | None:
        """The group that a case belongs to: the one whose first picture is nearest, near enough; None: a new one.

        Only groups with a case that waits count, near the same work. All are compared with the first of a group, so
        that it does not drift from picture to picture.
        """
        if case.pdq is None or not case.nearest_work:
            return None
        key = case.organisation, case.nearest_work
        if key not in self._seen:
            self._seen[key] = self._groups.read(self._session, *key)
        near = self._seen[key].within(case.pdq, self._groups.within_bits)
        for start in range(0, len(near), _ASKED_AT_ONCE):
            some = near[start : start + _ASKED_AT_ONCE]
            waiting = self._waiting(case, some)
            if (found := next((one for one in some if one in waiting), None)) is not None:
                return found
        return None

    def add(self, case: Case) -> None:
        """Take up the group that a case founded; it was asked for its nearest one before."""
        if case.pdq is not None and case.nearest_work:
            key = case.organisation, case.nearest_work
            self._seen[key] = self._seen[key].with_more([(case.case_id, case.pdq)])

    def _waiting(self, case: Case, groups: list[int]) -> set[int]:
        query = (
            select(_FIRST.case_id)
            .join(Case, Case.group_id == _FIRST.case_id)
            .where(_FIRST.case_id.in_(groups), _FIRST.pdq.is_not(None))
            .where(Case.organisation == case.organisation, Case.nearest_work == case.nearest_work)
            .where(Case.state.in_(UNDECIDED))
        )
        return set(self._session.scalars(query))
