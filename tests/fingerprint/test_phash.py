"""pHash on any device agrees with imagehash, down to Pillow's rounding."""

import imagehash
import numpy as np
import pytest
import torch
from PIL import Image

from guardrail.fingerprint import hash_phash
from guardrail.fingerprint.devices import to_host
from guardrail.fingerprint.phash import shrunk_grey
from guardrail.fingerprint.reference import phash_reference
from guardrail.records import VIEWS

TURNED_BITS = 4  # Pillow rounds a turned picture's passes in the other order: measured at most 2 on the demo's works
SMALLEST_TURNED_PX = 20  # below, enlarging makes rounding a larger share of the picture: up to 8 bits at 5 px


def tensor(picture, device="cpu"):
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].to(device)


def shrunk_across_first(image):
    """Pillow's shrinking, across and then down: the only order it had before Pillow 13 and tall pictures."""
    return (
        image.convert("L")
        .resize((32, image.height), Image.Resampling.LANCZOS)
        .resize((32, 32), Image.Resampling.LANCZOS)
    )


def theirs(picture, view="identity"):
    image = Image.fromarray(picture)
    image = image if view == "identity" else image.transpose(Image.Transpose[view.upper()])
    return np.packbits(imagehash.phash(shrunk_across_first(image)).hash.flatten())


def bits_apart(one, other):
    return int(np.bitwise_count(one ^ other).sum())


def test_shrinking_equals_pillows_pixel_for_pixel(pictures, device):
    for picture in pictures:
        expected = np.asarray(shrunk_across_first(Image.fromarray(picture)))
        assert np.array_equal(to_host(shrunk_grey(tensor(picture, device)))[0], expected)


def test_hash_equals_imagehash(pictures, device):
    for picture in pictures:
        assert bits_apart(to_host(hash_phash(tensor(picture, device)))[0, 0], theirs(picture)) == 0


def test_hash_equals_imagehash_as_called_by_people(originals):
    for picture in originals:
        expected = np.packbits(imagehash.phash(Image.fromarray(picture)).hash.flatten())
        assert bits_apart(to_host(hash_phash(tensor(picture)))[0, 0], expected) == 0


def test_views_are_those_of_turned_pictures_within_stated_bits(pictures):
    for picture in pictures:
        hashes = to_host(hash_phash(tensor(picture)))[0]
        for found, view in zip(hashes, VIEWS, strict=True):
            if min(picture.shape[:2]) >= SMALLEST_TURNED_PX:
                assert bits_apart(found, theirs(picture, view)) <= TURNED_BITS, view


def test_hash_equals_the_plain_version(pictures):
    for picture in pictures[12:]:
        assert bits_apart(to_host(hash_phash(tensor(picture)))[0, 0], phash_reference(picture)) == 0


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_tiny_picture_has_a_hash(height, width):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    hashes = to_host(hash_phash(tensor(picture)))[0]
    assert hashes.shape == (8, 8)
    assert bits_apart(hashes[0], phash_reference(picture)) == 0


def test_flat_picture_has_one_bit_the_mean(device):
    hashes = to_host(hash_phash(tensor(np.full((50, 70, 3), 128, np.uint8), device)))[0]
    assert hashes.tolist() == [[128, 0, 0, 0, 0, 0, 0, 0]] * 8


def test_a_hash_does_not_depend_on_its_batch(originals, device):
    stacked = torch.cat([tensor(picture, device) for picture in originals])
    alone = torch.cat([hash_phash(stacked[row : row + 1]) for row in range(len(stacked))])
    assert torch.equal(hash_phash(stacked), alone)
