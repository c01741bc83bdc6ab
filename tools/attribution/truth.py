"""Make the truth of a benchmark task of attribution, or go on with it: trainings without part of the works.

    nice -n 19 python tools/attribution/truth.py tiny
    nice -n 19 python tools/attribution/truth.py cifar2 --pictures cifar2.npz --cpu-seconds 3600

Every training is kept when it is done, and the truth is written anew after `--cpu-seconds`, partial or whole. It goes
on from the truth that is there already, on another machine, too.
"""

import argparse
import sys
from pathlib import Path

import torch

from guardrail.desk.console import progress_of
from guardrail.study.attribution_bench.making import TruthMaker
from guardrail.study.attribution_bench.tasks import TASKS, pictures_of
from guardrail.study.attribution_bench.truth import read_truth, write_truth

HOME = Path(__file__).parents[2] / "indexes" / "attribution"


def main() -> None:
    """Make what is missing, and write the truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--pictures", type=Path, help="the .npz of CIFAR-2")
    parser.add_argument("--out", type=Path, default=HOME, help="folder of truths")
    parser.add_argument("--parts", type=Path, help="folder of single trainings; default: beside the truth")
    parser.add_argument("--cpu-seconds", type=float, default=float("inf"), help="stop after so many")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # sums are the same in every run only by one thread
    task = TASKS[asked.task]
    asked.out.mkdir(parents=True, exist_ok=True)
    place = asked.out / f"{task.name}.npz"
    started = read_truth(place, task) if place.exists() else None
    maker = TruthMaker(
        task, pictures_of(task, asked.pictures), asked.parts or asked.out / f"{task.name}.parts", started
    )
    with progress_of(f"training {task.name}") as progress:
        missing = maker.make(progress, asked.cpu_seconds)
    truth = maker.truth()
    write_truth(truth, place)
    total = len(maker.trainings)
    sys.stdout.write(f"{place.name}: {total - missing} of {total} trainings, {float(truth.cpu_s):.0f} CPU-seconds\n")


if __name__ == "__main__":
    main()
