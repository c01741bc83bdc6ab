"""The structure is chosen by what there is; those of other people's GPU code are bent to our protocol."""

import faiss
import numpy as np
import pytest

from guardrail.errors import ExtraMissing
from guardrail.index.scans import faiss_gpu
from guardrail.index.scans.base import Allowed
from guardrail.index.scans.blocks import ArrayBlocks
from guardrail.index.scans.choose import EXACT_UP_TO, choose, make_hash_scan, make_vector_scan, said_of
from guardrail.index.scans.cuvs import need_cuvs
from guardrail.index.scans.faiss_gpu import GpuFlatScan, GpuIvfScan, GpuScan, ScanShort, code_bytes
from guardrail.index.scans.flat import FlatScan
from guardrail.index.scans.hashes import FlatHashScan
from guardrail.index.scans.ivf import IvfScan
from guardrail.index.scans.nearest import nearest_vectors
from guardrail.index.scans.reference import brute_vectors

H100_BYTES = 80 * 10**9


@pytest.mark.parametrize(
    ("count", "device", "name"),
    [
        (0, "cpu", "flat"),
        (EXACT_UP_TO, "cpu", "flat"),
        (EXACT_UP_TO + 1, "cpu", "ivf_rabitq"),
        (10**9, "mps", "ivf_rabitq"),
        (10, "cuda", "torch"),
        (50_000_000, "cuda:1", "torch"),
        (60_000_000, "cuda", "faiss_gpu"),
        (10**9, "cuda", "ivf_rabitq"),
    ],
)
def test_choice_depends_on_count_and_device(count, device, name):
    assert choose(count, 512, device, H100_BYTES) == name


def test_choice_is_said_in_a_sentence():
    assert said_of("flat", 1200, 512) == (
        "exact: 1,200 vectors of 512 dimensions, each compared on the CPU (approximate from 200,000 on)"
    )
    assert "in 4,096 lists" in said_of("ivf_rabitq", 1_000_000, 512)


def test_structures_are_made_by_name():
    blocks = ArrayBlocks(np.arange(40), np.eye(64, dtype=np.float16)[:40])
    assert isinstance(make_vector_scan("flat", blocks), FlatScan)
    assert isinstance(make_vector_scan("ivf_rabitq", blocks), IvfScan)
    assert len(make_vector_scan("torch", blocks)) == 40
    assert len(make_vector_scan("flat", ArrayBlocks(np.arange(0), np.empty((0, 64), np.float16)))) == 0
    assert isinstance(make_hash_scan(np.arange(3), np.zeros((3, 8), np.uint8)), FlatHashScan)


@pytest.mark.skipif(hasattr(faiss, "GpuIndexCagra"), reason="faiss is the build with cuVS")
def test_cuvs_says_what_to_install():
    with pytest.raises(ExtraMissing, match=r"diffusion-guardrail\[cuvs\]"):
        need_cuvs()


@pytest.mark.parametrize(("dimensions", "size"), [(512, 64), (1280, 64), (768, 96), (30, 3), (7, 1)])
def test_code_is_the_longest_that_divides_the_vector(dimensions, size):
    assert code_bytes(dimensions) == size


# --- a structure without a selector ----------------------------------------------------------------------------------


def filled(count, most, monkeypatch):
    """The class that GPU structures share, over faiss on the CPU."""
    monkeypatch.setattr(faiss_gpu, "_MOST_ASKED", most)
    rng = np.random.default_rng(count)
    vectors = rng.standard_normal((count, 16)).astype(np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    index = faiss.IndexFlatIP(16)
    index.add(vectors.astype(np.float32))
    ids = np.arange(count) * 3
    return GpuScan(index, ids, 0), ArrayBlocks(ids, vectors)


@pytest.mark.parametrize("count", [1, 2, 64, 65, 500])
def test_rows_that_do_not_count_are_left_out(count, monkeypatch):
    monkeypatch.setattr("guardrail.index.scans.nearest._FEW", 0)
    scan, blocks = filled(count, 2048, monkeypatch)
    allowed = Allowed(np.random.default_rng(1).random(1500) < 0.6)
    queries = blocks.vectors[:4].astype(np.float32)
    found = nearest_vectors([scan], blocks.take, queries, 5, allowed)
    np.testing.assert_array_equal(found[1], brute_vectors(blocks.ids, blocks.vectors, queries, 5, allowed)[1])


def test_too_many_rows_that_do_not_count_are_an_error_not_an_empty_answer(monkeypatch):
    scan, blocks = filled(500, 50, monkeypatch)
    query = blocks.vectors[:1].astype(np.float32)
    order = brute_vectors(blocks.ids, blocks.vectors, query, 500, Allowed(np.ones(1500, bool)))[1][0]
    flags = np.ones(1500, bool)
    flags[order[:48]] = False
    assert scan.search(query, 2, Allowed(flags))[1].tolist() == [order[48:50].tolist()]
    flags[order[48]] = False
    with pytest.raises(ScanShort, match="compact the index"):
        scan.search(query, 2, Allowed(flags))


@pytest.mark.gpu
@pytest.mark.parametrize("make", [GpuFlatScan, GpuIvfScan.trained])
def test_faiss_on_a_gpu_finds_copies(make):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20_000, 64)).astype(np.float32)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    blocks = ArrayBlocks(np.arange(20_000) * 2, vectors)
    allowed = Allowed(rng.random(40_000) < 0.9)
    queries = vectors[:50].astype(np.float32)
    found = nearest_vectors([make(blocks, "cuda")], blocks.take, queries, 1, allowed)
    expected = brute_vectors(blocks.ids, vectors, queries, 1, allowed)
    copies = expected[0] > 0.99
    np.testing.assert_array_equal(found[1][copies], expected[1][copies])
