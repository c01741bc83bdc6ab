"""The pictures of cases: bytes in, their sha256 out, and back by it; in a folder, or in a store behind a URL."""

import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from guardrail.errors import MemoryUnwritable
from guardrail.extras import need
from guardrail.review_errors import PictureMissing

__all__ = ["ORPHAN_AGE_H", "Pictures", "beside"]

log = logging.getLogger("guardrail")

_DIGEST = re.compile("[0-9a-f]{64}")  # how pictures are named
_PART = re.compile(r"\.[0-9a-f]{32}\.part")  # how a picture is named while it is written
_FAN_OUT = 2  # letters of the digest that name the folder a picture lies in, and again for the folder in that
ORPHAN_AGE_H = 24.0  # what no case names stays so long: its case may be about to be opened
_HOUR_S = 3600
_SECRET = re.compile(r"//[^/@]*@")  # user and password of a URL
_EXTRAS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


_FOLDER_ENDING = "-pictures"  # put after the name of a SQLite file


def beside(file: Path) -> str:
    """Where pictures lie unless said otherwise: in a folder beside a SQLite file."""
    return str(file.with_name(file.name + _FOLDER_ENDING))


class _Store(Protocol):
    """Where bytes lie by the digest of them. Errors are OSError, or what the library behind it raises."""

    def write(self, sha256: str, content: bytes) -> None: ...

    def read(self, sha256: str) -> bytes: ...

    def freshen(self, sha256: str) -> bool: ...

    def delete(self, sha256: str) -> None: ...

    def delete_stale(self, sha256: str, before_s: float) -> bool: ...

    def names(self, before_s: float) -> Iterator[str]: ...


