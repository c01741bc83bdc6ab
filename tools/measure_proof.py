"""Measure what proof finds and what it costs: local features of edited copies, of near pictures, and pixels of series.

    python tools/measure_proof.py FOLDER [FOLDER...] [--works 6] [--near 40] [--embedder mini] [--series FOLDER...] \
        [--preview-px 192] [--image-px 320] [--json OUT]

Prints, for SIFT, ORB and (in OpenCV 4) AKAZE, the processor time for one picture and the share of edited copies found;
then for the proof that ships: the share of edited copies that reach 8 and 15 points, how many of the pictures next to
each other by the embedder's eyes do, and the distance of the farthest tile of both; and for every folder of `--series`
how many pictures correlate with another of the folder at 0.92 or more, and how many of those tiles tell apart.
Look at `near` in the JSON: what shares a part with another picture shows up there. One thread.
"""

import argparse
import io
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from guardrail.plugins import build_plugins, make_embedder
from guardrail.proof import align, compare_aligned, compare_viewed, features_of

LARGEST_PX = 20_000_000
FULL_PX = 512
FLAG, BLOCK, WITHIN, CORRELATION = 8, 15, 0.15, 0.92  # as in guardrail/limits.toml
SIDES_PX = (192, 256, 320, 512)
Pixels = NDArray[np.uint8]


def opened(path: Path, side_px: int = FULL_PX) -> Image.Image | None:
    """The picture on white, its longer side at `side_px`; None where it is too large, too small or broken."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > LARGEST_PX or min(picture.size) < 32:
                return None
            whole = picture.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    page = Image.new("RGBA", whole.size, "white")
    page.alpha_composite(whole)
    scale = side_px / max(page.size)
    return page.convert("RGB").resize((max(1, round(page.width * scale)), max(1, round(page.height * scale))))


def pictures_in(folder: Path, take: int | None) -> list[Path]:
    """Image files of a folder in a random order, the same each time."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"})
    random.Random(0).shuffle(found)  # noqa: S311 - a sample, not a secret
    return found[:take]


def small(picture: Image.Image, side_px: int) -> Pixels:
    """The picture at no more than `side_px` a side."""
    picture = picture.copy()
    picture.thumbnail((side_px, side_px))
    return np.asarray(picture.convert("RGB"))


def preview(picture: Image.Image, side_px: int) -> Pixels:
    """The picture as an index keeps it."""
    file = io.BytesIO()
    Image.fromarray(small(picture, side_px)).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file).convert("RGB"))


