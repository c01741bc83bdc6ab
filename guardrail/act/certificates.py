"""Certificates: whether one may sign by the C2PA profile, and to which of our anchors a chain leads."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "CLAIM_SIGNING",
    "LONGEST_LIFE",
    "anchor_of",
    "common_name",
    "lead_to",
    "parse_der",
    "parse_pem",
    "profile_faults",
    "sha256_of",
]

CLAIM_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")  # extended key usage of C2PA claim signing
LONGEST_LIFE = timedelta(days=366)  # of a leaf by the C2PA certificate profile
_PURPOSES = frozenset({CLAIM_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION})
_CURVES = (ec.SECP256R1, ec.SECP384R1)  # ES256 and ES384
_SHORTEST_RSA_BITS = 2048  # C2PA 2.4, allowed signature algorithms: PS256 with at least so many
_LONGEST_CHAIN = 4  # certificates between leaf and anchor
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


@lru_cache(maxsize=256)
def parse_pem(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in a PEM file, in order, at least one; parsed once for each content.

    Raises:
        ValueError: there is none, or one that cannot be parsed.
    """
    return tuple(x509.load_pem_x509_certificates(pem))


@lru_cache(maxsize=256)
def parse_der(der: bytes) -> x509.Certificate:
    """One certificate, parsed once for each content.

    Raises:
        ValueError: it cannot be parsed.
    """
    return x509.load_der_x509_certificate(der)


def common_name(certificate: x509.Certificate) -> str:
    """Whom a certificate is made out to: its common name, or all of the name where it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def sha256_of(certificate: x509.Certificate) -> str:
    """The fingerprint that people and tools know a certificate by: sha256 of its DER, as hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


# --- the profile -------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def profile_faults(leaf: x509.Certificate) -> tuple[str, ...]:
    """In what a signing certificate falls short of the C2PA profile; empty where it keeps to it, dates aside.

    The SDK signs with certificates that the conformance profile refuses; others would then refuse the file.

    Asked for: X.509 version 3; at most 366 days of life; a key on P-256 or P-384, of Ed25519,
    or RSA of 2048 bits and up; a critical key usage
    of digital signature alone; the purposes C2PA claim signing and e-mail protection and no others; subject and
    authority key identifiers; basic constraints that say it issues nothing.

    Source: C2PA 2.4, X.509 certificate profiles; we also refuse further purposes, because a key that does two things
    can be made to do the one for the other.
    """
    if leaf.version is not x509.Version.v3:
        return (f"X.509 {leaf.version.name}, not v3",)
    try:
        extensions = leaf.extensions
    except ValueError as error:
        return (f"extensions that cannot be parsed ({error})",)
    faults = (
        _life_fault(leaf),
        _key_fault(leaf),
        _usage_fault(extensions),
        _purpose_fault(extensions),
        *_presence_faults(extensions),
    )
    return tuple(fault for fault in faults if fault)


def _life_fault(leaf: x509.Certificate) -> str:
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return f"a life of {life.total_seconds() / 86400:.1f} days, not 366 at most" if life > LONGEST_LIFE else ""


def _key_fault(leaf: x509.Certificate) -> str:
    key = leaf.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if isinstance(key.curve, _CURVES) else f"a key on {key.curve.name}, not on P-256 or P-384"
    if isinstance(key, rsa.RSAPublicKey):
        return "" if key.key_size >= _SHORTEST_RSA_BITS else f"an RSA key of {key.key_size} bits, not 2048 at least"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ""
    return f"a key of the kind {type(key).__name__}, not elliptic-curve, Ed25519 or RSA"


def _usage_fault(extensions: x509.Extensions) -> str:
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        return "no key usage"
    granted = [name for name in _USAGES if getattr(usage.value, name)]
    if granted != ["digital_signature"]:
        return f"key usage {', '.join(granted) or 'of nothing'}, not digital_signature alone"
    return "" if usage.critical else "a key usage that is not critical"


