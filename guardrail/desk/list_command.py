"""`guardrail index list`: which works an index holds."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from guardrail.desk.console import AsJson, plain, print_json

__all__ = ["list_works"]


def list_works(
    target: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")],
    bank: Annotated[str, typer.Option(help="Only works of this bank.")] = "",
    take: Annotated[int, typer.Option(min=0, help="How many to list, in the order they came; 0: all.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List works with their ids, as `index remove` and `index update` take them.

    Example: guardrail index list my-index --bank photos --take 0 --json

    Exit codes: 0, or 1 where there is no index that can be trusted.
    """
    from guardrail.index import FolderIndex

    pinned = FolderIndex(target).pinned()
    works = []
    for row in pinned.rows().tolist():
        work = pinned.work(row)
        if not bank or work.bank == bank:
            works.append(work)
        if take and len(works) == take:
            break
    total = pinned.header.banks.get(bank, 0) if bank else pinned.header.works
    if as_json:
        print_json({"works": [work.model_dump(mode="json") for work in works], "total": total})
        return
    table = Table(
        Column("work", overflow="fold"), "title", "by", "bank", "disposition", "opted out", "expires", box=None
    )
    for work in works:
        dates = [date.date().isoformat() if date else "" for date in (work.opted_out_at, work.expires_at)]
        facts = (work.work_id, work.title, work.creator, work.bank, str(work.disposition), *dates)
        table.add_row(*(plain(fact) for fact in facts))
    Console(highlight=False).print(table)
    if bank and not total:
        Console(highlight=False).print(plain(f"no bank {bank!r}; there are {', '.join(pinned.header.banks) or 'none'}"))
    if len(works) < total:
        Console(highlight=False).print(f"{len(works)} of {total}; --take 0 lists all")
