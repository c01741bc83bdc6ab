"""The limits that people set for single banks, beside an index: written atomically, read again when they change."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import rfc8785
from pydantic import AwareDatetime

from guardrail.errors import CalibrationUnfit
from guardrail.index.sealed import read_sealed, write_sealed
from guardrail.records import BankLimit, IndexHeader, Record
from guardrail.records.base import Sha256
from guardrail.records.calibration import specification_sha256

__all__ = ["BANK_LIMITS", "bank_limits_stamp", "read_bank_limits", "write_bank_limits"]

BANK_LIMITS = "BANK_LIMITS.json"
_UNWRITTEN = "0" * 64  # stands in for the id while it is computed


class _Stored(Record):
    """The file: its digest, for which fingerprints it holds, and the limits."""

    schema_version: Literal[1] = 1
    id: Sha256
    at: AwareDatetime
    specification_sha256: Sha256
    index_built_at: AwareDatetime
    banks: tuple[BankLimit, ...]


def bank_limits_stamp(folder: Path) -> tuple[int, ...]:
    """What is the same as long as the file is: cheap enough to be asked for at every search; empty without a file."""
    try:
        found = (folder / BANK_LIMITS).stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_bank_limits(folder: Path, header: IndexHeader) -> tuple[BankLimit, ...]:
    """The limits of single banks of an index; none where there is no file.

    Raises:
        CalibrationUnfit: it was edited or cut, is of a version we do not know, or was made for other fingerprints.
    """
    path = folder / BANK_LIMITS
    stored = read_sealed(path, _Stored, _digest, "limits of banks as guardrail writes them")
    if stored is None:
        return ()
    if stored.specification_sha256 != specification_sha256(header) or stored.index_built_at != header.built_at:
        raise CalibrationUnfit(str(path), "limits made on another index, or for other fingerprints", "this index's")
    return stored.banks


def write_bank_limits(folder: Path, header: IndexHeader, banks: Sequence[BankLimit]) -> None:
    """Put the limits of single banks beside an index, in the place of those before, whole or not at all.

    Every search that starts from then on, in whatever process, is judged by them.

    Raises:
        IndexUnwritable: the folder cannot be written; those before hold on.
    """
    stored = _Stored(
        id=_UNWRITTEN,
        at=datetime.now(UTC),
        specification_sha256=specification_sha256(header),
        index_built_at=header.built_at,
        banks=tuple(banks),
    )
    said = stored.model_dump(mode="json")
    said["id"] = _digest(said)
    write_sealed(folder / BANK_LIMITS, said)


def _digest(said: dict[str, Any]) -> str:
    """Digest of the canonical JSON (RFC 8785) of the file without its `id`."""
    whole = rfc8785.dumps({key: value for key, value in said.items() if key != "id"})
    return hashlib.sha256(whole).hexdigest()
