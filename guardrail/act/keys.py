"""Signing keys for development: a root certificate that is our trust anchor, and a leaf that signs for one year."""

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from guardrail.errors import KeysExist, KeysMissing, KeysUnusable

__all__ = ["Signing", "load_anchors", "load_signing", "make_development_keys"]

_ROOT_CERTIFICATE = "root.pem"
_ROOT_KEY = "root.key"
_LEAF_CHAIN = "chain.pem"
_LEAF_KEY = "leaf.key"

_LEAF_LIFETIME = timedelta(days=365)  # the C2PA certificate profile allows at most 366 days
_ROOT_LIFETIME = timedelta(days=3650)
_BACKDATED_BY = timedelta(minutes=10)  # a machine whose clock runs late must not find the leaf "not yet valid"
_C2PA_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")  # extended key usage of C2PA claim signing
_OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Signing:
    """A credential to sign with, and the trust anchors under which its signatures are ours.

    Attributes:
        name: the leaf's common name, for people.
        source: the file it came from, for error messages.
        chain: PEM, leaf certificate first; the anchor itself is not in it.
        key: PEM, PKCS#8 private key of the leaf, P-256.
        anchors: PEM root certificates; a file is ours when its signature chains up to one of them.
    """

    name: str
    source: str
    chain: bytes
    key: bytes = field(repr=False)
    anchors: tuple[bytes, ...]

    def require_usable(self, at: datetime) -> None:
        """Refuse a leaf that is not valid at a moment.

        Raises:
            KeysUnusable: it has expired, or is not valid yet.
        """
        _require_valid(x509.load_pem_x509_certificate(self.chain), self.source, at)


def make_development_keys(
    folder: Path, common_name: str = "guardrail development", *, _not_after: datetime | None = None
) -> None:
    """Make a root and a leaf, both P-256, in a new or empty folder; all four files appear at once or none does.

    Writes `root.pem` (the anchor to verify with), `chain.pem` (the leaf), and their private keys `root.key` and
    `leaf.key` (PKCS#8, readable by their owner only; the root key is kept to issue the next leaf with).

    Args:
        folder: where to; its parents are made.
        common_name: the signer's name as it stands in every manifest; it leaves this machine.

    Raises:
        KeysExist: there are keys in it already.
        KeysUnusable: it holds other files, or cannot be written.
    """
    folder = folder.resolve()
    _require_free(folder)
    files = _key_files(common_name, datetime.now(UTC), _not_after)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".keys-", dir=folder.parent))
        try:
            for name, content in files.items():
                _write_private(made / name, content)
            made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        _require_free(folder)  # somebody else may have been faster
        raise KeysUnusable(str(folder), str(error), "a folder that can be written") from error


def load_signing(folder: Path) -> Signing:
    """The credential in a folder, checked.

    Raises:
        KeysMissing: a file of it is not there.
        KeysUnusable: a file is not what it should be: not PEM, another kind of key, a key that others may read or that
            does not belong to the certificate, a certificate that has expired or was not issued by the root.
    """
    anchors = load_anchors(folder)
    content = {name: _read(folder, name) for name in (_LEAF_CHAIN, _LEAF_KEY)}
    chain = _certificates(folder / _LEAF_CHAIN, content[_LEAF_CHAIN])
    _require_private(folder / _LEAF_KEY)
    _require_pair(folder / _LEAF_KEY, content[_LEAF_KEY], chain[0])
    _require_issued(folder / _LEAF_CHAIN, [*chain, *_certificates(folder / _ROOT_CERTIFICATE, anchors[0])])
    signing = Signing(
        _common_name(chain[0]), str(folder / _LEAF_CHAIN), content[_LEAF_CHAIN], content[_LEAF_KEY], anchors
    )
    signing.require_usable(datetime.now(UTC))
    return signing


