"""The further looks of the copy descriptor: tiles and turned views."""

import numpy as np
import pytest
import torch
from PIL import Image

from guardrail.carriers import ImageBatch, Look, Picture
from guardrail.fingerprint import Fingerprinter, query_looks, work_looks
from guardrail.fingerprint.looks import seen_by
from guardrail.records import VIEWS, Region, Sampling, tiles_of
from guardrail.testing import FakeEmbedder


def tensor(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_what_pillow_makes_of_it(view, originals):
    picture = Image.fromarray(originals[0]).resize((31, 17))
    expected = picture if view == "identity" else picture.transpose(Image.Transpose[view.upper()])
    assert torch.equal(seen_by(Look(view, None), tensor(picture)), tensor(expected))


def test_a_region_is_cut_to_whole_pixels_and_never_empty():
    pixels = torch.arange(3 * 10 * 20, dtype=torch.uint8).reshape(3, 10, 20)
    half = seen_by(Look("identity", Region(left=0.5, top=0, width=0.5, height=0.5)), pixels)
    assert torch.equal(half, pixels[:, :5, 10:])
    for tile in tiles_of(14):
        assert min(seen_by(Look("identity", tile), pixels[:, :1, :1]).shape) >= 1


def test_looks_are_turned_views_then_tiles():
    looks = query_looks(Sampling(query_views=4, query_tiles=5, tiles=10))
    assert [look.view for look in looks[:3]] == ["rotate_90", "rotate_180", "rotate_270"]
    assert [look.region for look in looks[3:]] == list(tiles_of(5))
    assert [look.region for look in work_looks(Sampling(tiles=10))] == list(tiles_of(10))


def test_fingerprinter_embeds_each_look_and_a_failed_row_has_none(originals):
    looks = query_looks(Sampling(query_views=8, query_tiles=5))
    embedder = FakeEmbedder()
    good, other = tensor(originals[0]), tensor(originals[1])
    pictures = (Picture("a", good), Picture("bad", torch.zeros((3, 0, 4), dtype=torch.uint8)), Picture("b", other))
    prints = Fingerprinter(embedder, device="cpu", looks=looks)(ImageBatch(pictures))
    assert prints.looks == looks
    assert prints.failures[1] is not None
    assert not prints.copy_looks[1].any()
    for row, pixels in ((0, good), (2, other)):
        expected = embedder.embed([seen_by(look, pixels) for look in looks])
        assert np.allclose(prints.copy_looks[row], expected, atol=1e-6)


def test_no_further_looks_unless_asked(originals):
    prints = Fingerprinter(FakeEmbedder(), device="cpu")(ImageBatch((Picture("a", tensor(originals[0])),)))
    assert prints.looks == ()
    assert prints.copy_looks is None
