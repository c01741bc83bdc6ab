"""A file in, and what its credential is to us: ours, tampered, another signer's, none, or expired."""

import io
import re
import stat
import warnings
from collections.abc import Sequence
from pathlib import Path

from c2pa import C2paError
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from PIL import Image

from guardrail.act import sdk
from guardrail.act.provenance import VERDICT_LABEL
from guardrail.errors import ImageUnreadable, KeysUnusable
from guardrail.records import Decision, VerifyOutcome, VerifyReport

__all__ = ["LARGEST_FILE_BYTES", "verify_file"]

LARGEST_FILE_BYTES = 2**28  # 256 MiB: the whole file is read into memory
_LARGEST_CERTIFICATE_BYTES = 8192
_MOST_CERTIFICATES = 64  # looked at in one file
_PADDING = re.compile(  # CBOR: a text key "pad" or "pad2", then a byte string of a short, 1-, 2- or 4-byte length
    rb"(?:\x63pad|\x64pad2)(?:([\x40-\x57])|\x58(?P<a>.)|\x59(?P<b>..)|\x5a(?P<c>....))", re.DOTALL
)
_BINDING_HOLDS = "assertion.dataHash.match"
_SIGNATURE_HOLDS = "claimSignature.validated"
_EXPIRED = "signingCredential.expired"
_ABOUT_THE_SIGNER = ("signingCredential.", "claimSignature.outsideValidity")  # such failures leave the content intact
_JUMBF_STORE = re.compile(rb"jumb.{4}jumd", re.DOTALL)  # how every manifest store begins
_CERTIFICATE = re.compile(rb"\x30\x82(..)\x30\x82..\xa0\x03\x02\x01\x02", re.DOTALL)  # X.509 version 3, in DER

_EXPLANATIONS = {
    VerifyOutcome.OURS: "intact, and signed by {signer!r} under our anchor",
    VerifyOutcome.TAMPERED: "the file or its manifest was changed after signing, or never held together ({failures})",
    VerifyOutcome.OTHER_SIGNER: "intact, but signed by somebody named {signer!r} who is not under our anchor",
    VerifyOutcome.EXPIRED: "intact, signed by {signer!r} under our anchor, but the certificate has expired since",
}
_NONE_FOUND = "it holds no manifest: never signed, or stripped since"
_ELSEWHERE = "it holds no manifest but names one kept elsewhere, which is never fetched"


def verify_file(path: Path, anchors: Sequence[bytes]) -> VerifyReport:
    """Say what the credential in a file is to us. Nothing is fetched from the network, even where the file asks for it.

    A signer's name proves nothing: ours means that the signature chains up to our anchor and the content is as signed.
    A file that is tampered with and not ours either is reported as tampered.

    Args:
        path: a PNG, JPEG or WebP file of at most 256 MiB.
        anchors: our root certificates, PEM, as in `Signing.anchors`; at least one.

    Raises:
        ImageUnreadable: it is not such a file, cannot be read, or is cut short.
        KeysUnusable: an anchor is not a PEM certificate.
    """
    _parse_anchors(anchors)
    content = _content(path)
    mime = _mime(path, content)
    try:
        reading = sdk.read(content, mime, anchors)
    except C2paError as error:
        return _without_manifest(path, content, error)
    outcome = _outcome(reading, content, mime, anchors)
    return _report(path, reading, outcome)


def _outcome(reading: sdk.Reading, content: bytes, mime: str, anchors: Sequence[bytes]) -> VerifyOutcome:
    altering = [code for code in reading.failures if not code.startswith(_ABOUT_THE_SIGNER)]
    unexplained = reading.state not in {"Valid", "Trusted"} and not reading.failures
    if altering or unexplained or _SIGNATURE_HOLDS not in reading.success or not _padding_is_empty(content, mime):
        return VerifyOutcome.TAMPERED
    if reading.state == "Trusted" and reading.trusted_by == sdk.ANCHOR_LIST and _BINDING_HOLDS in reading.success:
        return VerifyOutcome.OURS
    if _EXPIRED in reading.failures and _is_own_leaf(content, mime, anchors):
        return VerifyOutcome.EXPIRED
    return VerifyOutcome.OTHER_SIGNER


def _padding_is_empty(content: bytes, mime: str) -> bool:
    """Whether the padding of the signature holds zeros only: nothing binds it, so anything could be carried there."""
    if mime != "image/png":  # ours are PNG; elsewhere a long manifest is cut into segments, headers in its padding too
        return True
    start, end = 0, max(0, content.find(b"IDAT"))
    for match in _PADDING.finditer(content, start, end):
        length = match["a"] or match["b"] or match["c"]
        size = int.from_bytes(length, "big") if length else match[1][0] & 0x1F
        if any(content[match.end() : match.end() + size]):
            return False
    return True


