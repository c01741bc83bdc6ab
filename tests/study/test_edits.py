"""Edits are pure functions of picture, intensity and seed: deterministic, sane in size and mode, and graded."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from guardrail.study.edits import EDITS, SUITES

# Those of which a stronger one takes every picture farther from what it was, pixel by pixel.
MONOTONE = ("brightness", "contrast", "gamma", "tint", "greyscale", "equalise", "channels", "vignette", "noise", "blur")


def scene(width=96, height=64, seed=5):
    """A picture with shapes, a ramp and colour: something for every edit to act on."""
    chance = np.random.default_rng(seed)
    ramp = np.linspace(40, 215, width)[None, :, None] + np.linspace(-30, 30, height)[:, None, None]
    image = Image.fromarray(np.broadcast_to(ramp, (height, width, 3)).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for x, y, w, h, *colour in chance.integers(0, 64, (9, 7)).tolist():
        draw.rectangle((x, y, x + w, y + h), fill=tuple(4 * c for c in colour))
    return image


def edited(name, picture, intensity, seed=1, others=()):
    return EDITS[name](picture, intensity, np.random.default_rng(seed), others)


@pytest.mark.parametrize("name", EDITS)
def test_edit_is_the_same_for_the_same_seed_and_writes_to_nothing(name):
    picture, other = scene(), scene(seed=9)
    before = picture.tobytes(), other.tobytes()
    once, again = (edited(name, picture, 60, others=[other]) for _ in range(2))
    assert (once.tobytes(), once.size) == (again.tobytes(), again.size)
    assert (picture.tobytes(), other.tobytes()) == before


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (17, 9)])
def test_edit_gives_an_rgb_picture_of_a_sane_size_even_of_the_smallest(name, size):
    for intensity in (1, 50, 100):
        after = edited(name, scene().resize(size), intensity)
        assert after.mode == "RGB"
        assert min(after.size) >= 1
        assert max(after.size) <= 8 * max(size) + 16


@pytest.mark.parametrize("name", EDITS)
def test_intensity_0_is_the_picture_itself_and_100_is_not(name):
    picture = scene()
    untouched = edited(name, picture, 0)
    assert untouched.tobytes() == picture.tobytes()
    assert untouched is not picture
    full = edited(name, picture, 100, others=[scene(seed=9)])
    assert (full.size, full.tobytes()) != (picture.size, picture.tobytes())


@pytest.mark.parametrize("name", [name for name, edit in EDITS.items() if edit.graded])
def test_a_faint_edit_is_nearer_to_the_picture_than_the_strongest(name):
    picture = scene()
    apart = [_apart(picture, edited(name, picture, intensity, others=[scene(seed=9)])) for intensity in (5, 100)]
    assert apart[0] < apart[1]


@pytest.mark.parametrize("name", MONOTONE)
@pytest.mark.parametrize("seed", range(4))
def test_photometric_edits_move_farther_with_intensity(name, seed):
    picture = scene()
    apart = [_apart(picture, edited(name, picture, intensity, seed)) for intensity in (0, 20, 40, 60, 80, 100)]
    assert apart == sorted(apart)
    assert apart[0] == 0 < apart[-1]


def _apart(picture, other):
    """Mean difference of pixels; pictures of another size are brought to the first one's."""
    other = other if other.size == picture.size else other.resize(picture.size, Image.Resampling.BILINEAR)
    return float(np.abs(np.asarray(picture, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("intensity", [-1, 100.5, float("nan")])
def test_intensity_outside_its_range_is_refused(intensity):
    with pytest.raises(ValueError, match=r"expected 0\.\.100"):
        edited("blur", scene(), intensity)


def test_picture_of_another_mode_is_refused():
    with pytest.raises(ValueError, match="expected 'RGB'"):
        edited("blur", scene().convert("L"), 50)


def test_collage_holds_the_work_on_a_tenth_of_the_other_picture():
    work, ground = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (90, 90), "blue")
    collage = np.asarray(edited("collage", work, 100, others=[ground]))
    assert (collage[..., 0] == 255).mean() == pytest.approx(0.1, rel=0.05)
    assert (collage[..., 2] == 255).mean() == pytest.approx(0.9, rel=0.05)


def test_quarter_crop_is_a_piece_of_the_picture_with_a_quarter_of_its_area():
    picture = scene()
    piece = edited("quarter_crop", picture, 100)
    assert piece.width * piece.height == pytest.approx(0.25 * picture.width * picture.height, rel=0.01)
    pixels, sought = np.asarray(picture), np.asarray(piece)
    places = [
        np.array_equal(pixels[y : y + piece.height, x : x + piece.width], sought)
        for y in range(picture.height - piece.height + 1)
        for x in range(picture.width - piece.width + 1)
    ]
    assert any(places)


def test_latent_keeps_what_is_flat_in_a_block_and_loses_fine_texture():
    flat = Image.new("RGB", (32, 32), (90, 140, 60))
    assert _apart(flat, edited("latent", flat, 100)) < 8
    checks = Image.fromarray((np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    few, many = (_apart(checks, edited("latent", checks, intensity)) for intensity in (100, 10))
    assert few > 50 > many


def test_suites_name_edits_that_exist_and_thorn_has_eleven():
    assert {name for suite in SUITES.values() for name in suite.edits} <= set(EDITS)
    assert len(SUITES["thorn"].edits) == 11
    assert 14 <= len(SUITES["default"].edits) <= 18


def test_thorn_edits_have_the_sizes_that_its_page_gives():
    picture = scene(200, 100)
    sizes = {name: edited(name, picture, 100).size for name in ("thorn_pad", "thorn_crop", "thorn_resize")}
    assert sizes == {"thorn_pad": (200, 140), "thorn_crop": (180, 90), "thorn_resize": (100, 50)}
    assert edited("thorn_rotate", picture, 100).size == picture.size