def load_anchors(folder: Path) -> tuple[bytes, ...]:
    """The trust anchors in a folder, PEM: all that verifying needs, whatever has become of the leaf and its key.

    Raises:
        KeysMissing: there is no root certificate.
        KeysUnusable: it is not a PEM certificate.
    """
    content = _read(folder, _ROOT_CERTIFICATE)
    _certificates(folder / _ROOT_CERTIFICATE, content)
    return (content,)


# --- making ------------------------------------------------------------------------------------------------


def _require_free(folder: Path) -> None:
    if not folder.exists():
        return
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else {folder.name}
    if names & {_ROOT_CERTIFICATE, _ROOT_KEY, _LEAF_CHAIN, _LEAF_KEY}:
        raise KeysExist(str(folder))
    if names:
        raise KeysUnusable(str(folder), f"{len(names)} other files", "a new or empty folder")


def _key_files(common_name: str, at: datetime, leaf_not_after: datetime | None) -> dict[str, bytes]:
    """The four files of a fresh root and leaf, by name."""
    root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, leaf_name = _name(f"{common_name} root"), _name(common_name)
    leaf_not_after = leaf_not_after or at + _LEAF_LIFETIME
    not_before = min(at, leaf_not_after) - _BACKDATED_BY
    root = _base(root_name, root_name, root_key, root_key, not_before, not_before + _ROOT_LIFETIME)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    root = root.add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
    leaf = _base(leaf_name, root_name, leaf_key, root_key, not_before, leaf_not_after)
    leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    leaf = leaf.add_extension(_key_usage("digital_signature"), critical=True)
    purposes = [ExtendedKeyUsageOID.EMAIL_PROTECTION, _C2PA_SIGNING]
    leaf = leaf.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return {
        _ROOT_CERTIFICATE: root.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        _ROOT_KEY: _private_pem(root_key),
        _LEAF_CHAIN: leaf.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        _LEAF_KEY: _private_pem(leaf_key),
    }


def _base(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    not_before: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    """What root and leaf have in common: names, serial number, dates, subject and authority key identifiers."""
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(not_before).not_valid_after(not_after)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return builder.add_extension(authority, critical=False)


def _name(common_name: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "guardrail development keys")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name), organisation])


def _key_usage(*granted: str) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{usage: usage in granted for usage in every})


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    """Write a new file: certificates for all to read, keys for their owner only, from their first byte on."""
    mode = 0o600 if path.suffix == ".key" else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


# --- loading -----------------------------------------------------------------------------------------------


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise KeysMissing(str(folder), name) from error
    except OSError as error:
        raise KeysUnusable(str(folder / name), str(error), "a file we may read") from error


def _certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise KeysUnusable(str(path), f"no certificate ({error})", "PEM certificates") from error


def _require_private(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & _OTHERS_MAY:
        raise KeysUnusable(str(path), f"mode {mode:04o}, which lets others in", "mode 0600 (run chmod 600 on it)")


def _require_pair(path: Path, pem: bytes, leaf: x509.Certificate) -> None:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (TypeError, ValueError) as error:
        raise KeysUnusable(str(path), f"no key ({error})", "an unencrypted PKCS#8 key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeysUnusable(str(path), type(key).__name__, "an elliptic-curve key on P-256")
    if key.public_key() != leaf.public_key():
        raise KeysUnusable(str(path), "a key of another certificate", f"the key of the leaf in {_LEAF_CHAIN}")


def _require_issued(path: Path, chain: list[x509.Certificate]) -> None:
    for certificate, issuer in pairwise(chain):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (InvalidSignature, TypeError, ValueError) as error:
            expected = f"one issued by {_common_name(issuer)!r}, as {_ROOT_CERTIFICATE} has it"
            raise KeysUnusable(str(path), f"a certificate of {_common_name(certificate)!r}", expected) from error


def _require_valid(leaf: x509.Certificate, source: str, at: datetime) -> None:
    if not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
        dates = f"a certificate valid from {leaf.not_valid_before_utc} to {leaf.not_valid_after_utc}"
        raise KeysUnusable(source, dates, f"one valid at {at}")


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()
