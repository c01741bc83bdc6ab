"""What a manifest says, assertion by assertion, and that nothing else in the file is touched."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from act_samples import accepted, noise, output_of, why
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from PIL import Image

from guardrail.act import (
    ACTIONS_LABEL,
    ATTRIBUTION_LABEL,
    DISCLOSURE_LABEL,
    MINING_LABEL,
    SOFT_BINDING_LABEL,
    STATEMENTS,
    assertion_schema,
    attribution_assertion,
    decode_image,
    disclosure_assertion,
    encode_image,
    iscc_assertion,
    mining_assertion,
    sdk,
    sign,
    verdict_assertion,
)
from guardrail.act.container import without_manifest
from guardrail.carriers import ParentFile
from guardrail.errors import ImageUnreadable, ReleaseFailed
from guardrail.records import BitsLimit, Credit, GenerationContext, Limits, Neighbour, Signal, Watermark, Work
from guardrail.release_settings import ProvenanceSettings

MIMES = ("image/png", "image/jpeg", "image/webp")
MARK = Watermark(algorithm="com.adobe.trustmark.P", payload="5a" * 8, bits=64, bits_found=64, registered=True)
UNLISTED = MARK.model_copy(update={"algorithm": "org.example.mark", "registered": False})
SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.fixture(params=MIMES)
def mime(request):
    return request.param


def everything(verdict, pixels):
    """All that the shipped plugins can say, at its longest for the tests' verdict."""
    settings = ProvenanceSettings(
        training_mining="constrained",
        training_mining_terms="https://example.org/terms",
        human_oversight="prompt_guided",
    )
    run = GenerationContext(pipeline="P", weights_sha256="a" * 64)
    return why(verdict) | {
        ATTRIBUTION_LABEL: attribution_assertion(verdict),
        DISCLOSURE_LABEL: disclosure_assertion(run, settings),
        MINING_LABEL: mining_assertion(settings),
        SOFT_BINDING_LABEL: iscc_assertion(pixels),
    }


def read(signed, signing):
    return sdk.read(signed.content, signed.mime, signing.anchors)


def actions_in(signed, signing):
    return read(signed, signing).assertions[ACTIONS_LABEL]["actions"]


def parent_of(signing, mime="image/png", **facts):
    content = sign(output_of(noise(seed=9), mime), accepted(), {}, signing).content
    return ParentFile(content, mime, **facts)


# --- the whole ---------------------------------------------------------------------------------------------------


def test_everything_is_signed_read_back_and_small(signing, mime):
    verdict, output = accepted(), output_of(noise(512, 512), mime, watermark=MARK)
    said = everything(verdict, output.pixels)
    signed = sign(output, verdict, said, signing)
    reading = read(signed, signing)
    assert reading.state == "Trusted"
    assert reading.assertions.keys() == said.keys() | {ACTIONS_LABEL, "c2pa.hash.data", f"{SOFT_BINDING_LABEL}__1"}
    assert all(reading.assertions[label] == content for label, content in said.items())
    assert len(signed.content) - len(output.content) < 8192
    assert (signed.mime, signed.binding_sha256) == (mime, reading.binding)
    assert len(signed.binding_sha256) == 64


def test_every_assertion_of_a_signed_file_keeps_to_its_published_schema(signing, mime):
    output = output_of(mime=mime, watermark=MARK, parent=parent_of(signing, mime, strength=0.5))
    verdict = accepted()
    reading = read(sign(output, verdict, everything(verdict, output.pixels), signing), signing)
    checked = 0
    for label, content in reading.assertions.items():
        if (name := label.partition("__")[0]) in STATEMENTS:
            Draft202012Validator(assertion_schema(name)).validate(content)
            checked += 1
    assert checked == 7


@pytest.mark.parametrize("label", sorted(STATEMENTS))
def test_schema_is_one_and_refuses_what_is_not_said(label):
    schema = assertion_schema(label)
    Draft202012Validator.check_schema(schema)
    with pytest.raises(ValidationError):
        Draft202012Validator(schema).validate({"prompt": "a red fox"})


def test_every_schema_is_published():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "schemas.md").read_text(encoding="utf-8")
    assert [label for label in STATEMENTS if f"(schemas/{label}.json)" not in page] == []


def test_pixels_of_the_signed_file_are_those_that_were_judged(signing, mime):
    output = output_of(noise(65, 33), mime)
    signed = sign(output, accepted(), {}, signing)
    assert np.array_equal(decode_image(signed.content, mime), output.pixels)


