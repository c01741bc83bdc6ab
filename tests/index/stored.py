"""Made-up works for tests of the store."""

import hashlib
from datetime import UTC, datetime

import numpy as np

from guardrail.carriers import Fingerprints, IndexRows
from guardrail.index import FolderIndex
from guardrail.index.store.create import create_store
from guardrail.records import EmbedderSpec, IndexHeader, Limits, Work

DIMENSIONS = 16
SPEC = EmbedderSpec(name="made-up", weights_sha256="a" * 64, preprocessing="none", dimensions=DIMENSIONS)
HEADER = IndexHeader(
    works=0,
    banks={},
    snapshot="0" * 64,
    unreadable=0,
    embedders={"copy": SPEC},
    hashes={"pdq": "1", "phash": "1"},
    limits=Limits(),
    built_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def digest(what):
    return hashlib.sha256(str(what).encode()).hexdigest()


def made_up(numbers, look="", bank="default", **facts):
    """Works `numbers`; the same number and look give the same fingerprints."""
    numbers = list(numbers)
    arrays = {"pdq": [], "phash": [], "copy": [], "pixels": []}
    for number in numbers:
        chance = np.random.default_rng(int(digest(f"{number}{look}")[:8], 16))
        vector = chance.normal(size=DIMENSIONS)
        arrays["copy"].append((vector / np.linalg.norm(vector)).astype(np.float16))
        arrays["pdq"].append(chance.integers(0, 256, 32, np.uint8))
        arrays["phash"].append(chance.integers(0, 256, 8, np.uint8))
        arrays["pixels"].append(chance.integers(0, 256, (32, 32, 3), np.uint8))
    shapes = {"pdq": (0, 32), "phash": (0, 8), "copy": (0, DIMENSIONS), "pixels": (0, 32, 32, 3)}
    return IndexRows(
        works=tuple(Work(work_id=f"work-{number}", bank=bank, **facts) for number in numbers),
        files=tuple(f"{number}.png" for number in numbers),
        file_sha256=tuple(digest(f"file {number}{look}") for number in numbers),
        pixels_sha256=tuple(digest(f"pixels {number}{look}") for number in numbers),
        arrays={
            name: np.stack(rows) if rows else np.zeros(shapes[name], np.float16 if name == "copy" else np.uint8)
            for name, rows in arrays.items()
        },
        previews=tuple(b"\xff\xd8 a preview of " + str(number).encode() for number in numbers),
    )


def asked(rows):
    """The fingerprints of rows, as an image has them."""
    count, vectors = len(rows), rows.arrays["copy"].astype(np.float32)
    return Fingerprints(
        failures=(None,) * count,
        file_sha256=rows.file_sha256,
        pixels_sha256=rows.pixels_sha256,
        pdq=rows.arrays["pdq"][:, None].repeat(8, 1),
        pdq_quality=np.full(count, 100, np.int64),
        phash=rows.arrays["phash"][:, None].repeat(8, 1),
        copy=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


def made_index(folder, numbers=range(0), header=HEADER):
    """An index of some works, in one segment."""
    create_store(folder, header, [made_up(numbers)] if len(list(numbers)) else [])
    return FolderIndex(folder)


def ids(index):
    return sorted(work.work_id for work in index.works)
