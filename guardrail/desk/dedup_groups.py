"""Clusters of near-duplicates as people look at them: whose works they are, and where a person has to decide."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from guardrail.index import Clusters, PinnedIndex
from guardrail.records import Disposition, Work

__all__ = ["DuplicateGroup", "duplicate_groups"]

_EXPIRED = "expired"


@dataclass(frozen=True)
class DuplicateGroup:
    """Works that show one picture.

    Attributes:
        rows: their rows in the index, ascending.
        works: the works, in the order of their rows.
        pictures: how many differ in a pixel or more; 1 where all are the very same picture.
        at: the moment at which their standing is told.
    """

    rows: tuple[int, ...]
    works: tuple[Work, ...]
    pictures: int
    at: datetime

    @cached_property
    def standings(self) -> dict[str, int]:
        """How many of the works a match means what with now: `protect`, `credit`, `ignore`, or `expired`."""
        said = Counter(str(work.standing(self.at) or _EXPIRED) for work in self.works)
        return dict(sorted(said.items(), key=lambda item: (-item[1], item[0])))

    @property
    def contradicts(self) -> bool:
        """Whether a match means one thing with some of the works and another with others: a person has to decide."""
        return len(self.standings.keys() - {_EXPIRED}) > 1

    @property
    def is_grave(self) -> bool:
        """Whether a picture is protected and ignored at once."""
        return {str(Disposition.PROTECT), str(Disposition.IGNORE)} <= self.standings.keys()

    @cached_property
    def owners(self) -> tuple[str, ...]:
        """Rights holders, or creators where none is named, in the order of their first work."""
        return tuple(dict.fromkeys(filter(None, (work.rights_holder or work.creator for work in self.works))))

    @cached_property
    def banks(self) -> tuple[str, ...]:
        """The banks that the works are in."""
        return tuple(sorted({work.bank for work in self.works}))

    def document(self) -> dict[str, Any]:
        """The group as `--json` shows it."""
        said = ("work_id", "bank", "title", "creator", "rights_holder", "licence", "disposition")
        return {
            "size": len(self.works),
            "pictures": self.pictures,
            "contradicts": self.contradicts,
            "standings": self.standings,
            "owners": list(self.owners),
            "banks": list(self.banks),
            "works": [
                {"row": row}
                | {name: str(getattr(work, name)) for name in said}
                | {"standing": str(work.standing(self.at) or _EXPIRED)}
                for row, work in zip(self.rows, self.works, strict=True)
            ],
        }


def duplicate_groups(
    pinned: PinnedIndex, clusters: Clusters, at: datetime, at_least: int = 2
) -> tuple[DuplicateGroup, ...]:
    """The clusters of so many works or more, with their works.

    Returns:
        First those in which a picture is protected and ignored at once, then those that contradict otherwise; of either
        and of the rest the largest first.
    """
    groups = [
        DuplicateGroup(rows, tuple(pinned.work(row) for row in rows), clusters.pictures(rows), at)
        for rows in clusters.groups(at_least)
    ]
    return tuple(sorted(groups, key=lambda group: (not group.is_grave, not group.contradicts)))