def test_binding_is_another_for_another_picture(signing, mime):
    bindings = {sign(output_of(noise(seed=at), mime), accepted(), {}, signing).binding_sha256 for at in range(3)}
    assert len(bindings) == 3


# --- actions -----------------------------------------------------------------------------------------------------


def test_listed_mark_is_bound_and_described(signing, mime):
    signed = sign(output_of(mime=mime, watermark=MARK), accepted(), {}, signing)
    assert [one["action"] for one in actions_in(signed, signing)] == ["c2pa.created", "c2pa.watermarked.bound"]
    binding = read(signed, signing).assertions[SOFT_BINDING_LABEL]
    assert binding == {"alg": MARK.algorithm, "blocks": [{"scope": {}, "value": "WlpaWlpaWlo="}]}


def test_mark_that_is_not_listed_is_unbound(signing):
    signed = sign(output_of(watermark=UNLISTED), accepted(), {}, signing)
    created, marked = actions_in(signed, signing)
    assert created["action"] == "c2pa.created"
    assert marked == {
        "action": "c2pa.watermarked.unbound",
        "parameters": {"org.guardrail.watermark": "org.example.mark"},
    }
    assert SOFT_BINDING_LABEL not in read(signed, signing).assertions


@pytest.mark.parametrize(
    ("strength", "source"),
    [
        (0.5, "compositeWithTrainedAlgorithmicMedia"),
        (None, "compositeWithTrainedAlgorithmicMedia"),
        (1.0, "trainedAlgorithmicMedia"),
    ],
)
def test_picture_with_a_parent_was_opened_and_edited(signing, mime, strength, source):
    signed = sign(output_of(mime=mime, parent=parent_of(signing, mime, strength=strength)), accepted(), {}, signing)
    opened, edited = actions_in(signed, signing)
    assert opened["action"] == "c2pa.opened"
    assert "digitalSourceType" not in opened
    (link,) = opened["parameters"]["ingredients"]
    assert link["url"].endswith("/c2pa.ingredient.v3")
    assert edited == {"action": "c2pa.edited", "digitalSourceType": SOURCES + source}


def test_file_that_was_only_checked_was_opened_and_transcoded_and_who_made_it_is_not_said(signing, mime):
    signed = sign(output_of(mime=mime, parent=parent_of(signing, mime, is_output=True)), accepted(), {}, signing)
    opened, transcoded = actions_in(signed, signing)
    assert (opened["action"], transcoded) == ("c2pa.opened", {"action": "c2pa.transcoded"})
    assert "digitalSourceType" not in opened


# --- the parent --------------------------------------------------------------------------------------------------


def ingredient_in(signed, signing):
    return read(signed, signing).assertions["c2pa.ingredient.v3"]


@pytest.mark.parametrize("other", MIMES)
def test_parent_s_manifest_is_kept_across_file_types(signing, mime, other):
    parent = parent_of(signing, other)
    signed = sign(output_of(mime=mime, parent=parent), accepted(), {}, signing)
    manifest_id = sdk.read(parent.content, other, signing.anchors).manifest_id
    said = ingredient_in(signed, signing)
    assert said["relationship"] == "parentOf"
    assert said["activeManifest"]["url"].endswith(manifest_id)
    assert not any("thumbnail" in label for label in read(signed, signing).assertions)
    assert manifest_id.encode() in signed.content


def found_on(said):
    return [one["code"] for one in said["validationResults"]["activeManifest"]["failure"]]


def test_parent_of_another_signer_is_kept_and_called_untrusted(signing, forger):
    signed = sign(output_of(parent=parent_of(forger)), accepted(), {}, signing)
    assert read(signed, signing).state == "Trusted"
    assert found_on(ingredient_in(signed, signing)) == ["signingCredential.untrusted"]


def test_parent_that_was_tampered_with_is_kept_and_never_made_good(signing):
    """Ours is Trusted, for we did sign it; what is wrong with the parent is signed along with it."""
    parent = parent_of(signing)
    changed = bytearray(parent.content)
    changed[-30] ^= 1
    signed = sign(output_of(parent=ParentFile(bytes(changed), "image/png")), accepted(), {}, signing)
    assert read(signed, signing).state == "Trusted"
    assert found_on(ingredient_in(signed, signing)) == ["assertion.dataHash.mismatch"]


