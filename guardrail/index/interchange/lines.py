"""Lines of a file that somebody else wrote: none is longer than memory holds, and a bad one loses no other."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from pydantic import ValidationError

__all__ = ["LONGEST_LINE_BYTES", "RawLine", "numbered_lines", "parsed", "said_wrong"]

LONGEST_LINE_BYTES = 2**20  # a work with 14 vectors of 2,048 dimensions takes 80 kB
_SHOWN = 200  # characters of what is wrong with a line


class RawLine(NamedTuple):
    """One line: its number from 1, its bytes with the line feed, and where they were too many, only that."""

    number: int
    content: bytes
    is_too_long: bool


def numbered_lines(file: BinaryIO, each: Any = None) -> Iterator[RawLine]:
    """The lines of a file.

    Args:
        file: opened for bytes.
        each: called with every piece of every line, in order, as it is read.
    """
    number = 0
    while content := file.readline(LONGEST_LINE_BYTES):
        number += 1
        is_too_long = False
        piece = content
        while True:
            if each is not None:
                each(piece)
            if piece.endswith(b"\n") or not piece:
                break
            piece = file.readline(LONGEST_LINE_BYTES)
            is_too_long = is_too_long or bool(piece)
        yield RawLine(number, content, is_too_long)


def parsed(content: bytes) -> Any:
    """What a line says, as JSON.

    Raises:
        ValueError: it is not JSON, not UTF-8, too deep, names something twice, or has a number that is none.
    """
    try:
        return json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    said = dict(pairs)
    if len(said) != len(pairs):
        raise ValueError("a field that stands there twice")
    return said


def _no_number(text: str) -> Any:
    raise ValueError(f"the number {text}")


def said_wrong(error: ValueError) -> str:
    """What is wrong with a line, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place or 'line'}: {first['msg']}"[:_SHOWN]
    return " ".join(str(error).split())[:_SHOWN]
