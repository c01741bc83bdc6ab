"""Measure where the limits of every signal lie: how near clean pictures come to an index's works, and edited copies.

    python tools/measure_limits.py indexes/demo/works FOLDER_OF_CLEAN_PICTURES [FOLDER...] [--embedder mini] \
        [--without indexes/demo/works.csv indexes/demo/unindexed.csv] [--copies NAME...] [--take 800] [--json OUT]

For each signal it prints quantiles over the clean pictures of the nearest work (similarity, or bits), then which
share of edited copies is reached at the limits that 1 %, 0.1 % and none of the clean pictures reach. Transparent
pictures are put on white, centred in a square, as `indexes/demo/collect.py` does. Clean pictures whose file name
says the same as that of a work's source, or of another clean picture, once numbers are taken out, are left out, and
so are those named by `--copies`: look at `nearest_clean` in the output, where copies among the clean show up.
"""

import argparse
import csv
import io
import json
import random
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from guardrail.carriers import Fingerprints, ImageBatch, Picture
from guardrail.fingerprint import Fingerprinter
from guardrail.plugins import build_plugins, make_embedder
from guardrail.records import VIEWS

SIDE_PX = 256
MARGIN_PX = 6
LARGEST_PX = 20_000_000
PROOF_SIDE_PX = 32
BATCH = 64
RATES = {"1 %": 0.01, "0.1 %": 0.001, "none": 0.0}
SIGNALS = ("pdq", "phash", "copy", "correlation")
FEWER_IS_NEARER = ("pdq", "phash")
Nearness = dict[str, NDArray[np.float64]]