def _report(path: Path, reading: sdk.Reading, outcome: VerifyOutcome) -> VerifyReport:
    """The report; it repeats a decision only where the signature under it is ours."""
    signer = reading.signer if _SIGNATURE_HOLDS in reading.success else None
    failures = ", ".join(dict.fromkeys(reading.failures)) or "its manifest does not hold together"
    own = outcome in {VerifyOutcome.OURS, VerifyOutcome.EXPIRED}
    said = reading.assertions.get(VERDICT_LABEL, {}) if own else {}
    return VerifyReport(
        path=str(path),
        outcome=outcome,
        explanation=_EXPLANATIONS[outcome].format(signer=signer, failures=failures),
        signer=signer,
        manifest_id=reading.manifest_id,
        decision=Decision(said["decision"]) if said.get("decision") in set(Decision) else None,
        states=(reading.state, *dict.fromkeys((*reading.failures, *reading.success))),
    )


def _without_manifest(path: Path, content: bytes, error: C2paError) -> VerifyReport:
    """The report on a file in which c2pa found no manifest that it could parse."""
    _require_decodable(path, content)
    if isinstance(error, C2paError.ManifestNotFound) or not _JUMBF_STORE.search(content):
        explanation = _ELSEWHERE if str(error).startswith("Remote") else _NONE_FOUND
        return VerifyReport(path=str(path), outcome=VerifyOutcome.NO_CREDENTIAL, explanation=explanation)
    explanation = f"it holds a manifest that cannot be parsed ({error})"
    return VerifyReport(path=str(path), outcome=VerifyOutcome.TAMPERED, explanation=explanation, states=("Invalid",))


# --- the file ----------------------------------------------------------------------------------------------


def _content(path: Path) -> bytes:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ImageUnreadable(str(path), "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file")
        if facts.st_size > LARGEST_FILE_BYTES:
            raise ImageUnreadable(str(path), f"a file of {facts.st_size} bytes, more than {LARGEST_FILE_BYTES}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, ImageUnreadable):
            raise
        raise ImageUnreadable(str(path), str(error)) from error


def _mime(path: Path, content: bytes) -> str:
    """The type by the file's first bytes, whatever its name says."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    raise ImageUnreadable(str(path), "not a PNG, JPEG or WebP file" if content else "an empty file")


def _require_decodable(path: Path, content: bytes) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as image:
                image.load()
    except Exception as error:  # decoders raise anything on hostile bytes, and each means the same here
        raise ImageUnreadable(str(path), f"{type(error).__name__}: {error}") from error


# --- certificates ------------------------------------------------------------------------------------------


def _parse_anchors(anchors: Sequence[bytes]) -> list[x509.Certificate]:
    try:
        parsed = [certificate for pem in anchors for certificate in x509.load_pem_x509_certificates(pem)]
    except ValueError as error:
        raise KeysUnusable("anchors", f"no certificate ({error})", "PEM root certificates") from error
    if not parsed:
        raise KeysUnusable("anchors", "none", "at least one PEM root certificate")
    return parsed


def _is_own_leaf(content: bytes, mime: str, anchors: Sequence[bytes]) -> bool:
    """Whether the signing certificate was issued under our anchors, dates aside.

    c2pa calls every expired signer untrusted. So the certificates in the file that our anchors issued are looked up,
    and c2pa is asked again with these alone as trusted signers: it then says whether one of them is who signed.
    """
    own = _issued_under(_parse_anchors(anchors), _certificates_in(content))
    if not own:
        return False
    again = sdk.read(content, mime, anchors, [certificate.public_bytes(Encoding.PEM) for certificate in own])
    return "signingCredential.trusted" in again.success


def _certificates_in(content: bytes) -> list[x509.Certificate]:
    """Every certificate that lies in one piece in a file, at most 64."""
    found = []
    for match in _CERTIFICATE.finditer(content):
        size = 4 + int.from_bytes(match[1], "big")
        if size > _LARGEST_CERTIFICATE_BYTES:
            continue
        try:
            found.append(x509.load_der_x509_certificate(content[match.start() : match.start() + size]))
        except ValueError:
            continue  # bytes that only look like one
        if len(found) == _MOST_CERTIFICATES:
            break
    return found


def _issued_under(anchors: Sequence[x509.Certificate], found: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Those of the found certificates whose signature leads to an anchor, straight or through one another."""
    own: list[x509.Certificate] = []
    issuers = list(anchors)
    for issuer in issuers:  # grows while it is walked
        for certificate in found:
            if certificate not in own and _is_issued_by(certificate, issuer):
                own.append(certificate)
                issuers += [certificate] if _may_issue(certificate) else []
    return own


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
