"""Draws where a work was found: the image with the work's frame in it, beside the work with what was found of it."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from guardrail.records import CopyMatch, Evidence, GeometryMatch, Point, Region, Work

__all__ = ["draw_match", "telling_match"]

_SIDE_PX = 240  # of each half
_GAP_PX = 12
_LINE_PX = 3
_LINE, _EDGE = "#ff3b6b", "white"  # seen on light and on dark pictures

Outline = tuple[tuple[float, float], ...]


def telling_match(evidence: Iterable[Evidence], work: Work) -> GeometryMatch | CopyMatch | None:
    """The evidence on a work that says where it lies: most matching points, else the nearest tile; None where none."""
    about = [found for found in evidence if isinstance(found, GeometryMatch | CopyMatch) and found.work == work]
    regions = [found for found in about if isinstance(found, GeometryMatch)]
    tiles = [found for found in about if isinstance(found, CopyMatch) and (found.region or found.work_region)]
    if regions:
        return max(regions, key=lambda found: found.inliers)
    return max(tiles, key=lambda found: found.similarity, default=None)


def draw_match(pixels: NDArray[np.uint8], preview: bytes, found: GeometryMatch | CopyMatch) -> Image.Image:
    """The matched region, to be looked at.

    Args:
        pixels: uint8 (H, W, 3), RGB, the image that was judged.
        preview: the work's picture, an image file.
        found: evidence that says where the work lies.

    Returns:
        RGB, 492 px wide, at most 240 px high: on the left the image with the work's frame (of local features) or the
        tile, on the right the work with the hull of the points or its tile.

    Raises:
        OSError: the preview cannot be read.
    """
    with Image.open(io.BytesIO(preview)) as opened:
        work = opened.convert("RGB")
    if isinstance(found, GeometryMatch):
        here, there = _outline(found.image_corners), _outline(found.work_hull)
    else:
        here, there = _rectangle(found.region), _rectangle(found.work_region)
    halves = [_half(Image.fromarray(pixels), here), _half(work, there)]
    joined = Image.new("RGB", (2 * _SIDE_PX + _GAP_PX, max(half.height for half in halves)), "white")
    for place, half in zip((0, _SIDE_PX + _GAP_PX), halves, strict=True):
        joined.paste(half, (place + (_SIDE_PX - half.width) // 2, (joined.height - half.height) // 2))
    return joined


def _outline(points: tuple[Point, ...]) -> Outline:
    return tuple((point.x, point.y) for point in points)


def _rectangle(region: Region | None) -> Outline:
    """The corners of a tile, clockwise; of the whole picture where there is none."""
    left, top, width, height = (region.left, region.top, region.width, region.height) if region else (0, 0, 1, 1)
    return (left, top), (left + width, top), (left + width, top + height), (left, top + height)


def _half(picture: Image.Image, outline: Outline) -> Image.Image:
    """The picture at 240 px with a closed line in it, as much of it as lies inside."""
    scale = _SIDE_PX / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    drawn = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
    places = [(x * (drawn.width - 1), y * (drawn.height - 1)) for x, y in outline]
    pen = ImageDraw.Draw(drawn)
    for colour, width in ((_EDGE, _LINE_PX + 2), (_LINE, _LINE_PX)):
        if places:
            pen.line([*places, places[0]], fill=colour, width=width, joint="curve")
    return drawn
