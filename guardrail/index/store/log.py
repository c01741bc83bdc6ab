"""The write-ahead log: checksummed records end to end; each is chained to all before it.

A record is a head of 64 bytes and a body. The head: magic, kind, length of the body in bytes, the chain's digest after
this record, and a CRC-32 of the head itself. The chain's digest is the sha256 of the digest before it, the kind and
the body; it starts at the snapshot of the manifest that names the log. So a flipped byte, a cut, a lost or a foreign
record breaks it, and its last value names the state of the index.

`ACKNOWLEDGED` says how far the log was on disk when the last writer was told so; it is on disk itself by then. What
lies beyond is a write that is under way, was cut short or was taken back: nobody reads it, and the next writer cuts it
off. What does not hold before it is damage.
"""

import contextlib
import errno
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

from guardrail.errors import IndexDamaged

__all__ = ["ACKNOWLEDGED", "Kind", "LogEnd", "LogRecord", "acknowledged", "append", "read_log", "write_acknowledged"]

ACKNOWLEDGED = "ACKNOWLEDGED"
_HEAD = struct.Struct("<4sIQ32s12xI")  # magic, kind, body bytes, chain, spare, CRC-32 of what is before
_MAGIC = b"GRL2"
_TRIES, _WAIT_S = 5, 0.002
_ACK = struct.Struct("<16sQ32sI")  # name of the log, bytes, chain, CRC-32


class Kind(IntEnum):
    """What a record does."""

    PUT = 1
    WITHDRAW = 2


@dataclass(frozen=True, slots=True)
class LogEnd:
    """How far a log was read: its length so far, and the chain's digest there."""

    length: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record, and where the log stands after it."""

    kind: Kind
    body: bytes
    end: LogEnd


def _chained(chain: bytes, kind: int, body: bytes) -> bytes:
    digest = hashlib.sha256(chain + kind.to_bytes(4, "little"))
    digest.update(body)
    return digest.digest()


def _record(kind: Kind, body: bytes, chain: bytes) -> tuple[bytes, bytes]:
    """A head, and the chain's digest after it."""
    after = _chained(chain, kind, body)
    head = _HEAD.pack(_MAGIC, kind, len(body), after, 0)
    return head[:-4] + zlib.crc32(head[:-4]).to_bytes(4, "little"), after


def append(path: Path, end: LogEnd, kind: Kind, body: bytes) -> LogEnd:
    """Write a record behind `end`, wait until it is on disk, and acknowledge it: from then on it counts.

    What lay behind `end` (a write that was cut short) is cut off first. If anything fails, nothing is left of it.

    Raises:
        OSError: the disk is full or fails; the log ends where it did.
    """
    head, after = _record(kind, body, end.chain)
    reached = LogEnd(end.length + len(head) + len(body), after)
    descriptor = os.open(path, os.O_RDWR)
    try:
        if (size := os.fstat(descriptor).st_size) < end.length:
            raise OSError(errno.EIO, f"the log was cut to {size} bytes; it had {end.length}")
        os.ftruncate(descriptor, end.length)
        try:
            _write_all(descriptor, (head, body), end.length)
            os.fsync(descriptor)
            write_acknowledged(path, reached)
        except BaseException:
            _take_back(path, end)
            os.ftruncate(descriptor, end.length)
            raise
    finally:
        os.close(descriptor)
    return reached


def _take_back(path: Path, end: LogEnd) -> None:
    """Acknowledge no more than before, where a write failed after it was acknowledged."""
    with contextlib.suppress(ValueError):
        if acknowledged(path) not in (None, end):
            write_acknowledged(path, end)


def _write_all(descriptor: int, pieces: tuple[bytes, bytes], at: int) -> None:
    for piece in pieces:
        left = memoryview(piece)
        while left:
            written = os.pwrite(descriptor, left, at)
            left, at = left[written:], at + written


def write_acknowledged(log: Path, end: LogEnd) -> None:
    """Say how far a log is on disk, and wait until that is on disk too."""
    said = _ACK.pack(log.name.encode(), end.length, end.chain, 0)[:-4]
    descriptor = os.open(log.parent / ACKNOWLEDGED, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, said + zlib.crc32(said).to_bytes(4, "little"), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def acknowledged(log: Path) -> LogEnd | None:
    """How far a log was acknowledged; None where that is not known of this log.

    Raises:
        ValueError: the file was cut or edited.
    """
    for _ in range(_TRIES):  # it may be written just now
        try:
            said = (log.parent / ACKNOWLEDGED).read_bytes()
        except FileNotFoundError:
            return None
        if len(said) == _ACK.size and zlib.crc32(said[:-4]) == int.from_bytes(said[-4:], "little"):
            name, length, chain, _ = _ACK.unpack(said)
            return LogEnd(int(length), chain) if name.rstrip(b"\0") == log.name.encode() else None
        time.sleep(_WAIT_S)
    raise ValueError("its checksum does not hold")


def read_log(path: Path, start: LogEnd, known_bytes: int | None = None) -> Iterator[LogRecord]:
    """The records behind `start`, as far as they are whole.

    Args:
        path: the log.
        start: where to begin.
        known_bytes: how much of it was acknowledged; nothing beyond is read. None where that is not known.

    Raises:
        IndexDamaged: a record that was acknowledged is cut or does not hold.
        FileNotFoundError: there is no such log (a newer generation has replaced it).
    """
    end = start
    with path.open("rb") as file:
        file.seek(start.length)
        while known_bytes is None or end.length < known_bytes:
            record = _next(file.read(_HEAD.size), file, end)
            if record is None:
                break
            end = record.end
            yield record
    if known_bytes is not None and end.length < known_bytes:
        raise IndexDamaged(
            str(path), f"records that hold for {end.length} bytes", f"the {known_bytes} bytes that were acknowledged"
        )


def _next(head: bytes, file: BinaryIO, end: LogEnd) -> LogRecord | None:
    if len(head) < _HEAD.size or zlib.crc32(head[:-4]) != int.from_bytes(head[-4:], "little"):
        return None
    magic, kind, length, after, _ = _HEAD.unpack(head)
    if magic != _MAGIC or kind not in set(Kind):
        return None
    body = file.read(length)
    if len(body) != length or _chained(end.chain, kind, body) != after:
        return None
    return LogRecord(Kind(kind), body, LogEnd(end.length + _HEAD.size + length, after))