def _purpose_fault(extensions: x509.Extensions) -> str:
    try:
        purposes = frozenset(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return "no extended key usage"
    missing = sorted(purpose.dotted_string for purpose in _PURPOSES - purposes)
    further = sorted(purpose.dotted_string for purpose in purposes - _PURPOSES)
    said = [f"without {', '.join(missing)}"] * bool(missing) + [f"with {', '.join(further)} besides"] * bool(further)
    return f"extended key usage {' and '.join(said)}" if said else ""


def _presence_faults(extensions: x509.Extensions) -> list[str]:
    present = {extension.oid for extension in extensions}
    faults = [] if x509.SubjectKeyIdentifier.oid in present else ["no subject key identifier"]
    faults += [] if x509.AuthorityKeyIdentifier.oid in present else ["no authority key identifier"]
    if x509.BasicConstraints.oid not in present:
        return [*faults, "no basic constraints"]
    issues = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    return [*faults, "basic constraints of a certificate authority"] if issues else faults


# --- the chain ---------------------------------------------------------------------------------------------


def anchor_of(chain: Sequence[bytes], anchors: Sequence[bytes], at: datetime) -> str | None:
    """Which of our anchors a chain of certificates leads to at a moment, or None: then it is not ours.

    c2pa takes a signer that leads to any anchor it was given, of whatever kind, time stamp servers' too; so this is
    asked besides. It says nothing of the signature: c2pa says whether that was made with the leaf's key.

    Args:
        chain: DER certificates, leaf first, as in `Reading.chain`; the anchor itself may be missing.
        anchors: PEM root certificates.
        at: when all certificates must be valid, aware: the time of a time stamp that holds, or now.

    Returns:
        sha256 of the anchor's DER, as hex.

    Raises:
        ValueError: an anchor is not a PEM certificate.
    """
    try:
        leaf, *between = [parse_der(certificate) for certificate in chain]
    except ValueError:  # an empty chain, or one that cannot be parsed: nobody's
        for pem in anchors:
            parse_pem(pem)
        return None
    try:
        return sha256_of(lead_to(leaf, between, tuple(anchors), at))
    except verification.VerificationError:
        return None


def lead_to(
    leaf: x509.Certificate, between: Sequence[x509.Certificate], anchors: tuple[bytes, ...], at: datetime
) -> x509.Certificate:
    """The anchor that a leaf which may sign leads to; the leaf may be of any other purpose too.

    Raises:
        ValueError: an anchor is not a PEM certificate, or there is none.
        cryptography.x509.verification.VerificationError: it leads to none of them at that moment.
    """
    verifier = _policy(anchors).time(at).build_client_verifier()
    return verifier.verify(leaf, list(between)).chain[-1]


@lru_cache(maxsize=16)
def _policy(anchors: tuple[bytes, ...]) -> verification.PolicyBuilder:
    trusted = [certificate for pem in anchors for certificate in parse_pem(pem)]
    if not trusted:
        raise ValueError("no root certificate to trust")
    signs = verification.ExtensionPolicy.permit_all().require_present(
        x509.KeyUsage, verification.Criticality.AGNOSTIC, _may_sign
    )
    issues = verification.ExtensionPolicy.permit_all()
    issues = issues.require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, _is_authority)
    issues = issues.require_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, _may_issue)
    policy = verification.PolicyBuilder().store(verification.Store(trusted)).max_chain_depth(_LONGEST_CHAIN)
    return policy.extension_policies(ca_policy=issues, ee_policy=signs)


def _may_sign(policy: verification.Policy, certificate: x509.Certificate, usage: x509.KeyUsage) -> None:
    del policy, certificate
    if not usage.digital_signature:
        raise ValueError("a certificate that may not sign")


def _is_authority(
    policy: verification.Policy, certificate: x509.Certificate, constraints: x509.BasicConstraints
) -> None:
    del policy, certificate
    if not constraints.ca:
        raise ValueError("a certificate that may not issue others")


def _may_issue(policy: verification.Policy, certificate: x509.Certificate, usage: x509.KeyUsage) -> None:
    del policy, certificate
    if not usage.key_cert_sign:
        raise ValueError("a certificate whose key may not sign others")
