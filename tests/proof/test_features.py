import numpy as np
from PIL import ImageOps

from guardrail.proof import features_of


def test_features_say_where_and_what(work):
    found = features_of(np.asarray(work))
    assert len(found) > 100
    assert found.points.dtype == np.float32
    assert found.descriptors.shape == (len(found), 128)
    assert found.descriptors.dtype == np.uint8
    assert (found.width, found.height) == work.size
    assert (found.points >= 0).all()
    assert (found.points < 256).all()


def test_same_pixels_same_features(work):
    one, other = features_of(np.asarray(work)), features_of(np.asarray(work))
    assert np.array_equal(one.points, other.points)
    assert np.array_equal(one.descriptors, other.descriptors)


def test_flat_picture_has_none():
    found = features_of(np.full((64, 64, 3), 90, np.uint8))
    assert found.descriptors.shape == (0, 128)
    assert len(found.mirrored()) == 0


def test_mirrored_features_are_those_of_the_mirrored_picture(work):
    turned = features_of(np.asarray(work)).mirrored()
    looked = features_of(np.ascontiguousarray(np.asarray(ImageOps.mirror(work))))
    agree = 0
    for point, row in zip(looked.points, looked.descriptors.astype(np.float64), strict=True):
        beside = np.abs(turned.points - point).max(axis=1) < 1.5
        apart = np.linalg.norm(turned.descriptors[beside].astype(np.float64) - row, axis=1) / np.linalg.norm(row)
        agree += bool((apart < 0.25).any())
    assert agree > 0.8 * len(looked)


def test_unit_rows_have_unit_length(work):
    rows = features_of(np.asarray(work)).unit_rows()
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
