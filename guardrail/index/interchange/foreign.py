"""Read PDQ lists that others write: ThreatExchange, its Python tools, HMA, and exchanges that use its forms.

Read are lines of text (`pdq HEX`, or HEX alone), CSV with or without a header, JSON lines, and one JSON document.
Nothing of such a list is a pickle: state files of python-threatexchange are refused, print them as CSV instead.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from guardrail.errors import HashListUnusable
from guardrail.index.interchange.form import ListedWork, WithdrawnWork, require_hash
from guardrail.index.interchange.lines import RawLine, numbered_lines, parsed, said_wrong
from guardrail.index.interchange.reading import Item
from guardrail.records import Disposition

__all__ = ["FOREIGN_FORMATS", "Dialect", "foreign_items", "guess_dialect"]

Dialect = Literal["text", "csv", "json"]
FOREIGN_FORMATS: tuple[Dialect, ...] = ("text", "csv", "json")

_HEX = re.compile(r"^[0-9a-fA-F]{64}$")
_TEXT_LINE = re.compile(rb"(\w+\s+)?[0-9a-fA-F]{64}(\s|$)")
_VALUES = ("signal_str", "signal_value", "signal_val", "signal_hash", "signal", "indicator", "hash", "pdq")
_TYPES = ("signal_type", "indicator_type", "type")
_BUNDLES = ("signals", "fingerprints")  # several hashes of one content, by their type
_GONE = ("should_delete", "deleted", "withdrawn")
_NEGATIVE = {"NEGATIVE_CLASS", "NON_MALICIOUS"}  # somebody says that the content is harmless
_LOWEST_QUALITY = 50  # of 100: ThreatExchange distrusts hashes below
_LARGEST_DOCUMENT_BYTES = 2**26  # of one JSON document, which is read whole
_LONGEST_TITLE = 200
_PICKLE = b"\x80"


def guess_dialect(path: Path) -> Dialect:
    """How a list is written, by its first line.

    Raises:
        HashListUnusable: it is none.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise HashListUnusable(str(path), str(error), "a file we may read", "correct its name") from error
    if not start.strip() or start.startswith(_PICKLE) or b"\0" in start:
        found = "a pickle" if start.startswith(_PICKLE) else "no text" if start.strip() else "an empty file"
        told = "print it as CSV: threatexchange dataset -P --csv"
        raise HashListUnusable(str(path), found, "lines of text, CSV or JSON", told)
    first = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if first[:1] in b"{[":
        return "json"
    line = first.split(b"\n")[0]
    return "csv" if b"," in line and not _TEXT_LINE.match(line) else "text"


def foreign_items(
    path: Path, dialect: Dialect, bank: str, progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Item]:
    """Every entry of a list, or why nothing can be made of it; entries of other signals than PDQ are left out.

    Args:
        path: the file.
        dialect: how it is written.
        bank: the bank of its works. Their id is made of the hash, or of the exchange's own where it has one.
        progress: called with (bytes, bytes in all).

    Raises:
        HashListUnusable: it cannot be read at all.
    """
    try:
        total = path.stat().st_size
        read = 0

        def take(piece: bytes) -> None:
            nonlocal read
            read += len(piece)

        with path.open("rb") as file:
            if dialect == "json" and _is_document(path):
                yield from _document(path, file.read(_LARGEST_DOCUMENT_BYTES + 1), bank)
                return
            dialects: dict[str, Callable[[str], Sequence[Any]]] = {"text": _Text(), "csv": _Csv(), "json": _Json()}
            for line in numbered_lines(file, take):
                progress(read, total)
                if line.is_too_long:
                    yield Item(line.number, problem="a line that is too long")
                elif line.content.strip():
                    yield from _items(line, dialects[dialect], bank)
    except OSError as error:
        raise HashListUnusable(str(path), str(error), "a file we may read", "correct its name") from error


def _is_document(path: Path) -> bool:
    """Whether a JSON file is one document rather than lines: its first line is not whole."""
    with path.open("rb") as file:
        first = next(numbered_lines(file)).content.removeprefix(b"\xef\xbb\xbf")
    try:
        parsed(first)
    except ValueError:
        return True
    return False


