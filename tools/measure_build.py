"""What building an index costs with and without worker processes: `measure_build.py FOLDER [WORKERS...]`.

Every build runs in a process of its own, so that start and memory of one do not count for another. CPU seconds of the
main process say how many pictures a second it could take if workers were never slow; wall seconds depend on what else
runs. Loading Python packages and the embedder is left out; starting workers is not.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["main"]


def _one(folder: Path, workers: int) -> None:
    from guardrail.desk.making import build_source_index, make_builder
    from guardrail.index import Recipe, build
    from guardrail.intake import FolderSource
    from guardrail.settings import Settings

    settings, recipe = Settings(device="cpu"), Recipe()
    make_builder(settings, recipe)
    assert build
    with tempfile.TemporaryDirectory() as where:
        started, processor = time.monotonic(), time.process_time()
        report = build_source_index(FolderSource(folder), Path(where) / "index", settings, recipe, workers=workers)
        wall_s, main_s = time.monotonic() - started, time.process_time() - processor
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    facts = {
        "workers": workers,
        "works": report.works,
        "main_cpu_s": round(main_s, 1),
        "workers_cpu_s": round(others.ru_utime + others.ru_stime, 1),
        "wall_s": round(wall_s, 1),
        "pictures_per_main_cpu_s": round(report.works / main_s, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    sys.stdout.write(json.dumps(facts) + "\n")


def main() -> None:
    """Measure, one line of JSON for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("workers", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    for workers in asked.workers:
        if asked.one:
            _one(asked.folder, workers)
        else:
            words = [sys.executable, __file__, str(asked.folder), str(workers), "--one"]
            subprocess.run(words, check=True)  # noqa: S603 - our own file


if __name__ == "__main__":
    main()
