"""Signed notes and checkpoints: what a ledger held at a time, signed, in the text forms that transparency logs use."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from guardrail.errors import KeysUnusable, LedgerProofInvalid
from guardrail.memory.keyfiles import private_key, write_once

__all__ = ["Checkpoint", "LedgerKey", "NoteVerifier"]

_ED25519 = b"\x01"  # the type of such signatures, C2SP signed-note
_ID_BYTES = 4  # of a key, before each signature
_SIGNED_BY = "\N{EM DASH} "  # how a line with a signature begins
_LONGEST_NOTE = 1 << 20  # bytes; a checkpoint has some 200
_ROOT_BYTES = 32
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a ledger went at a time.

    Attributes:
        origin: which ledger.
        size: its number of rows.
        root: of the tree over them, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """What is signed. Source: C2SP tlog-checkpoint."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def from_text(cls, text: str, name: str) -> "Checkpoint":
        """The checkpoint that a text describes, whose signature was checked.

        Raises:
            LedgerProofInvalid: it describes none; `name` is what people know the file by.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]) or not _SIZE.fullmatch(lines[1]):
            raise LedgerProofInvalid(name, f"a text of {len(lines)} lines", "origin, size and root of a ledger")
        try:
            root = base64.b64decode(lines[2], validate=True)
        except binascii.Error:
            root = b""
        if len(root) != _ROOT_BYTES or base64.b64encode(root).decode() != lines[2]:
            raise LedgerProofInvalid(name, f"the root {lines[2]!r}", f"{_ROOT_BYTES} bytes in base64")
        return cls(lines[0], int(lines[1]), root)


class NoteVerifier:
    """Who signs notes: a name and a public key.

    Args:
        said: a verifier key, `NAME+ID+KEY` as C2SP's signed-note writes it, for Ed25519.
        source: what people know it by: a file.

    Raises:
        LedgerProofInvalid: it is none.
    """

    def __init__(self, said: str, source: str) -> None:
        parts = said.strip().split("+", 2)
        try:
            name, shown, packed = parts[0], bytes.fromhex(parts[1]), base64.b64decode(parts[2], validate=True)
            self._key = _public_key(name, packed)
        except (ValueError, IndexError) as error:
            raise LedgerProofInvalid(source, f"no verifier key ({error})", "NAME+ID+KEY, as in ledger.pub") from error
        self.name, self.key_id = name, _key_id(name, packed)
        if shown != self.key_id:
            raise LedgerProofInvalid(source, f"a verifier key with the id {shown.hex()}", self.key_id.hex())

    @classmethod
    def from_file(cls, path: Path) -> "NoteVerifier":
        """The one in a file.

        Raises:
            LedgerProofInvalid: it cannot be read, or holds no verifier key.
        """
        try:
            said = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LedgerProofInvalid(str(path), f"no text ({error})", "a ledger's verifier key (ledger.pub)") from error
        return cls(said, str(path))

    def opened(self, note: str, name: str) -> str:
        """The text of a note, once its signature is checked. Source: C2SP signed-note.

        Args:
            note: text, an empty line, and lines with signatures.
            name: what people know it by.

        Raises:
            LedgerProofInvalid: it is no note, or not signed by this key.
        """
        if len(note) > _LONGEST_NOTE or any(sign < " " and sign != "\n" for sign in note):
            raise LedgerProofInvalid(name, "something else", "a signed note")
        text, found, signatures = note.rpartition("\n\n")
        if not found or not signatures.endswith("\n"):
            raise LedgerProofInvalid(name, "a text without signatures", f"one signed by {self.name}")
        signed = f"{text}\n".encode()
        for line in signatures[:-1].split("\n"):
            if (signature := self._ours(line, name)) is not None:
                self._check(signature, signed, name)
                return f"{text}\n"
        raise LedgerProofInvalid(name, "no signature of that key", f"one by {self.name} ({self.key_id.hex()})")

    def _ours(self, line: str, name: str) -> bytes | None:
        """The signature in a line, if it says to be of this key."""
        parts = line.removeprefix(_SIGNED_BY).split(" ")
        if not line.startswith(_SIGNED_BY) or len(parts) != 2:
            raise LedgerProofInvalid(name, f"the line {line[:60]!r}", "a signature")
        try:
            packed = base64.b64decode(parts[1], validate=True)
        except binascii.Error as error:
            raise LedgerProofInvalid(name, f"a signature that is not base64 ({error})", "a signature") from error
        return packed[_ID_BYTES:] if (parts[0], packed[:_ID_BYTES]) == (self.name, self.key_id) else None

    def _check(self, signature: bytes, signed: bytes, name: str) -> None:
        try:
            self._key.verify(signature, signed)
        except InvalidSignature as error:
            raise LedgerProofInvalid(name, "a signature that does not fit the text", f"one by {self.name}") from error


class LedgerKey:
    """The key with which one ledger's checkpoints are signed; Ed25519, apart from those that sign images.

    Args:
        name: of the ledger: its checkpoints' origin.
        private: the key.
    """

    KEY_FILE: ClassVar = "ledger.key"
    PUBLIC_FILE: ClassVar = "ledger.pub"

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self.name, self._private = name, private
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        packed = _ED25519 + public
        self._id = _key_id(name, packed)
        self.verifier_key = f"{name}+{self._id.hex()}+{base64.b64encode(packed).decode()}"

    @classmethod
    def at(cls, folder: Path, name: str) -> "LedgerKey":
        """The key in a folder, made there at the first use: `ledger.key` for its owner alone, and `ledger.pub`.

        Raises:
            KeysUnusable: it is another ledger's, no such key, or others may read it.
        """
        public = folder / cls.PUBLIC_FILE
        kind = Ed25519PrivateKey
        private = private_key(folder / cls.KEY_FILE, kind, kind.generate)  # type: ignore[type-abstract]  # only looked at
        key = cls(name, private)
        try:
            if not public.exists():
                write_once(public, f"{key.verifier_key}\n".encode(), 0o644)
            said = public.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KeysUnusable(str(public), f"a file that cannot be read ({error})", key.verifier_key) from error
        if said != key.verifier_key:
            raise KeysUnusable(str(public), f"the key {said[:80]!r}", f"{key.verifier_key!r}: each ledger has its own")
        return key

    def sign(self, checkpoint: Checkpoint) -> str:
        """The checkpoint as a signed note."""
        text = checkpoint.text()
        signature = base64.b64encode(self._id + self._private.sign(text.encode())).decode()
        return f"{text}\n{_SIGNED_BY}{self.name} {signature}\n"

    def verifier(self) -> NoteVerifier:
        """Who checks what it signed."""
        return NoteVerifier(self.verifier_key, self.name)


def _public_key(name: str, packed: bytes) -> Ed25519PublicKey:
    if packed[:1] != _ED25519:
        raise ValueError(f"a key of type {packed[:1].hex()}")
    if not name or any(sign.isspace() for sign in name):
        raise ValueError(f"the name {name!r}")
    return Ed25519PublicKey.from_public_bytes(packed[1:])


def _key_id(name: str, packed: bytes) -> bytes:
    """The short id of a key. Source: C2SP signed-note."""
    return hashlib.sha256(name.encode() + b"\n" + packed).digest()[:_ID_BYTES]
