"""Draw pictures at random from an unpacked `openclipart-png`, squared on white, without those of the demo bank.

python tools/sample_pictures.py openclipart/usr/share/openclipart/png clean --take 1000 --seed 99
"""

import argparse
import csv
import random
import sys
from pathlib import Path

from PIL import Image

DEMO = Path(__file__).parent.parent / "indexes" / "demo"
sys.path.append(str(DEMO))
from collect import squared  # noqa: E402 - it lies beside the bank it makes

LARGEST_PX = 4_000_000


def used_sources() -> set[str]:
    """The files that the demo bank was made from, without their ending."""
    rows = (row for table in ("works.csv", "unindexed.csv") for row in csv.DictReader((DEMO / table).open()))
    return {row["source"].split(": ")[1].removesuffix(".svg") for row in rows if ": " in row["source"]}


def main() -> None:
    """Parse, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--take", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=99)
    asked = parser.parse_args()
    used = used_sources()
    files = sorted(path for path in asked.source.rglob("*.png"))
    files = [path for path in files if path.relative_to(asked.source).as_posix().removesuffix(".png") not in used]
    random.Random(asked.seed).shuffle(files)  # noqa: S311 - a sample, not a secret
    asked.target.mkdir(parents=True, exist_ok=True)
    taken = 0
    for path in files:
        with Image.open(path) as image:
            if image.width * image.height <= LARGEST_PX:
                squared(image).save(asked.target / f"{taken:04d}-{path.stem}.png")
                taken += 1
        if taken == asked.take:
            break


if __name__ == "__main__":
    main()
