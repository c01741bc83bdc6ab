"""What a signed file says of its run: enough to know the model, and nothing that leads back to a prompt or a person."""

import json
from datetime import UTC, datetime

import pluggy
import pytest

from guardrail import hookspecs
from guardrail.act import GENERATION_LABEL, GenerationStatement, prompt_digest
from guardrail.act.prompts import load_prompt_key
from guardrail.errors import PromptKeyUnusable
from guardrail.records import (
    Adapter,
    Decision,
    GenerationContext,
    InputPicture,
    ModelFiles,
    ModelSignature,
    Verdict,
)
from guardrail.settings import Settings
from guardrail_hooks import generation

REVISION = "1" * 40


def verdict(image="images[0]"):
    return Verdict(
        image=image,
        pixels_sha256=None,
        at=datetime.now(UTC),
        decision=Decision.ACCEPT,
        rule="default",
        explanation="",
        evidence=(),
        nearest=(),
        index_snapshot="1" * 64,
        policy_sha256="0" * 64,
        calibration="uncalibrated",
    )


def run(**said):
    return GenerationContext(
        **{
            "pipeline": "StableDiffusionPipeline",
            "model_id": "painters/brush-one",
            "model_revision": REVISION,
            "weights_sha256": "a" * 64,
            "scheduler": "DDIMScheduler",
            "steps": 30,
            "guidance_scale": 7.5,
            "seed": 1234567,
            "prompts": {"prompt": "CANARY fox"},
            **said,
        }
    )


@pytest.fixture
def said_of(tmp_path):
    hooks = pluggy.PluginManager(hookspecs.PROJECT)
    hooks.add_hookspecs(hookspecs)
    hooks.register(generation)
    hooks.check_pending()

    def say(context, about=None, **provenance):
        settings = Settings(home=tmp_path, provenance=provenance)
        (found,) = hooks.hook.describe_output(
            verdict=about or verdict(), context=context, output=None, settings=settings
        )
        return found.get(GENERATION_LABEL)

    return say


def test_run_is_described_and_fits_the_published_schema(said_of):
    context = run(
        strength=0.6,
        adapters=(Adapter(name="ink", sha256="b" * 64, weight=0.8),),
        inputs=(InputPicture(name="image", role="init"), InputPicture(name="mask_image", role="mask")),
        model_files=ModelFiles(state="as_in_files", sha256=("c" * 64,)),
    )
    said = said_of(context)
    assert said["pipeline"] == "StableDiffusionPipeline"
    assert said["model"] == {
        "name": "painters/brush-one",
        "revision": REVISION,
        "weights_sha256": "a" * 64,
        "files_sha256": ["c" * 64],
        "weights": "as_in_files",
        "signature": "not_asked",
    }
    assert said["adapters"] == [{"kind": "lora", "name": "ink", "sha256": "b" * 64, "weight": 0.8, "fused": False}]
    assert said["inputs"] == {"init": 1, "mask": 1}
    assert (said["strength"], said["scheduler"], said["steps"], said["guidance_scale"]) == (
        0.6,
        "DDIMScheduler",
        30,
        7.5,
    )
    assert GenerationStatement.model_validate_json(json.dumps(said)).model.name == "painters/brush-one"


def test_images_without_a_run_are_not_described(said_of):
    assert said_of(None) is None


def test_nothing_is_said_where_no_detail_is_wanted(said_of):
    assert said_of(run(), detail="none") is None


def test_summary_leaves_out_how_the_sampler_was_set(said_of):
    said = said_of(run(strength=0.5), detail="summary")
    assert not {"scheduler", "steps", "guidance_scale"} & said.keys()
    assert {"model", "strength", "prompts"} <= said.keys()


@pytest.mark.parametrize("detail", ["summary", "full"])
def test_seed_and_prompt_are_never_said(said_of, detail):
    text = json.dumps(said_of(run(), detail=detail))
    assert "1234567" not in text
    assert "CANARY" not in text


def test_owner_can_prove_the_prompt(said_of, tmp_path):
    about = verdict()
    said = said_of(run(), about)["prompts"]
    key = load_prompt_key(tmp_path / "prompt.key", make=False)
    assert said == {
        "algorithm": "HMAC-SHA256",
        "bound_to": about.verdict_id,
        "digests": {"prompt": [prompt_digest(key, about.verdict_id, "prompt", "CANARY fox")]},
    }


