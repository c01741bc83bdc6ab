import io
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from act_samples import noise
from c2pa import C2paError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from key_samples import CREATED, OPENSSL, Shape, certificate, credential, new_key, pem_of, serve_time_stamps
from PIL import Image

from guardrail.act import TimeStamping, anchor_of, encode_png, raw_signature, sdk, time_stamping
from guardrail.act.own import fault_of
from guardrail.errors import KeysMissing, KeysUnusable
from guardrail.release_settings import ProvenanceSettings

PNG = encode_png(noise())
LARGEST_ADDED_BYTES = 20_000  # with a time stamp
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl answers as the time stamp server")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    told, server = serve_time_stamps(tmp_path_factory.mktemp("stamps"))
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(running):
    running.manner = "good"
    return running


@pytest.fixture
def stamped(signing, server):
    return replace(signing, time_stamp=TimeStamping(server.url, (server.root,)))


def embed(signing):
    return sdk.embed(PNG, "image/png", CREATED, signing)


def read(content, signing):
    anchors = signing.time_stamp.anchors if signing.time_stamp else ()
    return sdk.read(content, "image/png", signing.anchors, (), anchors)


def fault(content, signing, at=None):
    return fault_of(read(content, signing), signing, at or datetime.now(UTC))


def test_time_stamp_is_read_back_with_its_server(stamped, server):
    asked = len(server.asked)
    content = embed(stamped)
    assert len(server.asked) == asked + 1
    found = read(content, stamped)
    assert found.time_stamp.authority == "stamp server"
    assert found.time_stamp.trusted
    assert abs(found.time_stamp.at - datetime.now(UTC)) < timedelta(seconds=5)
    assert fault(content, stamped) == ""
    assert len(content) - len(PNG) <= LARGEST_ADDED_BYTES


def test_server_learns_a_digest_and_nothing_else(stamped, server):
    embed(stamped)
    assert len(server.asked[-1]) < 100
    assert b"guardrail" not in server.asked[-1]


def test_reading_asks_no_server(stamped, server):
    content, asked = embed(stamped), len(server.asked)
    read(content, stamped)
    assert len(server.asked) == asked


def test_stamp_of_a_server_nobody_trusts_proves_nothing(signing, stamped):
    content = embed(stamped)
    assert not sdk.read(content, "image/png", signing.anchors).time_stamp.trusted
    elsewhere = replace(stamped, time_stamp=replace(stamped.time_stamp, anchors=credential().anchors))
    assert "timeStamp.untrusted" in fault(content, elsewhere)


def test_file_without_a_stamp_is_not_what_was_asked_for(signing, stamped):
    content = embed(signing)
    assert fault(content, signing) == ""
    assert "no time stamp" in fault(content, stamped)


def test_stamp_of_another_time_is_not_believed(stamped):
    content, now = embed(stamped), datetime.now(UTC)
    for minutes in (-6, 6):
        assert "set the clocks right" in fault(content, stamped, now + timedelta(minutes=minutes))


def test_time_stamp_anchor_is_no_anchor_of_ours(signing, server):
    """c2pa trusts a signer under any list it was given; the name of the list and the chain tell."""
    found = sdk.read(embed(signing), "image/png", credential().anchors, (), signing.anchors)
    assert (found.state, found.trusted_by) == ("Trusted", sdk.TIME_STAMP_LIST)
    assert fault_of(found, signing, datetime.now(UTC)).startswith("its manifest is Trusted")
    assert anchor_of(found.chain, credential().anchors, datetime.now(UTC)) is None


def test_another_certificate_of_ours_is_told_from_the_one_that_signs(signing):
    key, other = new_key(), credential()
    leaf = replace(signing, chain=pem_of(certificate("test leaf", key)))
    assert "another certificate" in fault_of(read(embed(signing), signing), leaf, datetime.now(UTC))
    assert other.leaf.public_bytes(Encoding.PEM) not in signing.chain


