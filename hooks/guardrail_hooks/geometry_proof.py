"""Looks for regions of the nearest works in an image: local features that lie to each other as in the work."""

from __future__ import annotations

import io
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from guardrail.carriers import Picture
from guardrail.errors import PictureNotKept
from guardrail.hookspecs import hookimpl
from guardrail.judge import reached
from guardrail.proof import Alignment, Features, align, compare_aligned, features_of
from guardrail.protocols import IndexBackend
from guardrail.records import Decision, Disposition, GeometryMatch, Limits, Neighbour, Point, Signal, Unproved, Work
from guardrail.settings import Settings

_LONGEST_PX = 320  # of the image, when features are sought; docs/design/proof.md says what other sizes cost and find
_WORKS = 3  # that are looked at: the copy is among the first three or not at all near
# Of `mini`, one clean picture in ten has a similarity within .09 of the shipped flag limit (docs/models/mini.md).
_CLOSE_WITHIN = 0.1
_SOUGHT = (Signal.TILE, Signal.COPY, Signal.PDQ, Signal.PHASH)
_LIKENESS = (Signal.TILE, Signal.COPY)  # what a closer look may lower: hashes of copies are proof themselves
_RICH_FROM = 60  # features in both pictures: true copies of such works were confirmed, see docs/design/proof.md
_REMEMBERED = 1024  # works whose features are kept, of about 60 kB each
_SQUASHED_BY = 1.2  # widths to heights, image to work: less, features stand
_DIGITS = 4  # of places in records: a twentieth of a pixel


class _Seen(NamedTuple):
    """A work's preview, uint8 (h, w, 3) RGB, and its features."""

    pixels: NDArray[np.uint8]
    features: Features


class _Memory:
    """The features of the works looked at last, by snapshot and row; many threads may ask."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()
        self._seen: OrderedDict[tuple[str, int], _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def of(self, index: IndexBackend, row: int) -> _Seen:
        """The preview of a work and its features, made now if they are not remembered."""
        key = (index.header.snapshot, row)
        with self._lock:
            if (known := self._seen.get(key)) is not None:
                self._seen.move_to_end(key)
                return known
        with Image.open(io.BytesIO(index.preview(row))) as preview:
            pixels = np.asarray(preview.convert("RGB"))
        seen = _Seen(pixels, features_of(pixels))
        with self._lock:
            self._seen[key] = seen
            while len(self._seen) > self._most:
                self._seen.popitem(last=False)
        return seen


_memory = _Memory(_REMEMBERED)


@hookimpl
def find_evidence(
    picture: Picture, neighbours: tuple[Neighbour, ...], index: IndexBackend, limits: Limits, settings: Settings
) -> list[GeometryMatch | Unproved]:
    """Look for the nearest works in the image; which of them, the setting `proof` says.

    A work that a copy descriptor calls a copy, and of which nothing is found though both pictures are rich in
    features, is `Unproved`. A preview that cannot be read raises, which the guard takes for a failed check.
    """
    assert picture.pixels is not None, "only images that could be fingerprinted come here"
    if settings.proof == "never" or limits.geometry.flag_at_least is None:
        return []
    wanted = _wanted(neighbours, limits, everything=settings.proof == "always")
    if not wanted:
        return []
    pixels = _small(picture.pixels)
    features = features_of(pixels)
    found: list[GeometryMatch | Unproved] = []
    for near in wanted:
        try:
            seen = _memory.of(index, near.row)
        except PictureNotKept:  # from a hash list: nothing is proved, and nothing is called unproved
            continue
        laid = align(features, seen.features) or _aligned_unsquashed(pixels, seen)
        if laid is not None and limits.geometry.reached(laid.inliers) is not Decision.ACCEPT:
            found.append(_match(near.work, laid, pixels, seen.pixels))
        elif _is_called_copy(near.work, neighbours, limits) and min(len(features), len(seen.features)) >= _RICH_FROM:
            keypoints = min(len(features), len(seen.features))
            found.append(Unproved(work=near.work, inliers=laid.inliers if laid else 0, keypoints=keypoints))
    return found


def _aligned_unsquashed(pixels: NDArray[np.uint8], seen: _Seen) -> Alignment | None:
    """How the work lies in the image once that has the work's shape: models squash pictures, and features mind it."""
    height, width = pixels.shape[:2]
    squash = (width / height) / (seen.features.width / seen.features.height)
    if 1 / _SQUASHED_BY < squash < _SQUASHED_BY:
        return None
    size = (width, max(1, round(height * squash))) if squash < 1 else (max(1, round(width / squash)), height)
    reshaped = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    laid = align(features_of(reshaped), seen.features)
    if laid is None:
        return None
    back = np.diag([width / size[0], height / size[1], 1.0])
    return replace(laid, homography=back @ laid.homography)


