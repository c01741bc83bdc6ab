"""Signed files, changed as somebody would who wants theirs taken for ours: how many of them are."""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from guardrail.act import VERDICT_LABEL, verify_file
from guardrail.act.container import without_manifest
from guardrail.act.manifest_store import manifest_store, pieces_of
from guardrail.errors import ImageUnreadable
from guardrail.records import ImageMime, VerifyOutcome

if TYPE_CHECKING:
    from guardrail.act import Signing
    from guardrail.carriers import SignedImage

__all__ = ["Changed", "Tampering", "changed_bytes", "place_of_manifest", "with_manifest_of"]

_SIZE_AT, _SIZE_ENDS, _RIFF_FRAME_BYTES = 4, 8, 8  # in a WebP: its size less the frame
_FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
_LENGTH_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}  # CBOR: after a head that ends in these five bits
_STRINGS, _ARRAY, _MAP = frozenset({2, 3}), 4, 5  # CBOR: major types
_CBOR_BOX = b"cbor"  # the type of the box that holds an assertion's content, after the box with its label
_SAID = 20  # of the changes that were taken for ours, how many are named


@dataclass
class Changed:
    """What became of files that were changed in one way.

    Attributes:
        outcomes: how often `verify` gave each; `unreadable` where it could not read the file.
        taken_for_ours: what was changed in files that were reported as ours, the first twenty.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    taken_for_ours: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """How many files."""
        return self.outcomes.total()

    @property
    def ours(self) -> int:
        """How many were reported as ours, which none should be."""
        return self.outcomes[VerifyOutcome.OURS.value]


class Tampering:
    """Changes signed files and asks `verify` what they are.

    Args:
        signing: who signed them.
        scratch: folder for the changed files, one at a time.
        progress: called after each file with how many were looked at.
    """

    def __init__(self, signing: Signing, scratch: Path, progress: Callable[[int], None] = lambda done: None) -> None:
        self._signing, self._progress = signing, progress
        self._file = scratch / "changed"
        self.found: dict[str, Changed] = {}

    def outcome(self, content: bytes) -> str:
        """What `verify` says of a file under our anchor."""
        self._file.write_bytes(content)
        try:
            return verify_file(self._file, self._signing.anchors).outcome.value
        except ImageUnreadable:
            return "unreadable"

    def look(self, way: str, said: str, content: bytes) -> None:
        """Ask about one changed file.

        Args:
            way: how it was changed, in general.
            said: what exactly.
            content: the whole file.
        """
        changed = self.found.setdefault(way, Changed())
        outcome = self.outcome(content)
        changed.outcomes[outcome] += 1
        if outcome == VerifyOutcome.OURS and len(changed.taken_for_ours) < _SAID:
            changed.taken_for_ours.append(said)
        self._progress(sum(one.tried for one in self.found.values()))

    def flip(self, signed: SignedImage, every: int) -> None:
        """Flip a bit of every so manieth byte, outside the manifest and in it; which bit goes round."""
        begins, ends = place_of_manifest(signed.content, signed.mime)
        for at in range(0, len(signed.content), every):
            where = "in the manifest" if begins <= at < ends else "outside the manifest"
            bit = at // every % 8
            content = _with_byte(signed.content, at, signed.content[at] ^ 1 << bit)
            self.look(f"one bit {where}", f"{signed.mime}, byte {at} of {len(signed.content)}, bit {bit}", content)

    def edit_verdict(self, signed: SignedImage) -> None:
        """Change the value of every field of the verdict in the manifest, one at a time."""
        for name, at in changed_bytes(signed.content, signed.mime):
            content = _with_byte(signed.content, at, signed.content[at] ^ 1)
            self.look("a field of the verdict", f"{signed.mime}, {name}", content)

    def append(self, signed: SignedImage) -> None:
        """Put something after the end of the file."""
        self.look("bytes after the end", signed.mime, signed.content + b"more")

    def transplant(self, signed: SignedImage, other: SignedImage) -> None:
        """Put the manifest of one picture into another one of the same type."""
        content = with_manifest_of(signed.content, without_manifest(other.content, other.mime), signed.mime)
        self.look("another picture under our manifest", signed.mime, content)

    def save_again(self, signed: SignedImage) -> None:
        """Open the picture and save it, as each type of file."""
        with Image.open(io.BytesIO(signed.content)) as image:
            image.load()
            for mime, form in _FORMATS.items():
                file = io.BytesIO()
                image.convert("RGB").save(file, form)
                self.look("opened and saved again", f"{signed.mime} as {mime}", file.getvalue())


def place_of_manifest(content: bytes, mime: ImageMime) -> tuple[int, int]:
    """Where the manifest's container begins and ends in a signed file.

    Raises:
        ValueError: there is none, or not where c2pa puts it.
    """
    bare = without_manifest(content, mime)
    added = len(content) - len(bare)
    if mime == "image/webp":
        return len(bare), len(content)
    common = next(at for at in range(len(bare), -1, -1) if content.endswith(bare[len(bare) - at :]))
    begins = len(bare) - common
    return begins, begins + added


def with_manifest_of(content: bytes, bare: bytes, mime: ImageMime) -> bytes:
    """A file with the manifest of another signed file of its type.

    Raises:
        ValueError: that one has none.
    """
    begins, ends = place_of_manifest(content, mime)
    container = content[begins:ends]
    if mime == "image/webp":
        whole = bare + container
        return whole[:_SIZE_AT] + struct.pack("<I", len(whole) - _RIFF_FRAME_BYTES) + whole[_SIZE_ENDS:]
    return bare[:begins] + container + bare[begins:]


def changed_bytes(content: bytes, mime: ImageMime) -> Iterator[tuple[str, int]]:
    """By name, one byte of the value of every field in the verdict's assertion, and of every item of its lists.

    Raises:
        ValueError: the verdict is not in the file.
    """
    store = manifest_store(content, mime)
    starts = store.find(VERDICT_LABEL.encode() + b"\0")
    if starts < 0:
        raise ValueError("found no verdict in its manifest, expected a file that was signed with one")
    places = [at for piece in pieces_of(content, mime) for at in range(piece.start, piece.stop)]
    for name, at in _fields(store, store.find(_CBOR_BOX, starts) + len(_CBOR_BOX), "")[0]:
        yield name, places[at]


def _fields(store: bytes, at: int, name: str) -> tuple[list[tuple[str, int]], int]:
    """The values within a CBOR item, each by its path and the place of its last byte; and where the item ends."""
    kind, length, here = _head(store, at)
    if kind not in (_ARRAY, _MAP):
        ends = here + (length if kind in _STRINGS else 0)
        return [(name, ends - 1)], ends
    found = []
    for number in range(length):
        inner = f"{name}[{number}]"
        if kind == _MAP:
            _, of_key, text_at = _head(store, here)
            here = text_at + of_key
            inner = f"{name}.{store[text_at:here].decode()}".lstrip(".")
        values, here = _fields(store, here, inner)
        found += values
    return found, here


def _head(store: bytes, at: int) -> tuple[int, int, int]:
    """Of a CBOR item: its major type, its length or value, and where what comes after its head begins."""
    kind, short = store[at] >> 5, store[at] & 0x1F
    ends = at + 1 + _LENGTH_BYTES.get(short, 0)
    return kind, int.from_bytes(store[at + 1 : ends]) if ends > at + 1 else short, ends


def _with_byte(content: bytes, at: int, value: int) -> bytes:
    return content[:at] + bytes([value]) + content[at + 1 :]
