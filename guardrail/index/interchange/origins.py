"""Which lists an index has imported, and how far: kept beside it, so that no delta is applied out of turn."""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Literal

import rfc8785
from pydantic import AwareDatetime, Field

from guardrail.errors import HashListUnusable, IndexDamaged
from guardrail.index.interchange.form import ListHead
from guardrail.index.layout import swap_file
from guardrail.records.base import Record, Sha256

__all__ = ["FOREIGN", "ORIGINS", "Imported", "Origins", "read_origins", "require_turn", "tag_of", "write_origins"]

ORIGINS = "ORIGINS.json"
FOREIGN = "list:foreign"  # `Work.source` of works from lists that others than guardrail wrote


class Imported(Record):
    """The last list that was imported of one origin.

    `sha256` is the digest in its foot, empty until the first one is in, and `made_at` is when it was made. `applying`
    is the digest of a list whose import began and did not end.
    """

    origin: str
    signer: str
    anchor: str
    sha256: Sha256 | Literal[""]
    applying: Sha256 | Literal[""] = ""
    snapshot: Sha256
    made_at: AwareDatetime
    imported_at: AwareDatetime

    def ended(self, head: ListHead) -> "Imported":
        """The list that was being imported is in."""
        said = {"snapshot": head.snapshot, "made_at": head.made_at}
        return self.model_copy(update={"sha256": self.applying, "applying": "", **said})


class Origins(Record):
    """All origins of an index, by the tag that their works have as `source`."""

    schema_version: Literal[1] = 1
    built_at: AwareDatetime
    origins: dict[str, Imported] = Field(default_factory=dict)
    sha256: Sha256 | Literal[""] = Field(default="", description="digest of the canonical JSON of all the rest")

    def with_list(self, tag: str, last: Imported) -> "Origins":
        """The record with another last list of an origin."""
        return self.model_copy(update={"origins": self.origins | {tag: last}})


def tag_of(origin: str, anchor: str, bank: str | None = None) -> str:
    """What works of an origin have as `source`: one name for each origin, whom it is trusted under, and `--bank`."""
    said = f"{origin}/{anchor}" + (f"/{bank}" if bank else "")
    return f"list:{hashlib.sha256(said.encode()).hexdigest()[:32]}"


def _digest(origins: Origins) -> str:
    said = origins.model_dump(mode="json", exclude={"sha256"})
    return hashlib.sha256(rfc8785.dumps(said)).hexdigest()


def read_origins(folder: Path, built_at: datetime) -> Origins:
    """The record of an index; an empty one where nothing was imported.

    Args:
        folder: the index.
        built_at: when it was built.

    Raises:
        IndexDamaged: the record was cut or edited, or is another index's.
    """
    path = folder / ORIGINS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Origins(built_at=built_at)
    except OSError as error:
        raise IndexDamaged(str(path), str(error), "a file we may read") from error
    try:
        origins = Origins.model_validate(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise IndexDamaged(str(path), "a file that was cut or edited", "what the last import wrote") from error
    if origins.sha256 != _digest(origins):
        raise IndexDamaged(str(path), "a file that was edited", "what the last import wrote")
    if origins.built_at != built_at:
        found = f"what was imported into an index built at {origins.built_at}"
        raise IndexDamaged(str(path), found, f"this one, built at {built_at}")
    return origins


def write_origins(folder: Path, origins: Origins) -> None:
    """Put a record in the place of the one before, in one step. The writer's lock is held.

    Raises:
        OSError: it cannot be written; the one before stands.
    """
    said = origins.model_copy(update={"sha256": _digest(origins)}).model_dump(mode="json")
    swap_file(folder / ORIGINS, json.dumps(said, indent=2, ensure_ascii=False).encode())


def require_turn(path: Path, head: ListHead, sha256: str, last: Imported | None) -> None:
    """Require that a list may be applied to what was imported last of its origin.

    Raises:
        HashListUnusable: a delta on another list, or a full list that is older.
    """
    if last is not None and sha256 == (last.applying or last.sha256):
        return
    if last is not None and last.applying and head.since is not None:
        found = f"another list than {last.applying[:12]}, whose import was interrupted"
        raise HashListUnusable(str(path), found, "that one", "import it again first, or a newer full list")
    if head.since is not None:
        if last is None or not last.sha256:
            found, expected = "a delta", "a full list first: none of this origin was imported"
            raise HashListUnusable(str(path), found, expected, "import the full list that it goes on from")
        if head.since.sha256 != last.sha256:
            found = f"a delta on the list {head.since.sha256[:12]}"
            told = "import the lists in between in their order, or a newer full list"
            raise HashListUnusable(str(path), found, f"one on the list {last.sha256[:12]}, imported last", told)
    elif last is not None and last.sha256 and head.made_at <= last.made_at:
        found, expected = f"a list made at {head.made_at}", f"one made after {last.made_at}, as the last imported was"
        raise HashListUnusable(str(path), found, expected, "have a newer one exported; an old one would undo changes")
