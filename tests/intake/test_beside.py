"""Sound passes; what goes with a picture leaves only with it."""

import sys
import types

import numpy as np
import pytest
import torch
from diffusers.pipelines.ltx2 import LTX2Pipeline
from diffusers.pipelines.ltx2.pipeline_output import LTX2PipelineOutput

from guardrail.intake.beside import blanked, parts_beside, put_back, without


@pytest.fixture
def pipe():
    """An empty pipeline of a class that returns frames and sound."""
    return LTX2Pipeline.__new__(LTX2Pipeline)


def test_sound_of_a_tuple_is_known_by_the_class(pipe):
    frames, sound = [["frame"]], torch.rand(1, 2, 8)
    aside = parts_beside(pipe, (frames, sound))
    assert list(aside) == [1]
    assert without((frames, sound), aside) == (frames,)
    assert put_back((frames,), aside, all_released=True) == (frames, sound)
    assert put_back((frames,), aside, all_released=False)[1] is sound


def test_parts_of_a_named_output_keep_their_names(pipe):
    assert parts_beside(pipe, LTX2PipelineOutput(frames=[], audio=torch.rand(1, 2))) == {}


def test_class_that_is_not_diffusers_own_is_not_asked(pipe):
    class Claims(LTX2Pipeline):
        pass

    assert parts_beside(Claims.__new__(Claims), ([], torch.rand(1, 3, 8, 8))) == {}


def test_parts_on_which_output_classes_disagree_are_pictures(pipe, monkeypatch):
    from dataclasses import make_dataclass

    from diffusers.utils import BaseOutput

    other = make_dataclass("Other", [("frames", list), ("images", list)], bases=(BaseOutput,))
    monkeypatch.setattr(sys.modules[LTX2Pipeline.__module__], "OtherOutput", other, raising=False)
    assert parts_beside(pipe, ([], torch.rand(1, 3, 8, 8))) == {}
    assert isinstance(sys.modules[LTX2Pipeline.__module__], types.ModuleType)


@pytest.mark.parametrize("array", [np.ones((1, 4, 4), np.float32), torch.ones(1, 4, 4)])
def test_depth_of_a_withheld_picture_is_zeros_and_the_original_is_left(array):
    from diffusers import StableDiffusionLDM3DPipeline

    output_class = vars(sys.modules[StableDiffusionLDM3DPipeline.__module__])["LDM3DPipelineOutput"]
    output = output_class(rgb=["card"], depth=array, nsfw_content_detected=None)
    fresh = blanked(output)
    assert not np.asarray(fresh.depth).any()
    assert np.asarray(output.depth).all()
    assert fresh.rgb == ["card"]
