"""Small files of settings beside an index that carry a digest of themselves, so that one edited by hand is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from guardrail.errors import CalibrationUnfit, IndexUnwritable
from guardrail.index.layout import swap_file
from guardrail.records import Record

__all__ = ["read_sealed", "write_sealed"]

_Kind = TypeVar("_Kind", bound=Record)


def read_sealed(path: Path, kind: type[_Kind], digest: Callable[[dict[str, Any]], str], expected: str) -> _Kind | None:
    """The record in a file whose `id` is its digest; None where there is no such file.

    Args:
        path: the file, JSON.
        kind: of record.
        digest: of what the file says, less its `id`.
        expected: what should lie there, for the message.

    Raises:
        CalibrationUnfit: it cannot be read, was edited or cut, or is of a version we do not know.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CalibrationUnfit(str(path), str(error), "a file that can be read") from error
    try:
        said = json.loads(content)
        if said["id"] != digest(said):
            raise CalibrationUnfit(str(path), "one that was edited", f"one whose digest is {said['id']!r}")
        return kind.model_validate(said)
    except (ValueError, TypeError, LookupError) as error:
        if isinstance(error, CalibrationUnfit):
            raise
        reason = "fields we do not know" if isinstance(error, ValidationError) else repr(error)
        raise CalibrationUnfit(str(path), reason, expected) from error


def write_sealed(path: Path, said: dict[str, Any]) -> None:
    """Put such a file in the place of an earlier one, whole or not at all.

    Raises:
        IndexUnwritable: the folder cannot be written; the earlier one holds on.
    """
    try:
        swap_file(path, (json.dumps(said, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise IndexUnwritable(str(path), str(error)) from error
