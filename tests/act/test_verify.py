import io
import socket
import struct
import threading
import zlib

import c2pa
import numpy as np
import pytest
from act_samples import ACTIONS, accepted, chunks_of, noise, output_of, why
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from PIL import Image

from guardrail.act import ACTIONS_LABEL, encode_png, picture_file, sdk, sign, verify, verify_file
from guardrail.errors import ImageUnreadable, KeysUnusable
from guardrail.records import Decision, VerifyOutcome

MANIFEST = {"assertions": [{"label": ACTIONS_LABEL, "data": ACTIONS}]}
FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
IN_THE_PICTURE = {"PNG": -20, "JPEG": -20, "WEBP": 60}  # a place among the coded pixels, not in the manifest


@pytest.fixture
def outcome_of(tmp_path, signing):
    """The outcome for a file of these bytes, under our anchor."""

    def outcome(content, name="picture.png"):
        (tmp_path / name).write_bytes(content)
        return verify_file(tmp_path / name, signing.anchors).outcome

    return outcome


def encoded(form, seed=0):
    file = io.BytesIO()
    Image.fromarray(noise(seed=seed)).save(file, form)
    return file.getvalue()


def chunk_at(png, kind):
    """Where the first chunk of a kind begins and ends in a PNG."""
    at = 8
    while png[at + 4 : at + 8] != kind:
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    return at, at + 12 + int.from_bytes(png[at : at + 4], "big")


def flipped(content, at):
    changed = bytearray(content)
    changed[at] ^= 1
    return bytes(changed)


def test_signed_file_is_ours(signed, signing, tmp_path):
    path = tmp_path / "fox.png"
    path.write_bytes(signed.content)
    report = verify_file(path, signing.anchors)
    assert report.outcome is VerifyOutcome.OURS
    assert report.path == str(path)
    assert report.signer == "guardrail development"
    assert report.manifest_id == signed.manifest_id
    assert report.decision is Decision.ACCEPT
    assert report.states[0] == "Trusted"


def test_name_of_the_file_does_not_matter(signed, outcome_of):
    assert outcome_of(signed.content, "ünïcode 狐.jpeg") is VerifyOutcome.OURS


def test_one_of_several_anchors_is_enough(signed, signing, forger, tmp_path):
    (tmp_path / "fox.png").write_bytes(signed.content)
    anchors = [*forger.anchors, *signing.anchors]
    assert verify_file(tmp_path / "fox.png", anchors).outcome is VerifyOutcome.OURS


def test_forger_with_our_names_is_another_signer(forger, signing, tmp_path):
    path = tmp_path / "forged.png"
    path.write_bytes(sign(output_of(), accepted(), why(accepted()), forger).content)
    report = verify_file(path, signing.anchors)
    assert report.outcome is VerifyOutcome.OTHER_SIGNER
    assert report.signer == "guardrail development"  # the name proves nothing
    assert report.decision is None  # nor does his verdict


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_told_apart(form, signing, forger, outcome_of):
    plain = encoded(form)
    ours = sdk.embed(plain, FORMATS[form], MANIFEST, signing)
    assert outcome_of(plain) is VerifyOutcome.NO_CREDENTIAL
    assert outcome_of(ours) is VerifyOutcome.OURS
    assert outcome_of(sdk.embed(plain, FORMATS[form], MANIFEST, forger)) is VerifyOutcome.OTHER_SIGNER
    assert outcome_of(flipped(ours, IN_THE_PICTURE[form])) is VerifyOutcome.TAMPERED
    assert outcome_of(ours + b"more") is VerifyOutcome.TAMPERED


def test_one_changed_pixel_is_tampering(signed, outcome_of):
    """The pixels are decoded, one is changed by one level, and the file is put together again without a flaw."""
    start, end = chunk_at(signed.content, b"IDAT")
    rows = bytearray(zlib.decompress(signed.content[start + 8 : end - 4]))
    rows[5] ^= 1
    packed = b"IDAT" + zlib.compress(rows)
    chunk = struct.pack(">I", len(packed) - 4) + packed + struct.pack(">I", zlib.crc32(packed))
    changed = signed.content[:start] + chunk + signed.content[end:]
    differing = np.asarray(Image.open(io.BytesIO(changed))) != noise()
    assert differing.sum() >= 1
    assert outcome_of(changed) is VerifyOutcome.TAMPERED