def squared(picture: Image.Image) -> Image.Image:
    """The picture on white, centred in a square of SIDE_PX with a margin."""
    picture = picture.convert("RGBA")
    scale = (SIDE_PX - 2 * MARGIN_PX) / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
    square.paste(picture, ((SIDE_PX - width) // 2, (SIDE_PX - height) // 2), picture)
    return square


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    """The picture after JPEG compression."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def cropped(picture: Image.Image, share: float) -> Image.Image:
    """The picture without `share` of its width and height, half of that on either side."""
    cut_x, cut_y = (round(side * share / 2) for side in picture.size)
    return picture.crop((cut_x, cut_y, picture.width - cut_x, picture.height - cut_y))


def captioned(picture: Image.Image) -> Image.Image:
    """The picture with a black band of a sixth of its height below, and white text in it."""
    picture = picture.copy()
    top = picture.height * 5 // 6
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, top, picture.width, picture.height), fill="black")
    pen.text((picture.width // 12, top + picture.height // 20), "WHEN YOU SEE IT", fill="white", font_size=20)
    return picture


def tinted(picture: Image.Image) -> Image.Image:
    """The picture a quarter of the way to orange."""
    return Image.blend(picture, Image.new("RGB", picture.size, (255, 180, 60)), 0.25)


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg 30": lambda picture: jpeg(picture, 30),
    "resize half": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "brightness +30 %": lambda picture: picture.point(lambda value: min(255, round(value * 1.3))),
    "darker -40 %": lambda picture: picture.point(lambda value: round(value * 0.6)),
    "tint": tinted,
    "crop 5 %": lambda picture: cropped(picture, 0.05),
    "crop 15 %": lambda picture: cropped(picture, 0.15),
    "crop 30 %": lambda picture: cropped(picture, 0.30),
    "mirror": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "rotate 90": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "caption band": captioned,
    "blur 2 px": lambda picture: picture.filter(ImageFilter.GaussianBlur(2)),
}


def plain_name(path: str) -> str:
    """A file's name in lower case without numbers, to tell variants of one drawing."""
    return re.sub(r"[^a-z]+", " ", Path(path).stem.lower()).strip()


def clean_pictures(folders: list[Path], tables: list[Path], copies: list[str], take: int, seed: int) -> list[Path]:
    """Random pictures of the folders, without the works' sources, their namesakes and `copies`, one of each name."""
    rows = [row for table in tables for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())]
    seen = {plain_name(row["source"].split(": ", 1)[-1]) for row in rows} | {plain_name(row["title"]) for row in rows}
    seen |= {plain_name(name) for name in copies}
    found = []
    for folder in folders:
        here = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"})
        random.Random(seed).shuffle(here)  # noqa: S311 - a sample, not a secret
        kept: list[Path] = []
        for path in here:
            if len(kept) == take:
                break
            if (name := plain_name(path.name)) not in seen and usable(path):
                seen.add(name)
                kept.append(path)
        found += kept
    return found


def usable(path: Path) -> bool:
    """Whether the picture opens and is of a size that is worth decoding."""
    try:
        with Image.open(path) as picture:
            return min(picture.size) >= 16 and picture.width * picture.height <= LARGEST_PX
    except (OSError, ValueError, Image.DecompressionBombError):
        return False


def fingerprinted(
    pictures: Iterable[Image.Image], fingerprinter: Fingerprinter
) -> tuple[Fingerprints, NDArray[np.float64]]:
    """Fingerprints of pictures, and their small pixels for the proof: float64 (N, 32, 32, 3), 0..255."""
    found = list(pictures)
    tensors = [torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in found]
    batch = ImageBatch(tuple(Picture(name=str(row), pixels=pixels) for row, pixels in enumerate(tensors)))
    small = [picture.resize((PROOF_SIDE_PX, PROOF_SIDE_PX), Image.Resampling.BOX) for picture in found]
    return fingerprinter(batch), np.stack([np.asarray(picture, np.float64) for picture in small])


def nearness(
    queries: tuple[Fingerprints, NDArray[np.float64]], works: tuple[Fingerprints, NDArray[np.float64]]
) -> Nearness:
    """How near each query comes to each work, in its best view: float64 (queries, works) for each signal."""
    (asked, asked_pixels), (held, held_pixels) = queries, works
    near: Nearness = {}
    for signal in FEWER_IS_NEARER:
        views, targets = getattr(asked, signal), getattr(held, signal)[:, 0]
        bits = np.bitwise_count(views[:, :, None, :] ^ targets[None, None]).sum(-1, dtype=np.int64)
        near[signal] = bits.min(1).astype(np.float64)
    near["copy"] = (asked.copy @ held.copy.T).astype(np.float64)
    views = np.stack([unit_pixels(turned(asked_pixels, view)) for view in VIEWS])
    near["correlation"] = (views @ unit_pixels(held_pixels).T).max(0)
    return near


def turned(pixels: NDArray[np.float64], view: str) -> NDArray[np.float64]:
    """Square pictures (N, S, S, 3) after Pillow's transpose of that name."""
    moves: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        "identity": lambda same: same,
        "rotate_90": lambda same: np.rot90(same, 1, (1, 2)),
        "rotate_180": lambda same: np.rot90(same, 2, (1, 2)),
        "rotate_270": lambda same: np.rot90(same, 3, (1, 2)),
        "flip_left_right": lambda same: same[:, :, ::-1],
        "flip_top_bottom": lambda same: same[:, ::-1],
        "transpose": lambda same: same.swapaxes(1, 2),
        "transverse": lambda same: np.rot90(same, 2, (1, 2)).swapaxes(1, 2),
    }
    return moves[view](pixels)


