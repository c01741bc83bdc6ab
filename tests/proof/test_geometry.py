import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from guardrail.proof import align, features_of
from guardrail.records import VIEWS


def features(picture):
    return features_of(np.ascontiguousarray(np.asarray(picture.convert("RGB"))))


def laid(image, work):
    return align(features(image), features(work))


def test_copy_lies_corner_on_corner(work):
    found = laid(work, work)
    assert found.inliers > 80
    assert found.view == "identity"
    assert np.allclose(found.corners, [(0, 0), (1, 0), (1, 1), (0, 1)], atol=0.02)
    assert 0.7 < found.overlap <= 1


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_found_and_named(work, view):
    image = work if view == "identity" else work.transpose(getattr(Image.Transpose, view.upper()))
    undone = {"rotate_90": "rotate_270", "rotate_270": "rotate_90"}.get(view, view)
    found = laid(image, work)
    assert found.inliers > 60
    assert found.view == undone


@pytest.mark.parametrize(
    ("edit", "corners"),
    [
        (lambda work: work.crop((64, 64, 192, 192)), [(-0.5, -0.5), (1.5, -0.5), (1.5, 1.5), (-0.5, 1.5)]),
        (lambda work: ImageOps.expand(work, 128, "navy"), [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]),
        (lambda work: work.resize((256, 160)), [(0, 0), (1, 0), (1, 1), (0, 1)]),
        (lambda work: ImageOps.mirror(work), [(1, 0), (0, 0), (0, 1), (1, 1)]),
    ],
    ids=["crop", "pad", "squash", "mirror"],
)
def test_corners_say_where_the_work_lies(work, edit, corners):
    found = laid(edit(work), work)
    assert np.allclose(found.corners, corners, atol=0.04)


def test_turned_by_any_angle(work):
    found = laid(work.rotate(25, fillcolor="white"), work)
    assert found.inliers > 60
    x, y = found.corners[0]
    middle, angle = np.array([0.5, 0.5]), np.deg2rad(25)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert np.allclose((x, y), middle + turn @ (np.zeros(2) - middle), atol=0.02)


def test_pasted_into_another_picture(work, paint):
    other = paint(2, (320, 320))
    other.paste(work.resize((140, 140)), (150, 30))
    found = laid(other, work)
    assert found.inliers > 20
    assert np.allclose(found.corners[0], (150 / 320, 30 / 320), atol=0.03)


def test_overlap_is_the_share_of_the_work_that_points_cover(work):
    quarter = laid(work.crop((0, 0, 128, 128)), work)
    assert 0.12 < quarter.overlap <= 0.25
    hull = quarter.hull * [256, 256]
    assert quarter.overlap == pytest.approx(cv2.contourArea(hull.astype(np.float32)) / 256**2, rel=1e-3)


def test_other_pictures_in_the_same_style_do_not_align(work, paint):
    assert [laid(paint(seed), work) for seed in range(2, 22)] == [None] * 20


def test_same_logo_in_a_corner_is_no_region(work, paint):
    one, other = work.copy(), paint(7)
    logo = paint(9, (60, 60))
    one.paste(logo, (190, 190))
    other.paste(logo, (190, 190))
    assert laid(other, one) is None


def test_same_line_of_text_is_no_region(paint):
    pictures = [paint(3), paint(4)]
    for picture in pictures:
        pen = ImageDraw.Draw(picture)
        pen.rectangle((0, 230, 256, 256), fill="black")
        pen.text((6, 234), "The quick brown fox jumps over it", fill="white", font_size=14)
    assert laid(*pictures) is None


def test_too_few_features_align_nothing():
    flat = Image.new("RGB", (96, 96), "grey")
    assert laid(flat, flat) is None


def test_same_features_same_alignment(work):
    image = work.rotate(10)
    one, other = laid(image, work), laid(image, work)
    assert one.inliers == other.inliers
    assert np.array_equal(one.homography, other.homography)
