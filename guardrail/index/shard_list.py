"""The list beside shards that were made elsewhere: written last, so that shards without one are unfinished."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fsspec

from guardrail.errors import IndexDamaged

__all__ = ["LIST", "ShardList", "read_shard_list", "write_shard_list"]

LIST = "SHARDS.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ShardList:
    """Fingerprints that were made elsewhere.

    Attributes:
        location: the folder or URL where they lie.
        specification: what they were made to.
        sizes: of each shard, by its name there, in bytes.
        pictures: how many pictures have a row that counts.
        faults: pictures that have none, and why.
        left_out: how many files were no pictures.
        gone: pictures that have rows and were no longer in the source when the list was written.
    """

    location: str
    specification: Mapping[str, Any]
    sizes: Mapping[str, int]
    pictures: int
    faults: tuple[tuple[str, str], ...] = ()
    left_out: int = 0
    gone: tuple[str, ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        """Where the shards lie, in order."""
        return tuple(f"{self.location}/{name}" for name in sorted(self.sizes))

    @property
    def expected_bytes(self) -> tuple[int, ...]:
        """The size of each, in the same order."""
        return tuple(self.sizes[name] for name in sorted(self.sizes))


def read_shard_list(location: str) -> ShardList | None:
    """The list of shards in a folder or at a URL; None where there is none.

    Raises:
        IndexDamaged: it cannot be read, or is of a format we do not know.
        OSError: the place cannot be reached.
    """
    location = location.rstrip("/")
    files, path = fsspec.core.url_to_fs(f"{location}/{LIST}")
    try:
        said = json.loads(files.cat_file(path))
        if said.pop("format") != _FORMAT:
            raise IndexDamaged(path, "another format", f"format {_FORMAT}")
        said["faults"] = tuple((str(name), str(error)) for name, error in said["faults"])
        said["gone"] = tuple(str(name) for name in said["gone"])
        return ShardList(location=location, **said)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, IndexDamaged):
            raise
        raise IndexDamaged(path, f"a list that cannot be read ({error})", "one as guardrail writes it") from error


def write_shard_list(shards: ShardList) -> None:
    """Write the list, once all shards are there.

    Raises:
        OSError: the place cannot be written.
    """
    said = {
        "format": _FORMAT,
        "specification": shards.specification,
        "sizes": dict(shards.sizes),
        "pictures": shards.pictures,
        "faults": shards.faults,
        "left_out": shards.left_out,
        "gone": shards.gone,
    }
    files, path = fsspec.core.url_to_fs(f"{shards.location}/{LIST}")
    files.pipe_file(f"{path}.tmp", json.dumps(said, indent=1).encode())
    files.mv(f"{path}.tmp", path)