@pytest.mark.parametrize(
    ("manner", "found"),
    [
        ("refusing", "HTTP status 503"),
        ("junk", "ASN.1"),
        ("replaying", "the answer to another question"),
        ("rejecting", "a refusal .status 2"),
        ("endless", "more than 65536 bytes"),
    ],
)
def test_server_that_lies_or_refuses_withholds_the_file(stamped, server, manner, found):
    embed(stamped)
    server.manner = manner
    with pytest.raises(C2paError, match=rf"time stamp server http://127\.0\.0\.1:\d+: found .*{found}.*, expected an"):
        embed(stamped)


def test_slow_server_withholds_the_file_in_time(stamped, server):
    server.manner = "slow"
    began = time.monotonic()
    with pytest.raises(C2paError, match=r"no answer within 0\.3 s"):
        embed(replace(stamped, within_s=0.3))
    assert time.monotonic() - began < 1


def test_dead_server_withholds_the_file(stamped):
    for address in ("127.0.0.1:9", "user:secret@127.0.0.1:9"):
        nobody = replace(stamped, time_stamp=TimeStamping(f"http://{address}/", stamped.anchors))
        with pytest.raises(C2paError, match=r"http://127\.0\.0\.1:9: found no answer") as caught:
            embed(nobody)
    assert "secret" not in str(caught.value)


def _stamped_in_worker(signing):
    return fault(embed(signing), signing)


def test_threads_have_their_signatures_stamped_side_by_side(stamped):
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(_stamped_in_worker, [stamped] * 12)) == [""] * 12


@pytest.mark.parametrize("way", multiprocessing.get_all_start_methods())
def test_workers_have_their_signatures_stamped(stamped, way):
    assert _stamped_in_worker(stamped) == ""  # so that the parent has asked a server before
    with multiprocessing.get_context(way).Pool(1) as pool:
        assert pool.apply(_stamped_in_worker, (stamped,)) == ""


# --- after the end ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outlived_stamps(tmp_path_factory):
    """(credential, file with a time stamp, file without): leaf and time stamp server's leaf have expired since."""
    until = (datetime.now(UTC) + timedelta(seconds=1.5)).replace(microsecond=0)
    told, server = serve_time_stamps(tmp_path_factory.mktemp("short"), until)
    plain = credential(shape=Shape(until=until))
    stamped = replace(plain, time_stamp=TimeStamping(told.url, (told.root,)))
    files = embed(stamped), embed(plain)
    server.shutdown()
    server.server_close()
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds() + 1))  # it is valid to the end of that second
    return stamped, *files


def test_stamped_file_outlives_its_certificate(outlived_stamps):
    signing, content, _ = outlived_stamps
    found = read(content, signing)
    assert (found.state, found.trusted_by, found.failures) == ("Trusted", sdk.ANCHOR_LIST, ())
    assert found.time_stamp.trusted
    assert anchor_of(found.chain, signing.anchors, found.time_stamp.at)
    assert anchor_of(found.chain, signing.anchors, datetime.now(UTC)) is None


def test_file_without_a_stamp_does_not(outlived_stamps):
    signing, _, content = outlived_stamps
    found = read(content, signing)
    assert found.state == "Invalid"
    assert "signingCredential.expired" in found.failures


def test_stamp_that_is_not_trusted_does_not_help(outlived_stamps):
    signing, content, _ = outlived_stamps
    for anchors in ((), credential().anchors):
        found = sdk.read(content, "image/png", signing.anchors, (), anchors)
        assert (found.state, found.time_stamp.trusted) == ("Invalid", False)
        assert "signingCredential.expired" in found.failures


# --- settings -----------------------------------------------------------------------------------------------


def test_no_server_is_named_by_default():
    assert time_stamping(ProvenanceSettings()) is None


def test_settings_name_a_server_and_its_roots(tmp_path, server):
    (tmp_path / "roots.pem").write_bytes(server.root)
    said = ProvenanceSettings(
        time_stamp_url="https://stamps.example:8080/x?y", time_stamp_anchors=tmp_path / "roots.pem"
    )
    found = time_stamping(said)
    assert (found.url, found.anchors) == ("https://stamps.example:8080/x?y", (server.root,))
    assert found.place == "https://stamps.example:8080"


