"""The pictures of a case: a work's own, the work laid into the image's frame, and what then differs."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from guardrail.protocols import WritableIndex

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardrail.desk.web.case_places import Placement
    from guardrail.guard import Guard

__all__ = ["difference", "drawn_on", "laid_work", "work_picture"]

_LINE, _EDGE = "#ff3b6b", "white"  # seen on light and on dark pictures
_LINE_SHARE = 0.006  # of the longer side
_COARSE_FROM = 8  # times: pixels of a picture that is so small are seen as they are
_LONGEST_PX = 2048  # of a picture that is made to be looked at


def work_picture(guard: Guard, bank: str, work_id: str) -> bytes | None:
    """A work's picture as the index keeps it: a JPEG file of at most 192 px a side; None where it has none.

    A work that was withdrawn has none, and neither has one from a hash list, or of an adapter's own index.
    """
    if not isinstance(guard.index, WritableIndex):
        return None
    previews = guard.index.kept([(bank, work_id)]).previews
    return previews[0] if previews and previews[0] else None


def laid_work(preview: bytes, placement: Placement, size_px: tuple[int, int]) -> bytes:
    """The work as it lies in the image, transparent beside it: to be slid over, blinked with and compared.

    Args:
        preview: the work's picture, an image file.
        placement: how it lies there.
        size_px: width and height of the image; scaled down to at most 2048 px a side.

    Returns:
        A PNG file, RGBA, in the shape of the image.

    Raises:
        OSError: the preview cannot be read.
    """
    width, height = _fitting(size_px)
    with Image.open(io.BytesIO(preview)) as opened:
        work = opened.convert("RGBA")
    onto = np.reshape(placement.to_image, (3, 3))
    to_work = np.diag([work.width, work.height, 1.0]) @ np.linalg.inv(onto) @ np.diag([1 / width, 1 / height, 1.0])
    to_work /= to_work[2, 2]
    laid = work.transform(
        (width, height),
        Image.Transform.PERSPECTIVE,
        to_work.ravel()[:8].tolist(),
        Image.Resampling.BICUBIC,
        fillcolor=(0, 0, 0, 0),
    )
    return _png(laid)


def difference(image: bytes, laid: bytes) -> bytes:
    """What differs between an image and a work that was laid onto it: black where nothing does, clear beside it.

    Args:
        image: an image file.
        laid: as `laid_work` makes it.

    Returns:
        A PNG file, RGBA, of the size of `laid`.

    Raises:
        OSError: one of them cannot be read.
    """
    with Image.open(io.BytesIO(laid)) as opened:
        over = opened.convert("RGBA")
    with Image.open(io.BytesIO(image)) as opened:
        under = opened.convert("RGB").resize(over.size, Image.Resampling.LANCZOS)
    apart = ImageChops.difference(under, over.convert("RGB"))
    apart.putalpha(over.getchannel("A"))
    return _png(apart)


def drawn_on(picture: bytes, outlines: Sequence[Sequence[tuple[float, float]]], longest_px: int = 900) -> bytes:
    """A picture with closed lines in it.

    Args:
        picture: an image file.
        outlines: polygons, in fractions of its width and height.
        longest_px: of the drawing; pictures that are much smaller are enlarged without smoothing.

    Returns:
        A PNG file, RGB.

    Raises:
        OSError: the picture cannot be read.
    """
    with Image.open(io.BytesIO(picture)) as opened:
        drawn = opened.convert("RGB")
    scale = longest_px / max(drawn.size)
    size = (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale)))
    drawn = drawn.resize(size, Image.Resampling.NEAREST if scale > _COARSE_FROM else Image.Resampling.LANCZOS)
    pen, line = ImageDraw.Draw(drawn), max(2, round(_LINE_SHARE * longest_px))
    for outline in outlines:
        places = [(x * (drawn.width - 1), y * (drawn.height - 1)) for x, y in outline]
        for colour, width in ((_EDGE, line + 2), (_LINE, line)):
            if places:
                pen.line([*places, places[0], places[1 % len(places)]], fill=colour, width=width, joint="curve")
    return _png(drawn)


def _fitting(size_px: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, _LONGEST_PX / max(size_px))
    return max(1, round(size_px[0] * scale)), max(1, round(size_px[1] * scale))


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
