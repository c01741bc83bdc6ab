"""What to sign with: a credential from a key folder or from a plugin, checked; and the anchors that make it ours."""

import logging
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from guardrail.act.certificates import common_name, parse_pem, profile_faults, sha256_of
from guardrail.errors import KeysMissing, KeysUnusable
from guardrail.release_settings import ProvenanceSettings

__all__ = [
    "CHAIN",
    "LEAF_KEY",
    "NEXT",
    "PASSWORD_VARIABLE",
    "ROOT",
    "ROOT_KEY",
    "Signing",
    "TimeStamping",
    "anchor_files",
    "load_anchors",
    "load_key",
    "load_signing",
    "place_of",
    "time_stamping",
]

ROOT, ROOT_KEY, CHAIN, LEAF_KEY = "root.pem", "root.key", "chain.pem", "leaf.key"
NEXT = "next"  # folder of files that a rotation has made and not put in place yet; they count already
PASSWORD_VARIABLE = "GUARDRAIL_KEY_PASSWORD"  # noqa: S105 - the name of a variable; of encrypted private keys
_FORMER_ROOTS = "root-*.pem"
_WARNED_BEFORE = timedelta(days=14)
_READ_TIMES = 3  # before files that do not fit together are refused
_PAUSE_S = 0.005  # seconds between two times
_OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO

_Read = TypeVar("_Read")

log = logging.getLogger("guardrail")
_warned: set[str] = set()  # certificates that were said to expire soon, once in a process


@dataclass(frozen=True, slots=True)
class TimeStamping:
    """A time stamp server (RFC 3161) that says when a signature was made.

    Attributes:
        url: where it answers.
        anchors: PEM root certificates of the servers to believe; without any, no time stamp proves anything.
    """

    url: str
    anchors: tuple[bytes, ...]

    @property
    def place(self) -> str:
        """The server without path, name or password, for messages."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


@dataclass(frozen=True, slots=True)
class Signing:
    """A credential to sign with, and the trust anchors under which its signatures are ours.

    Attributes:
        name: the leaf's common name, for people.
        source: the file or service it came from, for error messages.
        chain: PEM, leaf certificate first; the anchor itself is not in it.
        key: PEM, unencrypted PKCS#8 private key of the leaf; None where somebody else keeps it.
        anchors: PEM root certificates; a file is ours when its signature chains up to one of them.
        sign_with: signs bytes with the key that somebody else keeps; exactly one of this and `key` is given. ECDSA as
            r and s one after the other (`raw_signature`), RSA as PSS with SHA-256 and a salt of 32 bytes.
        time_stamp: who puts the time to each signature, if anybody.
        within_s: seconds that `sign_with` and the time stamp server have together; later the image is withheld.
    """

    name: str
    source: str
    chain: bytes
    key: bytes | None = field(repr=False)
    anchors: tuple[bytes, ...]
    sign_with: Callable[[bytes], bytes] | None = field(default=None, repr=False)
    time_stamp: TimeStamping | None = None
    within_s: float = 10.0

    def __post_init__(self) -> None:
        if (self.key is None) == (self.sign_with is None):
            found = "neither a key nor a function that signs" if self.key is None else "a key and a function that signs"
            raise KeysUnusable(self.source, found, "one of the two")

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate to sign with.

        Raises:
            KeysUnusable: the chain is not PEM.
        """
        return _parsed(self.source, self.chain)[0]

    @property
    def asks_others(self) -> bool:
        """Whether signing waits for somebody: a function that signs, or a time stamp server."""
        return self.sign_with is not None or self.time_stamp is not None

    def days_left(self, at: datetime) -> float:
        """Days until the leaf expires, from a moment on; negative afterwards."""
        return (self.leaf.not_valid_after_utc - at) / timedelta(days=1)

    def require_usable(self, at: datetime) -> None:
        """Refuse a leaf that is not valid at a moment or outside the C2PA profile; log, once, that it soon expires.

        Raises:
            KeysUnusable: it has expired, is not valid yet, or the profile would be refused elsewhere.
        """
        leaf = self.leaf
        _require_valid(leaf, self.source, at)
        if faults := profile_faults(leaf):
            expected = "one that keeps to the certificate profile of C2PA"
            raise KeysUnusable(self.source, f"a certificate with {'; '.join(faults)}", expected)
        if leaf.not_valid_after_utc - at < _WARNED_BEFORE and (known := sha256_of(leaf)) not in _warned:
            _warned.add(known)
            log.warning(
                "the certificate of %r expires in %.1f days, and nothing is released from then on; renew it with: "
                "guardrail keys rotate",
                self.name,
                self.days_left(at),
            )


def load_signing(folder: Path, time_stamp: TimeStamping | None = None) -> Signing:
    """The credential in a folder, checked; keys that are encrypted are opened with `GUARDRAIL_KEY_PASSWORD`.

    Args:
        folder: as `make_development_keys` makes it; a rotation that was cut off counts as done.
        time_stamp: who puts the time to each signature, as `time_stamping` has it from the settings.

    Raises:
        KeysMissing: a file of it is not there.
        KeysUnusable: a file is not what it should be: not PEM, another kind of key, a key that others may read or that
            does not belong to the certificate, a certificate that has expired, was not issued by the root or is outside
            the C2PA profile.
    """
    signing = _steadily(lambda: _load(folder, time_stamp))
    signing.require_usable(datetime.now(UTC))
    return signing


