"""`guardrail index dedup`: which works of an index show one picture, and whose they are."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from guardrail.desk.console import AsJson, aside, plain, print_json, progress_of
from guardrail.errors import SettingsInvalid

if TYPE_CHECKING:
    from guardrail.desk.dedup_groups import DuplicateGroup
    from guardrail.index import PinnedIndex
    from guardrail.records import IndexHeader, Work

__all__ = ["dedup", "known_document"]

_EXIT_FOUND = 10
_EXIT_CONTRADICT = 11
_SHOWN = 20  # clusters; --json and --html have the others
_NAMED = 4  # owners, banks or works in a line


def dedup(
    target: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with the pictures side by side.")
    ] = None,
    at_least: Annotated[int, typer.Option("--min", min=2, help="Works that a cluster has, at least.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Find works that show one picture: near-duplicates of one another, turned or flipped ones too.

    A cluster whose works mean different things (protected here, ignored there) comes first: a person has to decide.
    What was compared before is not compared again, so after adding works only those take time.

    Example: guardrail index dedup my-index --html duplicates.html

    Exit codes: 0 no work is there twice, 10 some are, 11 some of them contradict one another, 1 could not look.
    """
    from guardrail.desk.dedup_groups import duplicate_groups  # when a command runs, not before: they load faiss
    from guardrail.index import FolderIndex

    if html is not None and (html.is_dir() or not html.absolute().parent.is_dir()):
        raise SettingsInvalid("--html", f"{str(html)!r}, expected a file in a folder that is there")
    index = FolderIndex(target)
    with progress_of("preparing") as progress:
        index.prepare(progress)
    pinned = index.pinned()
    with progress_of("comparing") as progress:
        clusters = pinned.duplicates.clusters(progress)
    groups = duplicate_groups(pinned, clusters, datetime.now(UTC), at_least)
    if html is not None:
        from guardrail.desk.dedup_page import write_page

        write_page(pinned, groups, html)
    if as_json:
        print_json(_document(pinned.header, groups))
    else:
        _show(target, pinned.header, groups, html)
    if any(group.contradicts for group in groups):
        raise typer.Exit(_EXIT_CONTRADICT)
    raise typer.Exit(_EXIT_FOUND if groups else 0)


def known_document(pinned: "PinnedIndex") -> dict[str, Any] | None:
    """What `index info` says of near-duplicates: as far as they were sought; None where they never were."""
    known = pinned.duplicates.known()
    if known is None:
        return None
    sizes = [len(group) for group in known.groups()]
    return {
        "clusters": len(sizes),
        "works": sum(sizes),
        "largest": max(sizes, default=0),
        "not_compared": known.pending,
    }


def _document(header: "IndexHeader", groups: Sequence["DuplicateGroup"]) -> dict[str, Any]:
    return {
        "snapshot": header.snapshot,
        "works": header.works,
        "contradictions": sum(group.contradicts for group in groups),
        "clusters": [group.document() for group in groups],
    }


def _show(target: Path, header: "IndexHeader", groups: Sequence["DuplicateGroup"], html: Path | None) -> None:
    console = Console(highlight=False)
    for group in groups[:_SHOWN]:
        pictures = "the very same picture" if group.pictures == 1 else f"{group.pictures} versions of one picture"
        standing = ", ".join(f"{name} {count}" for name, count in group.standings.items())
        colour = "red" if group.contradicts else "default"
        console.print(f"{len(group.works)} works, {pictures}: [{colour}]{standing}[/]", soft_wrap=True)
        of = f"{len(group.owners)} owners: {_some(group.owners)}" if group.owners else "no owner is named"
        console.print(plain(f"    {of}; banks: {_some(group.banks)}"), soft_wrap=True)
        console.print(plain(f"    {_some([_named(one) for one in group.works])}"), soft_wrap=True)
    if len(groups) > _SHOWN:
        aside().print(f"... and {len(groups) - _SHOWN} more clusters: --json names all, --html shows them")
    console.print(plain(f"{target}: {_summary(header, groups)}"), soft_wrap=True)
    if html is not None:
        aside().print(plain(f"the pictures are in {html}"), soft_wrap=True)


def _summary(header: "IndexHeader", groups: Sequence["DuplicateGroup"]) -> str:
    if not groups:
        return f"{header.works} works, none of which shows the picture of another"
    works, against = sum(len(group.works) for group in groups), sum(group.contradicts for group in groups)
    said = f"{works} of {header.works} works are in {len(groups)} clusters of near-duplicates"
    return said + (f"; {against} contradict one another, and a person has to decide" if against else "")


def _named(work: "Work") -> str:
    return f"{work.bank}/{work.work_id}" + (f" ({work.title})" if work.title else "")


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
