import io
import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from copy import deepcopy
from multiprocessing import get_all_start_methods, get_context

import numpy as np
import pytest
from act_samples import accepted, chunks_of, noise, state_of_a_fresh_signature
from PIL import Image, PngImagePlugin

from guardrail.act import VERDICT_LABEL, Signing, encode_png, sdk, sign, verdict_assertion
from guardrail.act.provenance import ACTIONS, ACTIONS_LABEL
from guardrail.errors import KeysUnusable, ReleaseFailed
from guardrail.records import Decision, Neighbour, Signal, Work


def reading_of(signed, signing):
    return sdk.read(signed.content, "image/png", signing.anchors)


def test_signed_file_is_trusted_under_our_anchor(signed, signing):
    reading = reading_of(signed, signing)
    assert (reading.state, reading.trusted_by, reading.failures) == ("Trusted", sdk.ANCHOR_LIST, ())
    assert reading.manifest_id == signed.manifest_id


def test_pixels_are_those_that_were_given(signed):
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(signed.content))), noise())


def test_manifest_says_who_made_what_how(signed, signing):
    reading = reading_of(signed, signing)
    assert reading.generator["name"] == "guardrail"
    assert reading.generator["specVersion"] == "2.4.0"
    assert reading.assertions[ACTIONS_LABEL] == ACTIONS
    assert ACTIONS["allActionsIncluded"] is True
    assert [action["action"] for action in ACTIONS["actions"]] == ["c2pa.created"]


def test_verdict_is_in_the_file_word_for_word(signed, signing):
    assert reading_of(signed, signing).assertions[VERDICT_LABEL] == verdict_assertion(signed.verdict)


def test_neither_thumbnail_nor_ingredient_is_added(signed, signing):
    labels = reading_of(signed, signing).assertions.keys()
    assert labels == {ACTIONS_LABEL, VERDICT_LABEL, "c2pa.hash.data"}


def test_thumbnails_would_be_added_without_our_setting(signing, monkeypatch):
    """A misspelt setting is ignored in silence; this shows that ours is not."""
    usual = sdk._settings
    monkeypatch.setattr(sdk, "_settings", lambda *given: usual(*given) | {"builder": {}})
    with pytest.raises(ReleaseFailed, match=r"c2pa\.thumbnail\.claim"):
        sign(encode_png(noise(256, 256)), accepted(), {}, signing)


def test_other_assertions_are_signed_too(signing):
    said = {"org.example.note": {"numbers": [1, 2.5, 0.1], "none": None, "text": "é中"}}
    signed = sign(encode_png(noise()), accepted(), said, signing)
    assert reading_of(signed, signing).assertions["org.example.note"] == said["org.example.note"]


def test_plugin_may_say_the_verdict_in_its_own_words(signing):
    said = {VERDICT_LABEL: {"decision": "accept"}}
    signed = sign(encode_png(noise()), accepted(), said, signing)
    assert reading_of(signed, signing).assertions[VERDICT_LABEL] == {"decision": "accept"}


@pytest.mark.parametrize("label", [ACTIONS_LABEL, "c2pa.hash.data"])
def test_plugin_may_not_speak_for_guardrail(signing, label):
    with pytest.raises(ReleaseFailed, match="only guardrail says"):
        sign(encode_png(noise()), accepted(), {label: {}}, signing)


@pytest.mark.parametrize("content", [object(), float("nan"), {"set": {1}}])
def test_assertion_that_is_not_json_withholds_the_image(signing, content):
    with pytest.raises(ReleaseFailed, match="not JSON"):
        sign(encode_png(noise()), accepted(), {"org.example.note": content}, signing)


@pytest.mark.parametrize("decision", [Decision.FLAG, Decision.BLOCK])
def test_only_accepted_images_are_signed(signing, decision):
    with pytest.raises(ReleaseFailed, match="only accepted"):
        sign(encode_png(noise()), accepted(decision=decision), {}, signing)


def test_foreign_text_never_survives(signing):
    """A file with a prompt in its text chunks is read and encoded again: only its pixels get on."""
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "CANARY a red fox")
    text.add_itxt("XML:com.adobe.xmp", "<x>CANARY</x>")
    foreign = io.BytesIO()
    Image.fromarray(noise()).save(foreign, "PNG", pnginfo=text, exif=b"Exif\x00\x00CANARY", icc_profile=b"CANARY")
    assert b"CANARY" in foreign.getvalue()
    pixels = np.asarray(Image.open(foreign).convert("RGB"))
    content = sign(encode_png(pixels), accepted(), {}, signing).content
    assert b"CANARY" not in content
    assert set(chunks_of(content)) == {b"IHDR", b"caBX", b"IDAT", b"IEND"}


