"""The page of `index dedup`: one HTML file with the pictures of each cluster side by side."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from guardrail.desk.dedup_groups import DuplicateGroup
from guardrail.errors import IndexUnwritable, PictureNotKept
from guardrail.index import PinnedIndex

__all__ = ["write_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_PICTURES_EACH = 24  # of a cluster; the other works are named
_CLUSTERS = 400  # with pictures: a page of 400 clusters of 5 is about 20 MB


def write_page(pinned: PinnedIndex, groups: Sequence[DuplicateGroup], path: Path) -> Path:
    """Write the clusters as one file that needs nothing else and fetches nothing; returns its path.

    Raises:
        IndexUnwritable: the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    header = pinned.header
    page = environment.get_template("dedup.html").render(
        header=header,
        cards=[_card(pinned, group) for group in groups[:_CLUSTERS]],
        clusters=len(groups),
        left_out=max(0, len(groups) - _CLUSTERS),
        works=sum(len(group.works) for group in groups),
        contradictions=sum(group.contradicts for group in groups),
        largest=max((len(group.works) for group in groups), default=0),
        at=groups[0].at if groups else None,
    )
    try:
        path.write_text(page.encode("utf-8", "replace").decode(), encoding="utf-8")
    except OSError as error:
        raise IndexUnwritable(str(path), str(error)) from error
    return path


def _card(pinned: PinnedIndex, group: DuplicateGroup) -> dict[str, Any]:
    """What the template shows of a cluster: as many pictures as fit, of every standing some."""
    shown = _chosen(group)
    return {
        "group": group,
        "shown": [(group.works[at], _standing(group, at), _picture(pinned, group.rows[at])) for at in shown],
        "named": [group.works[at] for at in range(len(group.works)) if at not in set(shown)],
    }


def _chosen(group: DuplicateGroup) -> list[int]:
    """Which works of a cluster are shown: those of the rarest standing first, so that no contradiction is cut off."""
    counts = group.standings
    places = sorted(range(len(group.works)), key=lambda at: (counts[_standing(group, at)], at))
    return places[:_PICTURES_EACH]


def _standing(group: DuplicateGroup, at: int) -> str:
    return str(group.works[at].standing(group.at) or "expired")


def _picture(pinned: PinnedIndex, row: int) -> str | None:
    """The preview as an address that holds it; None where the index keeps none."""
    try:
        jpeg = pinned.preview(row)
    except PictureNotKept:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
