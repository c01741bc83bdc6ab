"""A failure stays with its picture, sizes may be mixed, and nothing of the caller's is written to."""

import hashlib

import numpy as np
import pytest
import torch

from guardrail.carriers import ImageBatch, Picture
from guardrail.errors import ImageUnreadable, SettingsInvalid
from guardrail.fingerprint import Fingerprinter, hash_pdq, hash_phash, pixels_digest, resolve_device
from guardrail.fingerprint import fingerprinter as room
from guardrail.records import CheckFailed
from guardrail.testing import FakeEmbedder

MARKED = 77  # the first pixel of a picture that an embedder below stumbles over


def noise(height, width, seed=0):
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def marked(height=40, width=40):
    pixels = noise(height, width)
    pixels[0, 0, 0] = MARKED
    return pixels


def batch_of(*pixels):
    return ImageBatch(tuple(Picture(name=f"images[{row}]", pixels=one) for row, one in enumerate(pixels)))


class Stumbling(FakeEmbedder):
    """Fails as told when a marked picture is in the batch."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.sizes = []

    def embed(self, pictures):
        self.sizes.append(len(pictures))
        vectors = super().embed(pictures)
        where = [row for row, picture in enumerate(pictures) if int(picture[0, 0, 0]) == MARKED]
        return self.how(vectors, where) if where else vectors


def raising(error):
    def how(vectors, where):
        raise error

    return how


def filled(value):
    def how(vectors, where):
        vectors[where] = value
        return vectors

    return how


def test_mixed_sizes_come_out_in_order():
    pixels = [noise(40, 60, 1), noise(64, 64, 2), noise(40, 60, 3), noise(1, 1, 4), noise(64, 64, 5)]
    prints = Fingerprinter(FakeEmbedder(), FakeEmbedder(), "cpu", batch=2)(batch_of(*pixels))
    assert prints.failures == (None,) * 5
    for row, one in enumerate(pixels):
        hashes, quality = hash_pdq(one[None])
        assert np.array_equal(prints.pdq[row], hashes[0].numpy())
        assert prints.pdq_quality[row] == int(quality)
        assert np.array_equal(prints.phash[row], hash_phash(one[None])[0].numpy())
        assert np.allclose(prints.copy[row], FakeEmbedder().embed([one])[0])
        assert prints.pixels_sha256[row] == pixels_digest(one)
    assert np.array_equal(prints.copy, prints.clip)


def test_shapes_and_dtypes_hold_for_an_empty_batch():
    prints = Fingerprinter(FakeEmbedder(), None, "cpu")(ImageBatch(()))
    assert len(prints) == 0
    assert (prints.pdq.shape, prints.pdq.dtype) == ((0, 8, 32), np.uint8)
    assert (prints.pdq_quality.shape, prints.pdq_quality.dtype) == ((0,), np.int64)
    assert (prints.phash.shape, prints.phash.dtype) == ((0, 8, 8), np.uint8)
    assert (prints.copy.shape, prints.copy.dtype) == ((0, 192), np.float32)
    assert prints.clip is None


@pytest.mark.parametrize(
    "how",
    [
        raising(torch.OutOfMemoryError("out of memory")),
        raising(ValueError("cannot")),
        filled(np.nan),
        filled(np.inf),
        filled(0),
        filled(2),
        lambda vectors, where: vectors[1:],
        lambda vectors, where: vectors[:, 1:],
    ],
    ids=["out-of-memory", "error", "nan", "infinite", "zero", "long", "row-missing", "column-missing"],
)
@pytest.mark.parametrize("check", ["copy", "clip"])
def test_embedder_failure_stays_with_its_picture(how, check):
    embedders = {"copy": FakeEmbedder(), "clip": FakeEmbedder(), check: Stumbling(how)}
    prints = Fingerprinter(**embedders, device="cpu")(batch_of(noise(40, 40, 1), marked(), noise(40, 40, 2)))
    assert [failure is None for failure in prints.failures] == [True, False, True]
    failure = prints.failures[1]
    assert isinstance(failure, CheckFailed)
    assert (failure.check, failure.image) == (check, "images[1]")
    for column in (prints.pdq, prints.pdq_quality, prints.phash, prints.copy, prints.clip):
        assert not column[1].any()
        assert column[2].any()
    assert prints.pixels_sha256[1] is None
    assert np.isfinite(prints.copy).all()


def test_chunk_out_of_memory_is_tried_again_one_by_one():
    class Small(FakeEmbedder):
        def embed(self, pictures):
            if len(pictures) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return super().embed(pictures)

    prints = Fingerprinter(Small(), None, "cpu")(batch_of(noise(40, 40, 1), noise(40, 40, 2)))
    assert prints.failures == (None, None)


def test_hash_failure_stays_with_its_picture(monkeypatch):
    def stumbling(pixels):
        if (pixels[:, 0, 0, 0] == MARKED).any():
            raise torch.OutOfMemoryError("out of memory")
        return hash_pdq(pixels)

    monkeypatch.setattr(room, "hash_pdq", stumbling)
    prints = Fingerprinter(FakeEmbedder(), None, "cpu")(batch_of(noise(40, 40), marked(), noise(40, 40)))
    assert [failure and failure.check for failure in prints.failures] == [None, "hashes", None]


def test_failure_that_came_along_is_kept_and_not_embedded():
    broken = CheckFailed(check="read_file", image="b.png", error="truncated")
    pictures = (Picture("a", noise(9, 9)), Picture("b.png", failure=broken, file_sha256="0" * 64))
    embedder = Stumbling(filled(0))
    prints = Fingerprinter(embedder, None, "cpu")(ImageBatch(pictures))
    assert prints.failures == (None, broken)
    assert prints.file_sha256 == (None, "0" * 64)
    assert embedder.sizes == [1]


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(3, 8, 8), torch.zeros(4, 8, 8, dtype=torch.uint8), torch.zeros(3, 0, 8, dtype=torch.uint8)],
    ids=["float", "four-channels", "no-height"],
)
def test_pixels_of_another_kind_fail_instead_of_being_guessed(pixels):
    prints = Fingerprinter(FakeEmbedder(), None, "cpu")(batch_of(noise(9, 9), pixels))
    assert prints.failures[0] is None
    assert prints.failures[1].check == "pixels"


def test_callers_pixels_are_not_written_to():
    pixels = [noise(40, 40), noise(9, 30)]
    before = [one.clone() for one in pixels]
    Fingerprinter(FakeEmbedder(), FakeEmbedder(), "cpu")(batch_of(*pixels))
    assert all(torch.equal(one, other) for one, other in zip(pixels, before, strict=True))


def test_embedder_gets_at_most_a_batch():
    embedder = Stumbling(filled(0))
    Fingerprinter(embedder, None, "cpu", batch=2)(batch_of(*[noise(9, 9, seed) for seed in range(5)]))
    assert embedder.sizes == [2, 2, 1]


def test_digest_is_of_size_and_rows():
    pixels = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4)
    rows = b"4x2:" + bytes(pixels.permute(1, 2, 0).flatten().tolist())
    assert pixels_digest(pixels) == hashlib.sha256(rows).hexdigest()
    assert pixels_digest(pixels) != pixels_digest(pixels.reshape(3, 4, 2))
    assert pixels_digest(pixels) == pixels_digest(pixels.permute(1, 2, 0).contiguous().permute(2, 0, 1))


def test_digest_refuses_floats():
    with pytest.raises(ImageUnreadable, match="uint8"):
        pixels_digest(torch.zeros(3, 2, 2))


def test_fingerprints_are_the_same_on_every_device(device, originals):
    pixels = [torch.from_numpy(picture).permute(2, 0, 1) for picture in originals]
    here = Fingerprinter(FakeEmbedder(), None, "cpu")(batch_of(*pixels))
    there = Fingerprinter(FakeEmbedder(), None, device)(batch_of(*[one.to(device) for one in pixels]))
    assert here.pixels_sha256 == there.pixels_sha256
    assert np.array_equal(here.phash, there.phash)
    assert np.bitwise_count(here.pdq ^ there.pdq).sum(-1).max() <= 2


def test_auto_is_a_device_of_this_machine():
    assert resolve_device("auto") in {"cpu", "cuda", "mps"}


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "cpu:x", ""])
def test_device_that_is_not_there_is_refused(name):
    with pytest.raises(SettingsInvalid, match="device"):
        resolve_device(name)
