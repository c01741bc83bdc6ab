"""Sketched gradients on the disk: a manifest, a journal of rows, and shards that are mapped into memory.

A row counts once the journal names it, and its numbers are on the disk before that; what a kill leaves half-written is
cut off when rows are added again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from guardrail.attribution_errors import GradientsDamaged, GradientsLocked, GradientsMismatch, GradientsMissing
from guardrail.records.base import Record, Seed, Sha256
from guardrail.study.attribution.columns import Column, sync_folder

__all__ = ["JOURNAL", "PICTURE_PX", "GradientManifest", "GradientRows", "KeptRow"]

_MANIFEST, _LOCK = "manifest.json", "LOCK"
JOURNAL = "rows.jsonl"
"""Name of the file whose rows say what counts: it changes with them."""
_ROWS_A_READ = 2_048  # 32 MiB in float32 at 4,096 counters
_GRADIENT, _PIXEL = np.dtype("<f2"), np.dtype("u1")
PICTURE_PX = 64
"""Side of the small picture that is kept of every row: 12 KB, to be looked at and for the patch posterior."""


class GradientManifest(Record):
    """What the gradients of a folder were made with; two may be compared only when these are equal.

    `weights_sha256` is that of the parameters that were differentiated, `parameters` their number, and `patterns` chose
    them by name. `counters` is k, `draws` K; `function` whose gradient it is, and `noising` what the model predicts.
    `shape` is that of the images as the network is given them, and `side_px` the side of pictures. `pipeline` is the
    class, `model` what a person named it; `adapters` were on, each with its weight.
    """

    format: Literal[1] = 1
    weights_sha256: Sha256
    parameters: int
    patterns: tuple[str, ...] = ("*",)
    counters: int
    draws: int
    seed: Seed
    function: Literal["noise_norm", "loss"]
    noising: str
    shape: tuple[int, ...]
    side_px: int = 0
    pipeline: str = ""
    model: str = ""
    adapters: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class KeptRow:
    """One image, as the journal says of it.

    Attributes:
        work_id, bank: the work it shows, named as an index names it.
        pixels_sha256: of the pixels that the model was asked about.
        file: what it was read from, as its list says it; no path leaves in reports.
        caption_sha256: of the caption it was asked with; empty without one.
        label: its class; None without one.
        decoy: the model was not trained on it.
        scale: by what its numbers are to be multiplied.
        crc32: of its numbers as they lie in the shard.
        removed: it counts no longer.
    """

    work_id: str
    bank: str = "default"
    pixels_sha256: str = ""
    file: str = ""
    caption_sha256: str = ""
    label: int | None = None
    decoy: bool = False
    scale: float = 0.0
    crc32: int = 0
    removed: bool = False

    @property
    def name(self) -> str:
        """BANK/ID, and for a decoy what says so: a work may be both among what was trained on, and not."""
        return f"{'decoy:' if self.decoy else ''}{self.bank}/{self.work_id}"


class GradientRows:
    """The rows of one folder.

    Args:
        folder: made when missing.
        manifest: what its rows are made with; None: whatever the folder says.

    Raises:
        GradientsMissing: there is none, and no manifest to make one by.
        GradientsMismatch: the folder's rows were made otherwise.
        GradientsDamaged: a file of it is cut or edited.
    """

    def __init__(self, folder: Path, manifest: GradientManifest | None = None) -> None:
        self.folder = folder
        said = folder / _MANIFEST
        if not said.exists():
            if manifest is None:
                raise GradientsMissing(
                    str(folder), "nothing there" if not folder.exists() else f"it has no {_MANIFEST}"
                )
            folder.mkdir(parents=True, exist_ok=True)
            _write_whole(said, manifest.model_dump_json(indent=2).encode())
        try:
            self.manifest = GradientManifest.model_validate_json(said.read_bytes())
        except (ValidationError, OSError) as error:
            raise GradientsDamaged(str(said), f"text that is none ({error})", "a manifest") from error
        if manifest is not None:
            _require_same(folder, manifest, self.manifest)
        counters = self.manifest.counters
        self._gradients = Column(folder, "gradients", _GRADIENT, (counters,))
        self._pictures = Column(folder, "pictures", _PIXEL, (PICTURE_PX, PICTURE_PX, 3))
        self._reopen()

    @property
    def rows(self) -> tuple[KeptRow, ...]:
        """Those that count, in the order of `blocks`."""
        return tuple(row for row in self._rows if not row.removed)

    def sha256(self) -> str:
        """Of which rows count, with their numbers: what was computed from them holds while this does."""
        said = [self.manifest.model_dump_json(), *(f"{row.name}:{row.crc32}:{row.scale!r}" for row in self.rows)]
        return hashlib.sha256("\n".join(said).encode("utf-8", "surrogateescape")).hexdigest()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one process that writes to the folder; a process that dies gives it up.

        Raises:
            GradientsLocked: another one is.
        """
        with (self.folder / _LOCK).open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise GradientsLocked(str(self.folder), lock.read() or "another process") from None
            lock.truncate(0)
            lock.write(f"process {os.getpid()}")
            lock.flush()
            try:
                self._reopen()  # another may have written meanwhile
                yield
            finally:
                with contextlib.suppress(OSError):
                    lock.truncate(0)
                fcntl.flock(lock, fcntl.LOCK_UN)

    def add(
        self, rows: Sequence[KeptRow], gradients: NDArray[np.float32], pictures: NDArray[np.uint8] | None = None
    ) -> None:
        """Append rows, durably: the numbers are on the disk before the journal names them. Within `writing`.

        Args:
            rows: one for each, none there already.
            gradients: float32 (B, k), finite.
            pictures: uint8 (B, 64, 64, 3), RGB, of `PICTURE_PX`, to be looked at; None: black ones.

        Raises:
            ValueError: a name is there, or a number is not finite.
        """
        names = [row.name for row in rows]
        if len({*names}) != len(names) or any(name in self._places for name in names):
            twice = [name for name in names if name in self._places or names.count(name) > 1]
            raise ValueError(f"found {twice[0]!r} twice, expected each name once; remove it first")
        expected = (len(rows), self.manifest.counters)
        if gradients.shape != expected or not np.isfinite(gradients).all():
            raise ValueError(f"found gradients {gradients.shape}, expected finite {expected}; is the model NaN?")
        scales = np.abs(gradients).max(axis=1, initial=0).astype(np.float64)
        scaled = (gradients / np.where(scales > 0, scales, 1)[:, None]).astype(_GRADIENT)
        whole = [
            replace(row, scale=float(scale), crc32=zlib.crc32(values.tobytes()), removed=False)
            for row, scale, values in zip(rows, scales, scaled, strict=True)
        ]
        shown = np.zeros((len(rows), *self._pictures.shape), _PIXEL) if pictures is None else pictures
        self._gradients.write(len(self._rows), scaled)
        self._pictures.write(len(self._rows), shown)
        self._write_journal([_line(row) for row in whole])
        self._places.update({row.name: len(self._rows) + at for at, row in enumerate(whole)})
        self._rows.extend(whole)

    def remove(self, names: Collection[str]) -> int:
        """Take rows out; their numbers stay in the shard, and are read no more. Within `writing`.

        Args:
            names: of `KeptRow.name`.

        Returns:
            How many there were.
        """
        found = [self._places.pop(name) for name in sorted({*names}) if name in self._places]
        self._write_journal([json.dumps({"removed": at}) for at in found])
        for at in found:
            self._rows[at] = replace(self._rows[at], removed=True)
        return len(found)

    def row(self, name: str) -> KeptRow | None:
        """The row of a name; None where none counts."""
        at = self._places.get(name)
        return None if at is None else self._rows[at]

    def blocks(self, of: NDArray[np.bool_] | None = None) -> Iterator[NDArray[np.float32]]:
        """Rows that count, some thousands at a time, checked against what was written: float32 (n, k).

        Args:
            of: bool (rows that count,): which of them; None: all.

        Raises:
            GradientsDamaged: a shard was edited.
        """
        places = self._live(of)
        for start in range(0, len(places), _ROWS_A_READ):
            some = places[start : start + _ROWS_A_READ]
            kept = [self._rows[at] for at in some.tolist()]
            values = self._gradients.read(some, np.array([row.crc32 for row in kept], np.int64))
            yield values.astype(np.float32) * np.array([row.scale for row in kept], np.float32)[:, None]

    def all(self, of: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """All of `blocks` at once: float32 (N, k)."""
        found = list(self.blocks(of))
        return np.concatenate(found) if found else np.zeros((0, self.manifest.counters), np.float32)

    def pictures(self, of: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """The small pictures of rows that count: uint8 (n, 64, 64, 3), RGB.

        Args:
            of: bool (rows that count,): which of them; None: all.
        """
        found: NDArray[np.uint8] = self._pictures.read(self._live(of))
        return found

    def _live(self, of: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        places = np.array([at for at, row in enumerate(self._rows) if not row.removed], np.int64)
        return places if of is None else places[of]

    # --- files --------------------------------------------------------------------------------------------------

    def _reopen(self) -> None:
        self._rows, self._journal_bytes = self._read_journal()
        self._places = {row.name: at for at, row in enumerate(self._rows) if not row.removed}
        self._gradients.require(len(self._rows))
        self._pictures.require(len(self._rows))

    def _write_journal(self, lines: Sequence[str]) -> None:
        path = self.folder / JOURNAL
        content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        with path.open("r+b" if path.exists() else "w+b") as journal:
            journal.truncate(self._journal_bytes)  # a line that a kill cut off
            journal.seek(self._journal_bytes)
            journal.write(content)
            journal.flush()
            os.fsync(journal.fileno())
        self._journal_bytes += len(content)

    def _read_journal(self) -> tuple[list[KeptRow], int]:
        """The rows, and up to which byte the journal is whole."""
        path = self.folder / JOURNAL
        content = path.read_bytes() if path.exists() else b""
        whole = content.rfind(b"\n") + 1
        rows: list[KeptRow] = []
        for number, text in enumerate(content[:whole].splitlines()):
            try:
                said = json.loads(text.decode("utf-8", "surrogateescape"))
                if "removed" in said:
                    rows[said["removed"]] = replace(rows[said["removed"]], removed=True)
                else:
                    rows.append(KeptRow(**said))
            except (ValueError, TypeError, IndexError) as error:
                raise GradientsDamaged(str(path), f"line {number + 1} that is none ({error})", "a row") from error
        return rows, whole


def _line(row: KeptRow) -> str:
    unsaid = KeptRow(row.work_id)
    said = {name: one for name, one in asdict(row).items() if name == "work_id" or one != getattr(unsaid, name)}
    return json.dumps(said, ensure_ascii=True)


def _require_same(folder: Path, wanted: GradientManifest, kept: GradientManifest) -> None:
    """Refuse to lay gradients beside those that were made otherwise; what a model is called may change."""
    names = [name for name in GradientManifest.model_fields if name not in ("model", "pipeline")]
    other = [name for name in names if getattr(wanted, name) != getattr(kept, name)]
    if other:
        found = ", ".join(f"{name} {getattr(wanted, name)}" for name in other)
        raise GradientsMismatch(str(folder), found, ", ".join(f"{name} {getattr(kept, name)}" for name in other))


def _write_whole(path: Path, content: bytes) -> None:
    written = path.with_suffix(".part")
    with written.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
    sync_folder(path.parent)
