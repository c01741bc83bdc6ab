"""Whatever structure searches, the evidence that reaches a limit is what comparing every row would give."""

import hashlib

import numpy as np
import pytest
from stored import HEADER

from guardrail.carriers import Fingerprints, IndexRows
from guardrail.index import FolderIndex
from guardrail.index.scans.reference import distances_of, similarities_of
from guardrail.index.store.create import create_store
from guardrail.records import BitsLimit, Decision, EmbedderSpec, Limits, Signal, SimilarityLimit, Work

DIMENSIONS = 64
SPEC = EmbedderSpec(name="made-up", weights_sha256="a" * 64, preprocessing="none", dimensions=DIMENSIONS)
FLAG_BITS, BLOCK_BITS = 40, 31
QUERIES = 6


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def made(count, chance):
    """Rows, and queries; some rows lie one bit or one step inside, on, and outside the limits of each query."""
    vectors = unit(chance.normal(size=(count, DIMENSIONS))).astype(np.float16)
    pdq = chance.integers(0, 256, (count, 32), np.uint8)
    queries = unit(chance.normal(size=(QUERIES, DIMENSIONS))).astype(np.float32)
    asked = chance.integers(0, 256, (QUERIES, 8, 32), np.uint8)
    free = iter(chance.permutation(count).tolist())
    for query in range(QUERIES):
        for bits in (BLOCK_BITS - 1, BLOCK_BITS, BLOCK_BITS + 1, FLAG_BITS - 1, FLAG_BITS, FLAG_BITS + 1):
            if (row := next(free, None)) is None:
                break
            code = np.unpackbits(asked[query, chance.integers(8)])
            code[chance.choice(256, bits, replace=False)] ^= 1
            pdq[row] = np.packbits(code)
        for similarity in (0.78, 0.8, 0.9, 0.901, 0.95):
            if (row := next(free, None)) is None:
                break
            aside = unit(vectors[row] - (vectors[row].astype(np.float32) @ queries[query]) * queries[query])
            vectors[row] = unit(similarity * queries[query] + np.sqrt(1 - similarity**2) * aside).astype(np.float16)
    return vectors, pdq, queries, asked


def limits_on(vectors, queries):
    """Limits that lie exactly on the similarity of one row, one step of float32 above another's and below a third's."""
    near = np.sort(np.stack([similarities_of(query[None], vectors[None])[0] for query in queries]), axis=1)[:, ::-1]
    on = float(near[0, min(1, near.shape[1] - 1)]) if near.shape[1] else 0.9
    above = float(np.nextafter(np.float32(near[1, 0]), np.float32(2))) if near.shape[1] else 0.95
    return [
        Limits(
            pdq=BitsLimit(flag_within_bits=FLAG_BITS, block_within_bits=BLOCK_BITS),
            copy_=SimilarityLimit(flag_above=flag, block_above=max(flag, 0.94)),
        )
        for flag in {max(0.3, on), max(0.3, above), 0.75}
    ]


def rows_of(vectors, pdq):
    count = len(vectors)
    works = tuple(Work(work_id=f"work-{at}") for at in range(count))
    return IndexRows(
        works, ("",) * count, (None,) * count, (None,) * count, {"copy": vectors, "pdq": pdq}, (b"",) * count
    )


def reaching(found, limits):
    """By image, what reaches a limit: work, signal, measure and decision."""
    named = {Signal.PDQ: limits.pdq, Signal.COPY: limits.copy_}
    said = []
    for near in found:
        if near.signal in named:
            measure = near.similarity if near.similarity is not None else near.distance_bits
            decision = named[near.signal].reached(measure)
            if decision is not Decision.ACCEPT:
                said.append((near.work.work_id, near.signal, measure, decision))
    return sorted(said)


def by_brute_force(vectors, pdq, queries, asked, limits):
    every = []
    for query, codes in zip(queries, asked, strict=True):
        said = []
        similar = similarities_of(query[None], vectors[None])[0] if len(vectors) else ()
        bits = distances_of(codes, pdq).min(0) if len(pdq) else ()
        for signal, limit, measures in ((Signal.COPY, limits.copy_, similar), (Signal.PDQ, limits.pdq, bits)):
            for row, measure in enumerate(measures):
                decision = limit.reached(measure.item())
                if decision is not Decision.ACCEPT:
                    said.append((f"work-{row}", signal, measure.item(), decision))
        every.append(sorted(said))
    return every


def prints_of(queries, asked):
    count = len(queries)
    digests = tuple(hashlib.sha256(f"query {at}".encode()).hexdigest() for at in range(count))
    phash = np.zeros((count, 8, 8), np.uint8)
    return Fingerprints((None,) * count, digests, digests, asked, np.full(count, 100), phash, queries)


@pytest.mark.parametrize("structure", ["flat", "approximate", "torch"])
@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 3000, 100_000])
def test_evidence_is_the_same_as_by_brute_force(tmp_path, monkeypatch, structure, count):
    if count == 100_000 and structure == "torch":
        pytest.skip("compared at 3,000, where it is quick without an accelerator")
    vectors, pdq, queries, asked = made(count, np.random.default_rng(count))
    header = HEADER.model_copy(update={"embedders": {"copy": SPEC}})
    create_store(tmp_path / "index", header, [rows_of(vectors, pdq)] if count else [])
    if structure == "approximate":
        monkeypatch.setattr("guardrail.index.structures.EXACT_UP_TO", 50)
    if structure == "torch":
        monkeypatch.setattr("guardrail.index.structures.choose", lambda *_: "torch")
    index = FolderIndex(tmp_path / "index", device="cpu:0" if structure == "torch" else "cpu")
    index.prepare()
    assert ("copy" in index.pinned().structures.approximate) == (structure == "approximate" and count > 50)
    found = index.search(prints_of(queries, asked), 25)
    for limits in limits_on(vectors, queries):
        expected = by_brute_force(vectors, pdq, queries, asked, limits)
        assert [reaching(one, limits) for one in found] == expected
        assert any(expected) or count < 3
