"""The pictures among a call's arguments are found, copied, and known by what they are for."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image
from run_samples import WORDS, SmallPipeline, small_pipeline

from guardrail.fingerprint import pixels_digest
from guardrail.intake import bound_call, inputs_of, read_context


@pytest.fixture(scope="module")
def pipe():
    return small_pipeline()


def drawn(seed=0, size=(12, 10)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def given(pipe, **kwargs):
    return inputs_of(bound_call(pipe, pipe.__call__, (), kwargs))


def roles(inputs):
    return {record.name: record.role for record in inputs.records}


def test_pictures_are_found_by_argument_and_role(pipe):
    inputs = given(
        pipe,
        image=drawn(1),
        mask_image=drawn(2),
        control_image=[drawn(3), drawn(4)],
        ip_adapter_image=[[drawn(5)], drawn(6)],
        reference_image=drawn(7),
        prompt="a fox",
    )
    assert roles(inputs) == {
        "image": "init",
        "mask_image": "mask",
        "control_image[0]": "control",
        "control_image[1]": "control",
        "ip_adapter_image[0][0]": "ip_adapter",
        "ip_adapter_image[1]": "ip_adapter",
        "reference_image": "reference",
    }
    assert [picture.name for picture in inputs.batch.pictures] == [record.name for record in inputs.records]


def test_picture_in_an_argument_of_any_name_is_found(pipe):
    assert roles(given(pipe, prompt=drawn(1), whatever={"deep": [drawn(2)]})) == {
        "prompt": "reference",
        "whatever.deep[0]": "reference",
    }


def test_picture_in_a_dataclass_is_found(pipe):
    @dataclass
    class Condition:
        image: Image.Image
        strength: float = 1.0

    assert roles(given(pipe, conditions=[Condition(drawn())])) == {"conditions[0].image": "init"}


def test_image_of_a_controlnet_pipeline_controls(pipe):
    net = ControlNetModel(
        in_channels=3,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=WORDS,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        conditioning_embedding_out_channels=(4, 8),
    )
    controlled = SmallPipeline(pipe.unet, pipe.scheduler, controlnet=net)

    def call(image=None):
        return image

    assert roles(inputs_of(bound_call(controlled, call, (drawn(),), {}))) == {"image": "control"}
    assert roles(given(controlled, image=drawn())) == {"image": "init"}  # it takes a control_image besides


@pytest.mark.parametrize("form", ["pil", "numpy", "tensor", "signed", "half"])
def test_digest_is_that_of_the_pixels(pipe, form):
    array = np.asarray(drawn())
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    value = {
        "pil": drawn(),
        "numpy": array,
        "tensor": tensor[None].float() / 255,
        "signed": tensor[None].float() / 127.5 - 1,
        "half": (tensor[None].float() / 255).half(),
    }[form]
    (record,) = given(pipe, image=value).records
    assert record.pixels_sha256 == pixels_digest(tensor)


def test_pixels_are_our_own(pipe):
    array = np.asarray(drawn()).copy()
    for value in (array, torch.from_numpy(array).permute(2, 0, 1)):
        inputs = given(pipe, image=value)
        before = inputs.batch.pictures[0].pixels.clone()
        value[:] = 0
        assert torch.equal(inputs.batch.pictures[0].pixels, before)


def test_embeddings_latents_and_numbers_are_no_pictures(pipe):
    inputs = given(
        pipe,
        image_embeds=torch.zeros(1, 3, 8, 8),
        image_latents=torch.zeros(1, 3, 8, 8),
        prompt_embeds=torch.zeros(3, 8, 8),
        guidance_scale=3.0,
        generator=torch.Generator(),
    )
    assert inputs.records == ()


def test_picture_that_cannot_be_read_is_said_to_be_there(pipe):
    context = read_context(pipe, pipe.__call__, (), {"image": torch.full((1, 3, 8, 8), float("nan"))})
    (record,) = context.inputs
    assert (record.name, record.role, record.pixels_sha256) == ("image[0]", "init", None)
    assert any("not finite" in line for line in context.unread)


def test_videos_frames_are_sampled_and_that_is_said(pipe):
    frames = [drawn(seed) for seed in range(40)]
    inputs = given(pipe, video=frames)
    assert len(inputs.records) == 16
    assert (inputs.records[0].name, inputs.records[-1].name) == ("video[0]", "video[39]")
    assert inputs.unread == ("inputs: 24 of 40 pictures in 'video' were not looked at",)


def test_video_tensor_has_frames_for_pictures(pipe):
    inputs = given(pipe, video=torch.rand(1, 3, 5, 8, 8))
    assert [record.name for record in inputs.records] == [f"video[0][{at}]" for at in range(5)]
    assert all(picture.pixels.shape == (3, 8, 8) for picture in inputs.batch.pictures)


def test_context_knows_the_inputs(pipe):
    context = read_context(pipe, pipe.__call__, (), {"mask_image": drawn(1), "image": drawn(2)})
    assert {one.name for one in context.inputs} == {"image", "mask_image"}
    assert context.init_image_sha256 == next(one.pixels_sha256 for one in context.inputs if one.role == "init")
