"""Inverted lists of bits: near copies are found, numbers are exact, and what is on disk is trusted by its digest."""

import json

import numpy as np
import pytest

from guardrail.index.scans.base import Allowed
from guardrail.index.scans.blocks import ArrayBlocks
from guardrail.index.scans.ivf import IvfScan, ScanUnusable, lists_for
from guardrail.index.scans.nearest import nearest_vectors
from guardrail.index.scans.reference import brute_vectors

DIMENSIONS = 64
COUNT = 3000
LIMIT_OF_A_COPY = 0.8


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def near_copies(rng, vectors, cosine):
    """Unit vectors at a cosine of each of the given ones."""
    vectors = vectors.astype(np.float32)
    away = rng.standard_normal(vectors.shape).astype(np.float32)
    away = unit(away - (away * vectors).sum(1, keepdims=True) * vectors)
    return (cosine * vectors + np.sqrt(1 - cosine**2) * away).astype(np.float32)


@pytest.fixture(scope="module")
def blocks():
    rng = np.random.default_rng(0)
    return ArrayBlocks(
        np.arange(COUNT, dtype=np.int64) * 2, unit(rng.standard_normal((COUNT, DIMENSIONS))).astype(np.float16)
    )


@pytest.fixture(scope="module")
def scan(blocks):
    return IvfScan.trained(blocks, lists=32)


def everything():
    return Allowed(np.ones(COUNT * 2, bool))


def reported(found, limit=LIMIT_OF_A_COPY):
    """What a verdict rests on: the rows at or above a limit, with their similarities."""
    near, ids = found
    return [
        [(int(row), float(value)) for value, row in zip(values, some, strict=True) if value >= limit]
        for values, some in zip(near, ids, strict=True)
    ]


def test_copies_above_a_limit_are_those_of_brute_force(blocks, scan):
    rng = np.random.default_rng(1)
    chosen = rng.choice(COUNT, 100, replace=False)
    queries = near_copies(rng, blocks.vectors[chosen], 0.85)
    flags = np.ones(COUNT * 2, bool)
    flags[chosen[:30] * 2] = False  # withdrawn
    for allowed in (everything(), Allowed(flags)):
        found = nearest_vectors([scan], blocks.take, queries, 5, allowed)
        assert reported(found) == reported(brute_vectors(blocks.ids, blocks.vectors, queries, 5, allowed))
    assert sum(map(len, reported(found))) >= 70


@pytest.mark.parametrize("step", [-1, 0, 1])
def test_copy_at_the_limit_and_a_step_to_either_side(blocks, scan, step):
    """float32 steps about the limit: whatever structure found it, the same side is reported."""
    queries = near_copies(np.random.default_rng(2), blocks.vectors[:20], 0.8)
    exact = brute_vectors(blocks.ids, blocks.vectors, queries, 1, everything())
    found = nearest_vectors([scan], blocks.take, queries, 1, everything())
    for row, value in enumerate(exact[0][:, 0]):
        limit = value if step == 0 else np.nextafter(value, np.float32(2 * step), dtype=np.float32)
        assert reported(found, limit)[row] == reported(exact, limit)[row]
        assert bool(reported(found, limit)[row]) is (step <= 0)


def test_hundred_thousand_rows_give_the_verdicts_of_brute_force():
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((300, DIMENSIONS))
    vectors = unit(centres[rng.integers(0, 300, 100_000)] + rng.standard_normal((100_000, DIMENSIONS))).astype(
        np.float16
    )
    blocks = ArrayBlocks(np.arange(100_000), vectors)
    scan = IvfScan.trained(blocks, lists=128)
    queries = near_copies(rng, vectors[rng.choice(100_000, 60, replace=False)], 0.95)
    allowed = Allowed(rng.random(100_000) < 0.9)
    found = nearest_vectors([scan], blocks.take, queries, 5, allowed)
    assert reported(found, 0.93) == reported(brute_vectors(blocks.ids, vectors, queries, 5, allowed), 0.93)


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65])
def test_small_structures_find_all(count):
    rng = np.random.default_rng(count)
    vectors = unit(rng.standard_normal((count, DIMENSIONS))).astype(np.float16)
    small, allowed = ArrayBlocks(np.arange(count), vectors), Allowed(np.ones(count, bool))
    queries = near_copies(rng, vectors, 0.9)
    near, found = IvfScan.trained(small).search(queries, count, allowed)
    assert (found[:, 0] == np.arange(count)).all()
    assert (np.sort(found, 1) == np.arange(count)).all(), "fewer lists than are looked at: every one is found"
    assert np.abs(near[:, 0] - 0.9).max() < 0.2, "an estimate"


def test_thousand_copies_of_one_picture_hide_nothing():
    """They make a centre of their own, where there is nothing left for bits to say."""
    rng = np.random.default_rng(5)
    vectors = unit(rng.standard_normal((2000, DIMENSIONS))).astype(np.float16)
    vectors[500:1500] = vectors[500]
    blocks, allowed = ArrayBlocks(np.arange(2000), vectors), Allowed(np.ones(2000, bool))
    queries = near_copies(rng, vectors[[7, 1999, 500]], 0.9)
    found = nearest_vectors([IvfScan.trained(blocks)], blocks.take, queries, 3, allowed)[1]
    assert found[:2, 0].tolist() == [7, 1999]
    assert found[2].tolist() == [500, 501, 502]


def test_nothing_allowed_finds_nothing(blocks, scan):
    near, found = scan.search(blocks.vectors[:2].astype(np.float32), 3, Allowed(np.zeros(COUNT * 2, bool)))
    assert (found == -1).all()
    assert (near == -1).all()