def unit_pixels(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pictures (N, S, S, 3) less the mean of each channel, divided by the norm: (N, 3 S S); flat ones are zero."""
    level = (pixels - pixels.mean((1, 2), keepdims=True)).reshape(len(pixels), -1)
    norm: NDArray[np.float64] = np.linalg.norm(level, axis=1, keepdims=True)
    return np.where(norm > 1e-6, level / np.maximum(norm, 1e-6), 0.0)


def limit_at(nearest: NDArray[np.float64], rate: float, fewer_is_nearer: bool) -> float:
    """The loosest limit that at most `rate` of the clean pictures reach (a picture at the limit reaches it)."""
    allowed = int(rate * len(nearest))
    if fewer_is_nearer:
        return float(np.sort(nearest)[allowed] - 1)
    return float(np.nextafter(np.sort(nearest)[::-1][allowed], 2.0))


def reached(values: NDArray[np.float64], limit: float, fewer_is_nearer: bool) -> float:
    """The share of values at or within a limit."""
    return float(np.mean(values <= limit if fewer_is_nearer else values >= limit))


def tabulated(clean: Nearness, edited: dict[str, Nearness]) -> dict[str, object]:
    """Quantiles of the clean pictures, limits, and what edited copies reach, for each signal."""
    report: dict[str, object] = {}
    for signal in SIGNALS:
        fewer = signal in FEWER_IS_NEARER
        nearest = clean[signal].min(1) if fewer else clean[signal].max(1)
        shares = (0.5, 0.9, 0.99, 0.999, 1.0)
        quantiles = {f"{share:.1%}": float(np.quantile(nearest, 1 - share if fewer else share)) for share in shares}
        limits = {name: limit_at(nearest, rate, fewer) for name, rate in RATES.items()}
        recall = {
            edit: {name: reached(np.diag(near[signal]), limit, fewer) for name, limit in limits.items()}
            for edit, near in edited.items()
        }
        mean = {name: float(np.mean([row[name] for row in recall.values()])) for name in RATES}
        report[signal] = {"clean": quantiles, "limits": limits, "recall": recall | {"all edits": mean}}
    return report


def main() -> None:
    """Measure, and print JSON."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("works", type=Path, help="folder of the works")
    arguments.add_argument("clean", type=Path, nargs="+", help="folders of pictures that copy nothing")
    arguments.add_argument(
        "--without", type=Path, nargs="*", default=[], help="works tables whose sources to leave out"
    )
    arguments.add_argument("--copies", nargs="*", default=[], help="file names found to be copies of works")
    arguments.add_argument("--take", type=int, default=800, help="clean pictures from each folder, at most")
    arguments.add_argument("--seed", type=int, default=20261122)
    arguments.add_argument("--json", type=Path, help="also write everything here")
    arguments.add_argument("--embedder", default="mini", help="as for guardrail index build")
    given = arguments.parse_args()
    fingerprinter = Fingerprinter(make_embedder(build_plugins(), given.embedder, "auto"))
    originals = [Image.open(path).convert("RGB") for path in sorted(given.works.iterdir())]
    works = fingerprinted(originals, fingerprinter)
    paths = clean_pictures(given.clean, given.without, given.copies, given.take, given.seed)
    pieces = []
    for start in range(0, len(paths), BATCH):
        some = (squared(Image.open(path)) for path in paths[start : start + BATCH])
        pieces.append(nearness(fingerprinted(some, fingerprinter), works))
        sys.stderr.write(f"\r{start}/{len(paths)} clean pictures")
    clean = {signal: np.concatenate([piece[signal] for piece in pieces]) for signal in SIGNALS}
    edited = {name: nearness(fingerprinted(map(edit, originals), fingerprinter), works) for name, edit in EDITS.items()}
    report = {"works": len(originals), "clean": len(paths), "signals": tabulated(clean, edited)}
    report["nearest_clean"] = {
        signal: [
            [str(paths[row]), sorted(given.works.iterdir())[int(column)].name, float(clean[signal][row, column])]
            for row, column in nearest_pairs(clean[signal], signal in FEWER_IS_NEARER)
        ]
        for signal in SIGNALS
    }
    text = json.dumps(report, indent=1)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


def nearest_pairs(near: NDArray[np.float64], fewer_is_nearer: bool) -> list[tuple[int, int]]:
    """The ten (clean picture, work) pairs that are nearest, nearest first: to look at for copies among the clean."""
    order = np.argsort((near if fewer_is_nearer else -near).min(1))[:10]
    columns = (near if fewer_is_nearer else -near).argmin(1)
    return [(int(row), int(columns[row])) for row in order]


if __name__ == "__main__":
    main()