def load_anchors(folder: Path) -> tuple[bytes, ...]:
    """The trust anchors in a folder, PEM: all that verifying needs, whatever has become of the leaf and its key.

    The present root comes first, then those of former times (`root-*.pem`), under which files were signed that are
    still about.

    Raises:
        KeysMissing: there is no root certificate.
        KeysUnusable: one is not a PEM certificate.
    """
    return _steadily(lambda: _anchors(folder))


def anchor_files(folder: Path) -> tuple[Path, ...]:
    """The files of the trust anchors in a folder, the present root first; they need not be there."""
    present = place_of(folder, ROOT)
    former = sorted(folder.glob(_FORMER_ROOTS))
    replaced = [folder / ROOT] if present != folder / ROOT and (folder / ROOT).exists() else []
    return (present, *replaced, *former)


def place_of(folder: Path, name: str) -> Path:
    """Where a file of a key folder lies: in place, or among what a rotation has not put in place yet."""
    waiting = folder / NEXT / name
    return waiting if waiting.exists() else folder / name


def time_stamping(provenance: ProvenanceSettings) -> TimeStamping | None:
    """The time stamp server that the settings name, with the certificates to check it by; None where they name none.

    Raises:
        KeysMissing: the file with the certificates is not there.
        KeysUnusable: the address is not one, there are no certificates, or they are not PEM.
    """
    if not provenance.time_stamp_url:
        return None
    parts = urlsplit(provenance.time_stamp_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise KeysUnusable("time_stamp_url", repr(parts.scheme or parts.path), "an address with http:// or https://")
    if parts.username or parts.password:
        raise KeysUnusable("time_stamp_url", "an address with a name or password in it", "one without")
    path = provenance.time_stamp_anchors
    if path is None:
        raise KeysUnusable("time_stamp_anchors", "none", "a PEM file of the time stamp server's root certificates")
    content = _read(path.parent, path.name)
    _parsed(str(path), content)
    return TimeStamping(provenance.time_stamp_url, (content,))


def load_key(path: Path) -> PrivateKeyTypes:
    """A private key from its file, opened with the password in `GUARDRAIL_KEY_PASSWORD` where it needs one.

    Raises:
        KeysMissing: it is not there.
        KeysUnusable: others may read it, or it is no key in PEM, or the password is missing or wrong.
    """
    pem = _read(path.parent, path.name, private=True)
    encrypted = b"ENCRYPTED" in pem
    password = os.environ.get(PASSWORD_VARIABLE, "").encode() if encrypted else b""
    try:
        return serialization.load_pem_private_key(pem, password or None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        expected = f"one that the password in {PASSWORD_VARIABLE} opens" if encrypted else "a PKCS#8 key in PEM"
        raise KeysUnusable(str(path), f"no key that opens ({type(error).__name__})", expected) from error


# --- checks ------------------------------------------------------------------------------------------------


def _steadily(read: Callable[[], _Read]) -> _Read:
    """What is read, again where it does not fit together: a rotation may put new files in place meanwhile."""
    for _ in range(_READ_TIMES - 1):
        try:
            return read()
        except (KeysMissing, KeysUnusable):
            time.sleep(_PAUSE_S)
    return read()


def _load(folder: Path, time_stamp: TimeStamping | None) -> Signing:
    anchors = _anchors(folder)
    chain_path, key_path = place_of(folder, CHAIN), place_of(folder, LEAF_KEY)
    content = _read(chain_path.parent, CHAIN)
    chain = _parsed(str(chain_path), content)
    key = load_key(key_path)
    _require_pair(key_path, key, chain[0])
    _require_issued(chain_path, (*chain, *_parsed(str(place_of(folder, ROOT)), anchors[0])))
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Signing(common_name(chain[0]), str(chain_path), content, plain, anchors, time_stamp=time_stamp)


def _anchors(folder: Path) -> tuple[bytes, ...]:
    found: dict[bytes, None] = {}
    for path in anchor_files(folder):
        content = _read(path.parent, path.name)
        _parsed(str(path), content)
        found[content] = None
    return tuple(found)


def _read(folder: Path, name: str, *, private: bool = False) -> bytes:
    path = folder / name
    try:
        with path.open("rb") as file:
            if private:
                _require_private(path, stat.S_IMODE(os.fstat(file.fileno()).st_mode))
            return file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise KeysMissing(str(folder), name) from error
    except OSError as error:
        raise KeysUnusable(str(path), str(error), "a file we may read") from error


def _parsed(source: str, content: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return parse_pem(content)
    except ValueError as error:
        raise KeysUnusable(source, f"no certificate ({error})", "PEM certificates") from error


def _require_private(path: Path, mode: int) -> None:
    if os.name == "posix" and mode & _OTHERS_MAY:
        raise KeysUnusable(str(path), f"mode {mode:04o}, which lets others in", "mode 0600 (run chmod 600 on it)")


def _require_pair(path: Path, key: PrivateKeyTypes, leaf: x509.Certificate) -> None:
    if key.public_key() != leaf.public_key():
        raise KeysUnusable(str(path), "a key of another certificate", f"the key of the leaf in {CHAIN}")


def _require_issued(path: Path, chain: tuple[x509.Certificate, ...]) -> None:
    for certificate, issuer in pairwise(chain):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, TypeError, ValueError) as error:
            expected = f"one issued by {common_name(issuer)!r}, as {ROOT} has it"
            raise KeysUnusable(str(path), f"a certificate of {common_name(certificate)!r}", expected) from error


def _require_valid(leaf: x509.Certificate, source: str, at: datetime) -> None:
    if not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
        dates = f"a certificate valid from {leaf.not_valid_before_utc} to {leaf.not_valid_after_utc}"
        raise KeysUnusable(source, dates, f"one valid at {at}")
