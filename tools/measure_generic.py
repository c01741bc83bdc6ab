"""How an index judges pictures with nothing of anybody's in them: flat colours, gradients, skies, plain logos.

    python tools/measure_generic.py demo-index

Forty of each kind are drawn at random (always the same) and judged; prints how many each rule decided.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from guardrail.guard import Guard
from guardrail.settings import Settings

SIDE_PX = 256
EACH = 40
Chance = np.random.Generator


def colour(chance: Chance, most: int = 256) -> tuple[int, int, int]:
    """A colour with values below `most`."""
    red, green, blue = (int(value) for value in chance.integers(0, most, 3))
    return red, green, blue


def flat(chance: Chance) -> Image.Image:
    """One colour."""
    return Image.new("RGB", (SIDE_PX, SIDE_PX), colour(chance))


def gradient(chance: Chance) -> Image.Image:
    """From one colour to another, down or across."""
    mask = Image.linear_gradient("L")
    ends = (Image.new("RGB", mask.size, colour(chance)) for _ in range(2))
    return Image.composite(*ends, mask if chance.integers(2) else mask.transpose(Image.Transpose.ROTATE_90))


def sky(chance: Chance) -> Image.Image:
    """Blue, paler below, with blurred white clouds."""
    high, low = (Image.new("RGB", (SIDE_PX, SIDE_PX), tone) for tone in ((60, 120, 200), (190, 215, 240)))
    clouds = Image.new("L", (SIDE_PX, SIDE_PX))
    pen = ImageDraw.Draw(clouds)
    for _ in range(int(chance.integers(3, 9))):
        across, down, wide = (int(chance.integers(*span)) for span in ((0, SIDE_PX), (0, SIDE_PX), (30, 90)))
        pen.ellipse((across - wide, down - wide // 3, across + wide, down + wide // 3), fill=220)
    blue = Image.composite(low, high, Image.linear_gradient("L"))
    return Image.composite(Image.new("RGB", blue.size, "white"), blue, clouds.filter(ImageFilter.GaussianBlur(12)))


def logo(chance: Chance) -> Image.Image:
    """A disc, a ring or a rounded square on white, now and then with a letter."""
    picture = Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
    pen, half, ink = ImageDraw.Draw(picture), int(chance.integers(50, 100)), colour(chance, 200)
    box = (128 - half, 128 - half, 128 + half, 128 + half)
    shape = int(chance.integers(3))
    if shape == 0:
        pen.ellipse(box, fill=ink)
    elif shape == 1:
        pen.rounded_rectangle(box, 20, fill=ink)
    else:
        pen.ellipse(box, outline=ink, width=20)
    if chance.integers(2):
        pen.text((128, 128), chr(65 + int(chance.integers(26))), fill="grey", font_size=half, anchor="mm")
    return picture


KINDS: dict[str, Callable[[Chance], Image.Image]] = {"flat": flat, "gradient": gradient, "sky": sky, "plain logo": logo}


def main() -> None:
    """Draw, judge, and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("index", type=Path)
    given = arguments.parse_args()
    guard = Guard(given.index, Settings(device="cpu", memory="sqlite://"))
    chance = np.random.default_rng(3)
    for kind, draw in KINDS.items():
        verdicts = guard.check([draw(chance) for _ in range(EACH)]).verdicts
        counts = Counter(f"{verdict.decision}: {verdict.rule}" for verdict in verdicts)
        sys.stdout.write(f"{kind}: " + "; ".join(f"{count} {rule}" for rule, count in counts.most_common()) + "\n")


if __name__ == "__main__":
    main()
