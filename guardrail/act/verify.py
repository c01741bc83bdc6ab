"""A file in, and what its credential is to us: ours, tampered, another signer's, none, or expired."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from c2pa import C2paError
from cryptography.hazmat.primitives.serialization import Encoding
from numpy.typing import NDArray

from guardrail.act import sdk
from guardrail.act.assertions import VERDICT_LABEL
from guardrail.act.certificates import anchor_of, parse_der, parse_pem
from guardrail.act.container import require_one_run
from guardrail.act.manifest_store import active_manifest, manifest_store, require_bound, signing_chain
from guardrail.act.picture_file import LARGEST_IMAGE_PX, pixels_in, read_picture_file
from guardrail.act.saying import claims_in, credential_layer, time_stamp_layer
from guardrail.errors import ImageUnreadable, KeysUnusable
from guardrail.records import Decision, ImageMime, VerifyOutcome, VerifyReport

__all__ = ["FileSeen", "look_into", "verify_file"]

_BINDING_HOLDS = "assertion.dataHash.match"
_SIGNATURE_HOLDS = "claimSignature.validated"
_EXPIRED = "signingCredential.expired"
_ABOUT_THE_SIGNER = ("signingCredential.", "claimSignature.outsideValidity")  # such failures leave the content intact
_JUMBF_STORE = re.compile(rb"jumb.{4}jumd", re.DOTALL)  # how every manifest store begins
_STAMPS_OF_ANOTHER = frozenset({"timeStamp.mismatch", "timeStamp.malformed"})  # which anybody can put in
_OWN = frozenset({VerifyOutcome.OURS, VerifyOutcome.EXPIRED})
_STATES_OF_INTACT = frozenset({"Valid", "Trusted"})

_EXPLANATIONS = {
    VerifyOutcome.OURS: "intact, and signed by {signer!r} under our anchor",
    VerifyOutcome.TAMPERED: "the file or its manifest was changed after signing, or never held together ({failures})",
    VerifyOutcome.OTHER_SIGNER: "intact, but signed by somebody named {signer!r} who is not under our anchor",
    VerifyOutcome.EXPIRED: "intact, signed by {signer!r} under our anchor, but the certificate has expired since",
}
_NONE_FOUND = "it holds no manifest: never signed, or stripped since"
_ELSEWHERE = "it holds no manifest but names one kept elsewhere, which is never fetched"


@dataclass(frozen=True, slots=True)
class FileSeen:
    """What was read in a file.

    Attributes:
        report: the outcome, with the layers `credential` and `time_stamp`.
        mime: the file's type.
        binding_sha256: the digest that binds the manifest to the file, as hex; None where there is none.
        pixels: uint8 (H, W, 3), RGB, what is transparent on white; None where they were not asked for, or cannot be
            decoded beside a manifest.
    """

    report: VerifyReport
    mime: ImageMime
    binding_sha256: str | None = None
    pixels: NDArray[np.uint8] | None = None


def verify_file(path: Path, anchors: Sequence[bytes], time_stamp_anchors: Sequence[bytes] = ()) -> VerifyReport:
    """Say what the credential in a file is to us. Nothing is fetched from the network, even where the file asks for it.

    A signer's name proves nothing: ours means that the signature chains up to our anchor and the content is as signed.
    A file that is tampered with and not ours either is reported as tampered. The file is parsed in this process; for
    files of strangers there is `FilesApart`.

    Args:
        path: a PNG, JPEG or WebP file of at most 256 MiB.
        anchors: our root certificates, PEM, as in `Signing.anchors`; at least one.
        time_stamp_anchors: root certificates of the time stamp servers to believe, PEM.

    Raises:
        ImageUnreadable: it is not such a file, cannot be read, or is cut short.
        KeysUnusable: an anchor is not a PEM certificate.
    """
    return look_into(path, anchors, time_stamp_anchors).report


def look_into(
    path: Path,
    anchors: Sequence[bytes],
    time_stamp_anchors: Sequence[bytes] = (),
    *,
    with_pixels: bool = False,
    largest_px: int = LARGEST_IMAGE_PX,
) -> FileSeen:
    """The same as `verify_file`, with what the other layers need: the binding, and the pixels where they are asked for.

    Raises:
        ImageUnreadable: as `verify_file`; without a manifest, a picture of more than `largest_px` pixels too.
        KeysUnusable: an anchor is not a PEM certificate.
    """
    _parse_anchors(anchors)
    content, mime = read_picture_file(path)
    try:
        reading = sdk.read(content, mime, anchors, (), time_stamp_anchors)
    except C2paError as error:
        shown = pixels_in(path, content, largest_px)  # a file without a manifest may be no picture at all
        return FileSeen(_without_manifest(path, content, mime, error), mime, None, shown if with_pixels else None)
    outcome = _outcome(reading, content, mime, anchors)
    fault = "" if outcome is VerifyOutcome.TAMPERED else _fault(reading, content, mime, own=outcome in _OWN)
    report = _report(path, reading, VerifyOutcome.TAMPERED if fault else outcome, fault)
    return FileSeen(report, mime, reading.binding, _pixels(path, content, largest_px) if with_pixels else None)


def _pixels(path: Path, content: bytes, largest_px: int) -> NDArray[np.uint8] | None:
    """What a file with a manifest shows; None where nothing can be decoded: tampered with then, not unreadable."""
    try:
        return pixels_in(path, content, largest_px)
    except ImageUnreadable:
        return None


def _outcome(reading: sdk.Reading, content: bytes, mime: str, anchors: Sequence[bytes]) -> VerifyOutcome:
    altering = [code for code in reading.failures if not code.startswith(_ABOUT_THE_SIGNER)]
    unexplained = reading.state not in _STATES_OF_INTACT and not reading.failures
    bound = _SIGNATURE_HOLDS in reading.success and _BINDING_HOLDS in reading.success
    if altering or unexplained or not bound:
        return VerifyOutcome.TAMPERED
    if reading.state == "Trusted" and reading.trusted_by == sdk.ANCHOR_LIST:
        if not reading.chain:  # c2pa finds the signature where the standard has no place for it
            return VerifyOutcome.TAMPERED
        # c2pa takes an anchor for any purpose, a time stamp server's too: whose the certificates are we ask ourselves
        ours = anchor_of(reading.chain, anchors, _signed_at(reading)) is not None
        return VerifyOutcome.OURS if ours else VerifyOutcome.OTHER_SIGNER
    if _EXPIRED in reading.failures and reading.chain and _was_ours(reading.chain, content, mime, anchors):
        return VerifyOutcome.EXPIRED
    return VerifyOutcome.OTHER_SIGNER


def _signed_at(reading: sdk.Reading) -> datetime:
    """When the certificates had to be valid: as a time stamp that we trust says, or now."""
    stamp = reading.time_stamp
    return stamp.at if stamp is not None and stamp.trusted else datetime.now(UTC)


def _fault(reading: sdk.Reading, content: bytes, mime: str, *, own: bool) -> str:
    """What an intact file carries that no hash and no signature binds; empty for nothing.

    c2pa does not look: bytes can be put in by whoever takes out as many of the zeros that pad a signature.
    """
    try:
        if own or reading.excluded:  # an update manifest of somebody else's has no hash of its own
            require_one_run(content, mime, reading.excluded)
        if own:
            require_bound(manifest_store(content, mime), reading.manifest_id or "")
    except ValueError as error:
        return f"found {error}"
    return "found a time stamp of something else" if own and _STAMPS_OF_ANOTHER & {*reading.informational} else ""


def _report(path: Path, reading: sdk.Reading, outcome: VerifyOutcome, fault: str) -> VerifyReport:
    """The report; it repeats a decision only where the signature under it is ours."""
    signer = reading.signer if _SIGNATURE_HOLDS in reading.success else None
    failures = fault or ", ".join(dict.fromkeys(reading.failures)) or "its manifest does not hold together"
    own = outcome in _OWN
    said = reading.assertions.get(VERDICT_LABEL, {}) if own else {}
    explanation = _EXPLANATIONS[outcome].format(signer=signer, failures=failures)
    return VerifyReport(
        path=str(path),
        outcome=outcome,
        explanation=explanation,
        signer=signer,
        manifest_id=reading.manifest_id,
        decision=Decision(said["decision"]) if said.get("decision") in set(Decision) else None,
        states=(reading.state, *dict.fromkeys((*reading.failures, *reading.success))),
        layers=(credential_layer(outcome, explanation, reading), time_stamp_layer(reading)),
        claims=claims_in(reading) if own else {},
    )


def _without_manifest(path: Path, content: bytes, mime: ImageMime, error: C2paError) -> VerifyReport:
    """The report on a file in which c2pa found no manifest that it could parse."""
    if isinstance(error, C2paError.ManifestNotFound) or not _JUMBF_STORE.search(content):
        outcome = VerifyOutcome.NO_CREDENTIAL
        explanation = _ELSEWHERE if str(error).startswith("Remote") else _NONE_FOUND
    else:
        outcome = VerifyOutcome.TAMPERED
        explanation = f"it holds a manifest that cannot be parsed ({_why_not(content, mime, error)})"
    return VerifyReport(
        path=str(path),
        outcome=outcome,
        explanation=explanation,
        states=("Invalid",) if outcome is VerifyOutcome.TAMPERED else (),
        layers=(credential_layer(outcome, explanation, None), time_stamp_layer(None)),
    )


def _why_not(content: bytes, mime: ImageMime, error: C2paError) -> str:
    """Why c2pa could not read a manifest; of a signature that is none it says that it could not make a time stamp."""
    try:
        store = manifest_store(content, mime)
        readable = bool(signing_chain(content, mime, active_manifest(store)))
    except (ValueError, LookupError):
        readable = True  # its boxes are at fault, of which c2pa tells more
    return str(error) if readable else "its signature is none that can be read"


def _parse_anchors(anchors: Sequence[bytes]) -> None:
    try:
        parsed = [certificate for pem in anchors for certificate in parse_pem(pem)]
    except ValueError as error:
        raise KeysUnusable("anchors", f"no certificate ({error})", "PEM root certificates") from error
    if not parsed:
        raise KeysUnusable("anchors", "none", "at least one PEM root certificate")


def _was_ours(chain: Sequence[bytes], content: bytes, mime: str, anchors: Sequence[bytes]) -> bool:
    """Whether the signer of a file is one of ours, whose certificate has run out.

    c2pa calls every expired signer untrusted. So we look where the leaf led on its last day, and ask c2pa, told to
    trust this one certificate by itself, whether it is who signed.
    """
    leaf = parse_der(chain[0])
    if anchor_of(chain, anchors, leaf.not_valid_after_utc) is None:
        return False
    again = sdk.read(content, mime, anchors, [leaf.public_bytes(Encoding.PEM)])
    return "signingCredential.trusted" in again.success
