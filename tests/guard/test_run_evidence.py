"""The run as evidence, through a whole guard: repeated inputs, adapters and their indexes."""

import pytest
import torch
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image

from guardrail.records import Adapter, Decision, GenerationContext
from guardrail.settings import AdapterSettings, Policy
from guardrail.testing import FakePipeline


class Repeating(FakePipeline):
    """Image to image at strength 0: it returns what it is given, once for each prompt."""

    def __call__(self, prompt=None, image=None, strength=0.0, generator=None):
        return ImagePipelineOutput(images=[image.copy()])


def verdict_on(guard, image, **said):
    report = guard.wrap(Repeating())(image=image, **said).guard
    return report.verdicts[0], report.context


def test_users_own_copy_is_blocked_and_said_to_be_the_users_own(guard, pictures):
    verdict, context = verdict_on(guard, pictures["fox"])
    assert (verdict.decision, verdict.input_repeated) == (Decision.BLOCK, "image")
    assert "repeats the user's own input 'image'" in verdict.explanation
    assert [(one.name, one.role) for one in context.inputs] == [("image", "init")]


def test_repeated_input_that_is_no_copy_is_accepted_with_evidence(guard, pictures):
    verdict, _ = verdict_on(guard, pictures["new"])
    assert (verdict.decision, verdict.input_repeated) == (Decision.ACCEPT, None)
    assert {found.kind for found in verdict.evidence} == {"input_match"}


def test_copy_that_was_not_put_in_is_no_repeated_input(guard, pictures):
    pipe = guard.wrap(FakePipeline([[pictures["fox"]]]))
    verdict = pipe().guard.verdicts[0]
    assert (verdict.decision, verdict.input_repeated) == (Decision.BLOCK, None)


def test_rule_may_ask_for_the_strength_of_the_call(make_guard, pictures):
    strict = {"name": "weak edits", "evidence": "input_match", "decision": "flag", "when": {"strength_below": 0.3}}
    shipped = [rule.model_dump() for rule in Policy.shipped().rules]
    guard = make_guard(policy=Policy.model_validate({"rules": [strict, *shipped]}))
    assert verdict_on(guard, pictures["new"], strength=0.2)[0].rule == "weak edits"
    assert verdict_on(guard, pictures["new"], strength=0.3)[0].decision is Decision.ACCEPT


@pytest.mark.parametrize(
    ("name", "sha256", "expected"),
    [
        ("house", "a" * 64, Decision.FLAG),
        ("renamed", "a" * 64, Decision.FLAG),
        ("house", "b" * 64, Decision.BLOCK),
        ("house", None, Decision.BLOCK),
        ("another", "b" * 64, Decision.BLOCK),
    ],
)
def test_milder_rule_for_an_adapter_is_not_for_one_that_bears_its_name(make_guard, pictures, name, sha256, expected):
    mild = [
        {"name": f"mild {kind}", "evidence": kind, "decision": "flag", "when": {"adapter": "house"}}
        for kind in ("exact_match", "hash_match", "copy_match", "pixel_match", "geometry_match")
    ]
    shipped = [rule.model_dump() for rule in Policy.shipped().rules]
    policy = Policy.model_validate({"rules": [*mild, *shipped]})
    guard = make_guard(policy=policy, adapters={"house": AdapterSettings(sha256="a" * 64)})
    run = GenerationContext(pipeline="P", adapters=(Adapter(name=name, sha256=sha256),))
    assert guard.check([pictures["fox"]], run).verdicts[0].decision is expected


def test_blocked_copy_of_the_input_is_not_generated_again(make_guard, pictures):
    guard = make_guard(on_block="regenerate")
    calls = []

    class Counting(Repeating):
        def __call__(self, prompt=None, image=None, strength=0.0, generator=None):
            calls.append(generator)
            return ImagePipelineOutput(images=[image.copy()])

    guard.wrap(Counting())(image=pictures["fox"], generator=torch.Generator().manual_seed(1))
    assert len(calls) == 1


def test_inputs_are_those_from_before_the_call(guard, pictures):
    class Painting(Repeating):
        def __call__(self, prompt=None, image=None, strength=0.0, generator=None):
            made = image.copy()
            image.paste(Image.new("RGB", image.size, "grey"))
            return ImagePipelineOutput(images=[made])

    output = guard.wrap(Painting())(image=pictures["fox"])
    assert output.guard.verdicts[0].input_repeated == "image"


@pytest.mark.parametrize("name", ["fox", "new"])
def test_mask_that_is_returned_is_no_repeated_input(guard, pictures, name):
    class Masked(FakePipeline):
        def __call__(self, prompt=None, mask_image=None):
            return ImagePipelineOutput(images=[mask_image.copy()])

    verdict = guard.wrap(Masked())(mask_image=pictures[name]).guard.verdicts[0]
    assert "input_match" not in {found.kind for found in verdict.evidence}
