"""Pack Debian's image packages into one file of small pictures, for the training of `mini`.

    python tools/mini/pictures.py PACKAGES PACK

PACKAGES is a folder with one folder for each unpacked package (`dpkg -x openclipart-png_*.deb PACKAGES/openclipart-png`
and so on, see docs/models/mini.md for the list and their licences). Wallpapers are cut into a grid, since they are few
and large. Works whose title's sha256 starts with 0 to 3 are marked `held_out`: they are never trained on.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = 288  # the longer side of a packed picture
LARGEST_PX = 40_000_000
SMALLEST_SIDE_PX = 48
GRID = (4, 3)  # columns and rows that a wallpaper is cut into
WALLPAPERS = (
    "mate-backgrounds",
    "gnome-backgrounds",
    "plasma-workspace-wallpapers",
    "ukui-wallpapers",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
)
ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One packed picture: where it lies, its shape, what it is, and which pictures share its origin."""

    offset: int
    height: int
    width: int
    channels: int
    kind: str
    title: str
    group: str
    held_out: bool


def is_held_out(title: str) -> bool:
    """Whether the sha256 of a title starts with 0, 1, 2 or 3."""
    return hashlib.sha256(title.encode()).hexdigest()[0] in "0123"


def files_of(packages: Path) -> list[tuple[str, Path, str]]:
    """Kind, path and title of every picture worth packing."""
    titles = svg_titles(packages / "openclipart-svg")
    found = []
    for path in sorted((packages / "openclipart-png").rglob("*.png")):
        inside = path.relative_to(packages / "openclipart-png/usr/share/openclipart/png").with_suffix("").as_posix()
        found.append(("drawing", path, titles.get(inside, path.stem.replace("_", " "))))
    stamps = sorted((packages / "tuxpaint-stamps-default").rglob("*.png"))
    found += [("stamp", path, stamp_caption(path)) for path in stamps]
    for package in WALLPAPERS:
        for path in sorted((packages / package).rglob("*")):
            if path.suffix.lower() in ENDINGS and path.is_file() and path.stem != "screenshot":
                name = path.parts[path.parts.index("contents") - 1] if "contents" in path.parts else path.stem
                found.append(("wallpaper", path, re.sub(r"[-_]\d+x\d+$", "", name)))
    return found


def svg_titles(folder: Path) -> dict[str, str]:
    """The title in each openclipart SVG, by its path without the ending."""
    titles = {}
    root = folder / "usr/share/openclipart/svg"
    for path in sorted(root.rglob("*.svg")):
        said = re.search(r"<dc:title>([^<]+)</dc:title>", path.read_text(encoding="utf-8", errors="replace"))
        if said and (title := said.group(1).strip()):
            titles[path.relative_to(root).with_suffix("").as_posix()] = title
    return titles


def stamp_caption(path: Path) -> str:
    """The English caption of a tuxpaint stamp, or its name."""
    text = path.with_suffix(".txt")
    lines = text.read_text(encoding="utf-8", errors="replace").splitlines() if text.is_file() else []
    return lines[0].strip() if lines and lines[0].strip() else path.stem.replace("_", " ")


def packed(job: tuple[str, Path, str]) -> list[tuple[str, str, str, NDArray[np.uint8]]]:
    """The small pictures of one file: kind, title, group and uint8 (H, W, 3 or 4) pixels; none where it cannot open."""
    kind, path, title = job
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > LARGEST_PX or min(picture.size) < SMALLEST_SIDE_PX:
                return []
            picture.draft("RGB", (SIDE_PX * GRID[0], SIDE_PX * GRID[1]))
            whole = picture.convert("RGB" if kind == "wallpaper" else "RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return []
    pieces = list(cut(whole)) if kind == "wallpaper" else [whole]
    return [(kind, title, f"{kind}:{title}", shrunk(piece)) for piece in pieces]


def cut(whole: Image.Image) -> Iterator[Image.Image]:
    """The whole wallpaper, and the pieces of its grid."""
    yield whole
    columns, rows = GRID
    for row in range(rows):
        for column in range(columns):
            yield whole.crop((
                whole.width * column // columns, whole.height * row // rows,
                whole.width * (column + 1) // columns, whole.height * (row + 1) // rows,
            ))  # fmt: skip


def shrunk(picture: Image.Image) -> NDArray[np.uint8]:
    """The picture with a longer side of at most SIDE_PX: uint8 (H, W, C)."""
    scale = min(1.0, SIDE_PX / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))


def main() -> None:
    """Pack, and say what was packed."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("packages", type=Path)
    arguments.add_argument("pack", type=Path, help="folder for pictures.bin and pictures.json")
    arguments.add_argument("--workers", type=int, default=2)
    given = arguments.parse_args()
    given.pack.mkdir(parents=True, exist_ok=True)
    jobs, entries, offset, seen = files_of(given.packages), [], 0, set()
    with ProcessPoolExecutor(given.workers) as pool, (given.pack / "pictures.bin").open("wb") as file:
        for number, pieces in enumerate(pool.map(packed, jobs, chunksize=8)):
            for kind, title, group, pixels in pieces:
                digest = hashlib.sha256(pixels.tobytes()).digest()
                if digest in seen:
                    continue
                seen.add(digest)
                entries.append(asdict(Entry(offset, *pixels.shape, kind, title, group, is_held_out(title))))
                file.write(pixels.tobytes())
                offset += pixels.size
            if number % 200 == 0:
                sys.stderr.write(f"\r{number} of {len(jobs)} files, {len(entries)} pictures, {offset >> 20} MiB ")
    (given.pack / "pictures.json").write_text(json.dumps(entries), encoding="utf-8")
    kinds = {kind: sum(entry["kind"] == kind for entry in entries) for kind in ("drawing", "stamp", "wallpaper")}
    held = sum(entry["held_out"] for entry in entries)
    sys.stdout.write(json.dumps({"pictures": len(entries), **kinds, "held_out": held}) + "\n")


if __name__ == "__main__":
    main()
