"""The files of a sharded source, on local disk or an object store: patterns in, files with their stamps out."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec

from guardrail.errors import ExtraMissing, SettingsInvalid

__all__ = ["Shard", "find_shards", "is_remote", "plain_facts"]

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created", "updated")
_LONGEST_FACT = 1000  # characters
_FACTS = {
    "title": ("title", "caption", "text"),
    "creator": ("creator", "author", "artist"),
    "rights_holder": ("rights_holder",),
    "licence": ("licence", "license"),
    "source": ("source", "url", "page_url"),
}
"""Fields of `Work` that a source may say by itself, and what they are called there. Only a person may name others."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a source.

    Attributes:
        files: the fsspec filesystem it lies on.
        path: where, on that filesystem.
        name: what its pictures' names begin with: the path below the folder that all shards share.
        stamp: size and version (ETag, modification time); empty where it is not there.
        size_bytes: 0 where it is not there.
    """

    files: Any
    path: str
    name: str
    stamp: str
    size_bytes: int

    def open(self) -> Any:
        """The file, opened for reading bytes at any place."""
        return self.files.open(self.path, "rb")


def is_remote(location: str) -> bool:
    """Whether a location names a filesystem (`s3://...`) and not a path."""
    return "://" in location or "::" in location


def find_shards(locations: Sequence[str]) -> tuple[Shard, ...]:
    """The files that some patterns name, in order.

    Args:
        locations: paths or fsspec URLs, with `{000..099}`, `{a,b}` and `*`, `?`, `[...]`. What is written out or comes
            of braces is listed though it is not there, so that it is missed; what `*` does not find is not.

    Raises:
        ExtraMissing: the package for that filesystem is not installed.
        SettingsInvalid: no file has such a name, or there is no such filesystem.
    """
    found: dict[tuple[str, str], tuple[Any, str]] = {}
    for location in itertools.chain.from_iterable(map(_without_braces, locations)):
        try:
            files, path = fsspec.core.url_to_fs(location)
        except ImportError as error:
            scheme = location.partition("://")[0]
            raise ExtraMissing(f"fsspec for {scheme}://", scheme, f"read {location!r} ({error})") from error
        except ValueError as error:
            raise SettingsInvalid(location, str(error)) from error
        paths = sorted(files.glob(path)) if any(sign in path for sign in "*?[") else [path]
        found |= {(type(files).__name__, str(path)): (files, str(path)) for path in paths}
    if not found:
        raise SettingsInvalid(", ".join(locations), "a pattern that no file fits")
    return tuple(_shards(list(found.values())))


def _without_braces(location: str) -> Iterator[str]:
    match = _RANGE.search(location) or _CHOICE.search(location)
    if match is None:
        yield location
        return
    for part in _parts(match):
        yield from _without_braces(location[: match.start()] + part + location[match.end() :])


def _parts(match: re.Match[str]) -> Iterator[str]:
    if match.re is _CHOICE:
        yield from match.group(1).split(",")
        return
    first, last = match.groups()
    step = 1 if int(first) <= int(last) else -1
    yield from (f"{at:0{len(first)}d}" for at in range(int(first), int(last) + step, step))


def _shards(found: list[tuple[Any, str]]) -> Iterator[Shard]:
    folders = [path.split("/")[:-1] for _, path in found]
    shared = 0
    while all(len(parts) > shared and parts[shared] == folders[0][shared] for parts in folders):
        shared += 1
    for files, path in found:
        name = "/".join(path.split("/")[shared:])
        try:
            facts = files.info(path)
        except OSError:
            yield Shard(files, path, name, "", 0)
            continue
        size = int(facts.get("size") or 0)
        version = next((facts[key] for key in _VERSIONS if facts.get(key) is not None), "")
        yield Shard(files, path, name, f"{size}:{version}" if version else "", size)


def plain_facts(said: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, str]:
    """What a side file or the columns of a table say of a work.

    Args:
        said: by the source's own names.
        named: by field of `Work`, the name it has there; these take the place of the names that are known.
    """
    facts: dict[str, str] = {}
    for fact, names in (_FACTS | {fact: (name,) for fact, name in named.items()}).items():
        value = next((said[name] for name in names if said.get(name) not in (None, "")), None)
        if isinstance(value, str | int | float):
            text = str(value).encode("utf-8", "replace").decode().strip()
            facts[fact] = text if fact in named else text[:_LONGEST_FACT]
        elif value is not None and fact in named:
            facts[fact] = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return facts
