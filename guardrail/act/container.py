"""A signed file in, the file that was signed out: all of it but the manifest, byte for byte, and nothing between."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from guardrail.act.manifest_store import pieces_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardrail.act.manifest_store import Piece
    from guardrail.records import ImageMime

__all__ = ["require_one_run", "without_manifest"]

_PNG_HEADER_BYTES = 33  # signature and IHDR; c2pa puts its chunk right after
_PNG_FRAME_BYTES = 12  # of a chunk besides its content: length, type, CRC
_RIFF_HEADER_BYTES = 12  # RIFF, size, WEBP
_RIFF_FRAME_BYTES = 8  # of a chunk besides its content: name, length
_JPEG_LENGTH_AT = 2  # in a segment, after its marker
_PNG_BEFORE, _PNG_CRC_BYTES = 8, 4  # of a chunk: length and type before its content, a checksum after it
_JPEG_BEFORE = 12  # of a piece of a manifest: marker, length, `JP`, box instance, packet number
_JPEG_BOX_HEADER = 8  # length and type of the box, repeated in each packet after the first
_APP0, _APP11 = b"\xff\xe0", b"\xff\xeb"  # JPEG markers: JFIF, and JPEG XT, where C2PA keeps its JUMBF boxes


def without_manifest(content: bytes, mime: ImageMime) -> bytes:
    """A file without the one place where C2PA embeds a manifest, as c2pa writes it; all else as it is.

    What remains holds the same coded picture, so it decodes to the same pixels: comparing it with the file that was to
    be signed proves both that the pixels are the same and that nothing else was changed.

    Args:
        content: the whole file.
        mime: its type. PNG: the chunk `caBX` after the header. JPEG: the segments APP11 with `JP` after JFIF's. WebP:
            the chunk `C2PA` at the end, with the size of the file put right.

    Raises:
        ValueError: there is no manifest there.
    """
    return {"image/png": _png, "image/jpeg": _jpeg, "image/webp": _webp}[mime](content)


def require_one_run(content: bytes, mime: str, excluded: Sequence[tuple[int, int]]) -> None:
    """Require that what a hash leaves out is the manifest's own container from end to end, in one piece.

    c2pa leaves out all from the first to the last segment of a JPEG that may hold a manifest, whatever lies between.

    Args:
        content: the whole file.
        mime: its type.
        excluded: (first byte, length) of what the hash of the active manifest leaves out.

    Raises:
        ValueError: it leaves out anything else; it says so.
    """
    pieces = pieces_of(content, mime)
    if not pieces:
        raise ValueError("no manifest where one belongs")
    start, end = {"image/png": _png_run, "image/jpeg": _jpeg_run, "image/webp": _webp_run}[mime](content, pieces)
    if list(excluded) != [(start, end - start)]:
        raise ValueError("bytes beside its manifest that its hash leaves out")


def _png_run(content: bytes, pieces: Sequence[Piece]) -> tuple[int, int]:
    (piece,) = pieces
    checksum = content[piece.stop : piece.stop + _PNG_CRC_BYTES]
    if checksum != zlib.crc32(content[piece.start - 4 : piece.stop]).to_bytes(_PNG_CRC_BYTES, "big"):
        raise ValueError("a chunk whose checksum is not its own")
    return piece.start - _PNG_BEFORE, piece.stop + _PNG_CRC_BYTES


def _jpeg_run(content: bytes, pieces: Sequence[Piece]) -> tuple[int, int]:
    """The segments follow each other, are numbered from 1, and each begins with the same header."""
    start = at = pieces[0].start - _JPEG_BEFORE
    instance, box = content[at + 4 : at + 8], content[at + _JPEG_BEFORE : at + _JPEG_BEFORE + _JPEG_BOX_HEADER]
    for number, piece in enumerate(pieces, start=1):
        header = instance + struct.pack(">I", number) + box
        if content[at + 4 : at + 4 + len(header)] != header:
            raise ValueError("segments of a manifest that do not follow each other")
        at = piece.stop
    return start, at


def _webp_run(_content: bytes, pieces: Sequence[Piece]) -> tuple[int, int]:
    (piece,) = pieces
    return piece.start - _RIFF_FRAME_BYTES, piece.stop


def _png(content: bytes) -> bytes:
    length, kind = struct.unpack_from(">I4s", content.ljust(_PNG_HEADER_BYTES + 8, b"\0"), _PNG_HEADER_BYTES)
    ends = _PNG_HEADER_BYTES + _PNG_FRAME_BYTES + length
    if kind != b"caBX" or ends > len(content):
        raise ValueError(f"found a chunk {kind!r} after the header of a PNG, expected a whole caBX")
    return content[:_PNG_HEADER_BYTES] + content[ends:]


def _jpeg(content: bytes) -> bytes:
    begins = 2  # after the marker that starts the picture
    if content[begins : begins + 2] == _APP0:
        begins = _segment_ends(content, begins)
    ends = begins
    while content[ends : ends + 2] == _APP11 and content[ends + 4 : ends + 6] == b"JP":
        ends = _segment_ends(content, ends)
    if ends == begins or ends > len(content):
        raise ValueError(f"found {content[begins : begins + 2].hex()} after the header of a JPEG, expected APP11")
    return content[:begins] + content[ends:]


def _segment_ends(content: bytes, at: int) -> int:
    return at + _JPEG_LENGTH_AT + int.from_bytes(content[at + 2 : at + 4], "big")


def _webp(content: bytes) -> bytes:
    at, kind = _RIFF_HEADER_BYTES, b""
    while at + _RIFF_FRAME_BYTES <= len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        ends = at + _RIFF_FRAME_BYTES + length + length % 2
        if kind == b"C2PA":
            break
        at = ends
    if kind != b"C2PA" or ends != len(content):
        raise ValueError(f"found {kind!r} as the last chunk of a WebP, expected C2PA and nothing after it")
    size = int.from_bytes(content[4:8], "little")
    if size != len(content) - _RIFF_FRAME_BYTES:
        raise ValueError(f"found a WebP that says it has {size} bytes, expected {len(content) - _RIFF_FRAME_BYTES}")
    return content[:4] + struct.pack("<I", at - _RIFF_FRAME_BYTES) + content[8:at]
