import io
import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from multiprocessing import get_all_start_methods, get_context

import numpy as np
import pytest
from act_samples import ACTIONS, accepted, chunks_of, noise, output_of, state_of_a_fresh_signature, why
from PIL import Image, PngImagePlugin

from guardrail.act import (
    ACTIONS_LABEL,
    ATTRIBUTION_LABEL,
    VERDICT_LABEL,
    Signing,
    encode_png,
    sdk,
    sign,
    verdict_assertion,
)
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


def test_verdict_is_in_the_file_word_for_word(signed, signing):
    assert reading_of(signed, signing).assertions[VERDICT_LABEL] == verdict_assertion(signed.verdict)


def test_neither_thumbnail_nor_ingredient_is_added(signed, signing):
    labels = reading_of(signed, signing).assertions.keys()
    assert labels == {ACTIONS_LABEL, VERDICT_LABEL, ATTRIBUTION_LABEL, "c2pa.hash.data"}


def test_thumbnails_would_be_added_without_our_setting(signing, monkeypatch):
    """A misspelt setting is ignored in silence; this shows that ours is not."""
    usual = sdk._settings
    monkeypatch.setattr(sdk, "_settings", lambda *given: usual(*given) | {"builder": {}})
    with pytest.raises(ReleaseFailed, match=r"c2pa\.thumbnail\.claim"):
        sign(output_of(noise(256, 256)), accepted(), {}, signing)


def test_other_assertions_are_signed_too(signing):
    said = {"org.example.note": {"numbers": [1, 2.5, 0.1], "none": None, "text": "é中"}}
    signed = sign(output_of(), accepted(), said, signing)
    assert reading_of(signed, signing).assertions["org.example.note"] == said["org.example.note"]


def test_nothing_is_said_but_what_is_handed_in(signing):
    labels = reading_of(sign(output_of(), accepted(), {}, signing), signing).assertions.keys()
    assert labels == {ACTIONS_LABEL, "c2pa.hash.data"}


def test_plugin_may_say_the_verdict_in_its_own_words(signing):
    said = {VERDICT_LABEL: {"decision": "accept"}}
    signed = sign(output_of(), accepted(), said, signing)
    assert reading_of(signed, signing).assertions[VERDICT_LABEL] == {"decision": "accept"}


@pytest.mark.parametrize(
    "label",
    [
        ACTIONS_LABEL,
        "c2pa.actions",
        "C2PA.actions",
        "c2pa.hash.data",
        "c2pa.hash.boxes",
        "c2pa.ingredient.v3",
        "c2pa.external-reference",
        "c2pa.certificate-status",
        "c2pa.time-stamp",
        "c2pa.databoxes",
        "c2pa.soft-binding.v2",
        "cawg.identity",
        "CAWG.identity",
        "org.example__1",
        "org.example.note\n",
        "org.example.\nnote",
        "org.example.no te",
        "org..example",
        "note",
        "",
    ],
)
def test_plugin_may_not_speak_for_guardrail(signing, label):
    with pytest.raises(ReleaseFailed, match="only guardrail says"):
        sign(output_of(), accepted(), {label: {}}, signing)


@pytest.mark.parametrize("label", ["org.example.note", "com.example-2.a_b", "c2pathe.note"])
def test_plugin_may_use_labels_of_its_own(signing, label):
    signed = sign(output_of(), accepted(), {label: {"said": 1}}, signing)
    assert reading_of(signed, signing).assertions[label] == {"said": 1}


@pytest.mark.parametrize("content", [object(), float("nan"), {"set": {1}}])
def test_assertion_that_is_not_json_withholds_the_image(signing, content):
    with pytest.raises(ReleaseFailed, match="not JSON"):
        sign(output_of(), accepted(), {"org.example.note": content}, signing)


@pytest.mark.parametrize("decision", [Decision.FLAG, Decision.BLOCK])
def test_only_accepted_images_are_signed(signing, decision):
    with pytest.raises(ReleaseFailed, match="only accepted"):
        sign(output_of(), accepted(decision=decision), {}, signing)


def test_foreign_text_never_survives(signing):
    """A file with a prompt in its text chunks is read and encoded again: only its pixels get on."""
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "CANARY a red fox")
    text.add_itxt("XML:com.adobe.xmp", "<x>CANARY</x>")
    foreign = io.BytesIO()
    Image.fromarray(noise()).save(foreign, "PNG", pnginfo=text, exif=b"Exif\x00\x00CANARY", icc_profile=b"CANARY")
    assert b"CANARY" in foreign.getvalue()
    pixels = np.asarray(Image.open(foreign).convert("RGB"))
    content = sign(output_of(pixels), accepted(), {}, signing).content
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
    content = sign(output_of(), verdict, why(verdict), signing).content
    assert b"w-1" in content
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


def test_expired_leaf_does_not_sign(outlived):
    _, expired, _ = outlived
    with pytest.raises(KeysUnusable, match="valid from"):
        sign(output_of(), accepted(), {}, expired)


def test_key_that_c2pa_refuses_withholds_the_image(signing):
    broken = Signing("broken", "chain.pem", signing.chain, b"not a key", signing.anchors)
    with pytest.raises(ReleaseFailed, match="signing failed"):
        sign(output_of(), accepted(), {}, broken)


def test_signer_that_is_not_under_the_anchor_withholds_the_image(signing, forger):
    mixed = Signing("mixed", "chain.pem", signing.chain, signing.key, forger.anchors)
    with pytest.raises(ReleaseFailed, match="Trusted under our anchor was expected"):
        sign(output_of(), accepted(), {}, mixed)


@pytest.mark.parametrize("step", ["embed", "read"])
def test_crash_of_the_sdk_withholds_the_image(signing, monkeypatch, step):
    def crashing(*given):
        raise RuntimeError("CANARY")

    monkeypatch.setattr(sdk, step, crashing)
    with pytest.raises(ReleaseFailed, match="RuntimeError") as withheld:
        sign(output_of(), accepted(), {}, signing)
    assert "CANARY" not in str(withheld.value)


def test_file_that_is_no_png_is_not_signed(signing):
    with pytest.raises(ReleaseFailed, match="signing failed"):
        sign(replace(output_of(), content=b"not a picture"), accepted(), {}, signing)


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "image/webp"])
def test_another_file_than_given_is_not_released(signing, monkeypatch, mime):
    usual, other = sdk.embed, output_of(noise(seed=1), mime).content
    monkeypatch.setattr(sdk, "embed", lambda content, *given: usual(other, *given))
    with pytest.raises(ReleaseFailed, match="more than its manifest differs"):
        sign(output_of(mime=mime), accepted(), {}, signing)


def test_manifest_that_says_something_else_is_not_released(signing, monkeypatch):
    usual = sdk.embed

    def lying(content, mime, manifest, credential, parent):
        changed = deepcopy(manifest)
        (said,) = [one["data"] for one in changed["assertions"] if one["label"] == VERDICT_LABEL]
        said["rule"] = "another"
        return usual(content, mime, changed, credential, parent)

    monkeypatch.setattr(sdk, "embed", lying)
    with pytest.raises(ReleaseFailed, match="something else than was put in"):
        sign(output_of(), accepted(), why(accepted()), signing)


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
