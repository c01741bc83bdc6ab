"""A digest in, a signature beside it out, and back: for what carries no manifest, such as hash lists."""

import base64
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509 import verification

from guardrail.act.keys import Signing

__all__ = ["sign_digest", "signer_of"]

_BY_DIGEST = ec.ECDSA(utils.Prehashed(hashes.SHA256()))


def sign_digest(digest: bytes, signing: Signing) -> str:
    """Sign a sha256 digest: ECDSA on P-256, DER, in base64.

    It is what `openssl dgst -sha256 -verify KEY -signature FILE` checks against the content itself.

    Args:
        digest: 32 bytes.
        signing: whose key.
    """
    key = serialization.load_pem_private_key(signing.key, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey), "load_signing has checked it"
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
    return _anchor_of(leaf, certificates[1:], anchors, at).fingerprint(hashes.SHA256()).hex()


def _require_signed(leaf: x509.Certificate, signature: bytes, digest: bytes) -> None:
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError(f"a key of the kind {type(key).__name__}")  # noqa: TRY004 - the file's fault
    try:
        key.verify(signature, digest, _BY_DIGEST)
    except InvalidSignature:
        raise ValueError("a signature that does not fit its content") from None


def _anchor_of(
    leaf: x509.Certificate, between: Sequence[x509.Certificate], anchors: Sequence[bytes], at: datetime
) -> x509.Certificate:
    """The anchor that a leaf leads to; the leaf may be of any purpose that lets it sign."""
    trusted = [certificate for pem in anchors for certificate in x509.load_pem_x509_certificates(pem)]
    if not trusted:
        raise ValueError("no root certificate to trust")
    policy = verification.PolicyBuilder().store(verification.Store(trusted)).time(at).max_chain_depth(4)
    signs = verification.ExtensionPolicy.permit_all().require_present(
        x509.KeyUsage, verification.Criticality.AGNOSTIC, _may_sign
    )
    issues = verification.ExtensionPolicy.permit_all().require_present(
        x509.BasicConstraints, verification.Criticality.AGNOSTIC, _may_issue
    )
    verifier = policy.extension_policies(ca_policy=issues, ee_policy=signs).build_client_verifier()
    try:
        return verifier.verify(leaf, list(between)).chain[-1]
    except verification.VerificationError as error:
        name = leaf.subject.rfc4514_string()
        raise ValueError(f"the signature of {name!r}, who is under none of the trusted roots ({error})") from error


def _may_sign(policy: verification.Policy, certificate: x509.Certificate, usage: x509.KeyUsage) -> None:
    del policy, certificate
    if not usage.digital_signature:
        raise ValueError("a certificate that may not sign")


def _may_issue(policy: verification.Policy, certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    del policy, certificate
    if not constraints.ca:
        raise ValueError("a certificate that may not issue others")