def _wanted(neighbours: tuple[Neighbour, ...], limits: Limits, *, everything: bool) -> list[Neighbour]:
    """One neighbour of each work to look at: protected ones first, then those that reach a limit or nearly do."""
    now = datetime.now(UTC)
    exact = {_key(near.work) for near in neighbours if near.signal in (Signal.BYTES, Signal.PIXELS)}
    ranked = []
    for signal in _SOUGHT:
        nearest = [near for near in neighbours if near.signal is signal and _key(near.work) not in exact]
        ranked += [(_rank(near, limits, now), place, near) for place, near in enumerate(nearest)]
    ranked.sort(key=lambda one: one[:2])
    works: dict[tuple[str, str], Neighbour] = {}
    for _, _, near in ranked:
        if everything or _is_near(near, limits):
            works.setdefault(_key(near.work), near)
    return list(works.values())[:_WORKS]


def _rank(near: Neighbour, limits: Limits, now: datetime) -> tuple[bool, int]:
    """Where a neighbour stands in line: no generic or licensed work takes the place of a protected one."""
    return near.work.standing(now) is not Disposition.PROTECT, -reached(near, limits).severity


def _is_near(near: Neighbour, limits: Limits) -> bool:
    """Whether a neighbour reaches a limit, or its copy descriptor comes close: a piece of a work often does."""
    if reached(near, limits) is not Decision.ACCEPT:
        return True
    limit = {Signal.COPY: limits.copy_, Signal.TILE: limits.tile}.get(near.signal)
    if limit is None or limit.flag_above is None or near.similarity is None:
        return False
    return near.similarity >= limit.flag_above - _CLOSE_WITHIN


def _is_called_copy(work: Work, neighbours: tuple[Neighbour, ...], limits: Limits) -> bool:
    """Whether a copy descriptor of this work reaches its block limit."""
    return any(
        near.work == work and near.signal in _LIKENESS and reached(near, limits) is Decision.BLOCK
        for near in neighbours
    )


def _key(work: Work) -> tuple[str, str]:
    return work.bank, work.work_id


def _small(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """The image at no more than 320 px a side: uint8 (3, H, W) in, uint8 (h, w, 3) out, by area, in host memory."""
    _, height, width = pixels.shape
    scale = min(1.0, _LONGEST_PX / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    if scale < 1:
        small = torch.nn.functional.interpolate(pixels[None].float(), size=size, mode="area")[0]
        pixels = small.round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())


def _match(work: Work, laid: Alignment, image: NDArray[np.uint8], preview: NDArray[np.uint8]) -> GeometryMatch:
    return GeometryMatch(
        work=work,
        inliers=laid.inliers,
        overlap=laid.overlap,
        image_corners=tuple(_point(x, y) for x, y in laid.corners),
        work_hull=tuple(_point(float(x), float(y)) for x, y in laid.hull),
        view=laid.view,
        tile_l2=compare_aligned(image, preview, laid.homography),
    )


def _point(x: float, y: float) -> Point:
    return Point(x=round(x, _DIGITS), y=round(y, _DIGITS))
