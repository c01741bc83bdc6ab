import numpy as np
import pytest
import torch
from PIL import Image

from guardrail.intake import pictures_from

CHANCE = np.random.default_rng(0)
PICTURE = CHANCE.integers(0, 256, (6, 8, 3), np.uint8)


def only(value):
    (picture,) = pictures_from(value).pictures
    return picture


@pytest.mark.parametrize(
    "value",
    [
        PICTURE,
        PICTURE[:, ::-1][:, ::-1],
        PICTURE[..., ::-1].copy()[..., ::-1],
        (PICTURE.astype(np.float32) / 255).astype(">f4"),
        PICTURE.astype(np.float32) / 255,
        PICTURE.astype(np.float64) / 127.5 - 1,
        PICTURE[None],
        torch.from_numpy(PICTURE.transpose(2, 0, 1).copy()),
        torch.from_numpy(PICTURE).float() / 255,
        (torch.from_numpy(PICTURE).permute(2, 0, 1).double() / 127.5 - 1)[None],
        Image.fromarray(PICTURE),
        [[Image.fromarray(PICTURE)]],
    ],
)
def test_all_forms_of_one_picture_are_the_same_pixels(value):
    assert np.array_equal(only(value).pixels.permute(1, 2, 0).numpy(), PICTURE)


def test_half_precision_is_within_a_grey_level():
    pixels = only(torch.from_numpy(PICTURE).permute(2, 0, 1).half() / 255).pixels
    assert (pixels.permute(1, 2, 0).int() - torch.from_numpy(PICTURE).int()).abs().max() <= 1


def test_grey_arrays_become_three_equal_channels():
    pixels = only(PICTURE[..., 0]).pixels
    assert torch.equal(pixels[0], pixels[2])
    assert np.array_equal(pixels[0].numpy(), PICTURE[..., 0])


def test_colours_under_transparency_are_kept_to_be_judged():
    hidden = np.dstack([PICTURE, np.full((6, 8), 30, np.uint8)])
    for value in (Image.fromarray(hidden, "RGBA"), hidden, torch.from_numpy(hidden).permute(2, 0, 1) / 255):
        picture = only(value)
        bare, on_black = picture.bare
        assert np.array_equal(bare.permute(1, 2, 0).numpy(), PICTURE)
        assert on_black.max() < 40
        assert picture.pixels.min() > 200
    opaque = np.dstack([PICTURE, np.full((6, 8), 255, np.uint8)])
    assert all(only(value).bare == () for value in (Image.fromarray(opaque, "RGBA"), opaque, PICTURE))


def test_alpha_is_laid_on_white():
    array = np.zeros((2, 2, 4), np.float32)
    assert only(array).pixels.unique().tolist() == [255]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.full((4, 4, 3), np.nan, np.float32), "not finite"),
        (np.array([[[0.0, np.inf, 0.0]]], np.float32), "not finite"),
        (np.full((4, 4, 3), 1.5, np.float32), "outside 0..1"),
        (np.full((4, 4, 3), -3.0, np.float32), "outside 0..1"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 0, 3), np.uint8), "empty"),
        (np.zeros((6, 7, 5), np.uint8), "whose last axis"),
        (np.zeros((3, 6, 8), np.uint8), "whose last axis"),
        (torch.zeros(6, 7, 5), "without an axis"),
        (torch.zeros(3, 40_000, 5), "longer than"),
        (torch.zeros(3, 6, 8, device="meta"), ""),
        (torch.randn(4, 8, 8).clamp(-1, 1), "latent"),
        (np.zeros((4, 4, 3), np.int64), "type"),
        (np.zeros((4, 4, 3), bool), "type"),
        (np.zeros(4), "shape"),
        (Image.new("RGB", (0, 5)), "0x5"),
        (object(), "a object"),
        (None, "a NoneType"),
        (7, "a int"),
    ],
)
def test_what_is_no_picture_fails_alone_and_says_why(value, says):
    bad, good = pictures_from([value, PICTURE]).pictures
    assert says in bad.failure.error
    assert bad.name == "images[0]"
    assert good.pixels is not None


def test_values_just_inside_and_outside_the_range():
    assert only(np.full((4, 4, 3), 1 + 0.9 / 255)).pixels is not None
    assert only(np.full((4, 4, 3), 1 + 1.1 / 255)).failure is not None


def test_no_images_no_pictures():
    assert len(pictures_from([])) == 0
    assert len(pictures_from(np.zeros((0, 4, 4, 3), np.uint8))) == 0


def test_pixels_are_our_own_copy():
    array = PICTURE.copy()
    tensor = torch.from_numpy(PICTURE.transpose(2, 0, 1).copy())
    ours = [only(array).pixels, only(tensor).pixels]
    array[:], tensor[:] = 0, 0
    assert all(pixels.sum() > 0 for pixels in ours)
