"""Remake the demo bank's pictures from Debian's `openclipart-png`, as `works.csv` and `unindexed.csv` list them.

    apt-get download openclipart-png && dpkg -x openclipart-png_*.deb openclipart
    python indexes/demo/collect.py openclipart/usr/share/openclipart/png

The generic pictures (flat colours, gradients, plain flags) are drawn here and owe nothing to anybody.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
SIDE_PX = 256
MARGIN_PX = 6
WEBP_QUALITY = 90

FLAT = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "red": (200, 30, 40),
    "sky": (120, 180, 235),
}
GRADIENTS = {
    "gradient-sky": ((40, 110, 210), (235, 245, 255), 0),
    "gradient-dusk": ((40, 20, 70), (250, 150, 60), 0),
    "gradient-grey": ((20, 20, 20), (240, 240, 240), 1),
    "gradient-green": ((10, 80, 30), (190, 235, 120), 1),
}
STRIPES = {
    "flag-upright-three": (((0, 85, 164), (255, 255, 255), (239, 65, 53)), 1),
    "flag-level-three": (((0, 0, 0), (221, 0, 0), (255, 206, 0)), 0),
    "flag-level-two": (((255, 255, 255), (220, 20, 60)), 0),
}


def squared(picture: Image.Image) -> Image.Image:
    """The picture on white, centred in a square of SIDE_PX with a margin."""
    picture = picture.convert("RGBA")
    inner = SIDE_PX - 2 * MARGIN_PX
    scale = inner / max(picture.size)
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)
    square = Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
    square.paste(picture, ((SIDE_PX - picture.width) // 2, (SIDE_PX - picture.height) // 2), picture)
    return square


def gradient(start: tuple[int, ...], end: tuple[int, ...], axis: int) -> Image.Image:
    """A linear gradient from `start` to `end`, down (axis 0) or across (axis 1)."""
    ramp = np.linspace(0.0, 1.0, SIDE_PX)[:, None] * (np.array(end) - np.array(start)) + np.array(start)
    rows = np.broadcast_to(ramp[:, None, :], (SIDE_PX, SIDE_PX, 3))
    return Image.fromarray((rows if axis == 0 else rows.transpose(1, 0, 2)).round().astype(np.uint8))


def stripes(colours: tuple[tuple[int, ...], ...], axis: int) -> Image.Image:
    """Equal stripes of the given colours, stacked down (axis 0) or across (axis 1)."""
    which = np.arange(SIDE_PX) * len(colours) // SIDE_PX
    rows = np.broadcast_to(np.array(colours, np.uint8)[which][:, None, :], (SIDE_PX, SIDE_PX, 3))
    return Image.fromarray(np.ascontiguousarray(rows if axis == 0 else rows.transpose(1, 0, 2)))


def generic_pictures() -> dict[str, Image.Image]:
    """Every picture of the generic bank, by its work id."""
    flat = {f"flat-{name}": Image.new("RGB", (SIDE_PX, SIDE_PX), colour) for name, colour in FLAT.items()}
    ramps = {name: gradient(*how) for name, how in GRADIENTS.items()}
    return flat | ramps | {name: stripes(*how) for name, how in STRIPES.items()}


def main(source: Path) -> None:
    """Write every picture the two tables name, and the generic ones."""
    for table in ("works.csv", "unindexed.csv"):
        for row in csv.DictReader((HERE / table).read_text(encoding="utf-8").splitlines()):
            if row["bank"] == "generic":
                continue
            inside = row["source"].split(": ", 1)[1].removesuffix("svg") + "png"
            squared(Image.open(source / inside)).save(HERE / row["file"], quality=WEBP_QUALITY, method=6)
    for name, picture in generic_pictures().items():
        picture.save(HERE / "generic" / f"{name}.webp", lossless=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
