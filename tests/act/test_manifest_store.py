import io
import random

import c2pa
import pytest
from act_samples import noise
from hypothesis import given
from hypothesis import strategies as st
from key_samples import AUTHORITY, CREATED, certificate, der_of, key_pem, new_key, pem_of
from PIL import Image

from guardrail.act import Signing, sdk
from guardrail.act.manifest_store import manifest_store, signing_chain
from guardrail.carriers import ParentFile

MIMES = ("image/png", "image/jpeg", "image/webp")
BIG = {"label": "org.guardrail.test", "data": {"text": "x" * 200_000}, "created": True}
OPENED = {
    "claim_generator_info": [{"name": "test", "version": "1"}],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {"actions": [{"action": "c2pa.opened", "parameters": {"ingredientIds": [sdk.PARENT_ID]}}]},
            "created": True,
        }
    ],
}


def picture(mime):
    file = io.BytesIO()
    Image.fromarray(noise(32, 32)).save(file, mime.removeprefix("image/").upper())
    return file.getvalue()


@pytest.fixture(scope="module")
def family():
    """A credential whose leaf was issued by an intermediate certificate."""
    root_key, between_key, key = new_key(), new_key(), new_key()
    root = certificate("root", root_key, shape=AUTHORITY)
    between = certificate("between", between_key, root, root_key, AUTHORITY)
    leaf = certificate("leaf", key, between, between_key)
    return Signing("leaf", "test", pem_of(leaf, between), key_pem(key), (pem_of(root),)), der_of(leaf, between)


@pytest.fixture(scope="module")
def file(signing):
    return sdk.embed(picture("image/png"), "image/png", CREATED, signing)


@pytest.mark.parametrize("mime", MIMES)
@pytest.mark.parametrize("more", [[], [BIG]], ids=["small", "in pieces"])
def test_chain_is_that_of_the_signature(family, mime, more):
    signing, chain = family
    manifest = CREATED | {"assertions": [*CREATED["assertions"], *more]}
    found = sdk.read(sdk.embed(picture(mime), mime, manifest, signing), mime, signing.anchors)
    assert (found.state, found.chain) == ("Trusted", chain)


@pytest.mark.parametrize("mime", MIMES)
def test_binding_is_the_hash_of_the_file_without_its_manifest(signing, mime):
    content = sdk.embed(picture(mime), mime, CREATED, signing)
    found = sdk.read(content, mime, signing.anchors)
    (left_out,) = found.assertions[sdk.BINDING_LABEL]["exclusions"]
    assert found.binding == _sha256(content, left_out["start"], left_out["length"])


def _sha256(content, start, length):
    import hashlib

    return hashlib.sha256(content[:start] + content[start + length :]).hexdigest()


@pytest.mark.parametrize("mime", MIMES)
@pytest.mark.parametrize("parent_mime", MIMES)
def test_parent_is_kept_with_its_manifest(signing, mime, parent_mime):
    parent = sdk.embed(picture(parent_mime), parent_mime, CREATED, signing)
    parent_id = sdk.read(parent, parent_mime, signing.anchors).manifest_id
    content = sdk.embed(picture(mime), mime, OPENED, signing, ParentFile(parent, parent_mime))
    found = sdk.read(content, mime, signing.anchors)
    assert (found.state, found.failures) == ("Trusted", ())
    (kept,) = found.ingredients
    assert (kept["relationship"], kept["active_manifest"]) == ("parentOf", parent_id)
    assert "title" not in kept
    assert "thumbnail" not in kept
    (opened,) = found.assertions["c2pa.actions.v2"]["actions"]
    assert "c2pa.ingredient.v3" in opened["parameters"]["ingredients"][0]["url"]
    assert "c2pa.ingredient.v3" in found.assertions


def test_chain_is_the_childs_not_the_parents(signing, family):
    other, chain = family
    parent = sdk.embed(picture("image/png"), "image/png", CREATED, signing)
    content = sdk.embed(picture("image/jpeg"), "image/jpeg", OPENED, other, ParentFile(parent, "image/png"))
    assert sdk.read(content, "image/jpeg", other.anchors).chain == chain


def test_parent_that_was_tampered_with_is_told(signing):
    parent = sdk.embed(picture("image/png"), "image/png", CREATED, signing)
    parent = parent.replace(b"trainedAlgorithmicMedia", b"trainedAlgorithmicMedla")
    content = sdk.embed(picture("image/png"), "image/png", OPENED, signing, ParentFile(parent, "image/png"))
    (kept,) = sdk.read(content, "image/png", signing.anchors).ingredients
    codes = [check["code"] for check in kept["validation_results"]["activeManifest"]["failure"]]
    assert "assertion.hashedURI.mismatch" in codes


def test_parent_that_is_no_picture_withholds_the_file(signing):
    with pytest.raises(c2pa.C2paError):
        sdk.embed(picture("image/png"), "image/png", OPENED, signing, ParentFile(b"nothing", "image/png"))


def test_store_is_what_the_sdk_wrote(signing):
    """The SDK hands out the store when it signs: it must be what is found in the file."""
    for mime in MIMES:
        signed = io.BytesIO()
        credential_info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, signing.chain, signing.key, None)
        manifest = CREATED | {"assertions": [*CREATED["assertions"], BIG]}
        with c2pa.Signer.from_info(credential_info) as signer, c2pa.Builder(manifest) as builder:
            written = builder.sign(signer, mime, io.BytesIO(picture(mime)), signed)
        assert manifest_store(signed.getvalue(), mime) == written


@pytest.mark.parametrize("mime", MIMES)
def test_file_without_a_manifest_has_no_chain(mime):
    assert manifest_store(picture(mime), mime) == b""
    assert signing_chain(picture(mime), mime, "urn:c2pa:none") == ()


def test_unknown_manifest_has_no_chain(file):
    assert signing_chain(file, "image/png", "urn:c2pa:another") == ()


@given(st.binary(max_size=200), st.sampled_from(MIMES))
def test_rubbish_has_no_chain(content, mime):
    assert signing_chain(content, mime, "urn:c2pa:x") == ()


def test_broken_stores_give_a_chain_or_none_and_no_error(file, signing):
    found = sdk.read(file, "image/png", signing.anchors)
    dice = random.Random(0)
    for _ in range(3000):
        broken = bytearray(file)
        for _ in range(dice.randint(1, 4)):
            broken[dice.randrange(33, len(file))] = dice.randrange(256)
        assert isinstance(signing_chain(bytes(broken), "image/png", found.manifest_id), tuple)
    for end in range(0, len(file), 7):
        assert isinstance(signing_chain(file[:end], "image/png", found.manifest_id), tuple)


def test_chain_of_many_certificates_is_not_read(family, monkeypatch):
    signing, _ = family
    content = sdk.embed(picture("image/png"), "image/png", CREATED, signing)
    found = sdk.read(content, "image/png", signing.anchors)
    monkeypatch.setattr("guardrail.act.manifest_store._MOST_CERTIFICATES", 1)
    assert signing_chain(content, "image/png", found.manifest_id) == ()
