"""Near-duplicates that were found before, in the index's cache: derived, checksummed, and made again when missing."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import IndexDamaged
from guardrail.index.clusters_near import Likeness
from guardrail.index.store.state import State
from guardrail.index.structures import CACHE

__all__ = ["Links", "links_damages", "links_path", "read_links", "write_links"]

_FORMAT = 1  # of the file; also to be raised when other pairs are found than before
_NUMBER = np.dtype("<i8")
log = logging.getLogger("guardrail.index")


@dataclass(frozen=True, slots=True)
class Links:
    """Pairs of near-duplicates, and among which rows they were sought.

    Attributes:
        rows: int64 (n,), ascending.
        pairs: int64 (m, 2), the smaller row first, in ascending order.
    """

    rows: NDArray[np.int64]
    pairs: NDArray[np.int64]

    @classmethod
    def none(cls) -> Links:
        """Nothing was sought."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 2), np.int64))

    def among(self, rows: NDArray[np.int64]) -> Links:
        """What is known of some rows alone: a row that was withdrawn takes its pairs along."""
        kept = np.intersect1d(self.rows, rows, assume_unique=True)
        return Links(kept, self.pairs[np.isin(self.pairs, kept).all(axis=1)])


def links_path(state: State) -> Path:
    """Where they are kept: one line of JSON that vouches for the rest, then rows and pairs as little-endian int64."""
    return state.folder / CACHE / "near-duplicates.bin"


def read_links(state: State, likeness: Likeness) -> Links:
    """What was found before, of this index and by these limits; nothing where there is none that holds."""
    try:
        found = _read(links_path(state))
    except (OSError, ValueError) as error:
        log.warning("near-duplicates are sought again: %s", error)
        return Links.none()
    if found is None or found[0] != _specification(state, likeness):
        return Links.none()  # of other limits, or of an index that stood here before
    return found[1]


def links_damages(state: State) -> Iterator[IndexDamaged]:
    """That the file does not hold, where it does not; it is made again when it is needed."""
    path = links_path(state)
    try:
        _read(path)
    except (OSError, ValueError) as error:
        yield IndexDamaged(str(path), str(error), "near-duplicates as they were found; delete it, it is made again")


def _read(path: Path) -> tuple[str, Links] | None:
    """The specification and the pairs of a file; None where there is none.

    Raises:
        OSError, ValueError: it cannot be read, or holds other content than was written.
    """
    try:
        line, _, rest = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OSError(f"{path}: {error}") from error
    try:
        about = json.loads(line)
        said = about["sha256"], _NUMBER.itemsize * (about["rows"] + 2 * about["pairs"])
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(f"{path}: found no description of its content") from error
    if said != (hashlib.sha256(rest).hexdigest(), len(rest)):
        raise ValueError(f"{path}: found other content than was written")
    numbers = np.frombuffer(rest, _NUMBER).astype(np.int64)
    return str(about["specification"]), Links(numbers[: about["rows"]], numbers[about["rows"] :].reshape(-1, 2))


def write_links(state: State, likeness: Likeness, links: Links) -> None:
    """Keep them, whole or not at all; where the cache cannot be written, they are sought again next time."""
    path = links_path(state)
    rest = b"".join(np.ascontiguousarray(one, _NUMBER).tobytes() for one in (links.rows, links.pairs))
    about = {
        "specification": _specification(state, likeness),
        "rows": len(links.rows),
        "pairs": len(links.pairs),
        "sha256": hashlib.sha256(rest).hexdigest(),
    }
    making = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        making.write_bytes(json.dumps(about).encode() + b"\n" + rest)
        making.replace(path)
    except OSError as error:
        log.warning("near-duplicates of %r cannot be kept: %s", str(state.folder), error)
        with suppress(OSError):
            making.unlink()


def _specification(state: State, likeness: Likeness) -> str:
    """All that decides which pairs are near-duplicates, in words."""
    limits, manifest = likeness.limits, state.manifest
    said = {
        "format": _FORMAT,
        "built_at": manifest.built_at.isoformat(),
        "copy": str(manifest.embedders["copy"]),
        "limits": [
            limits.pdq.flag_within_bits,
            limits.pdq.block_within_bits,
            limits.copy_.flag_above,
            limits.correlation.block_above,
            limits.tile_l2_within,
        ],
        "background": None if likeness.background is None else likeness.background.nearest,
    }
    return json.dumps(said)
