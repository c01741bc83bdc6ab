"""Write the pictures that `mini` was never trained on into folders, to measure it with `guardrail bench copies`.

    python tools/mini/held_out.py PACK OUT --judge onnx:sscd.onnx --portraits WESNOTH/data/core/images/portraits

gives OUT/drawings (openclipart), OUT/photos (stamps, and two far pieces of each wallpaper) and OUT/portraits (painted
ones, such as those of Debian's wesnoth-1.16-data). Pictures with hardly anything in them are left out. Colour variants
and mirrored figures of one series are copies of each other in truth, so one of each title is taken, and of two that the
judge holds for replicas (a copy descriptor that is not the one to be measured; cosine above .5, as in Somepalli et al.
2023) or that PDQ finds within 84 bits in some view, only the first.
"""

import argparse
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from guardrail.fingerprint import hash_pdq
from guardrail.plugins import build_plugins, make_embedder
from guardrail.protocols import Embedder

LEAST_CONTRAST = 12.0  # of 255, standard deviation of the greys
PIECES = (1, 12)  # of a wallpaper's grid: the first and the last
GRID_PICTURES = 13
REPLICA_ABOVE = 0.5
SAME_WITHIN_BITS = 84
PORTRAIT_PX = 288


def held_out(pack: Path) -> dict[str, list[Image.Image]]:
    """The held-out pictures of a pack on white, one of each title: drawings and photos."""
    packed = np.memmap(pack / "pictures.bin", np.uint8, "r")
    found: dict[str, list[Image.Image]] = {"drawings": [], "photos": []}
    piece: dict[str, int] = {}
    titles = set()
    for entry in json.loads((pack / "pictures.json").read_text(encoding="utf-8")):
        number = piece.get(entry["group"], 0)
        piece[entry["group"]] = number + 1
        title = (entry["kind"], " ".join(re.sub(r"[^a-z]+", " ", entry["title"].lower()).split()[:2]))
        wallpaper = entry["kind"] == "wallpaper"
        if not entry["held_out"] or (number % GRID_PICTURES not in PIECES if wallpaper else title in titles):
            continue
        titles.add(title)
        shape = entry["height"], entry["width"], entry["channels"]
        pixels = np.array(packed[entry["offset"] : entry["offset"] + math.prod(shape)]).reshape(shape)
        kind = "drawings" if entry["kind"] == "drawing" else "photos"
        found[kind].append(on_ground(Image.fromarray(pixels), "white"))
    return found


def on_ground(picture: Image.Image, colour: str) -> Image.Image:
    """The picture, RGB, its transparency filled."""
    ground = Image.new("RGB", picture.size, colour)
    ground.paste(picture, (0, 0), picture if picture.mode == "RGBA" else None)
    return ground


def portraits(folder: Path) -> list[Image.Image]:
    """Painted portraits on grey, at most PORTRAIT_PX a side."""
    found = []
    for path in sorted(folder.rglob("*.png")):
        picture = Image.open(path).convert("RGBA")
        picture.thumbnail((PORTRAIT_PX, PORTRAIT_PX))
        found.append(on_ground(picture, "grey"))
    return found


def tensor(picture: Image.Image) -> torch.Tensor:
    """The picture's pixels: uint8 (3, H, W)."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def hashes(pictures: list[Image.Image]) -> NDArray[np.uint8]:
    """PDQ in eight views: uint8 (N, 8, 32)."""
    return np.concatenate([hash_pdq(tensor(picture)[None])[0].numpy() for picture in pictures])


def apart(pictures: list[Image.Image], judge: Embedder | None) -> list[Image.Image]:
    """The pictures with something in them, none of which repeats one before it."""
    full = [picture for picture in pictures if np.asarray(picture.convert("L")).std() >= LEAST_CONTRAST]
    codes = hashes(full)
    vectors = judge.embed([tensor(picture) for picture in full]) if judge else None
    kept: list[int] = []
    for row in range(len(full)):
        bits = np.bitwise_count(codes[row][:, None] ^ codes[kept][None, :, 0]).sum(-1, dtype=np.int64)
        replica = vectors is not None and bool((vectors[kept] @ vectors[row] > REPLICA_ABOVE).any())
        if not replica and not (bits <= SAME_WITHIN_BITS).any():
            kept.append(row)
    return [full[row] for row in kept]


def main() -> None:
    """Write the folders, and say how many pictures each holds."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("pack", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--portraits", type=Path, help="folder of painted portraits")
    arguments.add_argument("--judge", default="", help="embedder that tells repeats, such as onnx:sscd.onnx")
    given = arguments.parse_args()
    judge = make_embedder(build_plugins(()), given.judge, "cpu") if given.judge else None
    found = held_out(given.pack)
    if given.portraits:
        found["portraits"] = portraits(given.portraits)
    for name, pictures in found.items():
        kept = apart(pictures, judge)
        (given.out / name).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(kept):
            picture.save(given.out / name / f"{name}-{number:04d}.png")
        sys.stdout.write(f"{name}: {len(kept)} of {len(pictures)}\n")


if __name__ == "__main__":
    main()
