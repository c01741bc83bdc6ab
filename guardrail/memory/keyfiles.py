"""Private keys in files: made at the first use, for their owner alone."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from guardrail.errors import KeysUnusable

__all__ = ["private_key", "write_once"]

_OTHERS = 0o077  # the bits of a file's mode that let others than its owner in
Key = TypeVar("Key", Ed25519PrivateKey, EllipticCurvePrivateKey)


def private_key(path: Path, kind: type[Key], make: Callable[[], Key]) -> Key:
    """The key in a PEM file, made there where there is none.

    Args:
        path: of the file.
        kind: of key that it must be.
        make: makes one.

    Raises:
        KeysUnusable: it cannot be read or made, is of another kind, or others may read it.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_once(path, make().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        mode = path.stat().st_mode
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeysUnusable(str(path), f"no key that can be read ({error})", kind.__name__) from error
    if os.name == "posix" and mode & _OTHERS:
        raise KeysUnusable(str(path), "a key that others than its owner may read", "mode 0600")
    if not isinstance(key, kind):
        raise KeysUnusable(str(path), f"a key of another kind ({type(key).__name__})", kind.__name__)
    return key


def write_once(path: Path, content: bytes, mode: int) -> None:
    """Write a file that appears whole, and safely on disk; where another process was first, its file stays."""
    part = path.with_name(f".{uuid4().hex}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    finally:
        part.unlink()
