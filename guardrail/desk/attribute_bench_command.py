"""`guardrail attribute bench`: how well estimated influence foretells what retraining without works does."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, plain, print_json, progress_of, read_settings

if TYPE_CHECKING:
    from guardrail.study.attribution_bench.comparing import Comparison

__all__ = ["BenchTaskName", "attribute_bench"]


class BenchTaskName(StrEnum):
    """What can be measured."""

    TINY = "tiny"
    CIFAR2 = "cifar2"


def attribute_bench(
    task: Annotated[BenchTaskName, typer.Option(help="Which task's truth.")] = BenchTaskName.TINY,
    truth: Annotated[Path | None, typer.Option(help="Folder of truths; default: the one of this checkout.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="For cifar2: the .npz of its pictures.")] = None,
    mini: Annotated[bool, typer.Option("--mini/--no-mini", help="Neighbours by the copy descriptor, too.")] = True,
    html: Annotated[Path | None, typer.Option(help="Write the tables as a page, to this file.")] = None,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare methods of attribution with the losses of models that were trained again on halves of the works.

    LDS is Spearman's correlation of foretold and true losses over those halves, averaged over pictures.

    Example: guardrail attribute bench --task tiny --json

    Exit codes: 0 measured (goals that are missed are marked), 1 not (no truth, or too little of it yet).
    """
    from guardrail.desk.attribute_bench_run import run_attribute_bench, write_page

    with progress_of("gradients") as progress:
        compared = run_attribute_bench(
            str(task), truth, pictures, read_settings(settings_file) if mini else None, progress
        )
    document = _document(compared)
    if html is not None:
        write_page(document, html)
    if as_json:
        print_json(document)
        return
    _show(compared)


def _document(compared: "Comparison") -> dict[str, Any]:
    rows = [
        {
            "method": row.method,
            "queries": row.queries,
            "lds": row.lds._asdict(),
            "tuned_lds": row.tuned_lds,
            "bytes_a_work": row.bytes_a_work,
            "cpu_s": round(row.cpu_s, 2),
        }
        for row in compared.rows
    ]
    goals = [
        {"goal": goal.goal, "figure": goal.figure, "interval": goal.interval, "met": goal.met}
        for goal in compared.goals
    ]
    about = {"task": compared.task, "subsets": compared.subsets, "of": compared.of}
    return about | {"rows": rows, "noise_ceilings": dict(compared.ceilings), "goals": goals}


def _show(compared: "Comparison") -> None:
    console = Console(highlight=False)
    console.print(plain(f"{compared.task}: {compared.subsets} of {compared.of} subsets are trained"))
    table = Table("method", "queries", "LDS %", "95 %", "tuned %", "bytes a work", "CPU s", box=None)
    for row in compared.rows:
        tuned = "" if row.tuned_lds is None else f"{100 * row.tuned_lds:.1f}"
        interval = f"{100 * row.lds.low:.1f}..{100 * row.lds.high:.1f}"
        cells = (f"{100 * row.lds.value:.1f}", interval, tuned, f"{row.bytes_a_work:,}", f"{row.cpu_s:.1f}")
        table.add_row(row.method, row.queries, *cells)
    for kind, ceiling in compared.ceilings.items():
        table.add_row("one training foretells the others", kind, f"{100 * ceiling:.1f}", "", "", "", "")
    console.print(table)
    for goal in compared.goals:
        console.print(plain(f"{'met' if goal.met else 'MISSED'}: {goal.goal} ({goal.figure:.3f})"))