def _document(path: Path, content: bytes, bank: str) -> Iterator[Item]:
    if len(content) > _LARGEST_DOCUMENT_BYTES:
        expected = f"at most {_LARGEST_DOCUMENT_BYTES}, or JSON lines of any number"
        raise HashListUnusable(
            str(path), f"one JSON document of {len(content)} bytes or more", expected, "write it as lines"
        )
    try:
        said = parsed(content.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise HashListUnusable(str(path), said_wrong(error), "JSON", "get it again from whoever made it") from error
    for number, one in enumerate(_spread(said), start=1):
        yield _item(number, lambda one=one: one, bank)  # type: ignore[misc]


def _items(line: RawLine, read_line: Callable[[str], Sequence[Any]], bank: str) -> Iterator[Item]:
    try:
        entries = read_line(line.content.decode("utf-8-sig").strip("\r\n"))
    except (ValueError, csv.Error) as error:
        yield Item(line.number, problem=said_wrong(error if isinstance(error, ValueError) else ValueError(str(error))))
        return
    for one in entries:
        yield _item(line.number, lambda one=one: one, bank)  # type: ignore[misc]


class _Text:
    """`pdq HEX`, as `threatexchange hash` and `dataset -P` print it and its file exchange reads it; or HEX alone."""

    def __call__(self, line: str) -> Sequence[Any]:
        words = line.split(maxsplit=2)
        if _HEX.match(words[0]):
            return [{"hash": words[0]}]
        if len(words) < 2:
            raise ValueError("one word, expected 'pdq' and 64 hex digits")
        return [{"signal_type": words[0], "hash": words[1]}]


class _Csv:
    """Fields by the names in a header; without a header the hash comes first, and labels last."""

    def __init__(self) -> None:
        self._names: list[str] | None = None
        self._begun = False

    def __call__(self, line: str) -> Sequence[Any]:
        fields = next(csv.reader([line], strict=True))
        if not self._begun:
            self._begun = True
            if not any(_HEX.match(field.strip()) for field in fields):
                self._names = [field.strip().lower() for field in fields]
                if not {*self._names} & {*_VALUES}:
                    raise ValueError(f"a header without a column of hashes; expected one of {', '.join(_VALUES)}")
                return []
        if self._names is None:
            return [{"hash": fields[0].strip(), "tags": fields[-1] if len(fields) > 1 else ""}]
        if len(fields) != len(self._names):
            raise ValueError(f"{len(fields)} fields, expected {len(self._names)} as in the header")
        return [dict(zip(self._names, fields, strict=True))]


class _Json:
    """One or several entries a line."""

    def __call__(self, line: str) -> Sequence[Any]:
        return list(_spread(parsed(line.encode())))


def _spread(said: Any) -> Iterator[Any]:
    """The entries of a list, or of a page of an exchange's answer."""
    if isinstance(said, list):
        yield from said
    elif isinstance(said, dict) and isinstance(said.get("data"), list):
        yield from said["data"]
    else:
        yield said


def _item(number: int, entry: Callable[[], Any], bank: str) -> Item:
    try:
        said = entry()
        if not isinstance(said, Mapping):
            raise ValueError(f"a {type(said).__name__}, expected an entry with a hash")  # noqa: TRY301, TRY004
        return _understood(number, said, bank)
    except ValueError as error:
        return Item(number, problem=said_wrong(error))


def _understood(number: int, said: Mapping[str, Any], bank: str) -> Item:
    signal, value = _signal(said)
    if signal != "pdq":
        return Item(number, left_out=f"a signal of the type {signal[:40]!r}")
    content = _content_id(said)
    if any(said.get(name) in (True, "true", "True", "1", 1) for name in _GONE):
        if not content and not value:
            raise ValueError("an entry that is deleted and names no hash")
        return Item(number, WithdrawnWork(bank=bank, work_id=content or f"pdq-{_checked(value)}"))
    pdq = _checked(value)
    if _is_negative(said):
        return Item(number, left_out="an entry that somebody says is harmless")
    quality = str(said.get("quality", "")).strip()
    if quality and not float(quality) >= _LOWEST_QUALITY:  # NaN is of no quality
        return Item(number, left_out=f"a hash of quality below {_LOWEST_QUALITY}")
    work_id = content or f"pdq-{pdq}"
    title = _title(said)
    return Item(
        number,
        ListedWork(bank=bank, work_id=work_id, disposition=Disposition.PROTECT, title=title, pdq=pdq),
    )


def _signal(said: Mapping[str, Any]) -> tuple[str, str]:
    """The type of signal of an entry, and its hash; empty where it has none."""
    for bundle in _BUNDLES:
        if isinstance(held := said.get(bundle), Mapping):
            by_type = {_type(str(name)): str(value) for name, value in held.items()}
            return ("pdq", by_type["pdq"]) if "pdq" in by_type else (", ".join(sorted(by_type)) or "pdq", "")
    value = next((str(said[name]).strip() for name in _VALUES if said.get(name)), "")
    kind = next((_type(str(said[name])) for name in _TYPES if said.get(name)), "pdq")
    return kind, value


def _type(name: str) -> str:
    return name.strip().lower().removeprefix("hash_")


def _content_id(said: Mapping[str, Any]) -> str:
    """The id that an exchange of contents with several hashes gives; its deletions may name nothing else."""
    if not isinstance(said.get("fingerprints"), Mapping):
        return ""
    parts = [str(said[name]) for name in ("member_id", "id") if said.get(name) is not None]
    return "-".join(["content", *parts]) if parts else ""


def _checked(value: str) -> str:
    if not _HEX.match(value):
        raise ValueError(f"{value[:80]!r}, expected 64 hex digits of PDQ")
    return require_hash(value.lower())


def _is_negative(said: Mapping[str, Any]) -> bool:
    if str(said.get("category", "")) in _NEGATIVE or str(said.get("status", "")) in _NEGATIVE:
        return True
    held = said.get("descriptors")
    descriptors = held.get("data") if isinstance(held, Mapping) else None
    if not isinstance(descriptors, list) or not descriptors:
        return False
    return all(isinstance(one, Mapping) and one.get("status") in _NEGATIVE for one in descriptors)


def _title(said: Mapping[str, Any]) -> str:
    """What a person may want to read of it: the collaboration and its tags."""
    tags = said.get("tags") or ""
    if isinstance(tags, list):
        tags = " ".join(map(str, tags))
    words = [str(said.get("collab") or ""), tags if isinstance(tags, str) else ""]
    text = ": ".join(word for word in words if word)[:_LONGEST_TITLE]
    return "".join(sign if sign.isprintable() else " " for sign in text)
