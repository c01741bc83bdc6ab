"""Where the copy descriptor looks besides the whole picture: overlapping tiles, and turned views of the whole."""

from __future__ import annotations

import torch

from guardrail.carriers import Look
from guardrail.fingerprint.views import TURNS
from guardrail.records import VIEWS, Sampling, tiles_of

__all__ = ["query_looks", "seen_by", "work_looks"]


def work_looks(sampling: Sampling) -> tuple[Look, ...]:
    """The looks at a work besides the whole: its tiles."""
    return tuple(Look("identity", tile) for tile in tiles_of(sampling.tiles))


def query_looks(sampling: Sampling) -> tuple[Look, ...]:
    """The looks at an image that is searched for, besides the whole: turned views of the whole, then tiles."""
    turned = tuple(Look(view, None) for view in VIEWS[1 : sampling.query_views])
    return turned + tuple(Look("identity", tile) for tile in tiles_of(sampling.query_tiles))


def seen_by(look: Look, pixels: torch.Tensor) -> torch.Tensor:
    """What one look sees of a picture.

    Args:
        look: a view and a region of it.
        pixels: uint8 (3, H, W), on any device.

    Returns:
        uint8 (3, h, w), h and w at least 1: a strided view of `pixels`, or a flipped copy.
    """
    if look.region is not None:
        _, height, width = pixels.shape
        left, top = int(look.region.left * width), int(look.region.top * height)
        right = max(left + 1, round((look.region.left + look.region.width) * width))
        bottom = max(top + 1, round((look.region.top + look.region.height) * height))
        pixels = pixels[:, top:bottom, left:right]
    turn = TURNS[look.view]
    mirrored = [axis for axis, wanted in ((1, turn.mirror_rows), (2, turn.mirror_columns)) if wanted]
    pixels = pixels.flip(mirrored) if mirrored else pixels
    return pixels.transpose(1, 2) if turn.transpose else pixels
