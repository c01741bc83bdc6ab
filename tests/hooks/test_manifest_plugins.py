import sys
from base64 import b64decode

import numpy as np
import pluggy
import pytest
from pydantic import ValidationError

from guardrail import hookspecs
from guardrail.carriers import OutputPicture
from guardrail.errors import ExtraMissing
from guardrail.records import GenerationContext
from guardrail.settings import Settings
from guardrail_hooks import ai_disclosure, iscc_binding, training_mining

DISCLOSURE, MINING, BINDING = "c2pa.ai-disclosure", "cawg.training-mining", "c2pa.soft-binding"


def rough(seed=0):
    """A picture with something at every scale down to a 32nd of it: uint8 (64, 64, 3)."""
    return np.kron(
        np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8), np.ones((2, 2, 1), np.uint8)
    )


def said(plugin, tmp_path, context=None, pixels=None, **provenance):
    plugins = pluggy.PluginManager(hookspecs.PROJECT)
    plugins.add_hookspecs(hookspecs)
    plugins.register(plugin)
    plugins.check_pending()
    output = OutputPicture(b"", "image/png", rough() if pixels is None else pixels)
    settings = Settings(index="i", home=tmp_path, provenance=provenance)
    (found,) = plugins.hook.describe_output(verdict=None, context=context, output=output, settings=settings)
    return found


def run_of(**facts):
    return GenerationContext(**{"pipeline": "StableDiffusionPipeline"} | facts)


# --- ai disclosure ---------------------------------------------------------------------------------------------


def test_model_of_a_hub_is_named_by_a_package_url(tmp_path):
    run = run_of(model_id="acme/fox", model_revision="a" * 40, weights_sha256="b" * 64)
    assert said(ai_disclosure, tmp_path, run)[DISCLOSURE] == {
        "modelType": "c2pa.types.model",
        "modelName": "acme/fox",
        "modelIdentifier": f"pkg:huggingface/acme/fox@{'a' * 40}",
    }


@pytest.mark.parametrize(
    "model_id",
    ["/home/CANARY/models/fox", "~/CANARY", "../CANARY", "CANARY/fox", "C:\\CANARY\\fox", "CANARY", "CANARY.ckpt"],
)
def test_local_model_is_its_weights_and_no_path(tmp_path, model_id):
    found = said(ai_disclosure, tmp_path, run_of(model_id=model_id, weights_sha256="b" * 64))[DISCLOSURE]
    assert found == {"modelType": "c2pa.types.model", "modelIdentifier": f"sha256:{'b' * 64}"}


def test_folder_that_is_called_like_a_model_of_a_hub_is_not_named(tmp_path, monkeypatch):
    (tmp_path / "acme" / "fox").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert (
        "modelName"
        not in said(ai_disclosure, tmp_path, run_of(model_id="acme/fox", model_revision="a" * 40))[DISCLOSURE]
    )


def test_settings_may_name_the_model_and_the_oversight(tmp_path):
    provenance = {"model_name": "Fox 2", "human_oversight": "prompt_guided", "model_type": "c2pa.types.model.pytorch"}
    assert said(ai_disclosure, tmp_path, run_of(model_id="/home/CANARY"), **provenance)[DISCLOSURE] == {
        "modelType": "c2pa.types.model.pytorch",
        "modelName": "Fox 2",
        "contentProfile": {"humanOversightLevel": "prompt_guided"},
    }


def test_oversight_that_c2pa_does_not_know_is_no_setting(tmp_path):
    with pytest.raises(ValidationError, match="human_oversight"):
        said(ai_disclosure, tmp_path, run_of(), human_oversight="we looked")


def test_picture_without_a_run_discloses_no_model(tmp_path):
    assert said(ai_disclosure, tmp_path) == {}


# --- training and mining ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "use"), [("allowed", "allowed"), ("not_allowed", "notAllowed"), ("constrained", "constrained")]
)
def test_what_others_may_do_is_said_for_all_four_uses(tmp_path, setting, use):
    entries = said(training_mining, tmp_path, training_mining=setting)[MINING]["entries"]
    assert len(entries) == 4
    assert {entry["use"] for entry in entries.values()} == {use}


def test_terms_are_told_where_use_is_constrained(tmp_path):
    terms = {"training_mining_terms": "https://example.org/terms"}
    constrained = said(training_mining, tmp_path, training_mining="constrained", **terms)[MINING]["entries"]
    assert {entry["constraint_info"] for entry in constrained.values()} == {"https://example.org/terms"}
    allowed = said(training_mining, tmp_path, training_mining="allowed", **terms)[MINING]["entries"]
    assert not any("constraint_info" in entry for entry in allowed.values())


def test_nothing_is_said_of_mining_by_default(tmp_path):
    assert said(training_mining, tmp_path) == {}


# --- ISCC ------------------------------------------------------------------------------------------------------


def bits_of(found):
    return np.unpackbits(np.frombuffer(b64decode(found[BINDING]["blocks"][0]["value"]), np.uint8))


def test_iscc_of_a_brighter_copy_is_near_and_of_another_picture_is_far(tmp_path):
    own = bits_of(said(iscc_binding, tmp_path, soft_binding=True))
    brighter = (rough() * 0.9 + 20).astype(np.uint8)
    copy = bits_of(said(iscc_binding, tmp_path, pixels=brighter, soft_binding=True))
    other = bits_of(said(iscc_binding, tmp_path, pixels=rough(1), soft_binding=True))
    assert len(own) == 8 * 34  # a header of two bytes and 256 bits
    assert (own != copy).sum() < 16 < 64 < (own != other).sum()


def test_iscc_is_not_said_unless_asked_for(tmp_path):
    assert said(iscc_binding, tmp_path) == {}


def test_iscc_without_its_extra_withholds_the_image(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "iscc_core", None)
    with pytest.raises(ExtraMissing, match="iscc"):
        said(iscc_binding, tmp_path, soft_binding=True)
