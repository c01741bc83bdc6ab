"""Training real diffusers pipelines on, tiny, without a picture; unlearning one; and all is as it was afterwards."""

import numpy as np
import pytest
import torch
from zoo import SPECIMENS

from guardrail.study.attribution.access import PipelineAccess
from guardrail.study.attribution.draws import drawn_for
from guardrail.study.attribution.gradients import chosen_parameters
from guardrail.study.attribution.retraining import Lessons, Recipe, denoising_loss, lora_on, retrained
from guardrail.study.attribution.unlearning import Disputed, loss_rises

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
LEFT_OUT = np.array([True, False, False])


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline", "DiTPipeline"])
def test_is_trained_and_unlearned_and_given_back(name):
    specimen = SPECIMENS[name]
    access = PipelineAccess(specimen.made(), side_px=specimen.call().get("height"))
    sides = (access.side_px, access.side_px, 3)
    pixels = [np.random.default_rng(seed).integers(0, 256, sides, np.uint8) for seed in range(3)]
    told = {caption: access.conditions(caption, label) for label, caption in enumerate(("a red fox", "a blue box"))}
    captions = ("a red fox", "a blue box", "a red fox")
    given = Lessons(torch.stack([access.encode(one) for one in pixels]), tuple(told[one] for one in captions))
    draws, parameters = drawn_for(0, access.shape, 4, 0), chosen_parameters(access.network)
    before = {key: one.clone() for key, one in access.network.state_dict().items()}

    def loss():
        return denoising_loss(access, given.clean[2], draws, given.conditions[2])

    untrained = loss()
    with retrained(access, parameters, given, Recipe(3, 2, 1e-3), LEFT_OUT):
        assert loss() < untrained
    with lora_on(access.network, 2, 0) as added, retrained(access, added, given, Recipe(3, 2, 1e-2), LEFT_OUT):
        assert loss() < untrained
    rises, how = loss_rises(access, parameters, Disputed(given.clean[0], draws, given.conditions[0]), given)
    assert rises[0] == pytest.approx(how.loss_after - how.loss_before)
    assert rises[0] > 0
    after = access.network.state_dict()
    assert {*after} == {*before}
    assert all(torch.equal(one, before[key]) for key, one in after.items())