def captioned(picture: Image.Image) -> Image.Image:
    """The picture with a black band of a sixth of its height below, and white text in it."""
    picture = picture.copy()
    top = picture.height * 5 // 6
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, top, picture.width, picture.height), fill="black")
    pen.text((picture.width // 12, top + 4), "WHEN YOU SEE IT", fill="white", font_size=max(10, picture.height // 12))
    return picture


def cut(picture: Image.Image, share: float) -> Image.Image:
    """The part of the picture around a point right of its middle, of that share of its sides."""
    width, height = round(picture.width * share), round(picture.height * share)
    left, top = round((picture.width - width) * 0.7), round((picture.height - height) * 0.4)
    return picture.crop((left, top, left + width, top + height))


def pasted(picture: Image.Image, share: float) -> Image.Image:
    """The picture in a page of noise and stripes, its longer side at that share of the page's."""
    chance = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    page = Image.fromarray(chance).resize((FULL_PX, FULL_PX), Image.Resampling.BICUBIC)
    scale = share * FULL_PX / max(picture.size)
    page.paste(picture.resize((round(picture.width * scale), round(picture.height * scale))), (60, 90))
    return page


def tinted(picture: Image.Image) -> Image.Image:
    """Less contrast, and warmer."""
    return Image.fromarray((np.asarray(picture) * [0.6, 0.5, 0.7] + [60, 20, 0]).clip(0, 255).astype(np.uint8))


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "96 px": lambda picture: picture.resize((96, 96)).resize((FULL_PX, FULL_PX)),
    "crop to 80 %": lambda picture: cut(picture, 0.8),
    "crop to a quarter": lambda picture: cut(picture, 0.5),
    "turn 20 degrees": lambda picture: picture.rotate(20, fillcolor="white"),
    "quarter turn": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "mirror": ImageOps.mirror,
    "mirror, crop, tint": lambda picture: tinted(cut(ImageOps.mirror(picture), 0.7)),
    "squash 1.5": lambda picture: picture.resize((picture.width, round(picture.height / 1.5))),
    "tint": tinted,
    "grey": lambda picture: ImageOps.grayscale(picture).convert("RGB"),
    "posterise to 4": lambda picture: ImageOps.posterize(picture, 2),
    "blur 4 px": lambda picture: picture.filter(ImageFilter.GaussianBlur(4)),
    "caption": captioned,
    "half of a page": lambda picture: pasted(picture, 0.5),
    "third of a page": lambda picture: pasted(picture, 0.33),
}


def proved(image: Pixels, work: Pixels) -> tuple[int, float | None]:
    """Points found again, and the distance of the farthest tile."""
    laid = align(features_of(image), features_of(work))
    return (0, None) if laid is None else (laid.inliers, compare_aligned(image, work, laid.homography))


def of_methods(works: list[Image.Image], preview_px: int, image_px: int) -> dict[str, Any]:
    """Milliseconds for one picture at each size, and the share of edited copies with 15 points, by each method."""
    makers = {"SIFT": lambda: cv2.SIFT.create(400, contrastThreshold=0.02), "ORB": lambda: cv2.ORB.create(400)}
    if hasattr(cv2, "AKAZE"):
        makers["AKAZE"] = lambda: cv2.AKAZE.create(threshold=0.0005)
    told = {}
    for name, make in makers.items():
        finder, kind = make(), cv2.NORM_L2 if name == "SIFT" else cv2.NORM_HAMMING
        spent = {}
        for side in SIDES_PX:
            greys = [cv2.cvtColor(small(work, side), cv2.COLOR_RGB2GRAY) for work in works]
            started = time.process_time()
            for grey in greys:
                finder.detectAndCompute(grey, None)
            spent[side] = round((time.process_time() - started) * 1000 / len(greys), 1)
        points = [
            plain_inliers(finder, kind, small(edit(work), image_px), preview(work, preview_px))
            for work in works
            for name_of, edit in EDITS.items()
            if "mirror" not in name_of
        ]
        told[name] = {"ms": spent, "found": round(float(np.mean(np.array(points) >= BLOCK)), 3)}
    return told


def plain_inliers(finder: Any, kind: int, image: Pixels, work: Pixels) -> int:
    """Points of a homography between nearest features that pass Lowe's ratio, as OpenCV's tutorial does it."""
    found = [finder.detectAndCompute(cv2.cvtColor(one, cv2.COLOR_RGB2GRAY), None) for one in (work, image)]
    (here, mine), (there, theirs) = found
    if mine is None or theirs is None or min(len(here), len(there)) < 5:
        return 0
    pairs = [one for one, two in cv2.BFMatcher(kind).knnMatch(mine, theirs, k=2) if one.distance < 0.8 * two.distance]
    if len(pairs) < 5:
        return 0
    places = [
        np.float32([kept[at].pt for at in which])
        for kept, which in ((here, [one.queryIdx for one in pairs]), (there, [one.trainIdx for one in pairs]))
    ]
    _, inside = cv2.findHomography(*places, cv2.USAC_MAGSAC, 3.0, maxIters=1000, confidence=0.999)
    return 0 if inside is None else int(inside.sum())


def of_copies(works: list[Image.Image], preview_px: int, image_px: int) -> dict[str, Any]:
    """By edit: shares that reach 8 and 15 points, and the distance of the farthest tile of nine in ten of them."""
    told = {}
    for name, edit in EDITS.items():
        found = [proved(small(edit(work), image_px), preview(work, preview_px)) for work in works]
        tiles = [tile for points, tile in found if points >= FLAG and tile is not None]
        told[name] = {
            "flagged": round(float(np.mean([points >= FLAG for points, _ in found])), 2),
            "points 15": round(float(np.mean([points >= BLOCK for points, _ in found])), 2),
            "tile_l2 90 %": round(float(np.quantile(tiles, 0.9)), 3) if tiles else None,
        }
    return told


def of_near(files: list[Path], embedder: Any, preview_px: int, image_px: int) -> list[dict[str, Any]]:
    """Every picture and the three nearest to it by the embedder: similarity, points and tiles."""
    kept = [(path, picture) for path in files if (picture := opened(path)) is not None]
    vectors = embedder.embed([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for _, picture in kept])
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -1)
    told = []
    for at, (path, picture) in enumerate(kept):
        for other in np.argsort(-similarities[at])[:3]:
            points, tile = proved(small(picture, image_px), preview(kept[other][1], preview_px))
            said = {"image": path.name, "work": kept[other][0].name, "similarity": float(similarities[at, other])}
            told.append(said | {"points": points, "tile_l2": tile})
    return told


