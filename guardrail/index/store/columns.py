"""The columns that a log batch and a segment have in common, and how works are packed into them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.carriers import IndexRows
from guardrail.records import Disposition, EmbedderSpec, IndexHeader, Work

__all__ = [
    "COMPUTED",
    "NEVER",
    "STANDING",
    "Packed",
    "column_shapes",
    "key_prefix",
    "micros",
    "pack",
    "prefix_of",
    "standing_at",
    "unpack",
]

NEVER = np.iinfo(np.int64).max  # microseconds since 1970 of a date that a work does not have
STANDING = np.dtype(
    [("bank", "<u4"), ("disposition", "u1"), ("columns", "u1"), ("opted_out_at", "<i8"), ("expires_at", "<i8")]
)
COMPUTED = ("pdq", "phash", "copy", "tiles", "clip", "pixels")  # bit n of `columns` says that a row has column n
_DISPOSITIONS = (Disposition.PROTECT, Disposition.CREDIT, Disposition.IGNORE)
_PROTECT, _CREDIT = 0, 1
_PROOF_SIDE_PX = 32
_PREFIX_BYTES = 8


@dataclass(frozen=True, slots=True)
class Packed:
    """N rows as columns.

    Attributes:
        banks: names, which `standing["bank"]` counts into.
        columns: `standing` STANDING (N,); `digests` uint8 (N, 2, 32), sha256 of file and pixels, zeros for none;
            `keys` uint64 (N,); `marks` uint64 (N,), by which a row is told from every other; those of `COMPUTED` that
            any row has, zeros where one has not; `rows` and `previews` uint8, end to end, with `row_starts` and
            `preview_starts` int64 (N + 1,).
    """

    banks: tuple[str, ...]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["standing"])


def column_shapes(header: IndexHeader) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """By computed column, dtype and shape of one row, in an index of this specification."""
    copy: EmbedderSpec = header.embedders["copy"]
    shapes: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "pdq": (np.uint8, (32,)),
        "phash": (np.uint8, (8,)),
        "copy": (np.float16, (copy.dimensions,)),
        "pixels": (np.uint8, (_PROOF_SIDE_PX, _PROOF_SIDE_PX, 3)),
    }
    if header.sampling.tiles > 1:
        shapes["tiles"] = (np.float16, (header.sampling.tiles - 1, copy.dimensions))
    if "clip" in header.embedders:
        shapes["clip"] = (np.float16, (header.embedders["clip"].dimensions,))
    return shapes


def key_prefix(bank: str, work_id: str) -> int:
    """What a work is looked up by: the first 8 bytes of a sha256 of bank and id."""
    named = f"{len(bank)}:{bank}/{work_id}".encode("utf-8", "surrogateescape")
    return _prefix(hashlib.sha256(named).digest())


def _prefix(digest: bytes) -> int:
    return int.from_bytes(digest[:_PREFIX_BYTES], "little")


def prefix_of(digest: str) -> int:
    """What a hex digest is looked up by."""
    return _prefix(bytes.fromhex(digest))


def pack(rows: IndexRows) -> Packed:
    """Rows as columns."""
    banks = tuple(sorted({work.bank for work in rows.works}))
    standing = np.zeros(len(rows), STANDING)
    code = {bank: at for at, bank in enumerate(banks)}
    standing["bank"] = [code[work.bank] for work in rows.works]
    standing["disposition"] = [_DISPOSITIONS.index(work.disposition) for work in rows.works]
    standing["columns"] = sum(1 << at for at, name in enumerate(COMPUTED) if name in rows.arrays)
    standing["opted_out_at"] = [micros(work.opted_out_at) for work in rows.works]
    standing["expires_at"] = [micros(work.expires_at) for work in rows.works]
    columns: dict[str, NDArray[Any]] = {
        "standing": standing,
        "digests": _digests(rows),
        "keys": np.array([key_prefix(work.bank, work.work_id) for work in rows.works], np.uint64),
    }
    lines = [_line(rows, at) for at in range(len(rows))]
    columns |= {name: np.ascontiguousarray(rows.arrays[name]) for name in COMPUTED if name in rows.arrays}
    columns["marks"] = _marks(lines, [columns[name] for name in ("pdq", "phash", "copy") if name in columns])
    columns["rows"], columns["row_starts"] = _end_to_end(lines)
    columns["previews"], columns["preview_starts"] = _end_to_end(rows.previews)
    return Packed(banks, columns)


def unpack(lines: Sequence[bytes], arrays: Mapping[str, NDArray[Any]], previews: Sequence[bytes]) -> IndexRows:
    """Rows again from their lines and columns."""
    said = [json.loads(line) for line in lines]
    return IndexRows(
        works=tuple(Work.model_validate(one["work"]) for one in said),
        files=tuple(one["file"] for one in said),
        file_sha256=tuple(one["file_sha256"] for one in said),
        pixels_sha256=tuple(one["pixels_sha256"] for one in said),
        arrays=arrays,
        previews=tuple(previews),
    )


def standing_at(standing: NDArray[Any], at: datetime) -> tuple[NDArray[np.bool_], NDArray[np.bool_], int]:
    """What a match with each row means at a moment, as `Work.standing` says it.

    Returns:
        Which rows are protected then, which of the others count, bool (N,), and the next moment at which any of that
        changes, in microseconds since 1970.
    """
    now = micros(at)
    opted, expired = standing["opted_out_at"] <= now, standing["expires_at"] <= now
    said = standing["disposition"]
    protected = opted | np.where(expired, said == _CREDIT, said == _PROTECT)
    others = ~protected & ~expired
    dates = np.concatenate([standing["opted_out_at"], standing["expires_at"]])
    return protected, others, int(dates[dates > now].min(initial=NEVER))


def micros(at: datetime | None) -> int:
    """Microseconds since 1970, exactly."""
    if at is None:
        return int(NEVER)
    whole = int((at.replace(microsecond=0)).timestamp())
    return whole * 1_000_000 + at.microsecond


def _digests(rows: IndexRows) -> NDArray[np.uint8]:
    digests = np.zeros((len(rows), 2, 32), np.uint8)
    for at, both in enumerate(zip(rows.file_sha256, rows.pixels_sha256, strict=True)):
        for which, digest in enumerate(both):
            if digest:
                digests[at, which] = np.frombuffer(bytes.fromhex(digest), np.uint8)
    return digests


def _marks(lines: Sequence[bytes], arrays: Sequence[NDArray[Any]]) -> NDArray[np.uint64]:
    marks = np.zeros(len(lines), np.uint64)
    for at, line in enumerate(lines):
        digest = hashlib.sha256(line)
        for array in arrays:
            digest.update(array[at].tobytes())
        marks[at] = _prefix(digest.digest())
    return marks


def _line(rows: IndexRows, at: int) -> bytes:
    said = {
        "work": rows.works[at].model_dump(mode="json"),
        "file": rows.files[at],
        "file_sha256": rows.file_sha256[at],
        "pixels_sha256": rows.pixels_sha256[at],
    }
    return (json.dumps(said, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _end_to_end(pieces: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    starts = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    return np.frombuffer(b"".join(pieces), np.uint8), starts