def test_flipped_bits_outside_the_manifest_are_never_ours(signed, outcome_of):
    start, end = chunk_at(signed.content, b"caBX")
    places = [*range(8, start), *range(end, len(signed.content), 97)]
    for at in places:
        try:
            outcome = outcome_of(flipped(signed.content, at))
        except ImageUnreadable:
            continue  # the length of a chunk was hit: no picture at all any more
        assert outcome is VerifyOutcome.TAMPERED, at


def test_flipped_bits_in_the_manifest_are_never_ours(signed, outcome_of):
    start, end = chunk_at(signed.content, b"caBX")
    for at in range(start, end, 7):
        try:
            outcome = outcome_of(flipped(signed.content, at))
        except ImageUnreadable:
            continue
        assert outcome not in {VerifyOutcome.OURS, VerifyOutcome.EXPIRED}, at


@pytest.mark.parametrize("word", [b"accept", b"default", b"2" * 64, b"w-1", b"Bo"])
def test_edited_verdict_is_tampering(signed, outcome_of, word):
    at = signed.content.index(word)
    assert outcome_of(flipped(signed.content, at)) is VerifyOutcome.TAMPERED


def test_saved_again_it_has_no_credential(signed, outcome_of):
    again = io.BytesIO()
    Image.open(io.BytesIO(signed.content)).save(again, "PNG")
    assert outcome_of(again.getvalue()) is VerifyOutcome.NO_CREDENTIAL


def test_manifest_moved_into_another_picture_is_tampering(signed, outcome_of):
    start, end = chunk_at(signed.content, b"caBX")
    other = encode_png(noise(seed=7))
    assert outcome_of(other[:33] + signed.content[start:end] + other[33:]) is VerifyOutcome.TAMPERED


def test_forged_and_tampered_is_tampered(forger, outcome_of):
    content = sign(output_of(), accepted(), why(accepted()), forger).content
    assert outcome_of(content + b"more") is VerifyOutcome.TAMPERED


def test_manifest_that_cannot_be_parsed_is_tampering(signed, outcome_of):
    start, end = chunk_at(signed.content, b"caBX")
    cut = signed.content[start + 4 : start + 200]
    chunk = struct.pack(">I", len(cut) - 4) + cut + struct.pack(">I", zlib.crc32(cut))
    assert outcome_of(signed.content[:start] + chunk + signed.content[end:]) is VerifyOutcome.TAMPERED


def test_our_picture_edited_by_another_signer_is_not_ours(signed, signing, forger, outcome_of):
    """He keeps ours as the parent of his, as editors do."""
    credential = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, forger.chain, forger.key, None)
    edited, parent = io.BytesIO(), {"title": "parent", "relationship": "parentOf", "label": "parent"}
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["parent"]}}
    manifest = {"assertions": [{"label": ACTIONS_LABEL, "data": {"actions": [opened]}}]}
    with (
        c2pa.Context.from_dict(sdk._settings(signing.anchors)) as context,
        c2pa.Signer.from_info(credential) as signer,
        c2pa.Builder(manifest, context) as builder,
    ):
        builder.add_ingredient(parent, "image/png", io.BytesIO(signed.content))
        builder.sign(signer, "image/png", io.BytesIO(encode_png(noise(seed=1))), edited)
    assert signed.manifest_id.encode() in edited.getvalue()
    assert outcome_of(edited.getvalue()) is VerifyOutcome.OTHER_SIGNER


def test_expired_signer_of_ours_is_told_from_anybody_s(outlived, tmp_path):
    content, own, other = outlived
    (tmp_path / "old.png").write_bytes(content)
    report = verify_file(tmp_path / "old.png", own.anchors)
    assert report.outcome is VerifyOutcome.EXPIRED
    assert report.decision is Decision.ACCEPT
    assert verify_file(tmp_path / "old.png", other.anchors).outcome is VerifyOutcome.OTHER_SIGNER


