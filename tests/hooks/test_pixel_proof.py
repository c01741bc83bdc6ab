import io

import numpy as np
import pytest
import torch
from PIL import Image

from guardrail.carriers import Picture
from guardrail.records import VIEWS, Limits, Neighbour, Signal, SimilarityLimit, Work
from guardrail_hooks import pixel_proof

LIMITS = Limits(correlation=SimilarityLimit(flag_above=0.85, block_above=0.9))
WORK = Work(work_id="fox")


class OneWork:
    """An index of one work, as far as proof needs one."""

    def __init__(self, picture):
        self.small = np.asarray(picture.resize((32, 32), Image.Resampling.BOX))

        file = io.BytesIO()
        picture.convert("RGB").save(file, "JPEG", quality=85)
        self.file = file.getvalue()

    def proof_pixels(self, row):
        return self.small

    def preview(self, row):
        return self.file


def field(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)


def find(image, work):
    picture = Picture("a", torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1))
    near = tuple(Neighbour(work=WORK, row=0, signal=signal, distance_bits=9) for signal in (Signal.PDQ, Signal.PHASH))
    return pixel_proof.find_evidence(picture, near, work if isinstance(work, OneWork) else OneWork(work), LIMITS)


@pytest.mark.parametrize("view", VIEWS)
def test_hook_find_evidence_proves_a_copy_in_every_view(view):
    work = field(1)
    shown = work if view == "identity" else work.transpose(getattr(Image.Transpose, view.upper()))
    undone = {"rotate_90": "rotate_270", "rotate_270": "rotate_90"}.get(view, view)
    (match,) = find(shown, work)
    assert match.similarity > 0.99
    assert match.view == undone


def test_tint_brightness_and_contrast_do_not_matter():
    work = field(1)
    tinted = np.asarray(work, np.float64) * np.array([0.6, 0.5, 0.7]) + np.array([60, 20, 0])
    assert find(Image.fromarray(tinted.round().astype(np.uint8)), work)[0].similarity > 0.98


def test_other_pictures_are_no_evidence():
    assert [find(field(seed), field(1)) for seed in range(2, 22)] == [[]] * 20


def test_flat_pictures_prove_nothing():
    flat = Image.new("RGB", (96, 96), (90, 90, 90))
    assert find(flat, flat) == []


def test_each_work_is_compared_once():
    assert len(find(field(1), field(1))) == 1


def test_agrees_with_the_plain_formula():
    image, work = field(1), field(2)
    one, other = (np.asarray(each.resize((32, 32), Image.Resampling.BOX), np.float64) for each in (image, work))
    one, other = one - one.mean((0, 1)), other - other.mean((0, 1))
    plain = (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
    similarities = pixel_proof._views(one) @ pixel_proof._centred(other)
    assert similarities[0] == pytest.approx(plain, abs=1e-9)


def test_tiles_tell_works_of_one_series_apart():
    work = field(1)
    another = work.copy()
    another.paste(field(2).crop((0, 0, 20, 20)), (40, 40))
    (same,), (series,) = find(work, work), find(another, work)
    assert series.similarity >= 0.9
    assert same.tile_l2 < 0.05
    assert series.tile_l2 > 0.15


def test_preview_that_cannot_be_read_is_an_error():
    index = OneWork(field(1))
    index.preview = lambda row: b"cut"
    with pytest.raises(OSError, match="cannot identify"):
        find(field(1), index)
