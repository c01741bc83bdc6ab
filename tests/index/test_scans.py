"""Every structure finds what comparing all would find: the same rows, the same similarities, the same order."""

import threading

import numpy as np
import pytest

from guardrail.index.scans import torch_scan
from guardrail.index.scans.base import FARTHEST_BITS, Allowed
from guardrail.index.scans.blocks import ArrayBlocks
from guardrail.index.scans.flat import FlatScan
from guardrail.index.scans.hashes import FlatHashScan
from guardrail.index.scans.ivf import IvfScan
from guardrail.index.scans.nearest import nearest_codes, nearest_vectors
from guardrail.index.scans.reference import brute_codes, brute_vectors, distances_of, similarities_of, widened
from guardrail.index.scans.rows import RowIds
from guardrail.index.scans.torch_scan import TorchHashScan, TorchScan

SIZES = (0, 1, 2, 63, 64, 65)
DIMENSIONS = 24
LIMITS = (1, 5, 100)


VECTOR_SCANS = {
    "flat": lambda ids, vectors: FlatScan(ids, vectors),
    "torch": lambda ids, vectors: TorchScan(ArrayBlocks(ids, vectors), "cpu"),
    "cuda": lambda ids, vectors: TorchScan(ArrayBlocks(ids, vectors), "cuda"),
}
HASH_SCANS = {
    "flat": FlatHashScan,
    "torch": lambda ids, codes: TorchHashScan(ids, codes, "cpu"),
    "cuda": lambda ids, codes: TorchHashScan(ids, codes, "cuda"),
}
_MARKED = [pytest.param(name, marks=pytest.mark.gpu if name == "cuda" else ()) for name in ("flat", "torch", "cuda")]


@pytest.fixture(params=_MARKED)
def vector_scan(request):
    return VECTOR_SCANS[request.param]


@pytest.fixture(params=_MARKED)
def hash_scan(request):
    return HASH_SCANS[request.param]