def test_ids_beyond_the_flags_do_not_count(blocks, scan):
    allowed = Allowed(np.ones(1000, bool))
    found = nearest_vectors([scan], blocks.take, blocks.vectors[2000:2001].astype(np.float32), 50, allowed)[1]
    assert found.max() < 1000


def test_extended_and_lessened_leave_the_first_as_it_was(blocks, scan):
    query = unit(np.random.default_rng(7).standard_normal((1, DIMENSIONS))).astype(np.float16)
    more = scan.extended(np.array([9001]), query)
    assert (len(scan), len(more)) == (COUNT, COUNT + 1)
    allowed = Allowed(np.ones(9002, bool))
    assert more.search(query.astype(np.float32), 1, allowed)[1].tolist() == [[9001]]
    assert scan.search(query.astype(np.float32), 1, allowed)[1].tolist() != [[9001]]
    less = more.without(np.array([9001, 12345]))
    assert less.search(query.astype(np.float32), 1, allowed)[1].tolist() != [[9001]]
    held = np.array([0, 1, 9001])
    assert [one.holds(held).tolist() for one in (scan, more, less)] == [
        [True, False, False],
        [True, False, True],
        [True, False, False],
    ]


def test_id_is_not_added_twice(blocks, scan):
    with pytest.raises(ValueError, match="held already"):
        scan.extended(blocks.ids[:1], blocks.vectors[:1])


def test_same_vectors_make_the_same_structure(blocks):
    first, second = (IvfScan.trained(blocks, lists=8) for _ in range(2))
    query = blocks.vectors[:5].astype(np.float32)
    np.testing.assert_array_equal(first.search(query, 30, everything())[1], second.search(query, 30, everything())[1])


def test_training_reads_a_sample_not_all():
    seen = []

    class Watched(ArrayBlocks):
        def sample(self, count, seed):
            seen.append(count)
            return super().sample(count, seed)

    vectors = unit(np.random.default_rng(0).standard_normal((2000, DIMENSIONS))).astype(np.float16)
    told = []
    IvfScan.trained(Watched(np.arange(2000), vectors), lists=4, progress=lambda *at: told.append(at))
    assert seen == [160]
    assert told[-1] == (2000, 2000)


@pytest.mark.parametrize(("count", "lists"), [(1, 4), (100, 64), (200_000, 2048), (1_000_000, 4096), (10**10, 65_536)])
def test_lists_grow_with_the_root_of_the_vectors(count, lists):
    assert lists_for(count) == lists


# --- on disk -------------------------------------------------------------------------------------------------------


def test_written_scan_is_read_as_it_was(blocks, scan, tmp_path):
    scan.write(tmp_path / "copy.ivf", "mini, whole")
    again = IvfScan.read(tmp_path / "copy.ivf", "mini, whole")
    query = blocks.vectors[:9].astype(np.float32)
    for one, other in zip(scan.search(query, 7, everything()), again.search(query, 7, everything()), strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.ivf", "copy.ivf.json"]
    scan.write(tmp_path / "copy.ivf", "mini, whole")  # over the first
    assert len(IvfScan.read(tmp_path / "copy.ivf", "mini, whole")) == COUNT


def test_scan_of_other_vectors_is_not_used(scan, tmp_path):
    scan.write(tmp_path / "copy.ivf", "mini, whole")
    with pytest.raises(ScanUnusable, match="specification 'mini, whole', expected 'sscd, whole'"):
        IvfScan.read(tmp_path / "copy.ivf", "sscd, whole")


@pytest.mark.parametrize("missing", ["copy.ivf", "copy.ivf.json"])
def test_half_a_scan_is_not_used(scan, tmp_path, missing):
    scan.write(tmp_path / "copy.ivf", "mini")
    (tmp_path / missing).unlink()
    with pytest.raises(ScanUnusable, match="No such file"):
        IvfScan.read(tmp_path / "copy.ivf", "mini")


@pytest.mark.parametrize("where", [0, 100, 5000, -1])
def test_flipped_byte_is_seen(scan, tmp_path, where):
    path = tmp_path / "copy.ivf"
    scan.write(path, "mini")
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(ScanUnusable, match="other content"):
        IvfScan.read(path, "mini")


def test_cut_scan_is_seen(scan, tmp_path):
    path = tmp_path / "copy.ivf"
    scan.write(path, "mini")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ScanUnusable, match="other content"):
        IvfScan.read(path, "mini")


@pytest.mark.parametrize(("name", "value"), [("faiss", "0.9"), ("format", 7), ("vectors", 5), ("ids_sha256", "0" * 64)])
def test_description_that_does_not_fit_is_seen(scan, tmp_path, name, value):
    path = tmp_path / "copy.ivf"
    scan.write(path, "mini")
    description = path.with_name("copy.ivf.json")
    description.write_text(json.dumps(json.loads(description.read_text()) | {name: value}))
    with pytest.raises(ScanUnusable, match=name):
        IvfScan.read(path, "mini")


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"sha256": '])
def test_description_that_is_none_is_seen(scan, tmp_path, content):
    scan.write(tmp_path / "copy.ivf", "mini")
    (tmp_path / "copy.ivf.json").write_text(content)
    with pytest.raises(ScanUnusable):
        IvfScan.read(tmp_path / "copy.ivf", "mini")


def test_scan_that_cannot_be_written_says_so(scan, tmp_path):
    with pytest.raises(OSError, match="could not write"):
        scan.write(tmp_path / "gone" / "copy.ivf", "mini")
