"""Where a work lies in an image: regions to draw, and how one is laid onto the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guardrail.records import CopyMatch, GeometryMatch, HashMatch, Neighbour, PixelMatch, Point, Region

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from guardrail.records import Evidence, View

__all__ = ["Placement", "RegionView", "frame_share", "placed", "regions_of", "view_words"]

Corner = tuple[float, float]
_Viewed = HashMatch | CopyMatch | PixelMatch | GeometryMatch | Neighbour
_FRAME: tuple[Corner, ...] = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))  # clockwise from the upper left
_LINEAR: dict[View, tuple[tuple[int, int], tuple[int, int]]] = {  # where (x right, y down) goes, as Pillow turns
    "identity": ((1, 0), (0, 1)),
    "rotate_90": ((0, 1), (-1, 0)),
    "rotate_180": ((-1, 0), (0, -1)),
    "rotate_270": ((0, -1), (1, 0)),
    "flip_left_right": ((-1, 0), (0, 1)),
    "flip_top_bottom": ((1, 0), (0, -1)),
    "transpose": ((0, 1), (1, 0)),
    "transverse": ((0, -1), (-1, 0)),
}
_VIEWS: dict[View, str] = {
    "identity": "",
    "rotate_90": "turned by a quarter",
    "rotate_180": "turned upside down",
    "rotate_270": "turned by three quarters",
    "flip_left_right": "mirrored, left and right",
    "flip_top_bottom": "mirrored, top and bottom",
    "transpose": "mirrored and turned",
    "transverse": "mirrored and turned",
}


@dataclass(frozen=True, slots=True)
class RegionView:
    """A matched region, as polygons in fractions of the image and of the work (x right, y down); empty: not known.

    `kind` is `geometry` (points found again: `image` is the work's frame in the image, and may reach beyond it, `work`
    the hull around the points) or `tile` (a rectangle of either; the whole where the whole was compared).
    """

    kind: str
    title: str
    text: str
    image: tuple[Corner, ...]
    work: tuple[Corner, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """How the work lies in the image.

    `to_image` is a 3x3 homography, row by row, from fractions of the work to fractions of the image; `source` says what
    it rests on: `geometry`, `tile`, `view` (a mirrored or turned whole) or `none` (laid as it is, frame on frame).
    `share_of_work` is how much of the work's frame lies in the image and `share_of_image` how much of the image it
    covers, both 0..1, None where nothing says so.
    """

    to_image: tuple[float, ...]
    source: str
    text: str
    view: str = "identity"
    share_of_work: float | None = None
    share_of_image: float | None = None


def view_words(view: View) -> str:
    """A dihedral view in words; empty for the picture as it is."""
    return _VIEWS[view]


def regions_of(found: Iterable[Evidence]) -> tuple[RegionView, ...]:
    """The regions that pieces of evidence on one work name, the proof first."""
    matches = list(found)
    proofs = sorted((one for one in matches if isinstance(one, GeometryMatch)), key=lambda one: -one.inliers)
    tiles = [one for one in matches if isinstance(one, CopyMatch) and (one.region or one.work_region)]
    return (*map(_of_geometry, proofs), *map(_of_tile, sorted(tiles, key=lambda one: -one.similarity)))


def placed(found: Iterable[Evidence], near: Iterable[Neighbour]) -> Placement:
    """How a work lies in the image, by the strongest evidence on it: points, a tile, or a turned whole."""
    matches = [*found, *near]
    for proof in sorted((one for one in matches if isinstance(one, GeometryMatch)), key=lambda one: -one.inliers):
        corners = _points(proof.image_corners)
        if len(corners) == len(_FRAME) and (matrix := _through(corners)) is not None:
            in_work, in_image = frame_share(corners)
            return Placement(matrix, "geometry", "laid by matching points", proof.view, in_work, in_image)
    parts = [one for one in matches if isinstance(one, CopyMatch | Neighbour) and (one.region or one.work_region)]
    if parts:
        part = max(parts, key=lambda one: -1.0 if one.similarity is None else one.similarity)
        return _by_tile(part.view, part.region, part.work_region)
    view: View = next((one.view for one in matches if isinstance(one, _Viewed)), "identity")
    if view == "identity":
        return Placement(_turned(view), "none", "laid frame on frame")
    return Placement(_turned(view), "view", f"laid as it matched: {view_words(view)}", view)


def frame_share(corners: Sequence[Corner]) -> tuple[float, float]:
    """How much of a work's frame lies in the image, and how much of the image it covers.

    Args:
        corners: of the frame, clockwise, in fractions of the image.

    Returns:
        Two shares, 0..1.

    Source: Sutherland and Hodgman 1974, clipping against the four edges of the image.
    """
    clipped = [*corners]
    for axis, at, keeps_above in ((0, 0.0, True), (0, 1.0, False), (1, 0.0, True), (1, 1.0, False)):
        clipped = _clipped(clipped, axis, at, keeps_above=keeps_above)
    whole, inside = _area(corners), _area(clipped)
    return (min(inside / whole, 1.0) if whole > 0 else 0.0), min(inside, 1.0)


def _clipped(corners: Sequence[Corner], axis: int, at: float, *, keeps_above: bool) -> list[Corner]:
    kept: list[Corner] = []
    for here, there in zip(corners, [*corners[1:], *corners[:1]], strict=True):
        inside, follows = ((point[axis] >= at) == keeps_above or point[axis] == at for point in (here, there))
        if inside:
            kept.append(here)
        if inside != follows:
            share = (at - here[axis]) / (there[axis] - here[axis])
            kept.append((here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1])))
    return kept


def _area(corners: Sequence[Corner]) -> float:
    """The area of a polygon, by the shoelace formula."""
    if len(corners) < len(_FRAME) - 1:
        return 0.0
    pairs = zip(corners, [*corners[1:], *corners[:1]], strict=True)
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs)) / 2


def _of_geometry(found: GeometryMatch) -> RegionView:
    turned = f", {view_words(found.view)}" if found.view != "identity" else ""
    text = (
        f"{found.inliers} points of the work were found again in the image{turned}; they span {found.overlap:.0%} of it"
    )
    return RegionView("geometry", "points found again", text, _points(found.image_corners), _points(found.work_hull))


def _of_tile(found: CopyMatch) -> RegionView:
    which = "a part of the image is like the whole work" if found.region else "the image is like a part of the work"
    turned = f", {view_words(found.view)}" if found.view != "identity" else ""
    text = f"{which}{turned}: similarity {found.similarity:.3f}"
    return RegionView("tile", "a tile that is alike", text, _rectangle(found.region), _rectangle(found.work_region))


def _points(points: Iterable[Point]) -> tuple[Corner, ...]:
    return tuple((point.x, point.y) for point in points)


def _rectangle(region: Region | None) -> tuple[Corner, ...]:
    """The corners of a tile, clockwise; of the whole picture where there is none."""
    left, top, width, height = (region.left, region.top, region.width, region.height) if region else (0, 0, 1, 1)
    return tuple((left + x * width, top + y * height) for x, y in _FRAME)


def _turned(view: View) -> tuple[float, ...]:
    """From fractions of the work to those of an image that, turned by `view`, is the work."""
    (a, b), (c, d) = _LINEAR[view]  # image to work, about the middle; its inverse is its transpose
    return (a, c, 0.5 - 0.5 * (a + c), b, d, 0.5 - 0.5 * (b + d), 0.0, 0.0, 1.0)


def _by_tile(view: View, region: Region | None, work_region: Region | None) -> Placement:
    """A tile of the image is the whole work, or the whole image a tile of the work."""
    if region is not None:
        here = np.array([[region.width, 0, region.left], [0, region.height, region.top], [0, 0, 1]])
        matrix, shares = here @ np.reshape(_turned(view), (3, 3)), (1.0, region.width * region.height)
    else:
        assert work_region is not None, "a tile of one of both was compared"
        there = np.array(
            [[work_region.width, 0, work_region.left], [0, work_region.height, work_region.top], [0, 0, 1]]
        )
        matrix, shares = (
            np.reshape(_turned(view), (3, 3)) @ np.linalg.inv(there),
            (work_region.width * work_region.height, 1.0),
        )
    return Placement(tuple(matrix.ravel().tolist()), "tile", "laid by the tile that is alike, about", view, *shares)


def _through(corners: Sequence[Corner]) -> tuple[float, ...] | None:
    """The homography that takes the unit square's corners to four others; None where there is none."""
    rows, values = [], []
    for (x, y), (u, v) in zip(_FRAME, corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    try:
        solved = np.linalg.solve(np.array(rows, np.float64), np.array(values, np.float64))
    except np.linalg.LinAlgError:
        return None
    matrix = (*solved.tolist(), 1.0)
    return matrix if np.isfinite(matrix).all() and abs(np.linalg.det(np.reshape(matrix, (3, 3)))) > 1e-9 else None