def test_parent_without_a_manifest_is_not_signed_as_one(signing):
    """C2PA's signals rubric calls such a picture one of unknown provenance."""
    bare = ParentFile(output_of(noise(seed=1)).content, "image/png")
    with pytest.raises(ReleaseFailed, match="no manifest that can be read"):
        sign(output_of(parent=bare), accepted(), {}, signing)


def test_parent_that_was_swapped_is_noticed(signing, monkeypatch):
    usual, own, other = sdk.embed, parent_of(signing), parent_of(signing)

    def swapping(content, mime, manifest, credential, parent):
        return usual(content, mime, manifest, credential, other)

    monkeypatch.setattr(sdk, "embed", swapping)
    with pytest.raises(ReleaseFailed, match="its parent is"):
        sign(output_of(parent=own), accepted(), {}, signing)


def test_parent_that_was_dropped_is_noticed(signing, monkeypatch):
    usual, own = sdk.embed, parent_of(signing)

    def dropping(content, mime, manifest, credential, parent):
        manifest["assertions"][0]["data"]["actions"][0] = {"action": "c2pa.created", "digitalSourceType": SOURCES}
        return usual(content, mime, manifest, credential, None)

    monkeypatch.setattr(sdk, "embed", dropping)
    with pytest.raises(ReleaseFailed, match=r"not .*c2pa\.ingredient\.v3"):
        sign(output_of(parent=own), accepted(), {}, signing)


# --- the verdict and the credits -----------------------------------------------------------------------------------


def test_marked_picture_s_verdict_names_the_earlier_one():
    said = verdict_assertion(accepted(earlier_verdict_id="e-1", frames=("frames[1]", "frames[2]")))
    assert (said["earlier_verdict_id"], said["frames"]) == ("e-1", 2)


def test_snapshots_of_adapters_are_told_and_their_names_are_not():
    said = verdict_assertion(accepted(adapter_snapshots={"CANARY": "5" * 64}))
    assert said["adapter_snapshots"] == ["5" * 64]
    assert "CANARY" not in str(said)


def test_limit_of_each_signal_is_told():
    limits = Limits.model_validate(
        {"pdq": BitsLimit(flag_within_bits=40), "copy": {"flag_above": 0.7, "block_above": 0.9}}
    )
    copy, pdq = verdict_assertion(accepted(), limits=limits)["nearest"]
    assert copy["limit"] == {"flag_above": 0.7, "block_above": 0.9}
    assert pdq["limit"] == {"flag_within_bits": 40}


def test_shares_that_were_measured_are_told():
    credit = attribution_assertion(accepted(), {"demo/w-2": 0.25})["credits"][0]
    assert credit["share"] == 0.25


def test_many_credits_and_long_names_are_cut_and_counted():
    owed = Credit(work_id="w", bank="b", title="T" * 5000, creator="C", rights_holder="H", licence="L")
    said = attribution_assertion(accepted(credits=(owed,) * 50))
    assert (len(said["credits"]), said["left_out"]) == (10, 40)
    assert len(said["credits"][0]["title"]) == 200


def test_file_stays_small_with_many_neighbours_and_credits(signing):
    near = Neighbour(work=Work(work_id="w" * 64, bank="b" * 32), row=0, signal=Signal.PDQ, distance_bits=9)
    owed = Credit(work_id="w" * 64, bank="b", title="T" * 60, creator="C" * 40, rights_holder="H" * 40, licence="CC0")
    verdict = accepted(nearest=(near,) * 1000, credits=(owed,) * 1000)
    output = output_of()
    signed = sign(output, verdict, everything(verdict, output.pixels), signing)
    assert len(signed.content) - len(output.content) < 8192


# --- the file around it --------------------------------------------------------------------------------------------


def test_manifest_is_all_that_is_added(signing, mime):
    for size in [(1, 1), (16, 17), (300, 301)]:
        output = output_of(noise(*size), mime)
        assert without_manifest(sign(output, accepted(), {}, signing).content, mime) == output.content


def test_manifest_of_several_segments_is_taken_out_of_a_jpeg(signing):
    """A JPEG segment holds 64 KB, and a parent may bring more."""
    said = {"org.example.long": {"text": "x" * 150_000}}
    output = output_of(mime="image/jpeg")
    content = sign(output, accepted(), said, signing).content
    assert content.count(b"\xff\xeb") >= 3
    assert without_manifest(content, "image/jpeg") == output.content


