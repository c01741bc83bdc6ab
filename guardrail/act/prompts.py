"""Prompts in, keyed digests out: they say nothing to others, and let the owner of the key prove a prompt later."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from guardrail.errors import PromptKeyUnusable

__all__ = ["PROMPT_ALGORITHM", "fields_saying", "load_prompt_key", "prompt_digest", "prompt_digests"]

PROMPT_ALGORITHM: Final = "HMAC-SHA256"
_PURPOSE = b"org.guardrail.prompt.v1"  # keeps these digests apart from whatever else the key might be used for
_KEY_BYTES = 32  # as long as the digest, RFC 2104 section 3
_KEY_FILE = re.compile(rb"[0-9a-f]{64}\n?")
_OTHERS_MAY = 0o077  # permission bits of group and others


def prompt_digest(key: bytes, verdict_id: str, field: str, text: str) -> str:
    """The keyed digest of one prompt of one image, as 64 hex digits.

    It differs from image to image, so that nobody without the key sees which images were made from one prompt.

    Args:
        key: 32 bytes, see `load_prompt_key`.
        verdict_id: of the verdict under which the image leaves.
        field: which prompt: `prompt`, `negative_prompt`, ...
        text: the prompt, letter by letter; nothing is trimmed or normalised.

    Source: RFC 2104 (HMAC) with SHA-256; what is digested is a purpose, the verdict, the field and the text, each
    preceded by its length in 8 bytes, so that no two of them can be read as others.
    """
    parts = (_PURPOSE, verdict_id.encode(), field.encode(), text.encode("utf-8", "surrogatepass"))
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def prompt_digests(key: bytes, verdict_id: str, prompts: Mapping[str, str | tuple[str, ...]]) -> dict[str, list[str]]:
    """The keyed digests of all prompts of a run, by field; several where a call was given several.

    Args:
        key: 32 bytes.
        verdict_id: of the verdict under which the image leaves.
        prompts: as in `GenerationContext.prompts`.
    """
    texts = {field: (said,) if isinstance(said, str) else said for field, said in prompts.items()}
    return {field: [prompt_digest(key, verdict_id, field, text) for text in some] for field, some in texts.items()}


def fields_saying(key: bytes, verdict_id: str, digests: Mapping[str, object], text: str) -> tuple[str, ...]:
    """The fields of a manifest's prompt digests that belong to a text; none where it was no prompt of the image.

    Args:
        key: the key under which they were made.
        verdict_id: as the manifest says it.
        digests: by field, lists of hex digits.
        text: the prompt to look for.
    """
    found = []
    for field, some in digests.items():
        wanted = prompt_digest(key, verdict_id, field, text)
        listed = some if isinstance(some, list) else []
        if any(hmac.compare_digest(wanted, str(one).encode("ascii", "replace").decode()) for one in listed):
            found.append(field)
    return tuple(found)


def load_prompt_key(path: Path, *, make: bool = True) -> bytes:
    """The key of prompt digests: 32 bytes, kept as hex in a file that only its owner may read.

    Two processes that need it first at once get the same one. Keep a copy: without it no prompt can be proved.

    Args:
        path: the file.
        make: where there is none, make one of random bytes.

    Raises:
        PromptKeyUnusable: it is missing, cannot be read or written, lets others in, or holds no key.
    """
    try:
        if make and not path.exists():
            _make(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    except OSError as error:
        found = str(error.strerror or error)
        raise PromptKeyUnusable(str(path), found, "a file with a key for prompt digests") from error
    if os.name == "posix" and mode & _OTHERS_MAY:
        expected = "mode 0600 (run chmod 600 on it)"
        raise PromptKeyUnusable(str(path), f"mode {mode:04o}, which lets others in", expected)
    if not _KEY_FILE.fullmatch(content):
        raise PromptKeyUnusable(str(path), f"{len(content)} bytes that are no key", "64 hex digits")
    return bytes.fromhex(content.decode().strip())


def _make(path: Path) -> None:
    """Write a new key under a name of its own and link it into place: whole, or not at all; the first one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600 from its first byte on
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(_KEY_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:  # another process was first
        pass
    finally:
        Path(name).unlink()
