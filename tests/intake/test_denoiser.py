"""The pair of predictions, in all the ways in which pipelines make it."""

import pytest
import torch
from diffusers import ControlNetModel
from watch_samples import prompted

from guardrail.carriers import Unread
from guardrail.intake.denoiser import denoisers_of, gap_of, prediction_of

LIKE = torch.zeros(2, 3, 4, 4)
ONE, OTHER, THIRD = (torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
EXPECTED = (ONE - OTHER).flatten(1).norm(dim=1)


class DreamLitePipeline:
    pass


class Perturbed:
    do_perturbed_attention_guidance = True
    do_classifier_free_guidance = False


@pytest.mark.parametrize(
    "heard",
    [
        [torch.cat([ONE, OTHER])],
        [ONE, OTHER],
        [torch.cat([ONE, OTHER, THIRD])],
        [torch.cat([ONE, OTHER]), THIRD],
        [torch.cat([torch.cat([half, THIRD], dim=1) for half in (ONE, OTHER)])],
    ],
    ids=["pair", "two calls", "text, image, neither", "pair and a further call", "variance beside the noise"],
)
def test_gap_is_between_the_conditional_and_the_unconditional_prediction(heard):
    assert torch.allclose(gap_of(object(), heard, LIKE), EXPECTED)


def test_text_may_be_the_last_of_three():
    assert torch.allclose(gap_of(DreamLitePipeline(), [torch.cat([THIRD, ONE, OTHER])], LIKE), EXPECTED)


@pytest.mark.parametrize(
    ("heard", "reason"),
    [
        ([], "no prediction"),
        ([ONE], "one prediction a step"),
        ([ONE[:1], OTHER], "a prediction of 1 images at a step of 2"),
        ([torch.cat([ONE] * 5)], "a prediction of 10 images at a step of 2"),
    ],
)
def test_without_a_pair_the_reason_is_said(heard, reason):
    found = gap_of(object(), heard, LIKE)
    assert isinstance(found, Unread)
    assert reason in found.reason


def test_perturbed_attention_is_no_text_pair():
    assert isinstance(gap_of(Perturbed(), [torch.cat([ONE, OTHER])], LIKE), Unread)


def test_prediction_is_found_in_whatever_a_network_returns():
    output = prompted().unet(torch.zeros(1, 3, 16, 16), 10, torch.zeros(1, 1, 4))
    assert prediction_of(output) is output.sample
    assert prediction_of((ONE, OTHER)) is ONE
    assert torch.equal(prediction_of(([ONE, OTHER],)), torch.stack([ONE, OTHER]))
    assert prediction_of([ONE, LIKE[:1]]) is None
    assert prediction_of("text") is None


def test_denoisers_are_what_takes_a_time_and_is_no_control():
    pipe = prompted()
    control = ControlNetModel(
        block_out_channels=(4,),
        down_block_types=("DownBlock2D",),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=4,
        conditioning_embedding_out_channels=(2, 2),
        attention_head_dim=2,
    )
    assert denoisers_of({**pipe.components, "controlnet": control}) == (pipe.unet,)
