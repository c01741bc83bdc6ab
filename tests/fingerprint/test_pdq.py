"""PDQ on any device agrees with pdqhash and with its own plain version."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from guardrail.fingerprint import hash_pdq, pixels_digest
from guardrail.fingerprint.devices import exact_arithmetic, to_host
from guardrail.fingerprint.pdq import axis_matrix
from guardrail.fingerprint.reference import pdq_reference
from guardrail.records import VIEWS

HERE = Path(__file__).parent
sys.path.append(str(HERE.parents[1] / "tools"))

SLOW_BYTES = 3 * 40_000  # the plain version takes a second for a picture of 256x256
GPU_BITS = 2  # a GPU adds up in another order: coefficients within 1e-4 of the median may fall on its other side


def tensor(picture, device="cpu"):
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(device)


def hashed(picture, device="cpu"):
    with exact_arithmetic(torch.device(device)):
        hashes, quality = hash_pdq(tensor(picture, device))
    return to_host(hashes)[0], int(quality)


def turned(picture, view):
    image = Image.fromarray(picture)
    return np.asarray(image if view == "identity" else image.transpose(Image.Transpose[view.upper()]))


def bits_apart(one, other):
    return int(np.bitwise_count(one ^ other).sum())


def test_hashes_and_quality_equal_pdqhash_in_all_eight_views(pictures):
    pdqhash = pytest.importorskip("pdqhash")
    for picture in pictures:
        hashes, quality = hashed(picture)
        for found, view in zip(hashes, VIEWS, strict=True):
            theirs, their_quality = pdqhash.compute(np.ascontiguousarray(turned(picture, view)))
            assert bits_apart(found, np.packbits(theirs.astype(np.uint8))) == 0, view
            if view == "identity":
                assert quality == their_quality


def test_hashes_equal_the_golden_ones(device):
    from make_golden_pdq import ROOT, cut

    differing = 0
    for entry in json.loads((HERE / "golden_pdq.json").read_text(encoding="utf-8")):
        whole = np.asarray(Image.open(ROOT / "indexes/demo/works" / entry["work"]).convert("RGB"))
        picture = cut(whole, entry["height"], entry["width"])
        assert pixels_digest(tensor(picture)[0]) == entry["pixels_sha256"], "the golden file is of other pictures"
        hashes, quality = hashed(picture, device)
        assert quality == entry["quality"]
        apart = [
            bits_apart(found, np.frombuffer(bytes.fromhex(golden), np.uint8))
            for found, golden in zip(hashes, entry["views"], strict=True)
        ]
        assert max(apart) <= (0 if device == "cpu" else GPU_BITS)
        differing += any(apart)
    assert differing <= 1


def test_hashes_equal_the_plain_version(pictures):
    for picture in (one for one in pictures if one.size < SLOW_BYTES):
        plain, quality = pdq_reference(picture)
        hashes, ours = hashed(picture)
        assert bits_apart(hashes[0], plain) == 0
        assert ours == quality


def test_a_hash_does_not_depend_on_its_batch(originals, device):
    stacked = torch.cat([tensor(picture, device) for picture in originals])
    with exact_arithmetic(torch.device(device)):
        together, quality = hash_pdq(stacked)
        alone = [hash_pdq(stacked[row : row + 1]) for row in range(len(stacked))]
    assert torch.equal(together, torch.cat([hashes for hashes, _ in alone]))
    assert torch.equal(quality, torch.cat([one for _, one in alone]))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (4, 4), (4, 500)])
def test_side_below_five_gives_zeros_as_pdqhash_does(height, width):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    hashes, quality = hashed(picture)
    assert hashes.shape == (8, 32)
    assert not hashes.any()
    assert quality == 0
    assert pdq_reference(picture)[1] == 0


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 40)])
@pytest.mark.parametrize(("height", "width"), [(256, 256), (13, 7), (211, 37)])
def test_flat_picture_gives_zeros(colour, height, width):
    hashes, quality = hashed(np.full((height, width, 3), colour, np.uint8))
    assert not hashes.any()
    assert quality == 0


def test_pictures_laid_out_row_by_row_hash_the_same(originals):
    lying = torch.from_numpy(originals[0].copy())[None].permute(0, 3, 1, 2)
    assert torch.equal(hash_pdq(lying)[0], hash_pdq(lying.contiguous())[0])


@pytest.mark.parametrize("size", [1, 5, 63, 64, 65, 128, 129, 500, 4096])
def test_axis_matrix_keeps_brightness(size):
    assert np.allclose(axis_matrix(size).sum(1), 1, atol=1e-12)


def test_no_pictures_no_hashes():
    hashes, quality = hash_pdq(torch.zeros(0, 3, 64, 64, dtype=torch.uint8))
    assert (hashes.shape, quality.shape) == ((0, 8, 32), (0,))