class Pictures:
    """Pictures by their sha256, so that the same one is kept once; what is read is compared with its digest.

    A folder is for its owner alone, and a picture is on the disk when `put` returns. Safe in threads and processes.

    Args:
        place: a folder, which is made by the first picture; an fsspec URL (`s3://bucket/prefix`); empty: they are
            kept in this process, and end with it; or None: none was named, so that none can be kept.

    Raises:
        ExtraMissing: the library for that kind of URL is not installed.
        MemoryUnwritable: nothing is known of that kind of URL.
    """

    def __init__(self, place: str | None) -> None:
        self.shown = "no place" if place is None else _SECRET.sub("//", place) or "this process"
        self._store = _store_of(place, self.shown)

    def put(self, content: bytes) -> str:
        """Keep a picture; one that is there and whole is not written again.

        Args:
            content: of its file.

        Returns:
            The sha256 of the content, 64 hex digits: what it is got back by.

        Raises:
            MemoryUnwritable: it could not be kept.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        with self._told():
            if not self._is_whole(sha256):
                self._store.write(sha256, content)
        return sha256

    def _is_whole(self, sha256: str) -> bool:
        with suppress(FileNotFoundError):
            return self._store.freshen(sha256) and _whole(self._store.read(sha256), sha256)
        return False

    def get(self, sha256: str) -> bytes:
        """The content of a picture, as it was put.

        Raises:
            PictureMissing: there is none, it cannot be read, or what lies there is something else.
        """
        if not _DIGEST.fullmatch(sha256):
            raise PictureMissing(sha256, "that is no digest of a picture")
        try:
            content = self._store.read(sha256)
        except FileNotFoundError:
            raise PictureMissing(sha256, "it was deleted, or never kept") from None
        except Exception as error:  # libraries of remote stores raise their own
            log.warning("the picture %s at %s cannot be read: %r", sha256, self.shown, error)
            raise PictureMissing(sha256, "the store cannot be read") from error
        if not _whole(content, sha256):
            log.error("the picture %s at %s was changed since it was kept", sha256, self.shown)
            raise PictureMissing(sha256, "what lies in its place is another file")
        return content

    def has(self, sha256: str) -> bool:
        """Whether there is such a picture; it is as good as new then, and no `sweep` of now takes it away.

        Raises:
            MemoryUnwritable: the store cannot be asked.
        """
        with self._told():
            return bool(_DIGEST.fullmatch(sha256)) and self._store.freshen(sha256)

    def delete(self, sha256: str) -> None:
        """Take a picture away; it may be gone already.

        Raises:
            MemoryUnwritable: it is still there.
        """
        with self._told(), suppress(FileNotFoundError):
            if _DIGEST.fullmatch(sha256):
                self._store.delete(sha256)

    def sweep(self, named: Collection[str], *, older_than_h: float = ORPHAN_AGE_H) -> tuple[str, ...]:
        """Take away what was put and is named by nobody: of cases that were then not opened.

        Args:
            named: digests that are in use, read after this store was opened.
            older_than_h: hours that such a picture is let alone, since a case may be about to name it.

        Returns:
            The digests of the pictures that were taken away.

        Raises:
            MemoryUnwritable: the store cannot be gone through, or written.
        """
        used = frozenset(named)
        stale = [one for one in self.stale(older_than_h=older_than_h) if one not in used]
        return self.delete_stale(stale, older_than_h=older_than_h)

    def stale(self, *, older_than_h: float = ORPHAN_AGE_H) -> tuple[str, ...]:
        """The digests of all pictures that were put, or asked for by `has`, so many hours ago; named or not.

        Raises:
            MemoryUnwritable: the store cannot be gone through.
        """
        with self._told():
            return tuple(self._store.names(time.time() - older_than_h * _HOUR_S))

    def delete_stale(self, digests: Collection[str], *, older_than_h: float = ORPHAN_AGE_H) -> tuple[str, ...]:
        """Take pictures away, but for those that were put again since, or asked for.

        Args:
            digests: of pictures that nobody names.
            older_than_h: hours that such a picture is let alone.

        Returns:
            The digests of the pictures that were taken away.

        Raises:
            MemoryUnwritable: the store cannot be written.
        """
        before_s = time.time() - older_than_h * _HOUR_S
        with self._told():
            return tuple(one for one in digests if self._store.delete_stale(one, before_s))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # libraries of remote stores raise their own
            raise MemoryUnwritable(self.shown, str(error) or repr(error)) from error


def _whole(content: bytes, sha256: str) -> bool:
    return hashlib.sha256(content).hexdigest() == sha256


def _store_of(place: str | None, shown: str) -> _Store:
    if place is None:
        return _Nowhere()
    if not place:
        return _Here()
    if "://" not in place:
        return _Folder(Path(place))
    scheme = place.partition("://")[0]
    if scheme in {"file", "local"}:
        return _Folder(Path(place.partition("://")[2]))
    if scheme in _EXTRAS:
        need(_EXTRAS[scheme], extra=_EXTRAS[scheme].removesuffix("fs"), purpose=f"keep pictures at {scheme}://")
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(place)
    except (ValueError, ImportError) as error:
        raise MemoryUnwritable(
            shown, f"{error}; expected a folder or an fsspec URL such as s3://bucket/pictures"
        ) from error
    return _Remote(files, root)


def _path_in(sha256: str) -> str:
    return f"{sha256[:_FAN_OUT]}/{sha256[_FAN_OUT : 2 * _FAN_OUT]}/{sha256}"


class _Here:
    """A store in this process."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[bytes, float]] = {}

    def write(self, sha256: str, content: bytes) -> None:
        self._kept[sha256] = bytes(content), time.time()

    def read(self, sha256: str) -> bytes:
        try:
            return self._kept[sha256][0]
        except KeyError:
            raise FileNotFoundError(sha256) from None

    def freshen(self, sha256: str) -> bool:
        if (kept := self._kept.get(sha256)) is not None:
            self._kept[sha256] = kept[0], time.time()
        return kept is not None

    def delete(self, sha256: str) -> None:
        self._kept.pop(sha256, None)

    def delete_stale(self, sha256: str, before_s: float) -> bool:
        stale = sha256 in self._kept and self._kept[sha256][1] <= before_s
        if stale:
            del self._kept[sha256]
        return stale

    def names(self, before_s: float) -> Iterator[str]:
        yield from [name for name, (_, at) in self._kept.items() if at <= before_s]


