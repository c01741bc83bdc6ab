"""Make keys: a root certificate that is our trust anchor, a leaf that signs for one year, and the next leaf or root."""

import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from guardrail.act.certificates import CLAIM_SIGNING, common_name, parse_pem, profile_faults, sha256_of
from guardrail.act.keys import CHAIN, LEAF_KEY, NEXT, PASSWORD_VARIABLE, ROOT, ROOT_KEY, load_key, place_of
from guardrail.errors import KeysExist, KeysMissing, KeysUnusable

__all__ = ["certify_key", "make_development_keys", "rotate_keys"]

_LEAF_LIFE = timedelta(days=365)  # the C2PA certificate profile allows at most 366 days
_ROOT_LIFE = timedelta(days=3650)
_BACKDATED_BY = timedelta(minutes=10)  # a machine whose clock runs late must not find the leaf "not yet valid"
_IN_PLACE = (ROOT, ROOT_KEY, LEAF_KEY, CHAIN)  # the order in which a rotation puts files in place
_NAME_DIGITS = 12  # of a certificate's sha256, in the names of files that are kept of it
_USAGES = (
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

_Root = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def make_development_keys(
    folder: Path, common_name: str = "guardrail development", *, _not_after: datetime | None = None
) -> None:
    """Make a root and a leaf, both P-256, in a new or empty folder; all four files appear at once or none does.

    Writes `root.pem` (the anchor to verify with), `chain.pem` (the leaf), and their private keys `root.key` and
    `leaf.key` (PKCS#8, readable by their owner only, encrypted where `GUARDRAIL_KEY_PASSWORD` holds a password; the
    root key is kept to issue the next leaf with).

    Args:
        folder: where to; its parents are made.
        common_name: the signer's name as it stands in every manifest; it leaves this machine.

    Raises:
        KeysExist: there are keys in it already.
        KeysUnusable: it holds other files, or cannot be written.
    """
    folder = folder.resolve()
    _require_free(folder)
    at = datetime.now(UTC)
    not_after = _not_after or at + _LEAF_LIFE
    root = _new_root(f"{common_name} root", min(at, not_after))
    files = _root_files(root) | _leaf_files(root, common_name, min(at, not_after), not_after)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _appear(folder, files)
    except OSError as error:
        _require_free(folder)  # somebody else may have been faster
        raise KeysUnusable(str(folder), str(error), "a folder that can be written") from error


def rotate_keys(folder: Path, common_name: str = "", *, new_root: bool = False) -> None:
    """Replace the leaf by a fresh one, for 365 days from now; the anchors stay, so older files stay ours.

    The old leaf's key is destroyed, its certificate kept as `chain-DIGITS.pem`. With a new root the old root's key is
    destroyed too, and its certificate stays an anchor, as `root-DIGITS.pem`. A process that is killed at any point
    leaves a folder that can be signed with, by the old leaf or the new one, and the next rotation tidies it up.

    Args:
        folder: of the keys.
        common_name: the signer's name; as before where it is empty.
        new_root: make a new root too, instead of having the present one issue the leaf.

    Raises:
        KeysMissing: there are no keys.
        KeysUnusable: the root key is elsewhere, cannot be opened or is another root's; another rotation goes on; or the
            folder cannot be written.
    """
    folder = folder.resolve()
    at = datetime.now(UTC)
    try:
        _put_in_place(folder)  # what a former rotation that was cut off has left
        present = _present(folder, CHAIN)
        common_name = common_name or _name_of(present)
        root = _new_root(f"{common_name} root", at) if new_root else _present_root(folder, at)
        files = _leaf_files(root, common_name, at, min(at + _LEAF_LIFE, root[0].not_valid_after_utc))
        _appear(folder / NEXT, (_root_files(root) if new_root else {}) | files)
        _put_in_place(folder)
    except OSError as error:
        if isinstance(error, KeysMissing):
            raise
        raise KeysUnusable(str(folder), str(error), "a folder that can be written, and one rotation at a time") from (
            error
        )


def certify_key(folder: Path, public_key: bytes, common_name: str) -> bytes:
    """A leaf certificate, for 365 days, for a key that is kept elsewhere: by a key service, or in a token.

    Args:
        folder: holds the root and its key.
        public_key: PEM or DER (SubjectPublicKeyInfo), as key services give it.
        common_name: the signer's name as it stands in every manifest.

    Returns:
        PEM, for `Signing.chain`.

    Raises:
        KeysMissing: there is no root.
        KeysUnusable: the root key is elsewhere or cannot be opened, or c2pa signs with no such key.
    """
    at = datetime.now(UTC)
    root = _present_root(folder.resolve(), at)
    try:
        pem = b"-----BEGIN" in public_key
        key = (serialization.load_pem_public_key if pem else serialization.load_der_public_key)(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeysUnusable("public key", f"no key ({error})", "a public key in PEM or DER") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise KeysUnusable("public key", type(key).__name__, "a key on P-256 or P-384, an RSA or an Ed25519 key")
    leaf = _leaf(root, key, common_name, at, min(at + _LEAF_LIFE, root[0].not_valid_after_utc))
    if faults := profile_faults(leaf):
        raise KeysUnusable("public key", "; ".join(faults), "a key that the certificate profile of C2PA allows")
    return leaf.public_bytes(serialization.Encoding.PEM)


# --- files -------------------------------------------------------------------------------------------------


def _require_free(folder: Path) -> None:
    if not folder.exists():
        return
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else {folder.name}
    if names & {ROOT, ROOT_KEY, CHAIN, LEAF_KEY}:
        raise KeysExist(str(folder))
    if names:
        raise KeysUnusable(str(folder), f"{len(names)} other files", "a new or empty folder")


def _appear(folder: Path, files: dict[str, bytes]) -> None:
    """A folder with these files, all at once; it must not be there yet, or be empty."""
    made = Path(tempfile.mkdtemp(prefix=".keys-", dir=folder.parent))
    try:
        for name, content in files.items():
            _write_private(made / name, content)
        _flush(made)
        made.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _put_in_place(folder: Path) -> None:
    """Give the files of a rotation their places; they count from the moment that their folder has its name."""
    waiting = folder / NEXT
    if waiting.is_dir():
        for name in _IN_PLACE:
            if (waiting / name).exists():
                _keep_certificate(folder / name)
                (waiting / name).replace(folder / name)
        _flush(folder)
        waiting.rmdir()
    for left in folder.glob(".keys-*"):
        shutil.rmtree(left, ignore_errors=True)


def _keep_certificate(path: Path) -> None:
    """Keep a certificate that is about to be replaced, under a name of its own; keys are not kept."""
    if path.suffix != ".pem" or not path.exists():
        return
    digits = sha256_of(parse_pem(path.read_bytes())[0])[:_NAME_DIGITS]
    kept = path.with_name(f"{path.stem}-{digits}.pem")
    if not kept.exists():
        part = path.with_name(f".keys-{digits}")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        _write_private(part / kept.name, path.read_bytes())
        (part / kept.name).replace(kept)
        part.rmdir()


def _write_private(path: Path, content: bytes) -> None:
    """Write a new file: certificates for all to read, keys for their owner only, from their first byte on."""
    mode = 0o600 if path.suffix == ".key" else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """Put the names in a folder on disk."""
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _present(folder: Path, name: str) -> bytes:
    try:
        return place_of(folder, name).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise KeysMissing(str(folder), name) from error


def _present_root(folder: Path, at: datetime) -> _Root:
    """The root of a folder and its key, which belong together."""
    path = place_of(folder, ROOT_KEY)
    expected = "the key of the root, to issue the next leaf with: bring it back for the rotation, or ask for a new root"
    if not path.exists():
        raise KeysUnusable(str(path), "nothing there", expected)
    try:
        certificate = parse_pem(_present(folder, ROOT))[0]
    except ValueError as error:
        raise KeysUnusable(str(place_of(folder, ROOT)), f"no certificate ({error})", "a PEM certificate") from error
    key = load_key(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise KeysUnusable(str(path), "a key of another certificate", expected)
    if certificate.not_valid_after_utc <= at:
        raise KeysUnusable(str(path), f"a root that expired on {certificate.not_valid_after_utc}", "a new root")
    return certificate, key


def _name_of(chain: bytes) -> str:
    try:
        return common_name(parse_pem(chain)[0])
    except ValueError as error:
        raise KeysUnusable(CHAIN, f"no certificate ({error})", "PEM certificates") from error


# --- certificates ------------------------------------------------------------------------------------------


def _new_root(name: str, at: datetime) -> _Root:
    key = ec.generate_private_key(ec.SECP256R1())
    since = at - _BACKDATED_BY
    root = _base(_subject(name), _subject(name), key.public_key(), key, since, since + _ROOT_LIFE)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    root = root.add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
    return root.sign(key, hashes.SHA256()), key


def _root_files(root: _Root) -> dict[str, bytes]:
    certificate, key = root
    return {ROOT: certificate.public_bytes(serialization.Encoding.PEM), ROOT_KEY: _private_pem(key)}


def _leaf_files(root: _Root, name: str, at: datetime, not_after: datetime) -> dict[str, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _leaf(root, key.public_key(), name, at, not_after)
    return {CHAIN: leaf.public_bytes(serialization.Encoding.PEM), LEAF_KEY: _private_pem(key)}


def _leaf(
    root: _Root, key: CertificatePublicKeyTypes, name: str, at: datetime, not_after: datetime
) -> x509.Certificate:
    certificate, issuer_key = root
    leaf = _base(_subject(name), certificate.subject, key, issuer_key, at - _BACKDATED_BY, not_after)
    leaf = leaf.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    leaf = leaf.add_extension(_key_usage("digital_signature"), critical=True)
    purposes = [ExtendedKeyUsageOID.EMAIL_PROTECTION, CLAIM_SIGNING]
    leaf = leaf.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return leaf.sign(issuer_key, hashes.SHA256())


def _base(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    issuer_key: ec.EllipticCurvePrivateKey,
    not_before: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    """What root and leaf have in common: names, serial number, dates, subject and authority key identifiers."""
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(not_before).not_valid_after(not_after)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return builder.add_extension(authority, critical=False)


def _subject(name: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "guardrail development keys")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), organisation])


def _key_usage(*granted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in granted for usage in _USAGES})


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    password = os.environ.get(PASSWORD_VARIABLE, "").encode()
    sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
