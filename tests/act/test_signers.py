import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from act_samples import noise
from c2pa import C2paError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from key_samples import CREATED, Shape, certificate, credential, key_pem, new_key, pem_of

from guardrail.act import Signing, encode_png, raw_signature, sdk, signers
from guardrail.act.detached import sign_digest, signer_of
from guardrail.act.own import fault_of
from guardrail.errors import KeysUnusable

PNG = encode_png(noise())
KEY = new_key()
SHA256 = ec.ECDSA(hashes.SHA256())


def service(content):
    """A key service: it keeps the key, and gives ECDSA in DER."""
    return KEY.sign(content, SHA256)


def raw(content):
    return raw_signature(service(content), credential(KEY).leaf)


def kept_elsewhere(sign_with=raw, **said):
    return credential(KEY, sign_with=sign_with, **said)


def embed(signing):
    return sdk.embed(PNG, "image/png", CREATED, signing)


def fault(content, signing):
    return fault_of(sdk.read(content, "image/png", signing.anchors), signing, datetime.now(UTC))


# --- keys that are kept elsewhere ---------------------------------------------------------------------------


def test_key_that_is_kept_elsewhere_signs():
    signing = kept_elsewhere()
    assert fault(embed(signing), signing) == ""


def test_signer_is_asked_once_for_each_file():
    asked = []
    signing = kept_elsewhere(lambda content: asked.append(content) or raw(content))
    embed(signing)
    assert len(asked) == 1
    assert len(asked[0]) < 4096  # the claim, never the picture


@pytest.mark.parametrize(
    ("sign_with", "said"),
    [
        (service, "raw_signature"),
        (lambda content: raw(content + b"!"), "no ES256 signature"),
        (lambda _: b"", "found 0 bytes"),
        (lambda _: bytes(64), "no ES256 signature"),
        (lambda content: raw(content) + b"!", "found 65 bytes"),
        (lambda content: raw(content).hex(), "found str, expected bytes"),
        (lambda _: None, "found NoneType"),
    ],
    ids=["der", "other content", "nothing", "zeros", "too long", "text", "none"],
)
def test_what_is_no_signature_withholds_the_file(sign_with, said):
    with pytest.raises(C2paError, match=said):
        embed(kept_elsewhere(sign_with))


def test_signer_that_raises_withholds_the_file_and_is_named():
    def broken(_):
        raise ConnectionError("the key service does not answer")

    with pytest.raises(C2paError, match="signer of 'test': ConnectionError: the key service does not answer") as caught:
        embed(kept_elsewhere(broken))
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_signer_that_hangs_withholds_the_file_in_time():
    ended = threading.Event()
    began = time.monotonic()
    with pytest.raises(C2paError, match=r"no answer within 0\.1 s"):
        embed(kept_elsewhere(lambda _: ended.wait(5), within_s=0.1))
    assert time.monotonic() - began < 1
    ended.set()


def test_signers_that_never_come_back_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(signers, "_given_up", [])
    ended, begun = threading.Event(), []
    signing = kept_elsewhere(lambda _: begun.append(1) or ended.wait(5), within_s=0.02)
    for _ in range(10):
        with pytest.raises(C2paError, match="answer"):
            embed(signing)
    assert len(begun) == 8
    ended.set()
    for thread in signers._given_up:
        thread.join(5)
    working = kept_elsewhere()
    assert fault(embed(working), working) == ""


def test_leaf_of_another_key_is_noticed_at_once():
    other = credential(new_key(), sign_with=raw)
    with pytest.raises(C2paError, match="by the key of the certificate"):
        embed(other)


@pytest.mark.parametrize(
    ("key", "sign"),
    [
        (ec.generate_private_key(ec.SECP384R1()), lambda key, leaf, content: raw_signature(
            key.sign(content, ec.ECDSA(hashes.SHA384())), leaf)),
        (rsa.generate_private_key(65537, 2048), lambda key, _, content: key.sign(
            content, padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH), hashes.SHA256())),
        (ed25519.Ed25519PrivateKey.generate(), lambda key, _, content: key.sign(content)),
    ],
    ids=["ES384", "PS256", "Ed25519"],
)  # fmt: skip
def test_other_algorithms_sign_in_memory_and_elsewhere(key, sign):
    here = credential(key)
    leaf = here.leaf
    there = replace(here, key=None, sign_with=lambda content: sign(key, leaf, content))
    for signing in (here, there):
        signing.require_usable(datetime.now(UTC))
        assert fault(embed(signing), signing) == ""