def of_series(folder: Path) -> dict[str, int | float]:
    """How many pictures of a folder correlate with another at 0.92, and how many of those differ in a tile."""
    pictures = [np.asarray(picture) for path in pictures_in(folder, None) if (picture := opened(path, 256)) is not None]
    rows = []
    for pixels in pictures:
        coarse = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BOX), np.float64)
        values = (coarse - coarse.mean((0, 1))).ravel()
        rows.append(values / max(float(np.linalg.norm(values)), 1e-9))
    alike = np.stack(rows) @ np.stack(rows).T
    np.fill_diagonal(alike, -1)
    pairs = [(at, int(alike[at].argmax())) for at in range(len(alike)) if alike[at].max() >= CORRELATION]
    tiles = [compare_viewed(pictures[at], pictures[other], "identity") or 0.0 for at, other in pairs]
    told_apart = sum(tile > WITHIN for tile in tiles)
    return {"pictures": len(pictures), "alike": len(pairs), "told apart": told_apart, "nearest": min(tiles, default=1)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--works", type=int, default=6, help="of each folder, that are edited")
    parser.add_argument("--near", type=int, default=40, help="of each folder, that are compared with each other")
    parser.add_argument("--series", nargs="*", type=Path, default=[], help="folders of pictures that belong together")
    parser.add_argument("--embedder", default="mini")
    parser.add_argument("--preview-px", type=int, default=192)
    parser.add_argument("--image-px", type=int, default=320)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    works = [
        picture
        for folder in asked.folders
        for path in pictures_in(folder, asked.works)
        if (picture := opened(path)) is not None
    ]
    embedder = make_embedder(build_plugins(), asked.embedder, "cpu")
    sizes = (asked.preview_px, asked.image_px)
    told: dict[str, Any] = {
        "works": len(works),
        "methods": of_methods(works, *sizes),
        "copies": of_copies(works, *sizes),
        "near": [one for folder in asked.folders for one in of_near(pictures_in(folder, asked.near), embedder, *sizes)],
        "series": {folder.name: of_series(folder) for folder in asked.series},
    }
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1), encoding="utf-8")
    near = told.pop("near")
    print(json.dumps(told, indent=1))  # noqa: T201
    for bound in (5, FLAG, BLOCK):
        reach = [one for one in near if one["points"] >= bound]
        blocked = sum(one["tile_l2"] is None or one["tile_l2"] <= WITHIN for one in reach)
        print(f"{len(reach)} of {len(near)} near pairs have {bound} points, {blocked} of them agree in all tiles")  # noqa: T201


if __name__ == "__main__":
    main()
