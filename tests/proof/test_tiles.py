import numpy as np
import pytest
from PIL import ImageDraw, ImageOps

from guardrail.proof import align, compare_aligned, compare_viewed, features_of, tile_distances


def array(picture):
    return np.ascontiguousarray(np.asarray(picture.convert("RGB")))


def test_l2_is_that_of_the_source_at_512_px():
    """Carlini et al. 2023: pictures of 512 x 512 in 16 tiles of 128 x 128; a copy where the largest l2 is <= 0.15."""
    one = np.full((512, 512, 3), 0.5)
    other = one + 0.15
    assert tile_distances(one, other).shape == (4, 4)
    assert tile_distances(one, other).max() == pytest.approx(0.15)
    spot = one.copy()
    spot[128:256, 384:512] += 0.4
    distances = tile_distances(one, spot)
    assert distances.max() == distances[1, 3] == pytest.approx(0.4)
    assert np.count_nonzero(distances) == 1
    whole = np.sqrt(((one - spot) ** 2).mean())
    assert whole == pytest.approx(0.1)  # the plain l2 of section 4.1 calls them the same


def test_agrees_with_the_plain_formula():
    one, other = np.random.default_rng(0).random((2, 64, 64, 3))
    plain = [
        [np.sqrt(np.mean((one - other)[r : r + 16, c : c + 16] ** 2)) for c in range(0, 64, 16)]
        for r in range(0, 64, 16)
    ]
    assert np.allclose(tile_distances(one, other), plain)


def test_tint_and_contrast_do_not_count(work):
    tinted = (array(work) * np.array([0.6, 0.5, 0.7]) + np.array([60, 20, 0])).astype(np.uint8)
    assert compare_viewed(tinted, array(work), "identity") < 0.02


def test_one_tile_that_differs_counts(work):
    other = work.copy()
    ImageDraw.Draw(other).ellipse((70, 70, 120, 120), fill="white")
    assert compare_viewed(array(other), array(work), "identity") > 0.15


def test_other_pictures_are_far(work, paint):
    assert min(compare_viewed(array(paint(seed)), array(work), "identity") for seed in range(2, 12)) > 0.15


@pytest.mark.parametrize("view", ["identity", "rotate_90", "rotate_180", "flip_left_right", "transpose", "transverse"])
def test_view_is_undone(work, view):
    from PIL import Image

    undo = {"rotate_90": "rotate_270"}.get(view, view)
    shown = work if view == "identity" else work.transpose(getattr(Image.Transpose, undo.upper()))
    assert compare_viewed(array(shown), array(work), view) < 0.02


def test_only_what_the_image_shows_is_compared(work):
    for image in (work.crop((0, 0, 160, 256)), ImageOps.mirror(work.crop((40, 40, 216, 216))), work.rotate(15)):
        found = align(features_of(array(image)), features_of(array(work)))
        assert compare_aligned(array(image), array(work), found.homography) < 0.15


def test_too_little_in_sight_says_nothing(work):
    nowhere = np.array([[1.0, 0, 10_000], [0, 1, 0], [0, 0, 1]])
    assert compare_aligned(array(work), array(work), nowhere) is None
