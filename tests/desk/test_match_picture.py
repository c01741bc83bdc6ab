import io

import numpy as np
import pytest
from PIL import Image

from guardrail.desk.match_picture import draw_match, telling_match
from guardrail.records import CopyMatch, ExactMatch, GeometryMatch, Point, Region, Signal, Work

WORK = Work(work_id="fox")
LINE = (255, 59, 107)


def preview(width=192, height=96):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "grey").save(file, "JPEG")
    return file.getvalue()


def points(*places):
    return tuple(Point(x=x, y=y) for x, y in places)


def geometry(inliers=20, work=WORK):
    return GeometryMatch(
        work=work,
        inliers=inliers,
        overlap=0.5,
        image_corners=points((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)),
        work_hull=points((0.1, 0.1), (0.9, 0.1), (0.5, 0.9)),
    )


def is_line(picture, x, y):
    return picture.getpixel((round(x), round(y))) == LINE


def test_image_shows_the_frame_and_work_the_hull():
    drawn = draw_match(np.zeros((100, 100, 3), np.uint8), preview(), geometry())
    assert drawn.size == (492, 240)
    for x, y in ((60, 120), (179, 120), (120, 60), (120, 179)):
        assert is_line(drawn, x, y)
    assert not is_line(drawn, 120, 120)
    assert is_line(drawn, 252 + 120, 60 + 0.1 * 119)
    assert not is_line(drawn, 252 + 120, 120)


def test_tiles_are_drawn_as_rectangles_and_the_whole_as_its_border():
    tile = CopyMatch(
        work=WORK, signal=Signal.TILE, similarity=0.9, region=Region(left=0.5, top=0.5, width=0.5, height=0.5)
    )
    drawn = draw_match(np.zeros((80, 80, 3), np.uint8), preview(96, 96), tile)
    assert is_line(drawn, 120, 180)
    assert not is_line(drawn, 60, 120)
    assert is_line(drawn, 252, 120)


def test_frame_beside_the_image_is_cut_not_refused():
    far = geometry().model_copy(update={"image_corners": points((-3, -3), (4, -3), (4, 4), (-3, 4))})
    assert draw_match(np.zeros((50, 200, 3), np.uint8), preview(), far).size == (492, 120)


def test_the_most_telling_evidence_on_this_work_is_shown():
    other = Work(work_id="owl")
    whole = CopyMatch(work=WORK, similarity=0.99)
    tile = CopyMatch(work=WORK, signal=Signal.TILE, similarity=0.8, region=Region(left=0, top=0, width=0.5, height=0.5))
    exact = ExactMatch(work=WORK, signal=Signal.BYTES)
    assert telling_match([exact, whole], WORK) is None
    assert telling_match([whole, tile], WORK) is tile
    strong = geometry(40)
    assert telling_match([tile, geometry(9), strong, geometry(99, other)], WORK) is strong


def test_preview_that_cannot_be_read_is_an_error():
    with pytest.raises(OSError, match="cannot identify"):
        draw_match(np.zeros((9, 9, 3), np.uint8), b"cut", geometry())
