"""Pictures with something in them: shapes and texture, drawn by chance, the same for the same seed."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter


def painted(seed, size=(256, 256), shapes=90):
    chance = np.random.default_rng(seed)
    picture = Image.new("RGB", size, tuple(map(int, chance.integers(60, 200, 3))))
    pen = ImageDraw.Draw(picture)
    for _ in range(shapes):
        (x, y), (w, h) = chance.integers(0, size), chance.integers(6, 48, 2)
        colour = tuple(map(int, chance.integers(0, 256, 3)))
        draw = (pen.ellipse, pen.rectangle)[int(chance.integers(2))]
        draw((int(x), int(y), int(x + w), int(y + h)), fill=colour)
    return picture.filter(ImageFilter.GaussianBlur(0.8))


@pytest.fixture(scope="session")
def paint():
    return painted


@pytest.fixture(scope="session")
def work():
    return painted(1)