@pytest.mark.parametrize("url", ["http://user:secret@stamps.example", "https://user@stamps.example"])
def test_password_in_the_address_is_refused_and_not_shown(url):
    with pytest.raises(KeysUnusable, match="without") as caught:
        time_stamping(ProvenanceSettings(time_stamp_url=url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("mime", ["image/jpeg", "image/webp"])
@pytest.mark.parametrize("text", ["", "x" * 62_000, "x" * 200_000], ids=["small", "two pieces", "four pieces"])
def test_other_files_are_stamped_too(stamped, mime, text):
    """However the segments of a JPEG cut the signature."""
    file = io.BytesIO()
    Image.fromarray(noise(32, 32)).save(file, mime.removeprefix("image/").upper())
    more = {"label": "org.guardrail.test", "data": {"text": text}, "created": True}
    manifest = CREATED | {"assertions": [*CREATED["assertions"], more]}
    content = sdk.embed(file.getvalue(), mime, manifest, stamped)
    found = sdk.read(content, mime, stamped.anchors, (), stamped.time_stamp.anchors)
    assert fault_of(found, stamped, datetime.now(UTC)) == ""


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["384", "rsa", "ed25519"],
)
def test_signatures_of_other_keys_are_stamped_too(stamped, key):
    signing = credential(key, time_stamp=stamped.time_stamp)
    assert fault(embed(signing), signing) == ""


def test_stamp_of_a_key_kept_elsewhere_takes_no_more_room(signing, stamped):
    key = serialization.load_pem_private_key(signing.key, None)
    elsewhere = replace(
        stamped, key=None, sign_with=lambda text: raw_signature(key.sign(text, ec.ECDSA(hashes.SHA256())), signing.leaf)
    )
    content = embed(elsewhere)
    assert fault(content, elsewhere) == ""
    assert len(content) == len(embed(replace(elsewhere, time_stamp=None)))


def test_stamp_that_finds_no_room_withholds_the_file(stamped, monkeypatch):
    monkeypatch.setattr("guardrail.act.stamping._token", lambda *_: bytes(11_000))
    with pytest.raises(C2paError, match="finds no room"):
        embed(stamped)


def test_room_that_is_left_is_filled_to_the_byte(stamped, monkeypatch):
    """Lengths take 1, 2 or 3 bytes themselves; whatever the stamp's, the file stays as long as it was."""
    sizes, fitting = [*range(9_860, 9_900), *range(10_060, 10_140)], []
    for size in sizes:
        monkeypatch.setattr("guardrail.act.stamping._token", lambda *_, size=size: bytes(size))
        try:
            content = embed(stamped)
        except C2paError as error:
            assert "no room" in str(error)
            fitting.append(False)
        else:
            assert sdk.read(content, "image/png", stamped.anchors).state == "Trusted"
            fitting.append(True)
    assert fitting == sorted(fitting, reverse=True), "what fits is what is short enough"
    assert set(fitting) == {True, False}


@pytest.mark.parametrize("url", ["stamps.example", "ftp://stamps.example", "file:///etc/passwd", "http://"])
def test_address_that_is_none_is_refused(url, tmp_path, server):
    (tmp_path / "roots.pem").write_bytes(server.root)
    with pytest.raises(KeysUnusable, match="http://"):
        time_stamping(ProvenanceSettings(time_stamp_url=url, time_stamp_anchors=tmp_path / "roots.pem"))


def test_server_without_roots_to_check_it_by_is_refused(tmp_path):
    with pytest.raises(KeysUnusable, match="time_stamp_anchors"):
        time_stamping(ProvenanceSettings(time_stamp_url="http://stamps.example"))
    said = ProvenanceSettings(time_stamp_url="http://stamps.example", time_stamp_anchors=tmp_path / "roots.pem")
    with pytest.raises(KeysMissing, match=r"roots\.pem"):
        time_stamping(said)
    (tmp_path / "roots.pem").write_bytes(b"nothing")
    with pytest.raises(KeysUnusable, match=r"roots\.pem"):
        time_stamping(said)