def unit(rng, count, dimensions=DIMENSIONS):
    vectors = rng.standard_normal((count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def stored(count, gap=3, dimensions=DIMENSIONS):
    """Ids with gaps, and vectors of which many are the same one where there are enough."""
    rng = np.random.default_rng(count)
    vectors = unit(rng, count, dimensions).astype(np.float16)
    vectors[10:50] = vectors[9:10] if count > 50 else vectors[10:50]
    return np.arange(count, dtype=np.int64) * gap + 7, vectors


def codes_of(count, width=12):
    rng = np.random.default_rng(count + 1)
    codes = rng.integers(0, 256, (count, width), dtype=np.uint8)
    codes[20:60] = codes[3:4] if count > 60 else codes[20:60]
    return codes


def share(ids, part):
    """Some of the ids are allowed; the last few are beyond the flags, so they are not."""
    flags = np.random.default_rng(3).random(int(ids[-3]) + 1 if len(ids) > 50 else 600) < part
    return Allowed(flags)


def same(found, expected):
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.parametrize("part", [1, 0.9, 0.5, 0.05, 0])
@pytest.mark.parametrize("count", SIZES)
def test_vectors_are_those_of_brute_force(vector_scan, count, part, monkeypatch):
    monkeypatch.setattr("guardrail.index.scans.nearest._FEW", 0)  # else so few rows are compared without any scan
    ids, vectors = stored(count)
    allowed = share(ids, part)
    queries = np.concatenate([vectors[9:10].astype(np.float32), unit(np.random.default_rng(9), 40)])
    halves = [
        vector_scan(ids[: count // 2], vectors[: count // 2]),
        vector_scan(ids[count // 2 :], vectors[count // 2 :]),
    ]
    for limit in LIMITS:
        for some in (queries[:3], queries):  # few by faiss, many by a matrix product
            found = nearest_vectors(halves, ArrayBlocks(ids, vectors).take, some, limit, allowed)
            same(found, brute_vectors(ids, vectors, some, limit, allowed))


@pytest.mark.parametrize("part", [1, 0.9, 0.5, 0.05, 0])
@pytest.mark.parametrize("count", SIZES)
def test_codes_are_those_of_brute_force(hash_scan, count, part):
    ids, codes = stored(count)[0], codes_of(count)
    allowed = share(ids, part)
    asked = np.concatenate([codes[3:4], np.random.default_rng(9).integers(0, 256, (8, 12), dtype=np.uint8)])
    halves = [hash_scan(ids[: count // 2], codes[: count // 2]), hash_scan(ids[count // 2 :], codes[count // 2 :])]
    for limit in LIMITS:
        expected = brute_codes(ids, codes, asked, limit, allowed)
        same(nearest_codes(halves, asked, limit, allowed), expected)
        same(hash_scan(ids, codes).search(asked, limit, allowed), expected)


def test_few_allowed_rows_are_found_without_a_scan():
    ids, vectors = stored(500)
    allowed = Allowed(np.isin(np.arange(2000), ids[[4, 77]]))

    class Blind(FlatScan):
        def search(self, queries, limit, allowed):
            raise AssertionError("asked for two rows")

    found = nearest_vectors(
        [Blind(ids, vectors)], ArrayBlocks(ids, vectors).take, unit(np.random.default_rng(1), 3), 5, allowed
    )
    same(found, brute_vectors(ids, vectors, unit(np.random.default_rng(1), 3), 5, allowed))


def test_allowed_ids_that_no_scan_holds_are_not_taken():
    ids, vectors = stored(10)
    nothing = nearest_vectors(
        [FlatScan(ids, vectors)],
        ArrayBlocks(ids, vectors).take,
        vectors[:1].astype(np.float32),
        2,
        Allowed(np.arange(100) == 8),
    )
    assert nothing[1].tolist() == [[-1, -1]]


def test_query_that_is_not_finite_is_refused():
    ids, vectors = stored(10)
    query = np.full((1, DIMENSIONS), np.nan, np.float32)
    with pytest.raises(ValueError, match="NaN"):
        nearest_vectors([FlatScan(ids, vectors)], ArrayBlocks(ids, vectors).take, query, 2, Allowed(np.ones(100, bool)))


def test_ties_are_ordered_by_id_whatever_their_number(vector_scan):
    """Two thousand copies of one picture: the ones with the smallest ids are named, as by brute force."""
    ids = np.arange(3000, dtype=np.int64) * 2
    vectors = np.repeat(stored(3)[1], 1000, axis=0)
    query = vectors[1500:1501].astype(np.float32)
    found = nearest_vectors(
        [vector_scan(ids, vectors)], ArrayBlocks(ids, vectors).take, query, 5, Allowed(np.ones(6000, bool))
    )
    assert found[1].tolist() == [[2000, 2002, 2004, 2006, 2008]]


@pytest.mark.parametrize("width", [1, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("limit", [1, 20, 300])
def test_equally_near_codes_are_ordered_by_id(hash_scan, width, limit):
    """Few distances and many codes, more than faiss takes at a time."""
    rng = np.random.default_rng(width)
    stored_codes = rng.integers(0, 3, (70_000, width), dtype=np.uint8)
    asked = rng.integers(0, 3, (2, width), dtype=np.uint8)
    ids, allowed = np.arange(70_000), Allowed(np.ones(70_000, bool))
    same(
        hash_scan(ids, stored_codes).search(asked, limit, allowed),
        brute_codes(ids, stored_codes, asked, limit, allowed),
    )


def test_rows_that_do_not_count_never_crowd_out_those_that_do(vector_scan, hash_scan):
    """A thousand withdrawn copies lie nearer than the one that counts."""
    ids = np.arange(4000, dtype=np.int64)
    vectors, codes = stored(4000)[1], codes_of(4000)
    vectors[:1000], codes[:1000] = vectors[0], codes[0]
    flags = np.ones(4000, bool)
    flags[:1000] = False
    allowed, query = Allowed(flags), vectors[:1].astype(np.float32)
    found = nearest_vectors([vector_scan(ids, vectors)], ArrayBlocks(ids, vectors).take, query, 3, allowed)
    same(found, brute_vectors(ids, vectors, query, 3, allowed))
    same(hash_scan(ids, codes).search(codes[:1], 3, allowed), brute_codes(ids, codes, codes[:1], 3, allowed))


def test_hundred_thousand_rows_with_withdrawn_ones(vector_scan, hash_scan):
    ids, vectors = stored(100_000, gap=1, dimensions=16)
    codes = codes_of(100_000, width=8)
    allowed = Allowed(np.random.default_rng(0).random(100_007) < 0.7)
    queries = unit(np.random.default_rng(2), 6, 16)
    found = nearest_vectors([vector_scan(ids, vectors)], ArrayBlocks(ids, vectors).take, queries, 20, allowed)
    same(found, brute_vectors(ids, vectors, queries, 20, allowed))
    same(hash_scan(ids, codes).search(codes[:8], 20, allowed), brute_codes(ids, codes, codes[:8], 20, allowed))


def test_similarities_of_an_exact_scan_are_true_before_they_are_compared_again(vector_scan):
    ids, vectors = stored(300)
    queries = unit(np.random.default_rng(4), 3)
    near, found = vector_scan(ids, vectors).search(queries, 4, Allowed(np.ones(1000, bool)))
    for row, query in enumerate(queries):
        np.testing.assert_allclose(
            near[row], similarities_of(query, ArrayBlocks(ids, vectors).take(found[row])), atol=4e-6
        )


def test_large_queries_are_worked_through_in_pieces(monkeypatch):
    """What torch and faiss hold at a time is bounded; the pieces change nothing."""
    ids, vectors = stored(700)
    codes, allowed = codes_of(700), Allowed(np.random.default_rng(5).random(2200) < 0.8)
    queries = unit(np.random.default_rng(6), 50)
    expected = brute_vectors(ids, vectors, queries, 9, allowed), brute_codes(ids, codes, codes[:50], 9, allowed)
    monkeypatch.setattr(torch_scan, "_WORKED_NUMBERS", 1 << 12)
    monkeypatch.setattr("guardrail.index.scans.hashes._FOUND_BYTES", 1 << 16)
    monkeypatch.setattr("guardrail.index.scans.hashes._GATHERED_ROWS", 100)
    monkeypatch.setattr("guardrail.index.scans.flat._BLOCK_ROWS", 100)
    monkeypatch.setattr("guardrail.index.scans.nearest._COMPARED_TOGETHER", 1 << 10)
    blocks = ArrayBlocks(ids, vectors)
    for scan in (FlatScan(ids, vectors), TorchScan(blocks, "cpu")):
        same(nearest_vectors([scan], blocks.take, queries, 9, allowed), expected[0])
    for scan in (FlatHashScan(ids, codes), TorchHashScan(ids, codes, "cpu")):
        same(scan.search(codes[:50], 9, allowed), expected[1])


def test_threads_share_a_scan(vector_scan, hash_scan):
    ids, vectors = stored(2000)
    codes, blocks = codes_of(2000), ArrayBlocks(ids, vectors)
    vectors_scan, codes_scan = vector_scan(ids, vectors), hash_scan(ids, codes)
    alike = []

    def search(seed):
        allowed = Allowed(np.random.default_rng(seed).random(6100) < 0.6)  # each thread has its own view of what counts
        queries = unit(np.random.default_rng(seed), 4)
        for _ in range(5):
            found = nearest_vectors([vectors_scan], blocks.take, queries, 7, allowed)
            bits = codes_scan.search(codes[seed : seed + 2], 7, allowed)
            alike.append(
                np.array_equal(found[1], brute_vectors(ids, vectors, queries, 7, allowed)[1])
                and np.array_equal(bits[1], brute_codes(ids, codes, codes[seed : seed + 2], 7, allowed)[1])
            )

    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alike == [True] * 20


def test_hash_scan_does_not_copy_a_memory_map(tmp_path):
    np.save(tmp_path / "pdq.npy", codes_of(1000, 32))
    mapped = np.load(tmp_path / "pdq.npy", mmap_mode="r")
    scan = FlatHashScan(np.arange(1000), mapped)
    assert np.shares_memory(scan._codes, mapped)
    assert scan.resident_bytes == 32_000, "no ids are kept where they are a run"
    assert scan.search(mapped[7:8], 1, Allowed(np.ones(1000, bool)))[1].tolist() == [[7]]


def test_none_is_said_alike_by_all(vector_scan, hash_scan):
    ids, vectors = stored(2)
    allowed = Allowed(np.arange(20) == 7)
    near, found = vector_scan(ids, vectors).search(vectors[:1].astype(np.float32), 3, allowed)
    bits, places = hash_scan(ids, codes_of(2)).search(codes_of(2)[:1], 3, allowed)
    assert found.tolist() == places.tolist() == [[7, -1, -1]]
    assert near[0, 1:].tolist() == [-1, -1]
    assert bits[0, 1:].tolist() == [FARTHEST_BITS] * 2


# --- what they are made of -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[], [0], [4, 5, 6], [1, 5, 6, 20]])
def test_places_and_ids_are_each_others_inverse(ids):
    rows = RowIds.of(np.array(ids, np.int64))
    places = np.arange(len(ids))
    assert rows.at(places).tolist() == ids
    assert rows.places_of(rows.at(places)).tolist() == places.tolist()
    assert rows.places_of(np.array([-1, 3, 7, 10**12])).tolist() == [-1, -1, -1, -1]
    assert rows.at(np.array([-1])).tolist() == [-1] if ids else True
    flags = Allowed(np.arange(6) != 5)
    assert rows.flags_of(flags).tolist() == [one < 5 for one in ids]


@pytest.mark.parametrize("ids", [[3, 3], [4, 2], [-1, 0]])
def test_ids_out_of_order_are_refused(ids):
    with pytest.raises(ValueError, match="ascend"):
        RowIds.of(np.array(ids, np.int64))


def test_allowed_answers_for_any_id():
    allowed = Allowed(np.array([True, False, True]))
    assert allowed.count == 2
    assert allowed.ids.tolist() == [0, 2]
    assert allowed.has(np.array([-1, 0, 1, 2, 3, 10**15])).tolist() == [False, True, False, True, False, False]
    assert allowed.each(2).flags.tolist() == [True, True, False, False, True, True]
    assert Allowed(np.zeros(0, bool)).has(np.array([0, 5])).tolist() == [False, False]


def test_canonical_similarity_rounds_once():
    """Products of a float32 and a float16 are exact in float64, so only the sum is rounded."""
    rng = np.random.default_rng(0)
    query, vectors = unit(rng, 1, 512)[0], unit(rng, 20, 512).astype(np.float16)
    exact = [sum(float(a) * float(b) for a, b in zip(query, vector, strict=True)) for vector in vectors]
    np.testing.assert_allclose(similarities_of(query, vectors), np.float32(exact), rtol=0, atol=6e-8)
    assert similarities_of(np.ones(4, np.float32), np.ones((1, 4), np.float16)).tolist() == [1]


def test_canonical_similarity_of_a_row_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(0)
    queries, vectors = unit(rng, 3, 512), unit(rng, 200, 512).astype(np.float16)
    together = similarities_of(queries, np.broadcast_to(vectors, (3, 200, 512)))
    alone = [[similarities_of(query, vector[None])[0] for vector in vectors] for query in queries]
    np.testing.assert_array_equal(together, alone)


def test_widened_numbers_are_those_of_a_cast():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)[None]
    for kind in (np.float32, np.float64):
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(widened(every, np.empty(every.shape, kind)), every.astype(kind))


def test_distance_is_the_number_of_differing_bits():
    assert distances_of(
        np.array([[0b1010, 255]], np.uint8), np.array([[0b0110, 0], [0b1010, 255]], np.uint8)
    ).tolist() == [[10, 0]]


def test_sample_is_drawn_again_by_its_seed():
    blocks = ArrayBlocks(*stored(200))
    assert np.array_equal(blocks.sample(20, 1), blocks.sample(20, 1))
    assert not np.array_equal(blocks.sample(20, 1), blocks.sample(20, 2))
    assert len(blocks.sample(1000, 0)) == 200
    assert [len(some) for some, _ in blocks.blocks(90)] == [90, 90, 20]


def test_ivf_scan_is_not_called_exact():
    assert FlatScan.exact
    assert TorchScan.exact
    assert not IvfScan.exact
