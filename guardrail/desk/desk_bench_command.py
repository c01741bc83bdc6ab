"""`guardrail bench desk`: how quick pages and API are, here and now, with a queue of thousands of cases."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, plain, print_json, progress_of, read_settings

if TYPE_CHECKING:
    from guardrail.desk.desk_bench_run import DeskPace

__all__ = ["bench_desk"]


def bench_desk(
    cases: Annotated[int, typer.Option(min=1, help="Cases in the queue.")] = 10_000,
    checks: Annotated[int, typer.Option(min=1, help="Requests to /v1/check.")] = 200,
    at_once: Annotated[int, typer.Option(min=1, max=500, help="Of these, in flight at a time.")] = 50,
    pages: Annotated[int, typer.Option(min=1, help="Pages of each kind that are asked for.")] = 40,
    works: Annotated[int, typer.Option(min=1, help="Works that are added, one after the other.")] = 10,
    index: Annotated[str, typer.Option(help="Folder of the index, which is copied; default: the demo's works.")] = "",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Fill a queue, start the desk in a process of its own on loopback, and ask it for pages, checks and works.

    All of it lies in a folder that is thrown away. Server time is what the desk's own /metrics counted; for pages it
    is the time that the one who asks waits, which is more.

    Example: guardrail bench desk --cases 10000 --checks 200 --at-once 50

    Exit codes: 0, or 1 where a request failed.
    """
    from guardrail.desk.desk_bench_run import DeskAsked, run_desk_bench

    asked = DeskAsked(cases=cases, checks=checks, at_once=at_once, pages=pages, works=works, index=index)
    with progress_of("filling the queue") as progress:
        pace = run_desk_bench(read_settings(settings_file), asked, progress)
    if as_json:
        print_json(_document(asked, pace))
    else:
        _show(asked, pace)
    raise typer.Exit(1 if pace.failures else 0)


def _document(asked: Any, pace: DeskPace) -> dict[str, Any]:
    rows = {name: {"requests": row.count, "p50_ms": row.p50, "p95_ms": row.p95} for name, row in pace.rows.items()}
    return {
        "asked": asdict(asked),
        "requests": rows,
        "checks_per_s": pace.checks_per_s,
        "images_per_batch": pace.images_per_batch,
        "failures": list(pace.failures),
        "works_in_index": pace.works_in_index,
    }


def _show(asked: Any, pace: DeskPace) -> None:
    console = Console(highlight=False)
    table = Table(title=f"{asked.cases} cases, {pace.works_in_index} works, checks: {asked.at_once} in flight")
    for name in ("", "requests", "p50", "p95"):
        table.add_column(name, justify="left" if not name else "right")
    for name, row in pace.rows.items():
        table.add_row(plain(name), str(row.count), f"{row.p50:.0f} ms", f"{row.p95:.0f} ms")
    console.print(table)
    console.print(f"{pace.checks_per_s:.1f} checks a second, {pace.images_per_batch:.1f} images judged together")
    for failure in pace.failures[:10]:
        console.print(plain(f"failed: {failure}"))