class _Nowhere(_Here):
    """A database on a server, and no place that other processes know, too."""

    def write(self, sha256: str, content: bytes) -> None:
        raise OSError("found no place for pictures of cases, expected a folder or URL in the setting desk.pictures")


class _Folder:
    """A store in a folder: a picture is written beside its place, synced, and renamed.

    Who puts a picture holds a shared lock on the folder, and who takes orphans away a lock of their own, so that
    nothing is taken away that was just found to be there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, sha256: str, content: bytes) -> None:
        path = self._root / _path_in(sha256)
        made = _private_folders(path.parent)
        part = path.with_name(f".{uuid4().hex}.part")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        for folder in (path.parent, *made):
            _sync(folder)

    def read(self, sha256: str) -> bytes:
        descriptor = os.open(self._root / _path_in(sha256), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def freshen(self, sha256: str) -> bool:
        with suppress(FileNotFoundError), self._locked(fcntl.LOCK_SH):
            os.utime(self._root / _path_in(sha256), follow_symlinks=False)
            return True
        return False

    def delete(self, sha256: str) -> None:
        path = self._root / _path_in(sha256)
        path.unlink()
        _sync(path.parent)

    def delete_stale(self, sha256: str, before_s: float) -> bool:
        path = self._root / _path_in(sha256)
        with suppress(FileNotFoundError), self._locked(fcntl.LOCK_EX):
            if path.lstat().st_mtime <= before_s:
                path.unlink()
                return True
        return False

    def names(self, before_s: float) -> Iterator[str]:
        for path in self._root.glob("*/*/*"):
            with suppress(FileNotFoundError):
                if path.lstat().st_mtime > before_s:
                    continue
                if _DIGEST.fullmatch(path.name):
                    yield path.name
                elif _PART.fullmatch(path.name):  # whoever wrote it was cut short
                    path.unlink()

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)


class _Remote:
    """A store behind a URL, by fsspec; a file is there whole or not at all."""

    def __init__(self, files: Any, root: str) -> None:
        self._files, self._root = files, root.rstrip("/")

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{_path_in(sha256)}"

    def write(self, sha256: str, content: bytes) -> None:
        self._files.makedirs(self._path(sha256).rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(self._path(sha256), content)

    def read(self, sha256: str) -> bytes:
        content: bytes = self._files.cat_file(self._path(sha256))
        return content

    def freshen(self, sha256: str) -> bool:
        """Whether it is there; what lies in an object store has the age that it was written at."""
        self._files.invalidate_cache()
        return bool(self._files.isfile(self._path(sha256)))

    def delete(self, sha256: str) -> None:
        self._files.rm_file(self._path(sha256))

    def delete_stale(self, sha256: str, before_s: float) -> bool:
        self._files.invalidate_cache()
        with suppress(FileNotFoundError):
            if self._written_s(self._files.info(self._path(sha256))) <= before_s:
                self.delete(sha256)
                return True
        return False

    def names(self, before_s: float) -> Iterator[str]:
        self._files.invalidate_cache()
        for path, facts in self._files.find(self._root, detail=True).items():
            name = path.rpartition("/")[2]
            if _DIGEST.fullmatch(name) and self._written_s(facts) <= before_s:
                yield name

    def _written_s(self, facts: dict[str, Any]) -> float:
        """When a file was written; of one that does not say, now, so that it is let alone."""
        said = next(
            (facts[name] for name in ("LastModified", "last_modified", "mtime", "created") if name in facts), None
        )
        if isinstance(said, datetime):
            return said.timestamp()
        return float(said) if isinstance(said, int | float) else time.time()


def _private_folders(folder: Path) -> list[Path]:
    """Make a folder and those it lies in, for their owner alone; returns the folders in which one was made."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
    return [one.parent for one in missing]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
