"""The frames of a video in, those that must be looked at out: after every change of scene, and at an interval.

A frame that is left out stands behind the frame before it that is looked at, from which it hardly differs; the verdict
on that one is the verdict on both.
"""

import re
from dataclasses import replace
from itertools import groupby

import torch

from guardrail.carriers import ImageBatch, Picture

__all__ = ["sampled_frames", "video_of"]

_IN_A_VIDEO = re.compile(r"(?P<video>(?:.*\.)?(?:frames|videos?)(?:\[\d+\])?|output\[\d+\]\[\d+\])\[\d+\]$")
_COARSE_SIDE_PX = 16  # finer, and noise in a still scene would count as change


def sampled_frames(batch: ImageBatch, every: int, change_above: float) -> ImageBatch:
    """Leave out the frames that hardly differ from one that stays.

    Args:
        batch: the pictures of one output, by the names that `pictures_in` gives them. Those of fields `frames`,
            `video` and `videos`, and lists of lists in tuple mode, are frames of videos; other pictures all stay.
        every: of a video every so many frames one stays, >= 1; 1 keeps them all.
        change_above: a frame stays whose mean absolute difference, 0..1, at 16x16 from the last one that stayed is
            larger, so that slow changes add up.

    Returns:
        The pictures that stay, in order; `stands_for` of each names the frames left out behind it. A frame that could
        not be read always stays.
    """
    kept: list[Picture] = []
    for video, found in groupby(batch.pictures, video_of):
        frames = list(found)
        kept += frames if video is None else _sampled(frames, every, change_above)
    return ImageBatch(tuple(kept))


def video_of(picture: Picture) -> str | None:
    """The name of the video that a picture is a frame of, or None."""
    found = _IN_A_VIDEO.match(picture.name)
    return found["video"] if found else None


def _sampled(frames: list[Picture], every: int, change_above: float) -> list[Picture]:
    kept: list[Picture] = []
    behind: list[str] = []
    last: torch.Tensor | None = None
    for frame in frames:
        coarse = _coarse(frame)
        if last is None or coarse is None or len(behind) + 1 >= every or _differ(last, coarse) > change_above:
            _close(kept, behind)
            kept.append(frame)
            last, behind = coarse, []
        else:
            behind.append(frame.name)
    _close(kept, behind)
    return kept


def _close(kept: list[Picture], behind: list[str]) -> None:
    if behind:
        kept[-1] = replace(kept[-1], stands_for=tuple(behind))


def _coarse(frame: Picture) -> torch.Tensor | None:
    """A frame at 16x16, float32 (3, 16, 16) in 0..1; None where it could not be read or can be seen otherwise."""
    if frame.pixels is None or frame.bare:
        return None
    small = torch.nn.functional.interpolate(
        frame.pixels[None].float(), size=(_COARSE_SIDE_PX, _COARSE_SIDE_PX), mode="area"
    )
    return small[0] / 255


def _differ(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().mean())
