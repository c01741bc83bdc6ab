"""Measure the Milvus backend on a server that runs; docs/scale.md says what came out.

    python tools/measure_milvus.py URL [--works 50000] [--dimensions 256] [--hashes 1000000]

The URL is milvus://HOST:PORT/DATABASE/NAME. The index NAME must not be there yet; it is filled with made-up works, and
left. Hashes are measured in collections of their own, which are dropped.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import numpy as np

from guardrail.carriers import Fingerprints, IndexRows
from guardrail.index.milvus import CopySource, MilvusPlace, copy_index, open_milvus
from guardrail.index.milvus.cluster import Cluster
from guardrail.index.milvus.layout import is_protected
from guardrail.records import EmbedderSpec, IndexHeader, Limits, Work
from guardrail.testing import made_up_prints, made_up_rows

BATCH = 1000  # works a put
PREVIEW_BYTES = 6000  # docs/design/proof.md: 6.2 to 8.4 kB


def median_ms(what: str, call: Callable[[], object], times: int = 12) -> None:
    """Print how long a call takes."""
    call()
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        spent.append((time.perf_counter() - started) * 1000)
    print(f"{what}: median {statistics.median(spent):.0f} ms, at most {max(spent):.0f} ms", flush=True)  # noqa: T201


def batches(works: int, dimensions: int) -> Iterator[IndexRows]:
    """Made-up works."""
    for start in range(0, works, BATCH):
        count = min(BATCH, works - start)
        prints = made_up_prints(count, seed=start, dimensions=dimensions)
        rows = made_up_rows(prints, [Work(work_id=str(start + at)) for at in range(count)])
        yield replace(rows, previews=(b"\xff\xd8" + bytes(PREVIEW_BYTES),) * count)


def first(prints: Fingerprints) -> Fingerprints:
    """The first image alone."""
    said = {name: getattr(prints, name) for name in Fingerprints.__slots__}
    return Fingerprints(
        **{name: value[:1] if name != "looks" and value is not None else value for name, value in said.items()}
    )


def measure_index(location: str, works: int, dimensions: int) -> None:
    """Copy, search, put and withdraw."""
    spec = EmbedderSpec(name="made-up", weights_sha256="a" * 64, preprocessing="none", dimensions=dimensions)
    header = IndexHeader(
        snapshot="0" * 64,
        works=works,
        banks={},
        embedders={"copy": spec},
        hashes={"pdq": "1", "phash": "1"},
        limits=Limits(),
        built_at=datetime.now(UTC),
        unreadable=0,
    )
    started = time.perf_counter()
    copy_index(CopySource(header, None, batches(works, dimensions)), location)
    spent = time.perf_counter() - started
    told = f"{works} works of {dimensions} dimensions copied in {spent:.0f} s, {works / spent:.0f} a second"
    print(told, flush=True)  # noqa: T201
    index, images = open_milvus(location), made_up_prints(16, seed=1, dimensions=dimensions)
    median_ms("search of 1 image", lambda: index.search(first(images), 5))
    median_ms("search of 16 images", lambda: index.search(images, 5))
    names = iter(range(works))
    median_ms("one work withdrawn", lambda: index.withdraw([("default", str(next(names)))]), 10)
    one = next(batches(1, dimensions))
    fresh = (replace(one, works=(Work(work_id=f"new-{at}"),)) for at in range(100))
    median_ms("one work put", lambda: index.put(next(fresh)), 10)


def measure_hashes(location: str, count: int, width: int) -> None:
    """Exact search of hashes alone, without waiting for writes, as one image and as 16 images ask it."""
    cluster, chance = Cluster(MilvusPlace.parse(location)), np.random.default_rng(0)
    kinds, make, name = cluster.pymilvus.DataType, cluster.pymilvus.MilvusClient, f"guardrail_measured_{width}"
    schema = make.create_schema(auto_id=False)
    schema.add_field("id", kinds.INT64, is_primary=True)
    schema.add_field("disposition", kinds.INT8)
    for field in ("opted_out_at", "expires_at"):
        schema.add_field(field, kinds.INT64)
    schema.add_field("vector", kinds.BINARY_VECTOR, dim=width * 8)
    indexes = make.prepare_index_params()
    indexes.add_index("vector", index_type="BIN_FLAT", metric_type="HAMMING")
    cluster.tell("create_collection", name, schema=schema, index_params=indexes)
    never = 2**63 - 1
    for start in range(0, count, 20_000):
        codes = chance.integers(0, 256, (min(20_000, count - start), width), np.uint8)
        cluster.tell("upsert", name, [
            {"id": start + at, "disposition": 0, "opted_out_at": never, "expires_at": never, "vector": code.tobytes()}
            for at, code in enumerate(codes)
        ])  # fmt: skip
    cluster.tell("flush", name)
    assert cluster.count(name) == count, "a Strong read waits until all of it is there"
    for asked in (8, 128):
        queries = [code.tobytes() for code in chance.integers(0, 256, (asked, width), np.uint8)]
        said = {"limit": 13, "search_params": {"metric_type": "HAMMING"}, "consistency_level": "Eventually"}
        search = partial(cluster.ask, "search", name, queries, filter=is_protected(datetime.now(UTC)), **said)
        median_ms(f"{asked} codes of {width * 8} bits among {count}", search)
    cluster.tell("drop_collection", name)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("location")
    parser.add_argument("--works", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    said = parser.parse_args()
    if said.works:
        measure_index(said.location, said.works, said.dimensions)
    for width in (32, 8) if said.hashes else ():
        measure_hashes(said.location, said.hashes, width)


if __name__ == "__main__":
    main()