def test_raw_signature_is_for_ecdsa_alone():
    with pytest.raises(ValueError, match="PS256"):
        raw_signature(b"", certificate("leaf", rsa.generate_private_key(65537, 2048)))
    with pytest.raises(ValueError, match="found 7 bytes, expected an ECDSA signature in DER"):
        raw_signature(b"nothing", certificate("leaf", KEY))


def test_curve_that_c2pa_does_not_know_signs_nothing():
    signing = credential(ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(C2paError, match="a key of the kind"):
        embed(signing)


@pytest.mark.parametrize("said", [{"key": None}, {"key": b"key", "sign_with": raw}])
def test_credential_has_a_key_or_a_signer(said):
    with pytest.raises(KeysUnusable, match="one of the two"):
        Signing("x", "here", b"", anchors=(), **said)


def test_signer_is_not_shown():
    assert "sign_with" not in repr(kept_elsewhere())


def test_lists_are_signed_with_a_key_in_memory_only():
    with pytest.raises(KeysUnusable, match="key folder"):
        sign_digest(bytes(32), kept_elsewhere())
    with pytest.raises(KeysUnusable, match="elliptic-curve"):
        sign_digest(bytes(32), credential(rsa.generate_private_key(65537, 2048)))
    signing = credential(ec.generate_private_key(ec.SECP384R1()))
    signature = sign_digest(bytes(32), signing)
    assert signer_of(bytes(32), signature, signing.chain, signing.anchors, datetime.now(UTC))


# --- the end of a certificate -------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "warned"), [(13.9, 1), (14.1, 0)])
def test_end_that_is_near_is_logged_once(caplog, days, warned):
    now = datetime.now(UTC)
    signing = credential(shape=Shape(until=now + timedelta(days=days)))
    for _ in range(3):
        signing.require_usable(now)
    told = [record.getMessage() for record in caplog.records if "guardrail keys rotate" in record.getMessage()]
    assert len(told) == warned


@pytest.mark.parametrize("moved", [timedelta(days=301), timedelta(hours=-2)])
def test_leaf_out_of_its_time_is_refused(moved):
    with pytest.raises(KeysUnusable, match="valid from"):
        credential().require_usable(datetime.now(UTC) + moved)


# --- workers ------------------------------------------------------------------------------------------------


def _in_worker(signing, content_length):
    content = embed(signing)
    return fault(content, signing), len(content) > content_length


def _elsewhere_in_worker(_):
    """A function that signs is made where it is used: connections to key services do not survive a fork."""
    return _in_worker(kept_elsewhere(), len(PNG))


def test_threads_sign_side_by_side(signing):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda at: _in_worker(signing if at % 2 else kept_elsewhere(), len(PNG)), range(48)))
    assert found == [("", True)] * 48


@pytest.mark.parametrize("way", multiprocessing.get_all_start_methods())
def test_workers_sign_like_their_parent(signing, way):
    embed(signing)  # so that the parent has used c2pa before
    embed(kept_elsewhere())
    with multiprocessing.get_context(way).Pool(1) as pool:
        assert pool.apply(_in_worker, (signing, len(PNG))) == ("", True)
        assert pool.apply(_elsewhere_in_worker, (None,)) == ("", True)


def test_forked_worker_is_not_held_up_by_a_signer_its_parent_gave_up(monkeypatch):
    monkeypatch.setattr(signers, "_given_up", [])
    ended = threading.Event()
    for _ in range(8):
        with pytest.raises(C2paError):
            embed(kept_elsewhere(lambda _: ended.wait(5), within_s=0.01))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_elsewhere_in_worker, (None,)) == ("", True)
    ended.set()


def test_key_in_memory_must_be_a_key():
    with pytest.raises(C2paError):
        embed(replace(credential(), key=b"nothing"))
    other = replace(credential(), key=key_pem(new_key()))
    assert fault(embed(other), other)
    assert pem_of(other.leaf) == other.chain