def test_file_without_a_manifest_is_not_put_together_as_expected(mime):
    with pytest.raises(ValueError, match="expected"):
        without_manifest(output_of(mime=mime).content, mime)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG", b"\xff\xd8", b"RIFF\0\0\0\0WEBP", b"RIFF\0\0\0\0WEBPC2PA\xff\xff\xff\xff"]
)
def test_file_that_is_cut_short_is_not_put_together_as_expected(mime, content):
    with pytest.raises(ValueError, match="expected"):
        without_manifest(content, mime)


def changed_behind(signing, mime, at, monkeypatch):
    """Sign with an SDK that turns one bit of the file besides putting the manifest in."""
    usual = sdk.embed
    output = output_of(mime=mime)

    def meddling(content, *given):
        changed = bytearray(content)
        changed[at] ^= 1
        return usual(bytes(changed), *given)

    monkeypatch.setattr(sdk, "embed", meddling)
    sign(output, accepted(), {}, signing)


@pytest.mark.parametrize("at", [-30, -100, -500])
def test_single_bit_that_differs_besides_the_manifest_is_noticed(signing, mime, at, monkeypatch):
    with pytest.raises(ReleaseFailed):
        changed_behind(signing, mime, at, monkeypatch)


def test_text_that_is_slipped_in_is_noticed(signing, mime, monkeypatch):
    """A file with a comment decodes to the same pixels, and is not the one that was given."""
    output, other = output_of(mime=mime), io.BytesIO()
    Image.fromarray(noise()).save(
        other,
        {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}[mime],
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0",
    )
    usual = sdk.embed
    monkeypatch.setattr(sdk, "embed", lambda content, *given: usual(other.getvalue(), *given))
    with pytest.raises(ReleaseFailed, match="read back"):
        sign(output, accepted(), {}, signing)


# --- encoding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [1, 50, 100])
def test_same_pixels_give_the_same_file_and_nothing_but_pixels(mime, quality):
    content = encode_image(noise(), mime, quality)
    assert content == encode_image(noise(), mime, quality)
    with Image.open(io.BytesIO(content)) as picture:
        assert set(picture.info) <= {
            "jfif",
            "jfif_version",
            "jfif_unit",
            "jfif_density",
            "loop",
            "background",
            "timestamp",
            "duration",
        }
        assert not picture.getexif()


def test_jpeg_keeps_the_colour_of_each_pixel():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    assert np.abs(decode_image(encode_image(stripes, "image/jpeg", 100), "image/jpeg").astype(int) - stripes).max() < 8


def test_decoding_png_gives_the_pixels_back():
    assert np.array_equal(decode_image(encode_image(noise(), "image/png"), "image/png"), noise())


@pytest.mark.parametrize("wrong", [("image/gif", 95), ("image/png", 0), ("image/jpeg", 101)])
def test_other_types_and_qualities_are_refused(wrong):
    with pytest.raises(ValueError, match="expected one of"):
        encode_image(noise(), *wrong)


def test_picture_that_a_type_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="image/webp can hold"):
        encode_image(np.zeros((1, 16384, 3), np.uint8), "image/webp")


def saved(kind, picture, **said):
    file = io.BytesIO()
    picture.save(file, kind, **said)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "mime"),
    [
        (b"", "image/png"),
        (encode_image(noise(), "image/jpeg"), "image/png"),
        (encode_image(noise(), "image/png")[:-40], "image/png"),
        (encode_image(noise(), "image/jpeg")[:-200], "image/jpeg"),
        (saved("PNG", Image.new("RGBA", (4, 4))), "image/png"),
        (saved("JPEG", Image.new("L", (4, 4))), "image/jpeg"),
        (
            saved("WEBP", Image.new("RGB", (4, 4)), save_all=True, append_images=[Image.new("RGB", (4, 4), "red")]),
            "image/webp",
        ),
    ],
)
def test_what_is_no_whole_plain_picture_of_its_type_is_not_decoded(content, mime):
    with pytest.raises(ImageUnreadable):
        decode_image(content, mime)


def test_bomb_is_not_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageUnreadable, match="Decompression"):
        decode_image(output_of().content, "image/png")


def test_output_of_another_type_than_its_bytes_is_not_signed(signing):
    with pytest.raises(ReleaseFailed):
        sign(replace(output_of(mime="image/jpeg"), mime="image/png"), accepted(), {}, signing)
