"""The pictures of an audit: a folder, a table with captions, a list of files, or an index; kept small."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from guardrail import intake
from guardrail.errors import AuditImpossible, PictureNotKept
from guardrail.index import FolderIndex
from guardrail.records import Disposition
from guardrail.study.audit import PictureSet

__all__ = ["Listed", "Square", "SquareReader", "kept_pictures", "list_pictures"]

Square = Literal["crop", "pad", "squeeze"]

_CAPTIONS = ("caption", "text", "prompt")  # columns, the first that is there
_FILES = ("file", "file_name", "path")
_PIXELS, _STAMP = "pixels.npy", "pictures.json"


@dataclass(frozen=True, slots=True)
class Listed:
    """Pictures that were named and not read yet.

    Attributes:
        said: where they are from, as a person said it.
        root: the folder their files lie below; None where they are an index's.
        names: of each, its file below `root`, or the work of the index.
        captions, labels: of each, or None.
        index: the folder of the index they are from.
        square: how pictures are made square.
        rows: of each, its row in that index; empty for files.
    """

    said: str
    root: Path | None
    names: tuple[str, ...]
    captions: tuple[str | None, ...]
    labels: tuple[int | None, ...] = ()
    index: Path | None = None
    square: Square = "crop"
    rows: tuple[int, ...] = field(default=(), repr=False)

    def stamp(self) -> str:
        """Digest of what is the same as long as the pictures are: names, captions, sizes and times of files."""
        facts = []
        if self.root is not None:
            for name in self.names:
                path = self.root / name
                about = path.stat() if path.is_file() else None
                facts.append((about.st_size, about.st_mtime_ns) if about else None)
        snapshot = FolderIndex(self.index).header.snapshot if self.index else ""
        said = [self.names, self.captions, self.labels, facts, snapshot, self.square]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def list_pictures(said: Path, captions: Path | None = None, square: Square = "crop") -> Listed:
    """List the pictures that a person named.

    Args:
        said: a folder of pictures (a `.txt` file beside a picture is its caption); a `.csv` with the columns `file`
            and, where there are any, `caption` and `label`, files relative to it; a `.txt` with a file a line; or the
            folder of an index, of which the protected and credited works count.
        captions: a `.csv` with the columns `file` and `caption` or `label`, for a folder or list without.
        square: how the model's trainer made pictures square: cropped to the middle, squeezed, or padded with white.

    Raises:
        AuditImpossible: there are no pictures, or a table cannot be followed.
    """
    if said.is_dir() and (said / "MANIFEST.json").is_file():
        listed = _of_index(said)
    elif said.is_dir():
        names = tuple(intake.find_images(said)[0])
        listed = Listed(str(said), said, names, tuple(_beside(said / name) for name in names))
    elif said.suffix == ".csv" and said.is_file():
        listed = _of_table(said)
    elif said.is_file():
        names = tuple(line.strip() for line in _text(said).splitlines() if line.strip())
        listed = Listed(str(said), said.parent, names, (None,) * len(names))
    else:
        raise AuditImpossible(str(said), "nothing there", "a folder, a .csv, a .txt or an index", "name one of them")
    if not listed.names:
        raise AuditImpossible(str(said), "no picture", "at least one", "name a folder or a table of pictures")
    listed = replace(listed, square=square)
    return listed if captions is None else _captioned(listed, captions)


def kept_pictures(
    listed: Listed, folder: Path, side_px: int, largest_px: int, progress: Callable[[int, int], None]
) -> tuple[PictureSet, tuple[str, ...]]:
    """Read all pictures once, keep them small in a folder, and give what reads them again.

    Args:
        listed: what to read.
        folder: where they are kept; what is there already and still the same is not read again.
        side_px: the side at which most parts look at them; other sides are read from the file itself.
        largest_px: pictures of more pixels are not decoded.
        progress: called with (done, total).

    Returns:
        The pictures that could be read, and the names of those that could not.
    """
    reader = SquareReader(listed, largest_px)
    stamp = hashlib.sha256(f"{listed.stamp()}:{side_px}".encode()).hexdigest()
    known = _known(folder, stamp)
    if known is None:
        known = _keep(reader, folder, side_px, stamp, progress)
    rows = [at for at in range(len(listed.names)) if at not in set(known)]
    small = np.load(folder / _PIXELS, mmap_mode="r")

    def read(row: int, wanted_px: int) -> NDArray[np.uint8]:
        if wanted_px == side_px:
            return np.array(small[rows[row]])
        pixels = reader.square(rows[row], wanted_px)
        return np.array(small[rows[row]]) if pixels is None else pixels

    pictures = PictureSet(
        tuple(listed.names[at] for at in rows),
        tuple(listed.captions[at] for at in rows),
        read,
        tuple(listed.labels[at] for at in rows) if listed.labels else (),
    )
    return pictures, tuple(listed.names[at] for at in known)


def _known(folder: Path, stamp: str) -> list[int] | None:
    """The pictures that could not be read, as it was found before; None where it has to be found again."""
    try:
        said = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
        return list(said["unreadable"]) if said["stamp"] == stamp and (folder / _PIXELS).is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(
    reader: SquareReader, folder: Path, side_px: int, stamp: str, progress: Callable[[int, int], None]
) -> list[int]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _STAMP).unlink(missing_ok=True)
    count, unreadable = len(reader.listed.names), []
    small = np.lib.format.open_memmap(folder / _PIXELS, "w+", np.uint8, (count, side_px, side_px, 3))
    for at in range(count):
        pixels = reader.square(at, side_px)
        if pixels is None:
            unreadable.append(at)
        else:
            small[at] = pixels
        progress(at + 1, count)
    small.flush()
    (folder / _STAMP).write_text(json.dumps({"stamp": stamp, "unreadable": unreadable}), encoding="utf-8")
    return unreadable


class SquareReader:
    """Reads listed pictures as squares.

    Args:
        listed: what to read.
        largest_px: pictures of more pixels are not decoded.
    """

    def __init__(self, listed: Listed, largest_px: int) -> None:
        self.listed, self._largest_px = listed, largest_px
        self._index = FolderIndex(listed.index).pinned() if listed.index else None

    def square(self, at: int, side_px: int) -> NDArray[np.uint8] | None:
        """uint8 (side_px, side_px, 3), RGB; None where it cannot be read."""
        image = self._opened(at)
        if image is None:
            return None
        return np.asarray(_squared(image.convert("RGB"), self.listed.square, side_px))

    def _opened(self, at: int) -> Image.Image | None:
        if self._index is not None:
            try:
                return Image.open(io.BytesIO(self._index.preview(self.listed.rows[at])))
            except (PictureNotKept, OSError):
                return None
        assert self.listed.root is not None, "pictures are an index's or lie below a folder"
        picture = intake.read_picture(self.listed.root / self.listed.names[at], self._largest_px)
        if picture.pixels is None:
            return None
        return Image.fromarray(np.ascontiguousarray(picture.pixels.permute(1, 2, 0).numpy()))


def _squared(image: Image.Image, square: Square, side_px: int) -> Image.Image:
    size = (side_px, side_px)
    if square == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    if square == "pad":
        return ImageOps.pad(image, size, Image.Resampling.LANCZOS, color="white")
    return image.resize(size, Image.Resampling.LANCZOS)


def _of_index(folder: Path) -> Listed:
    pinned, now = FolderIndex(folder).pinned(), datetime.now(UTC)
    rows = [int(row) for row in pinned.rows()]
    works = [(row, pinned.work(row)) for row in rows]
    counted = [(row, work) for row, work in works if work.standing(now) not in (None, Disposition.IGNORE)]
    names = tuple(f"{work.bank}/{work.work_id}" for _, work in counted)
    return Listed(str(folder), None, names, (None,) * len(names), index=folder, rows=tuple(row for row, _ in counted))


def _of_table(path: Path) -> Listed:
    rows = list(csv.DictReader(io.StringIO(_text(path))))
    file = _column(path, rows, _FILES)
    caption = next((name for name in _CAPTIONS if rows and name in rows[0]), None)
    labels: tuple[int | None, ...] = ()
    try:
        if rows and "label" in rows[0]:
            labels = tuple(int(row["label"]) if row["label"] else None for row in rows)
    except ValueError as error:
        raise AuditImpossible(
            str(path), f"a label that is no number ({error})", "whole numbers", "correct it"
        ) from error
    names = tuple(row[file] or "" for row in rows)
    _refuse_repeats(path, names)
    return Listed(
        str(path), path.parent, names, tuple((row[caption] if caption else None) or None for row in rows), labels
    )


def _captioned(listed: Listed, path: Path) -> Listed:
    """The same pictures with the captions and labels of a table; every picture of the table has to be there."""
    table = _of_table(path)
    said: Mapping[str, str | None] = dict(zip(table.names, table.captions, strict=True))
    strange = [name for name in said if name not in set(listed.names)]
    if strange:
        raise AuditImpossible(
            str(path), f"a caption or label for {strange[0]!r}", f"files of {listed.said!r}", "correct the column file"
        )
    captions = tuple(said.get(name) or own for name, own in zip(listed.names, listed.captions, strict=True))
    if not table.labels:
        return replace(listed, captions=captions)
    classes = dict(zip(table.names, table.labels, strict=True))
    own_labels = listed.labels or (None,) * len(listed.names)
    said_labels = [(classes.get(name), own) for name, own in zip(listed.names, own_labels, strict=True)]
    labels = tuple(own if label is None else label for label, own in said_labels)
    return replace(listed, captions=captions, labels=labels)


def _column(path: Path, rows: list[dict[str, str]], names: tuple[str, ...]) -> str:
    found = next((name for name in names if rows and name in rows[0]), None)
    if found is None:
        columns = ", ".join(rows[0]) if rows else "no row"
        raise AuditImpossible(str(path), f"a table with {columns}", "a column 'file'", "add the column")
    return found


def _refuse_repeats(path: Path, names: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise AuditImpossible(str(path), f"{name!r} twice", "each file once", "remove one of the rows")
        seen.add(name)


def _beside(picture: Path) -> str | None:
    """The caption in a text file beside a picture, as trainers of adapters lay it there."""
    path = picture.with_suffix(".txt")
    return _text(path).strip() or None if path.is_file() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AuditImpossible(
            str(path), f"a file that cannot be read ({error})", "UTF-8 text", "save it as UTF-8"
        ) from error
