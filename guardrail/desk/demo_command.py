"""`guardrail demo`: the whole story on shipped data, without a download."""

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.check_command import COLOURS, nearest_document
from guardrail.desk.console import AsJson, aside, plain, print_json
from guardrail.records import Decision

if TYPE_CHECKING:
    from guardrail.desk.demo_run import DemoImage, DemoRun

__all__ = ["demo"]

_EXIT_NOT_AS_PROMISED = 1


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("demo-out"),
    images: Annotated[int, typer.Option(min=1, max=256, help="How many images each pipeline generates.")] = 24,
    seed: Annotated[int, typer.Option(help="Seed of the generated images.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Guard two diffusion pipelines that have memorised works of real artists, and watch what happens to their images.

    Builds the index of the shipped works, generates, judges, signs what is accepted, verifies it, alters a copy and
    finds that out, and writes a report with the pictures side by side. No download, under a minute on two cores.

    Example: guardrail demo --out demo-out

    Exit codes: 0 all went as it should, 1 a signed image was not recognised or an altered one was.
    """
    from guardrail.desk.demo_run import run_demo
    from guardrail.desk.report_page import write_report

    started = time.perf_counter()
    run = run_demo(out, images, seed, aside())
    page = write_report(run, out / "report.html")
    seconds = time.perf_counter() - started
    if as_json:
        print_json(_document(run, page, seconds))
    else:
        _show(run, page, seconds)
    held = all(outcome == "ours" for outcome in run.verified.values()) and run.tampered_outcome in (None, "tampered")
    raise typer.Exit(0 if held else _EXIT_NOT_AS_PROMISED)


def _document(run: "DemoRun", page: Path, seconds: float) -> dict[str, Any]:
    images = [
        {
            "pipeline": one.pipeline,
            "decision": str(one.verdict.decision),
            "rule": one.verdict.rule,
            "explanation": one.verdict.explanation,
            "nearest": [nearest_document(near) for near in one.verdict.nearest],
            "credits": [credit.model_dump(mode="json") for credit in one.verdict.credits],
            "truth": {"kind": one.truth.kind, "title": one.truth.title, "correlation": one.truth.correlation},
            "outcome": one.outcome,
            "output": str(one.output) if one.output else None,
        }
        for one in run.images
    ]
    verified = {"released": run.verified, "tampered": run.tampered_outcome}
    index = {"works": run.header.works, "snapshot": run.header.snapshot}
    ledger = {"rows": run.ledger_rows, "tip": run.ledger_tip, "open_cases": run.open_cases}
    return {
        "images": images,
        "index": index,
        "verify": verified,
        "ledger": ledger,
        "report": str(page),
        "seconds": seconds,
    }


def _show(run: "DemoRun", page: Path, seconds: float) -> None:
    console = Console(highlight=False)
    table = Table(box=None)
    for heading, width in (("verdict", 7), ("nearest work", 15), ("by", 17), ("what it really is", 36)):
        table.add_column(heading, no_wrap=True, overflow="ellipsis", width=width)
    for pipeline in dict.fromkeys(one.pipeline for one in run.images):
        table.add_row("", "", "", f"[bold]the {pipeline} pipeline[/]")
        for one in (one for one in run.images if one.pipeline == pipeline):
            table.add_row(_coloured(one.verdict.decision), *map(plain, _nearest_cells(one)), one.outcome)
    console.print(table)
    counts = Counter((one.pipeline, one.verdict.decision) for one in run.images)
    for pipeline in dict.fromkeys(one.pipeline for one in run.images):
        said = ", ".join(f"{counts[pipeline, decision]} {_coloured(decision)}" for decision in Decision)
        console.print(f"{pipeline}: {said}")
    outcomes = Counter(one.outcome for one in run.images)
    console.print(
        "what really happened: " + "; ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    )
    console.print(
        f"{len(run.verified)} signed images verified as {', '.join(set(run.verified.values())) or 'none'};", end=" "
    )
    console.print(f"a copy with one altered byte: {run.tampered_outcome}")
    console.print(f"ledger: {run.ledger_rows} rows, the chain holds; {run.open_cases} flagged images wait for a person")
    console.print(f"report: {page} ({seconds:.0f} s in all)", soft_wrap=True)


def _coloured(decision: Decision) -> str:
    return f"[{COLOURS[decision]}]{decision}[/]"


def _nearest_cells(one: "DemoImage") -> tuple[str, str]:
    near = one.verdict.nearest[0] if one.verdict.nearest else None
    if near is None:
        return "", ""
    measure = f"{near.similarity:.3f}" if near.similarity is not None else f"{near.distance_bits} bits"
    return near.work.title, f"{near.signal} {measure}"
