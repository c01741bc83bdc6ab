"""Nothing of a signed file can be changed, moved or imitated so that it is still ours: byte by byte."""

import io
import struct
import zlib
from pathlib import Path

import cbor2
import numpy as np
import pytest
from act_samples import accepted, noise, output_of, why
from PIL import Image

from guardrail.act import encode_image, sign, verify_file
from guardrail.errors import ImageUnreadable
from guardrail.records import Decision, VerifyOutcome

MIMES = ("image/png", "image/jpeg", "image/webp")


@pytest.fixture(scope="module", params=MIMES)
def small(request, signing):
    """(mime, file) of a small signed picture."""
    verdict = accepted()
    return request.param, sign(output_of(noise(8, 8), request.param), verdict, why(verdict), signing).content


@pytest.fixture
def outcome_of(tmp_path, signing):
    def outcome(content):
        path = tmp_path / "picture"
        path.write_bytes(content)
        try:
            return verify_file(path, signing.anchors).outcome
        except ImageUnreadable:
            return None

    return outcome


def container_of(mime, content):
    """Where the manifest's container begins and ends."""
    if mime == "image/png":
        at = content.index(b"caBX") - 4
        return at, at + 12 + int.from_bytes(content[at : at + 4], "big")
    if mime == "image/webp":
        at = content.index(b"C2PA")
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        return at, at + 8 + size + size % 2
    at = content.index(b"\xff\xeb")
    return at, at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")


def changed(content, at, by=0xFF):
    return content[:at] + bytes([content[at] ^ by]) + content[at + 1 :]


def test_every_byte_outside_the_container_counts(small, outcome_of):
    mime, content = small
    start, end = container_of(mime, content)
    assert outcome_of(content) is VerifyOutcome.OURS
    assert content[start:end].count(b"c2pa.signature") >= 1, "one container holds it all"
    ours = [
        at
        for at in (*range(start), *range(end, len(content)))
        if outcome_of(changed(content, at)) in {VerifyOutcome.OURS, VerifyOutcome.EXPIRED}
    ]
    assert ours == []


def test_every_byte_of_the_verdict_counts(small, outcome_of):
    mime, content = small
    start = content.index(b"cbor", content.index(b"org.guardrail.verdict\0")) + 4  # its label, then its content
    stream = io.BytesIO(content[start:])
    said = cbor2.load(stream)
    assert said["decision"] == "accept"
    assert len(said["nearest"]) == 2
    for at in range(start, start + stream.tell()):
        for by in (0x01, 0xFF):
            edited = changed(content, at, by)
            if mime == "image/png":  # or the chunk's own checksum would give it away
                edited = with_checksum(edited)
            assert outcome_of(edited) not in {VerifyOutcome.OURS, VerifyOutcome.EXPIRED}, at


def with_checksum(png):
    start, end = container_of("image/png", png)
    return png[: end - 4] + struct.pack(">I", zlib.crc32(png[start + 4 : end - 4])) + png[end:]


def test_bytes_before_and_after_count(small, outcome_of):
    _, content = small
    for edited in (content + b"\0", content + content, content[:-1]):
        assert outcome_of(edited) is not VerifyOutcome.OURS


def test_manifest_in_another_picture_is_tampering(small, outcome_of):
    mime, content = small
    start, end = container_of(mime, content)
    manifest, other = content[start:end], encode_image(noise(8, 8, seed=9), mime)
    if mime == "image/webp":  # the very first chunk tells of the others, and the file of its length
        canvas = content[12:start] if content[12:16] == b"VP8X" else b""
        moved = b"WEBP" + (canvas[:18] if canvas else b"") + other[12:] + manifest
        moved = b"RIFF" + struct.pack("<I", len(moved)) + moved
    else:
        moved = other[:start] + manifest + other[start:]
    assert outcome_of(moved) is VerifyOutcome.TAMPERED


def test_manifest_moved_within_the_file_is_not_ours(small, outcome_of):
    mime, content = small
    if mime == "image/webp":
        pytest.skip("it is the last chunk already")
    start, end = container_of(mime, content)
    rest = content[:start] + content[end:]
    at = rest.index(b"IEND") - 4 if mime == "image/png" else rest.index(b"\xff\xda")
    assert outcome_of(rest[:at] + content[start:end] + rest[at:]) is not VerifyOutcome.OURS


def test_saved_again_it_has_no_credential(small, outcome_of):
    mime, content = small
    for form in ("PNG", "JPEG", "WEBP"):
        again = io.BytesIO()
        Image.open(io.BytesIO(content)).save(again, form)
        assert outcome_of(again.getvalue()) is VerifyOutcome.NO_CREDENTIAL, (mime, form)


def test_signed_again_by_a_stranger_with_our_names_it_is_the_stranger_s(small, forger, signing, tmp_path):
    """Same pixels, same words, same names in the certificates; another root."""
    mime, content = small
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    verdict = accepted()
    (tmp_path / "again").write_bytes(sign(output_of(pixels, mime), verdict, why(verdict), forger).content)
    report = verify_file(tmp_path / "again", signing.anchors)
    assert (report.outcome, report.decision, report.claims) == (VerifyOutcome.OTHER_SIGNER, None, {})
    assert report.signer == signing.name


def test_nothing_can_be_carried_in_the_padding(small, outcome_of):
    mime, content = small
    at = content.rindex(b"\x63pad") + 8
    assert not any(content[at : at + 100])
    edited = content[:at] + b"carried along" + content[at + 13 :]
    edited = with_checksum(edited) if mime == "image/png" else edited
    assert outcome_of(edited) is VerifyOutcome.TAMPERED


def test_claims_are_those_of_the_manifest(small, signing, tmp_path):
    _, content = small
    path = Path(tmp_path / "ours")
    path.write_bytes(content)
    report = verify_file(path, signing.anchors)
    assert report.decision is Decision.ACCEPT
    assert report.claims["decision"] == "accept"
    assert report.claims["rule"] == "default"
    assert report.claims["index snapshot"] == "2" * 64
    assert report.claims["nearest work 1"] == "demo/w-1 by copy, similarity 0.123"
    assert report.claims["nearest work 2"] == "demo/w-1 by pdq, 97 bits apart"
    assert "trainedAlgorithmicMedia" in report.claims["how it was made"]
    assert [layer.layer for layer in report.layers] == ["credential", "time_stamp"]
    assert report.layers[0].finding == "holds"