def test_two_images_of_one_prompt_cannot_be_told_to_be_so(said_of):
    assert said_of(run())["prompts"]["digests"] != said_of(run())["prompts"]["digests"]


def test_prompt_of_a_batch_is_that_of_the_image(said_of, tmp_path):
    context = run(prompts={"prompt": ("a", "b"), "negative_prompt": "c"}, images_per_prompt=2)
    about = verdict("images[2]")
    key = load_prompt_key(tmp_path / "prompt.key")
    digests = said_of(context, about)["prompts"]["digests"]
    assert digests["prompt"] == [prompt_digest(key, about.verdict_id, "prompt", "b")]
    assert digests["negative_prompt"] == [prompt_digest(key, about.verdict_id, "negative_prompt", "c")]


@pytest.mark.parametrize("image", ["images[9]", "picture"])
def test_all_prompts_count_where_it_is_not_known_which(said_of, image):
    assert len(said_of(run(prompts={"prompt": ("a", "b")}), verdict(image))["prompts"]["digests"]["prompt"]) == 2


def test_digest_can_be_turned_off_and_then_needs_no_key(said_of, tmp_path):
    assert "prompts" not in said_of(run(), prompt_digest=False)
    assert not (tmp_path / "prompt.key").exists()


def test_unusable_key_is_an_error(said_of, tmp_path):
    (tmp_path / "prompt.key").write_text("no key")
    with pytest.raises(PromptKeyUnusable):
        said_of(run())


@pytest.mark.parametrize(
    "model_id",
    [
        "/home/CANARY/model",
        "models/CANARY",
        "./CANARY/model",
        "C:\\CANARY\\model",
        "CANARY",
        "a/b/CANARY",
        "https://CANARY.example/model",
        "",
    ],
)
def test_model_id_that_may_be_a_path_is_not_said(said_of, model_id):
    said = said_of(run(model_id=model_id, model_revision=None))
    assert "name" not in said["model"]
    assert "CANARY" not in json.dumps(said)


def test_hub_name_of_a_folder_that_is_here_is_a_path(said_of, tmp_path, monkeypatch):
    (tmp_path / "painters" / "brush-one").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "name" not in said_of(run())["model"]


def test_name_in_the_settings_stands_for_any_model(said_of):
    assert said_of(run(model_id="/srv/CANARY", model_revision=None), model_name="Brush")["model"]["name"] == "Brush"


@pytest.mark.parametrize("name", ["/home/CANARY/ink", "CANARY\\ink", "CANARY.safetensors", "~CANARY", "CANARY:ink"])
def test_adapter_name_that_looks_like_a_path_is_left_out(said_of, name):
    (adapter,) = said_of(run(adapters=(Adapter(name=name, sha256="b" * 64),)))["adapters"]
    assert "name" not in adapter
    assert adapter["sha256"] == "b" * 64


def test_textual_inversion_is_not_named_for_it_is_a_word_of_the_prompt(said_of):
    (adapter,) = said_of(run(adapters=(Adapter(name="CANARY", kind="textual_inversion"),)))["adapters"]
    assert adapter == {"kind": "textual_inversion", "fused": False}


def test_adapter_goes_by_its_name_in_the_settings(said_of):
    (adapter,) = said_of(run(adapters=(Adapter(name="default_0", known_as="ink"),)))["adapters"]
    assert adapter["name"] == "ink"


def test_what_could_not_be_read_is_named_without_what_was_found(said_of):
    unread = ("strength: a CANARY", "adapter 'CANARY': being made", "/CANARY/x: gone", "weights: those of unet")
    assert said_of(run(unread=unread))["unread"] == ["adapter", "strength", "weights"]


def test_class_names_that_are_none_are_left_out(said_of):
    said = said_of(run(pipeline="<lambda> /CANARY", scheduler="a b"))
    assert not {"pipeline", "scheduler"} & said.keys()


@pytest.mark.parametrize("state", ["modified", "unknown"])
def test_digests_of_files_are_said_only_of_weights_that_are_in_them(said_of, state):
    said = said_of(run(model_files=ModelFiles(state=state, sha256=("c" * 64,), reason="/CANARY")))["model"]
    assert said["weights"] == state
    assert "files_sha256" not in said
    assert "CANARY" not in json.dumps(said)


def test_signature_that_was_verified_is_said(said_of):
    said = said_of(run(model_signature=ModelSignature(outcome="verified", signed_by="Ink Ltd")))["model"]
    assert (said["signature"], said["signed_by"]) == ("verified", "Ink Ltd")
