"""Nobody can put a byte into a signed file without its key: not between, behind or within what its manifest is made of.

The padding of a signature is bound by nothing. Whoever takes it out has a thousand bytes of room in the range that the
hash leaves out, and the hash still holds; each test fills that room in another way.
"""

import struct
import zlib

import cbor2
import pytest
from act_samples import accepted, noise, output_of, why

from guardrail.act import sdk, sign, verify_file
from guardrail.act.manifest_store import active_manifest, manifest_store, pieces_of, signature_at
from guardrail.carriers import ParentFile
from guardrail.errors import ReleaseFailed
from guardrail.records import VerifyOutcome

MIMES = ("image/png", "image/jpeg", "image/webp")
TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"
FOREIGN = {
    "exif": (0xE1, TURNED),
    "colours": (0xE2, b"ICC_PROFILE\0\x01\x01" + bytes(100)),
    "xmp": (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
    "restart": (0xDD, b"\0\1"),
}


@pytest.fixture
def report_on(tmp_path, signing):
    def report(content):
        (tmp_path / "picture").write_bytes(content)
        return verify_file(tmp_path / "picture", signing.anchors)

    return report


@pytest.fixture(scope="module", params=MIMES)
def ours(request, signing):
    """(mime, file) of a small signed picture."""
    return request.param, file_of(signing, request.param)


def file_of(signing, mime, **changes):
    verdict = accepted()
    return sign(output_of(noise(8, 8), mime, **changes), verdict, why(verdict), signing).content


def box(kind, content):
    return struct.pack(">I", len(content) + 8) + kind + content


def edited(store, at, length, new):
    """A store with some bytes exchanged, and the sizes of all boxes around them put right."""
    out, grown = bytearray(store[:at] + new + store[at + length :]), len(new) - length

    def mend(start, stop):
        while start + 8 <= stop:
            size = int.from_bytes(store[start : start + 4], "big")
            if start < at and at + length <= start + size:
                out[start : start + 4] = (size + grown).to_bytes(4, "big")
                if store[start + 4 : start + 8] == b"jumb":
                    mend(start + 8, start + size)
            start += size

    mend(0, len(store))
    return bytes(out)


def signed_by(store):
    """Where the signature lies, and its parts."""
    start, end = signature_at(store, active_manifest(store))
    return start, end, list(cbor2.loads(store[start:end]).value)


def with_header(store, header):
    """The store with another unprotected header in its signature."""
    start, end, parts = signed_by(store)
    return edited(store, start, end - start, cbor2.dumps(cbor2.CBORTag(18, [parts[0], header, *parts[2:]])))


def bare(store):
    return with_header(store, {})


def put(mime, content, store):
    """The file with another store of the same size."""
    (piece,) = pieces_of(content, mime)
    assert len(store) == piece.stop - piece.start
    after = content[piece.stop :]
    if mime == "image/png":
        after = zlib.crc32(b"caBX" + store).to_bytes(4, "big") + after[4:]
    return content[: piece.start] + store + after


def with_free_box(store, at, room):
    return edited(store, at, 0, box(b"free", b"carried".ljust(room - 8, b"\0")))


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def forged_jpeg(content, foreign):
    """The manifest in two segments, the second nothing but a box to skip, and foreign ones between."""
    store, (piece,) = manifest_store(content, "image/jpeg"), pieces_of(content, "image/jpeg")
    start, head, less = piece.start - 12, content[piece.start - 8 : piece.start - 4], bare(store)
    first = segment(0xEB, head + struct.pack(">I", 1) + less)
    left = piece.stop - start - len(first) - len(foreign) - 20
    last = segment(0xEB, head + struct.pack(">I", 2) + less[:8] + box(b"free", bytes(left - 8)))
    made = content[:start] + first + foreign + last + content[piece.stop :]
    assert len(made) == len(content)
    return made


@pytest.mark.parametrize("what", FOREIGN)
def test_no_segment_can_be_put_between_those_of_a_manifest(signing, report_on, what):
    content = file_of(signing, "image/jpeg")
    report = report_on(forged_jpeg(content, segment(*FOREIGN[what])))
    assert report.outcome is VerifyOutcome.TAMPERED
    assert "do not follow each other" in report.explanation


def test_such_a_file_of_another_signer_is_not_called_intact(forger, report_on):
    content = file_of(forger, "image/jpeg")
    assert report_on(content).outcome is VerifyOutcome.OTHER_SIGNER
    assert report_on(forged_jpeg(content, segment(0xE1, TURNED))).outcome is VerifyOutcome.TAMPERED


def test_signed_file_with_segments_between_is_not_released(signing, monkeypatch):
    usual = sdk.embed
    monkeypatch.setattr(sdk, "embed", lambda *given: forged_jpeg(usual(*given), segment(0xDD, b"\0\1")))
    with pytest.raises(ReleaseFailed, match="do not follow each other"):
        file_of(signing, "image/jpeg")


def test_manifest_of_many_segments_and_grandparents_is_ours(signing, forger, report_on):
    """What is asked of a file holds for all that we make ourselves."""
    grandparent = ParentFile(file_of(forger, "image/webp"), "image/webp")
    parent = ParentFile(file_of(signing, "image/png", parent=grandparent), "image/png")
    for mime in MIMES:
        said = {"org.example.long": {"text": "x" * 200_000}}
        content = sign(output_of(noise(8, 8), mime, parent=parent), accepted(), said, signing).content
        assert len(pieces_of(content, mime)) == (4 if mime == "image/jpeg" else 1)
        assert report_on(content).outcome is VerifyOutcome.OURS


@pytest.mark.parametrize("kind", ["box", "zeros"])
def test_nothing_can_follow_the_manifests(ours, report_on, kind):
    mime, content = ours
    store = manifest_store(content, mime)
    less = bare(store)
    room = len(store) - len(less)
    more = box(b"free", b"carried".ljust(room - 8, b"\0")) if kind == "box" else b"carried".ljust(room, b"\0")
    assert report_on(put(mime, content, less + more)).outcome is VerifyOutcome.TAMPERED


PLACES = {  # the content of the superbox in whose beginning, behind its description, a box is put
    "store": b"\x03c2pa\0",
    "manifest": b"c2pa:",
    "assertions": b"\x03c2pa.assertions\0",
    "claim": b"\x03c2pa.claim.v2\0",
    "signature": b"\x03c2pa.signature\0",
}


@pytest.mark.parametrize("place", PLACES)
def test_no_box_can_be_put_among_those_of_the_manifest(ours, report_on, place):
    mime, content = ours
    store = manifest_store(content, mime)
    less = bare(store)
    at = less.index(b"\0", less.index(PLACES[place]) + 2) + 1
    made = put(mime, content, with_free_box(less, at, len(store) - len(less)))
    assert report_on(made).outcome is VerifyOutcome.TAMPERED


def test_no_other_manifest_can_be_laid_beside_ours(ours, report_on):
    mime, content = ours
    store = manifest_store(content, mime)
    less = bare(store)
    described = b"c2ma" + bytes.fromhex("00110010800000aa00389b71") + b"\x03urn:c2pa:carried\0"
    room = len(store) - len(less) - 8 - 8 - len(described)
    more = box(b"jumb", box(b"jumd", described) + box(b"free", bytes(room - 8)))
    at = less.index(b"\x03c2pa\0") + 6
    assert report_on(put(mime, content, edited(less, at, 0, more))).outcome is VerifyOutcome.TAMPERED


def padded(store, name, held=b""):
    """A header of the size of the padding: something under a name, and zeros."""
    start, end, parts = signed_by(store)
    more = {name: held} if name else {}
    for size in range(end - start):
        header = more | {"pad": bytes(size)}
        if len(cbor2.dumps(cbor2.CBORTag(18, [parts[0], header, *parts[2:]]))) == end - start:
            return header
    raise AssertionError("no such size")


@pytest.mark.parametrize("name", ["pad2", "note", 4, "sigTst2"])
def test_nothing_can_be_carried_in_the_header_of_the_signature(ours, report_on, name):
    mime, content = ours
    store = manifest_store(content, mime)
    held = {"tstTokens": [{"val": b"carried", "more": b"along"}]} if name == "sigTst2" else b"carried"
    made = put(mime, content, with_header(store, padded(store, name, held)))
    assert report_on(made).outcome is VerifyOutcome.TAMPERED


def test_time_stamp_of_nothing_cannot_be_carried(ours, report_on):
    mime, content = ours
    store = manifest_store(content, mime)
    header = padded(store, "sigTst2", {"tstTokens": [{"val": b"carried along"}]})
    assert report_on(put(mime, content, with_header(store, header))).outcome is VerifyOutcome.TAMPERED


def test_padding_that_is_there_twice_is_found(ours, report_on):
    """Who reads a map keeps the last of two values."""
    mime, content = ours
    store = manifest_store(content, mime)
    start, end, _ = signed_by(store)
    signature = store[start:end]
    at = signature.index(b"\xa1\x63pad\x59")
    size = int.from_bytes(signature[at + 6 : at + 8], "big")
    first, last = b"carried".ljust(size - 507, b"\0"), bytes(500)
    twice = b"\xa2\x63pad\x59" + struct.pack(">H", len(first)) + first + b"\x63pad\x59\x01\xf4" + last
    twice = signature[:at] + twice + signature[at + 8 + size :]
    assert len(twice) == len(signature)
    assert report_on(put(mime, content, edited(store, start, end - start, twice))).outcome is VerifyOutcome.TAMPERED


def test_words_that_look_like_padding_are_none(signing, report_on):
    """`arcpadP` in CBOR's eyes: the key `pad`, and then bytes."""
    for text in ("acme/arcpadPro", "arcpad2Band", "c" * 30 + "padX" + "word" * 20):
        content = sign(output_of(), accepted(), {"org.example.note": {"text": text}}, signing).content
        assert report_on(content).outcome is VerifyOutcome.OURS


def test_parent_whose_padding_is_not_empty_spoils_nothing_of_ours(signing, forger, report_on):
    """His manifest is bound by ours as he wrote it."""
    stranger = file_of(forger, "image/png")
    store = manifest_store(stranger, "image/png")
    held = b"hello world".ljust(len(padded(store, None)["pad"]), b"\0")
    parent = put("image/png", stranger, with_header(store, {"pad": held}))
    content = file_of(signing, "image/png", parent=ParentFile(parent, "image/png"))
    assert b"hello world" in content
    assert report_on(content).outcome is VerifyOutcome.OURS
    at = content.index(b"hello world")
    changed = put("image/png", content, manifest_store(content, "image/png").replace(b"hello world", b"HELLO WORLD"))
    assert changed[at : at + 5] == b"HELLO"
    assert report_on(changed).outcome is VerifyOutcome.TAMPERED


def test_padding_that_is_not_empty_is_not_released(signing, monkeypatch):
    usual = sdk.embed

    def filled(*given):
        content = usual(*given)
        store = manifest_store(content, "image/png")
        size = len(padded(store, None)["pad"])
        return put("image/png", content, with_header(store, {"pad": b"carried".ljust(size, b"\0")}))

    monkeypatch.setattr(sdk, "embed", filled)
    with pytest.raises(ReleaseFailed, match="padding, which nothing binds"):
        file_of(signing, "image/png")


def test_update_of_another_signer_s_file_is_not_called_tampered_for_its_missing_hash(ours, signing, tmp_path):
    """An update manifest has no hash; without one there is nothing that could be left out of it."""
    from guardrail.act import verify

    mime, content = ours
    reading = sdk.read(content, mime, signing.anchors)
    bound_elsewhere = type(reading)(**{name: getattr(reading, name) for name in reading.__slots__} | {"excluded": ()})
    assert verify._fault(bound_elsewhere, content, mime, own=False) == ""
    assert "leaves out" in verify._fault(bound_elsewhere, content, mime, own=True)


def test_signature_that_is_none_is_called_so(ours, report_on):
    mime, content = ours
    store = manifest_store(content, mime)
    start, end, _ = signed_by(store)
    report = report_on(put(mime, content, store[:start] + b"\x81" * (end - start) + store[end:]))
    assert report.outcome is VerifyOutcome.TAMPERED
    assert "its signature is none that can be read" in report.explanation
    assert "time stamp" not in report.explanation