def test_certificate_of_ours_lying_in_the_file_does_not_make_a_forgery_ours(outlived, tmp_path):
    """Our expired certificate is quoted beside the signature of another signer, whose own has expired too."""
    content, forged_by, ours = outlived
    der = x509.load_pem_x509_certificate(ours.chain).public_bytes(Encoding.DER)
    assert not verify._was_ours([der], content, "image/png", ours.anchors)
    signer = x509.load_pem_x509_certificate(forged_by.chain).public_bytes(Encoding.DER)
    assert verify._was_ours([signer], content, "image/png", forged_by.anchors)


def test_expired_and_tampered_is_tampered(outlived, tmp_path):
    content, own, _ = outlived
    (tmp_path / "old.png").write_bytes(content + b"more")
    assert verify_file(tmp_path / "old.png", own.anchors).outcome is VerifyOutcome.TAMPERED


# --- no network --------------------------------------------------------------------------------------------


@pytest.fixture
def web():
    """A server that refuses every request, and the list of those it got."""
    asked = []

    def answer():
        while True:
            try:
                caller, _ = server.accept()
            except OSError:
                return
            with caller:
                asked.append(caller.recv(4096))
                caller.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=answer)
        serving.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/manifest.c2pa", asked
        server.shutdown(socket.SHUT_RDWR)
    serving.join()


def kept_elsewhere(url, signing):
    """A signed picture whose manifest is not in it but at an address."""
    credential = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, signing.chain, signing.key, None)
    file = io.BytesIO()
    with (
        c2pa.Context.from_dict(sdk._settings(signing.anchors)) as context,
        c2pa.Signer.from_info(credential) as signer,
        c2pa.Builder(MANIFEST, context) as builder,
    ):
        builder.set_no_embed()
        builder.set_remote_url(url)
        builder.sign(signer, "image/png", io.BytesIO(encode_png(noise())), file)
    return file.getvalue()


def test_manifest_kept_elsewhere_is_not_fetched(web, signing, tmp_path):
    url, asked = web
    (tmp_path / "remote.png").write_bytes(kept_elsewhere(url, signing))
    report = verify_file(tmp_path / "remote.png", signing.anchors)
    assert report.outcome is VerifyOutcome.NO_CREDENTIAL
    assert "never fetched" in report.explanation
    assert asked == []


@pytest.mark.parametrize("left_out", ["core", "verify"])
def test_each_setting_alone_keeps_off_the_network(web, signing, monkeypatch, left_out):
    url, asked = web
    usual = sdk._settings
    monkeypatch.setattr(sdk, "_settings", lambda *given: usual(*given) | {left_out: {}})
    with pytest.raises(c2pa.C2paError, match="Remote"):
        sdk.read(kept_elsewhere(url, signing), "image/png", signing.anchors)
    assert asked == []


def test_without_our_settings_it_would_be_fetched(web, signing):
    url, asked = web
    content = kept_elsewhere(url, signing)
    with pytest.raises(c2pa.C2paError, match="404"), c2pa.Context.from_dict({}) as context:
        c2pa.Reader("image/png", io.BytesIO(content), context=context)
    assert len(asked) == 1


# --- bad input ---------------------------------------------------------------------------------------------


def gif():
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "GIF")
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89", b"just text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x04\x00\x00\x00WEBP", gif()],
    ids=["empty", "one byte", "text", "PNG header", "JPEG header", "WebP header", "GIF"],
)
def test_file_that_is_no_picture_is_named(content, tmp_path, signing):
    path = tmp_path / "text ü.png"
    path.write_bytes(content)
    with pytest.raises(ImageUnreadable, match=r"text ü\.png"):
        verify_file(path, signing.anchors)


@pytest.mark.parametrize("form", FORMATS)
def test_truncated_picture_is_named(form, tmp_path, signing):
    path = tmp_path / "cut"
    path.write_bytes(encoded(form)[:-200])
    with pytest.raises(ImageUnreadable, match="cut"):
        verify_file(path, signing.anchors)


def test_truncated_signed_picture_is_never_ours(signed, tmp_path, signing):
    path = tmp_path / "cut.png"
    for size in range(1, len(signed.content), 211):
        path.write_bytes(signed.content[:size])
        with pytest.raises(ImageUnreadable, match=r"cut\.png"):
            verify_file(path, signing.anchors)


