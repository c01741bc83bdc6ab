"""A digest in, a signature beside it out, and back: for what carries no manifest, such as hash lists."""

import base64
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509 import verification

from guardrail.act.certificates import lead_to, sha256_of
from guardrail.act.keys import Signing
from guardrail.errors import KeysUnusable

__all__ = ["sign_digest", "signer_of"]

_BY_DIGEST = ec.ECDSA(utils.Prehashed(hashes.SHA256()))


def sign_digest(digest: bytes, signing: Signing) -> str:
    """Sign a sha256 digest: ECDSA on P-256, DER, in base64.

    It is what `openssl dgst -sha256 -verify KEY -signature FILE` checks against the content itself.

    Args:
        digest: 32 bytes.
        signing: whose key.

    Raises:
        KeysUnusable: the key is kept elsewhere, or is not an elliptic-curve one.
    """
    if signing.key is None:
        raise KeysUnusable(signing.source, "a function that signs", "a key folder: lists are signed with a key file")
    key = serialization.load_pem_private_key(signing.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeysUnusable(signing.source, f"a key of the kind {type(key).__name__}", "an elliptic-curve key")
    return base64.b64encode(key.sign(digest, _BY_DIGEST)).decode()


def signer_of(digest: bytes, signature: str, chain: bytes, anchors: Sequence[bytes], at: datetime) -> str:
    """Who signed a digest: the sha256 of the anchor, DER, that the signature leads to, as hex.

    Args:
        digest: 32 bytes.
        signature: as `sign_digest` gives it.
        chain: PEM certificates, leaf first, as they came with the signature.
        anchors: PEM root certificates to trust.
        at: the moment at which all certificates must be valid.

    Raises:
        ValueError: the signature does not hold, or leads to none of the anchors; it says which.
    """
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        content = base64.b64decode(signature, validate=True)
    except ValueError as error:
        raise ValueError(f"no certificate or signature ({error})") from error
    leaf = certificates[0]
    _require_signed(leaf, content, digest)
    try:
        return sha256_of(lead_to(leaf, certificates[1:], tuple(anchors), at))
    except verification.VerificationError as error:
        name = leaf.subject.rfc4514_string()
        raise ValueError(f"the signature of {name!r}, who is under none of the trusted roots ({error})") from error


def _require_signed(leaf: x509.Certificate, signature: bytes, digest: bytes) -> None:
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError(f"a key of the kind {type(key).__name__}")  # noqa: TRY004 - the file's fault
    try:
        key.verify(signature, digest, _BY_DIGEST)
    except InvalidSignature:
        raise ValueError("a signature that does not fit its content") from None
