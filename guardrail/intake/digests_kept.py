"""Digests of files that take long to make, kept on the disk by path, size and time of the file."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["KeptDigests", "file_sha256"]

_MOST_KEPT = 4096  # entries of 140 bytes; the oldest go
_CHUNK_BYTES = 2**22
log = logging.getLogger("guardrail.intake")


class KeptDigests:
    """Digests by what they were made of, in memory and, where a file is given, for other processes too.

    A file counts as unchanged while its path, size and modification time (ns) are the same: content that was exchanged
    with all three kept is not noticed. What is on the disk holds no path. Safe in threads; two processes that write at
    once may lose each other's newest entries, which are then made again.

    Args:
        file: a JSON file, made when missing; one that cannot be read or written costs time and nothing else.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file, self._lock = file, threading.Lock()
        self._kept: dict[str, str] = self._read()

    def of_files(self, files: Iterable[Path], purpose: str, make: Callable[[], str]) -> str:
        """The digest of some files for a purpose: what is kept, or what `make` gives.

        Raises:
            OSError: a file is gone.
            ValueError: a file changed while its digest was made.
        """
        files = tuple(files)
        key = _key(files, purpose)
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                return kept
        made = make()
        if _key(files, purpose) != key:
            raise ValueError("a file was written to while it was read")
        with self._lock:
            self._kept[key] = made
            self._write(key, made)
        return made

    def _read(self) -> dict[str, str]:
        if self._file is None:
            return {}
        try:
            found = json.loads(self._file.read_text(encoding="ascii"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("kept digests cannot be read and are made again: %s", error)
            return {}
        if not isinstance(found, dict):
            return {}
        return {key: digest for key, digest in found.items() if _is_digest(key) and _is_digest(digest)}

    def _write(self, key: str, made: str) -> None:
        """Add one entry to what is on the disk now, whole or not at all."""
        if self._file is None:
            return
        entries = list((self._read() | {key: made}).items())[-_MOST_KEPT:]
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._file.parent, prefix=f".{self._file.name}.")
            try:
                with os.fdopen(handle, "w", encoding="ascii") as file:
                    json.dump(dict(entries), file)
                Path(name).replace(self._file)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            log.warning("digests cannot be kept, and are made again next time: %s", error)


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _key(files: tuple[Path, ...], purpose: str) -> str:
    facts = [(str(file.absolute()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps([purpose, facts]).encode()).hexdigest()


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and all(sign in "0123456789abcdef" for sign in text)