def test_folder_and_missing_file_are_named(tmp_path, signing):
    with pytest.raises(ImageUnreadable, match="a folder"):
        verify_file(tmp_path, signing.anchors)
    with pytest.raises(ImageUnreadable, match="nowhere"):
        verify_file(tmp_path / "nowhere.png", signing.anchors)


def test_name_that_no_file_can_have_is_named(tmp_path, signing):
    with pytest.raises(ImageUnreadable, match="null byte"):
        verify_file(tmp_path / "a\0b.png", signing.anchors)


def test_file_over_the_cap_is_not_read(tmp_path, signing, signed, monkeypatch):
    path = tmp_path / "large.png"
    path.write_bytes(signed.content)
    monkeypatch.setattr(picture_file, "LARGEST_FILE_BYTES", len(signed.content))
    assert verify_file(path, signing.anchors).outcome is VerifyOutcome.OURS
    monkeypatch.setattr(picture_file, "LARGEST_FILE_BYTES", len(signed.content) - 1)
    with pytest.raises(ImageUnreadable, match="more than"):
        verify_file(path, signing.anchors)


def many(form):
    """A file of two million parts that hold nothing."""
    of_two_million = {
        "PNG": b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0tEXt\0\0\0\0" * 2_000_000,
        "JPEG": b"\xff\xd8" + b"\xff\xe1\0\2" * 2_000_000,
        "JPEG after its pixels": encoded("JPEG")[:-2] + b"\xff\xe1\0\2" * 2_000_000,
        "JPEG of fill bytes": b"\xff\xd8" + b"\xff" * 2_000_000,
        "WEBP": b"RIFF" + struct.pack("<I", 16_000_004) + b"WEBP" + b"abcd\0\0\0\0" * 2_000_000,
    }
    return of_two_million[form]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "JPEG after its pixels", "JPEG of fill bytes", "WEBP"])
def test_file_of_millions_of_parts_is_refused_before_it_is_parsed(form, tmp_path, signing, monkeypatch):
    monkeypatch.setattr(sdk, "read", None)
    (tmp_path / "many").write_bytes(many(form))
    with pytest.raises(ImageUnreadable, match="more than 50000 chunks or segments"):
        verify_file(tmp_path / "many", signing.anchors)


@pytest.mark.parametrize("form", FORMATS)
def test_number_of_parts_is_counted_to_the_last(form, tmp_path, monkeypatch):
    content = encoded(form)
    (tmp_path / "few").write_bytes(content)
    parts = {"PNG": len(chunks_of(content)), "JPEG": 11, "WEBP": 1}[form]
    monkeypatch.setattr(picture_file, "MOST_PARTS", parts)
    assert picture_file.read_picture_file(tmp_path / "few") == (content, FORMATS[form])
    monkeypatch.setattr(picture_file, "MOST_PARTS", parts - 1)
    with pytest.raises(ImageUnreadable, match="chunks or segments"):
        picture_file.read_picture_file(tmp_path / "few")


def test_anchor_that_is_no_certificate_is_not_taken_for_tampering(signed, tmp_path):
    (tmp_path / "fox.png").write_bytes(signed.content)
    for anchors in ((), (b"",), (b"not PEM",)):
        with pytest.raises(KeysUnusable, match="anchors"):
            verify_file(tmp_path / "fox.png", anchors)


def test_nothing_can_be_carried_in_the_padding_of_the_signature(signed, outcome_of):
    """The signature does not bind its own padding: a thousand bytes that anybody may write to."""
    at = signed.content.rindex(b"\x63pad") + 8
    assert not any(signed.content[at : at + 200])
    content = bytearray(signed.content)
    content[at : at + 20] = b"<script>smuggled</scr"[:20]
    start, end = chunk_at(signed.content, b"caBX")
    body = bytes(content[start + 4 : end - 4])
    content[end - 4 : end] = zlib.crc32(body).to_bytes(4, "big")
    assert outcome_of(bytes(content)) is VerifyOutcome.TAMPERED
