"""A signed image in, a whole file on disk out, or none at all."""

import hashlib
import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from guardrail.carriers import SignedImage
from guardrail.errors import ReleaseFailed
from guardrail.records import Release

__all__ = ["describe_release", "write_release"]


def describe_release(signed: SignedImage, path: Path) -> Release:
    """The record of a signed file that goes to a path, for the ledger; writes nothing."""
    return Release(
        verdict_id=signed.verdict.verdict_id,
        file=str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
        file_sha256=hashlib.sha256(signed.content).hexdigest(),
        manifest_id=signed.manifest_id,
        at=datetime.now(UTC),
        mime=signed.mime,
        binding_sha256=signed.binding_sha256,
    )


def write_release(signed: SignedImage, path: Path, *, part: str = "", overwrite: bool = False) -> Release:
    """Write a signed file so that it is there whole, and safely on disk, or not at all.

    Args:
        signed: what to write, byte for byte.
        path: where to; its folder must exist.
        part: name beside it under which it is written first; default: one that nothing else has.
        overwrite: take the place of a file of that name, which is back in its place when that fails.

    Raises:
        ReleaseFailed: there is a file of that name, or it cannot be written (disk full, no permission).
    """
    unfinished = path.with_name(part or f".{uuid4().hex}.part")
    try:
        _write_durably(unfinished, signed.content)
        if overwrite and os.path.lexists(path):
            _take_place(unfinished, path)
        else:
            _put_in_place(unfinished, path, overwrite=overwrite)
            _flush_folder(path)
    except FileExistsError as error:
        raise ReleaseFailed(signed.verdict.image, f"{str(path)!r} is there already and is not overwritten") from error
    except OSError as error:
        raise ReleaseFailed(signed.verdict.image, f"{str(path)!r} cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # it is not there when it was put in place or could not be made
            unfinished.unlink()
    return describe_release(signed, path)


def _write_durably(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _take_place(part: Path, path: Path) -> None:
    """Put a finished file in the place of another, which waits as `part` until the new name is safely on disk."""
    former = path.with_name(f".{uuid4().hex}.former")
    try:
        _name_twice(path, former)
        part.replace(path)
    except OSError:
        former.unlink(missing_ok=True)
        raise
    waits = former
    try:
        waits = former.replace(part)  # a name that the next start tidies up
        _sync_folder(path.parent)
    except OSError:
        waits.replace(path)
        raise


def _name_twice(path: Path, other: Path) -> None:
    try:
        os.link(path, other, follow_symlinks=False)
    except (OSError, NotImplementedError):  # a file system or a machine without hard links
        shutil.copy2(path, other, follow_symlinks=False)


def _put_in_place(part: Path, path: Path, *, overwrite: bool) -> None:
    """Give a finished file its name; unless asked to overwrite, in a way that fails when the name is taken."""
    if overwrite:
        part.replace(path)
        return
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: take the name first, then fill it
        path.touch(exist_ok=False)
        try:
            part.replace(path)
        except OSError:
            path.unlink()
            raise


def _flush_folder(path: Path) -> None:
    """Put the new name on disk; a file that may not survive a power cut is not released."""
    try:
        _sync_folder(path.parent)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _sync_folder(path: Path) -> None:
    if os.name != "posix":
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
