"""C2PA's asset conformance rubric, check by check: our files pass all, and each check sees what it is there for."""

import copy
import json

import pytest
from act_samples import accepted, noise, output_of, why

from guardrail.act import sign
from guardrail.act.rubric import check_conformance, conformance_of, plain_form
from guardrail.carriers import ParentFile
from guardrail.records import Watermark

MIMES = ("image/png", "image/jpeg", "image/webp")
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
INGREDIENT = {"relationship": "parentOf", "activeManifest": {"url": "x"}, "validationResults": {}}
MARKED = Watermark(algorithm="com.adobe.trustmark.P", payload="5a" * 8, bits=64, bits_found=64, registered=True)


@pytest.fixture(scope="module")
def store(signing):
    verdict = accepted()
    return plain_form(sign(output_of(), verdict, why(verdict), signing).content, "image/png", signing.anchors)


def action(name, **fields):
    return lambda manifest: manifest["assertions"]["c2pa.actions.v2"]["actions"].append({"action": name, **fields})


def assertion(label, content):
    return lambda manifest: manifest["assertions"].update({label: content})


def failure(code):
    return lambda manifest: manifest["validationResults"]["failure"].append({"code": code})


def without_results(manifest):
    del manifest["validationResults"]


def with_actions(*actions, **fields):
    return assertion("c2pa.actions.v2", {"actions": list(actions), "allActionsIncluded": True} | fields)


BROKEN = {  # for each check of the rubric, a manifest that must not pass it
    "mandatory_dst_for_perceptible_transformations": [action("c2pa.edited"), action("c2pa.cropped")],
    "mandatory_spec_version": [
        lambda manifest: manifest["claim.v2"]["claim_generator_info"].pop("specVersion"),
        lambda manifest: manifest["claim.v2"]["claim_generator_info"].update(specVersion="2.2.0"),
    ],
    "mandatory_all_actions_included": [with_actions(allActionsIncluded=None)],
    "no_dst_for_opened_action": [action("c2pa.opened", digitalSourceType=SOURCE)],
    "well_formed_data_present": [without_results],
    "well_formed_success": [failure("assertion.cbor.invalid"), failure("claim.hardBindings.missing"), without_results],
    "valid_data_present": [without_results],
    "valid_success": [failure("assertion.dataHash.mismatch"), failure("hashedURI.mismatch"), without_results],
    "inception_action_position": [
        lambda manifest: manifest["claim.v2"].update(created_assertions=[]),
        with_actions({"action": "c2pa.edited", "digitalSourceType": SOURCE}, {"action": "c2pa.created"}),
    ],
    "no_deprecated_assertions": [assertion("stds.exif", {}), assertion("c2pa.ingredient.v2", {})],
    "no_unsupported_assertions": [assertion("c2pa.verdict", {})],
    "no_deprecated_actions": [action("c2pa.saved"), action("c2pa.watermarked")],
    "no_unsupported_actions": [action("c2pa.improved")],
    "no_unrecognized_custom_assertions": [assertion("verdict", {})],
    "no_unrecognized_custom_actions": [action("improved")],
    "no_unrecognized_custom_action_parameters": [action("c2pa.published", parameters={"mark": 1})],
    "discouraged_legacy_action_parameters": [action("c2pa.published", parameters={"description": "it is out"})],
    "active_manifest_urn": [lambda manifest: manifest.update(label="urn:uuid:1")],
    "review_ratings_datasource": [
        assertion("org.example", {"reviewRatings": [], "dataSource": {"type": "humanEntry.anonymous"}})
    ],
    "ingredient_v3_no_active_manifest": [
        assertion("c2pa.ingredient.v3", {"relationship": "parentOf", "validationResults": {}})
    ],
    "ingredient_v3_mandatory_validation_results": [
        assertion("c2pa.ingredient.v3", INGREDIENT | {"validationResults": None})
    ],
    "ingredient_relationship_values": [assertion("c2pa.ingredient.v3", INGREDIENT | {"relationship": "childOf"})],
    "mandatory_dst_for_created_action": [with_actions({"action": "c2pa.created"})],
    "no_deprecated_claim_fields": [lambda manifest: manifest["claim.v2"].update(specVersion="2.4.0")],
    "ingredient_v3_choice": [assertion("c2pa.ingredient.v3", INGREDIENT | {"digitalSourceType": SOURCE})],
    "alternative_content_representation_choice": [
        assertion("org.example", {"type": "exif.originalPreservationImage", "parameters": {}})
    ],
    "forbidden_labels_in_external_references": [
        assertion("c2pa.external-reference", {"label": "c2pa.hash.data", "url": "https://example.org"})
    ],
    "no_url_in_hashes": [assertion("c2pa.hash.data", {"url": "https://example.org"})],
    "all_actions_included_opened": [with_actions({"action": "c2pa.opened"}, allActionsIncluded=False)],
    "opened_action_ingredient_reference": [
        action("c2pa.opened"),
        action("c2pa.opened", parameters={"ingredients": [{}, {}]}),
    ],
    "no_box_hash_for_tiff": [
        lambda manifest: manifest["assertions"].update(
            {"c2pa.hash.boxes": {}, "c2pa.asset-type.v2": {"dc:format": "image/tiff"}}
        )
    ],
}


def wrong_in(checks):
    return {one.check: one.wrong for one in checks if not one.holds}


@pytest.mark.parametrize("mime", MIMES)
def test_our_files_pass_all_31_checks(signing, mime):
    verdict = accepted()
    content = sign(output_of(mime=mime), verdict, why(verdict), signing).content
    checks = conformance_of(content, mime, signing.anchors)
    assert len(checks) == 31
    assert wrong_in(checks) == {}


@pytest.mark.parametrize("mime", MIMES)
@pytest.mark.parametrize("mark", [None, MARKED, MARKED.model_copy(update={"registered": False})])
@pytest.mark.parametrize("is_output", [False, True])
def test_edited_checked_and_marked_files_pass_all_31_checks(signing, mime, mark, is_output):
    verdict = accepted()
    content = sign(output_of(noise(seed=1), mime), verdict, {}, signing).content
    parent = ParentFile(content, mime, 0.5, is_output=is_output)
    output = output_of(mime=mime, parent=parent, watermark=mark)
    checks = conformance_of(sign(output, verdict, why(verdict), signing).content, mime, signing.anchors)
    assert wrong_in(checks) == {}


@pytest.mark.parametrize(("check", "break_it"), [(check, one) for check, some in BROKEN.items() for one in some])
def test_check_sees_what_it_is_there_for(store, check, break_it):
    broken = copy.deepcopy(store)
    break_it(broken["manifests"][0])
    assert f"validation:{check}" in wrong_in(check_conformance(broken))


def test_every_check_has_a_manifest_that_does_not_pass_it(store):
    assert [one.check for one in check_conformance(store)] == [f"validation:{check}" for check in BROKEN]


def test_file_that_was_changed_does_not_pass(signing):
    content = bytearray(sign(output_of(), accepted(), {}, signing).content)
    content[-20] ^= 1
    assert wrong_in(conformance_of(bytes(content), "image/png", signing.anchors)) == {
        "validation:valid_success": ("assertion.dataHash.mismatch",)
    }


def test_store_without_a_manifest_passes_next_to_nothing():
    assert not all(one.holds for one in check_conformance(json.loads('{"manifests": []}')))
