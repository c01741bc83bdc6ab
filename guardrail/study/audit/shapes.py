"""Pictures that nobody drew: random shapes, as held-out pictures where none were given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from guardrail.study.audit.asks import PictureSet

__all__ = ["random_shapes"]

_FEWEST, _MOST = 3, 7  # shapes on a plain ground: fewer would be flat colours, which are like nothing
_OVERSAMPLED = 2  # drawn larger and brought down, so that edges are smooth


def random_shapes(count: int, seed: int) -> PictureSet:
    """So many pictures of ellipses, boxes and triangles, each the same whenever it is read."""

    def read(row: int, side_px: int) -> NDArray[np.uint8]:
        return _drawn(np.random.default_rng([seed, row]), side_px)

    names = tuple(f"shapes-{row:04d}" for row in range(count))
    return PictureSet(names, (None,) * count, read)


def _drawn(chance: np.random.Generator, side_px: int) -> NDArray[np.uint8]:
    picture = Image.new("RGB", (side_px * _OVERSAMPLED,) * 2, _colour(chance))
    brush = ImageDraw.Draw(picture)
    for _ in range(chance.integers(_FEWEST, _MOST)):
        corners = chance.uniform(-0.2, 1.2, (3, 2)) * picture.width
        low, high = corners.min(axis=0), corners.max(axis=0)
        kind = chance.integers(3)
        if kind == 0:
            brush.ellipse((*low, *high), fill=_colour(chance))
        elif kind == 1:
            brush.rectangle((*low, *high), fill=_colour(chance))
        else:
            brush.polygon([(float(x), float(y)) for x, y in corners], fill=_colour(chance))
    return np.asarray(picture.resize((side_px, side_px), Image.Resampling.LANCZOS))


def _colour(chance: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in chance.integers(0, 256, 3))
    return red, green, blue