def test_nothing_private_is_in_the_file(signing, tmp_path, monkeypatch):
    for name in ("USER", "LOGNAME", "HOSTNAME", "HOME"):
        monkeypatch.setenv(name, "CANARY")
    work = Work(work_id="w-1", source="CANARY source", rights_holder="CANARY holder")
    near = Neighbour(work=work, row=0, signal=Signal.COPY, similarity=0.5)
    verdict = accepted(
        image=str(tmp_path / "CANARY.png"), run_id="CANARY", explanation="CANARY a red fox", nearest=(near,)
    )
    content = sign(encode_png(noise()), verdict, {}, signing).content
    assert b"CANARY" not in content
    assert str(tmp_path).encode() not in content


def test_at_most_five_neighbours_are_told():
    near = [Neighbour(work=Work(work_id=f"w-{at}"), row=at, signal=Signal.PDQ, distance_bits=at) for at in range(9)]
    said = verdict_assertion(accepted(nearest=tuple(near)))["nearest"]
    assert [one["work_id"] for one in said] == ["w-0", "w-1", "w-2", "w-3", "w-4"]


def test_verdict_assertion_is_json_and_names_each_measure():
    said = verdict_assertion(accepted())
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert [sorted(one) for one in said["nearest"]] == [
        ["bank", "signal", "similarity", "work_id"],
        ["bank", "distance_bits", "signal", "work_id"],
    ]
    assert said["credits"] == [{"title": "Ü 中", "creator": "Bo", "licence": "CC-BY-4.0"}]


def test_expired_leaf_does_not_sign(outlived):
    _, expired, _ = outlived
    with pytest.raises(KeysUnusable, match="valid from"):
        sign(encode_png(noise()), accepted(), {}, expired)


def test_key_that_c2pa_refuses_withholds_the_image(signing):
    broken = Signing("broken", "chain.pem", signing.chain, b"not a key", signing.anchors)
    with pytest.raises(ReleaseFailed, match="signing failed"):
        sign(encode_png(noise()), accepted(), {}, broken)


def test_signer_that_is_not_under_the_anchor_withholds_the_image(signing, forger):
    mixed = Signing("mixed", "chain.pem", signing.chain, signing.key, forger.anchors)
    with pytest.raises(ReleaseFailed, match="Trusted under our anchor was expected"):
        sign(encode_png(noise()), accepted(), {}, mixed)


def test_file_that_is_no_png_is_not_signed(signing):
    with pytest.raises(ReleaseFailed, match="signing failed"):
        sign(b"not a picture", accepted(), {}, signing)


def test_other_pixels_than_given_are_not_released(signing, monkeypatch):
    usual, other = sdk.embed, encode_png(noise(seed=1))
    monkeypatch.setattr(sdk, "embed", lambda png, *given: usual(other, *given))
    with pytest.raises(ReleaseFailed, match="its pixels are not those"):
        sign(encode_png(noise()), accepted(), {}, signing)


def test_picture_that_does_not_decode_is_not_released(signing):
    png = encode_png(noise())
    broken = png[:60] + bytes(len(png) - 80) + png[-20:]
    with pytest.raises(ReleaseFailed, match="cannot be decoded"):
        sign(broken, accepted(), {}, signing)


def test_manifest_that_says_something_else_is_not_released(signing, monkeypatch):
    usual = sdk.embed

    def lying(png, mime, manifest, credential):
        changed = deepcopy(manifest)
        changed["assertions"][0]["data"]["rule"] = "another"
        return usual(png, mime, changed, credential)

    monkeypatch.setattr(sdk, "embed", lying)
    with pytest.raises(ReleaseFailed, match="something else than was put in"):
        sign(encode_png(noise()), accepted(), {}, signing)


def test_signing_adds_less_than_8_kilobytes(signed):
    assert len(signed.content) - len(encode_png(noise())) < 8192


def test_threads_sign_side_by_side(signing):
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(state_of_a_fresh_signature, [signing] * 12, range(12)))
    assert states == ["Trusted"] * 12


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", [how for how in ("fork", "spawn") if how in get_all_start_methods()])
def test_workers_sign_after_their_parent_did(signing, method):
    assert state_of_a_fresh_signature(signing, 0) == "Trusted"
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        assert pool.submit(state_of_a_fresh_signature, signing, 1).result(timeout=120) == "Trusted"
    assert state_of_a_fresh_signature(signing, 2) == "Trusted"


def test_float_that_differs_in_its_last_bit_is_the_same_and_nothing_else_is():
    """c2pa's JSON reader changes the last bit of some floats; that is no reason to withhold an image."""
    from guardrail.act.provenance import _says

    assert _says(-0.09312650561332704, -0.09312650561332703)
    assert not _says(0.0931265, 0.0931266)
    assert not _says({"a": 1}, {"a": 1.0, "b": 2})
    assert not _says([1, 2], [1])
    assert not _says("1", 1)
    assert not _says(True, 1)
