"""`guardrail bench ...`: how quick the guard is, and what it finds, measured where it runs."""

import typer

from guardrail.desk.copies_command import bench_copies
from guardrail.desk.desk_bench_command import bench_desk
from guardrail.desk.provenance_command import bench_provenance
from guardrail.desk.recognise_command import bench_recognise
from guardrail.desk.remedies_command import bench_remedies
from guardrail.desk.search_bench import bench_search
from guardrail.desk.speed_commands import bench_hash, bench_overhead
from guardrail.desk.style_command import bench_style
from guardrail.desk.watermark_command import bench_watermark

__all__ = ["bench_app"]

bench_app = typer.Typer(name="bench", help="Measure speed and recall, here and now.", no_args_is_help=True)
bench_app.command("copies")(bench_copies)
bench_app.command("desk")(bench_desk)
bench_app.command("hash")(bench_hash)
bench_app.command("overhead")(bench_overhead)
bench_app.command("recognise")(bench_recognise)
bench_app.command("provenance")(bench_provenance)
bench_app.command("remedies")(bench_remedies)
bench_app.command("search")(bench_search)
bench_app.command("style")(bench_style)
bench_app.command("watermark")(bench_watermark)
