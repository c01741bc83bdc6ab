"""Signs reach the verdict of a guarded pipeline, and a stopped run releases nothing."""

import numpy as np
import pytest
import torch

from guardrail.records import CheckFailed, Decision, MemorisationSign
from guardrail.study.conditional_denoiser import prompt_embedding, prompted_pipeline

SIDE_PX = 64


def pictures(count, seed):
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (SIDE_PX, SIDE_PX), mode="bicubic").clamp(-1, 1)


@pytest.fixture
def pipe():
    return prompted_pipeline([pictures(1, 101), pictures(4, 102)])


def said(**more):
    return {
        "prompt_embeds": prompt_embedding(0, 2),
        "negative_prompt_embeds": prompt_embedding(None, 2),
        "num_inference_steps": 4,
        "height": SIDE_PX,
        "width": SIDE_PX,
        "generator": torch.Generator().manual_seed(0),
        "num_images_per_prompt": 2,
        "output_type": "np",
        **more,
    }


def signs_in(verdict):
    return {one.sign: one for one in verdict.evidence if isinstance(one, MemorisationSign)}


def test_signs_are_in_the_verdict_and_the_output_keeps_its_bits(make_guard, pipe):
    unguarded = pipe(**said()).images
    guard = make_guard(signs={"noise_magnitude": {}, "early_match": {"every": 2}})
    output = guard.wrap(pipe)(**said())
    first, second = output.guard.verdicts
    assert [verdict.decision for verdict in (first, second)] == [Decision.ACCEPT] * 2
    assert np.array_equal(output.images, unguarded)
    assert set(signs_in(first)) == {"noise_magnitude", "early_match"}
    assert signs_in(first)["noise_magnitude"].value != signs_in(second)["noise_magnitude"].value
    assert signs_in(first)["early_match"].work.bank == "animals"


def test_sign_at_its_block_limit_is_flagged_by_the_shipped_policy(make_guard, pipe):
    guard = make_guard(signs={"noise_magnitude": {"block_above": 0.0}})
    output = guard.wrap(pipe)(**said())
    assert [verdict.decision for verdict in output.guard.verdicts] == [Decision.FLAG] * 2
    assert {verdict.rule for verdict in output.guard.verdicts} == {"signs of memorisation while it was made"}


def test_nothing_of_a_stopped_run_is_released(make_guard, pipe):
    guard = make_guard(signs={"noise_magnitude": {"block_above": 0.0, "steps": 1, "action": "stop"}}, on_flag="return")
    output = guard.wrap(pipe)(**said())
    for verdict in output.guard.verdicts:
        assert verdict.decision is Decision.BLOCK
        assert any(isinstance(one, CheckFailed) and one.check == "generation_stopped" for one in verdict.evidence)
    assert output.guard.pictures == (None, None)
    assert np.array_equal(output.images[0], output.images[1]), "both are the same card"
