"""Part openclipart into pictures to train on and pictures held out, with no near-duplicate on either side.

    python indexes/demo/split_clipart.py openclipart/usr/share/openclipart/png --out indexes/demo/not-overfitted-unet

Writes `training.txt` (the works of the demo's own `training.txt` first) and `held-out.txt`, one path inside the
package a line. Of pictures that look alike (mean-removed correlation of 24x24 thumbnails above `ALIKE_ABOVE`) the first
is kept.
"""

import argparse
import csv
import hashlib
from pathlib import Path

import numpy as np
from collect import HERE, squared
from PIL import Image

ALIKE_ABOVE = 0.9  # mean-removed correlation, -1..1; the same limit as measure_unet's copies
PLAIN_BELOW = 0.02  # root mean square contrast in 0..1: nearly empty squares resemble everything
THUMBNAIL_PX = 24
LARGEST_PX = 12_000_000  # of a file: the few larger ones take longer than all others together
HELD_OUT_ONE_IN = 8  # by the digest of the name, so that the part does not hang on the order


def thumbnail(path: Path) -> np.ndarray:
    """The squared picture at THUMBNAIL_PX, mean removed: float32 (3 * THUMBNAIL_PX**2,)."""
    side = (THUMBNAIL_PX, THUMBNAIL_PX)
    picture = Image.open(path)
    if picture.width * picture.height > LARGEST_PX:
        raise ValueError(f"{picture.size} is more than {LARGEST_PX} pixels")
    pixels = np.asarray(squared(picture).resize(side, Image.Resampling.BOX), np.float32) / 255
    return (pixels - pixels.mean((0, 1))).ravel()


def work_names() -> list[str]:
    """Where the demo's training pictures lie inside the package, in the order of training.txt; not the generic ones."""
    tables = [(HERE / table).read_text(encoding="utf-8").splitlines() for table in ("works.csv", "unindexed.csv")]
    source = {row["file"]: row["source"] for table in tables for row in csv.DictReader(table)}
    listed = (HERE / "training.txt").read_text(encoding="utf-8").split()
    inside = [source[name].split(": ", 1)[1] for name in listed if ": " in source.get(name, "")]
    return [name.removesuffix("svg") + "png" for name in inside]


def kept_names(root: Path) -> list[str]:
    """Names of pictures that are alike to none before them, the works first."""
    works = work_names()
    found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    seen, names = np.zeros((len(found) + len(works), 3 * THUMBNAIL_PX**2), np.float32), []
    for name in [*works, *sorted(set(found) - set(works))]:
        try:
            row = thumbnail(root / name)
        except (
            OSError,
            ValueError,
            Image.DecompressionBombError,
        ) as error:  # a few files of the package are truncated or void
            print(f"left out {name}: {error}")
            continue
        contrast = float(np.sqrt((row**2).mean()))
        row /= max(float(np.linalg.norm(row)), 1e-9)
        alike = float((seen[: len(names)] @ row).max(initial=-1.0))
        if name in works or (contrast > PLAIN_BELOW and alike < ALIKE_ABOVE):
            seen[len(names)] = row
            names.append(name)
    return names


def main() -> None:
    """Part, write, say how many."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    names, works = kept_names(asked.pictures), set(work_names())
    held_out = [
        name for name in names if name not in works and hashlib.sha256(name.encode()).digest()[0] % HELD_OUT_ONE_IN == 0
    ]
    training = [name for name in names if name not in set(held_out)]
    asked.out.mkdir(parents=True, exist_ok=True)
    for file, listed in (("training.txt", training), ("held-out.txt", held_out)):
        (asked.out / file).write_text("\n".join(listed) + "\n", encoding="utf-8")
    print(f"{len(training)} to train on, {len(held_out)} held out")


if __name__ == "__main__":
    main()
