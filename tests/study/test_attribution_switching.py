"""Adapters are switched off and on in their layers, and what each had in a picture is found by it."""

import numpy as np
import pytest
import torch
from adapter_models import Pictures, add_lora, pipeline, shapes, train
from diffusers import DDIMScheduler
from diffusers.utils.torch_utils import randn_tensor

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.access import PipelineAccess
from guardrail.study.attribution.draws import drawn_for
from guardrail.study.attribution.switching import (
    AskedAt,
    Credited,
    Pictured,
    Switches,
    WorthAt,
    adapter_shares,
    knowledge,
)

PICTURES = shapes(12)
STATE = ("_active_adapter", "_disable_adapters", "scaling", "training")


@pytest.fixture
def pipe():
    """Two adapters that say something, of different weights."""
    pipe = pipeline()
    for seed, name in enumerate("ab"):
        add_lora(pipe, name, seed=seed)
        stir(pipe.unet, name, seed)
    pipe.set_adapters(["a", "b"], [1.0, 0.5])
    return pipe


def stir(module, name, seed):
    """Have a LoRA say something at random."""
    chance = torch.Generator().manual_seed(seed)
    for at, one in module.named_parameters():
        if f"lora_B.{name}." in at:
            one.data.copy_(torch.randn(one.shape, generator=chance) * 0.1)


def layers(pipe):
    return [one for one in pipe.unet.modules() if hasattr(one, "lora_A")]


def state(pipe):
    grads = [one.requires_grad for one in pipe.unet.parameters()]
    return [[repr(getattr(one, name)) for name in STATE] for one in layers(pipe)], grads


def answer(pipe):
    with torch.no_grad():
        noisy = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
        return pipe.unet(noisy, torch.tensor(400), encoder_hidden_states=torch.zeros(2, 1, 8), return_dict=False)[0]


@pytest.mark.parametrize("on", [(), ("a",), ("b",), ("a", "b")])
def test_subset_is_what_diffusers_own_switch_gives(pipe, on):
    with Switches(pipe).only(on):
        ours = answer(pipe)
    if on:
        pipe.set_adapters(list(on), [{"a": 1.0, "b": 0.5}[name] for name in on])
    else:
        pipe.disable_lora()
    assert torch.allclose(ours, answer(pipe), atol=1e-6)


def test_everything_is_as_it_was_afterwards(pipe):
    before, said = state(pipe), answer(pipe)
    with Switches(pipe).only(["b"]):
        assert state(pipe) != before
    assert state(pipe) == before
    assert torch.equal(answer(pipe), said)


def test_everything_is_as_it_was_after_an_error(pipe):
    pipe.unet.train()
    before = state(pipe)
    with pytest.raises(ZeroDivisionError), Switches(pipe, {"b": 3.0}).only(["b"]):
        raise ZeroDivisionError
    assert state(pipe) == before
    assert pipe.unet.training


def test_weights_of_the_run_are_set_and_taken_back(pipe):
    pipe.set_adapters(["a"], [1.0])
    with Switches(pipe, {"a": 0.25, "b": 0.75}).only(["a", "b"]):
        ours = answer(pipe)
    assert Switches(pipe).weights == {"a": 1.0}
    pipe.set_adapters(["a", "b"], [0.25, 0.75])
    assert torch.allclose(ours, answer(pipe), atol=1e-6)


def test_only_adapters_that_are_on_are_named(pipe):
    assert Switches(pipe).names == ("a", "b")
    assert Switches(pipe).weights == {"a": 1.0, "b": 0.5}
    pipe.set_adapters(["a", "b"], [1.0, 0.0])
    assert Switches(pipe).names == ("a",)
    pipe.disable_lora()
    assert Switches(pipe).names == ()


def test_weight_that_differs_between_layers_is_none(pipe):
    layers(pipe)[0].set_scale("a", 0.5)
    assert Switches(pipe).names == ("a", "b")
    with pytest.raises(AttributionImpossible, match=r"'a' without one weight"):
        _ = Switches(pipe).weights


def test_fused_adapters_are_refused(pipe):
    pipe.set_adapters(["a"], [1.0])
    pipe.fuse_lora(components=["unet"], adapter_names=["a"])
    with pytest.raises(AttributionImpossible, match=r"fused into the weights \(a\).*unfuse_lora"):
        Switches(pipe)


def test_fused_and_unloaded_adapters_are_refused(pipe):
    pipe.set_adapters(["a"], [1.0])
    pipe.fuse_lora(components=["unet"], adapter_names=["a"])
    pipe.unload_lora_weights()
    with pytest.raises(AttributionImpossible, match="fused into the weights"):
        Switches(pipe)


def test_adapter_that_is_not_there_is_refused(pipe):
    with pytest.raises(AttributionImpossible, match=r"no adapter 'c' .* among a, b"):
        Switches(pipe, {"c": 1.0})


def test_pipeline_without_adapters_is_refused():
    with pytest.raises(AttributionImpossible, match="no adapter that is on"):
        adapter_shares(pipeline(), Pictured(PICTURES[0]))


# --- what a model knows ---------------------------------------------------------------------------------------------


class Knowing(torch.nn.Module):
    """Predicts what it was told to, whatever it sees."""

    def __init__(self, says):
        super().__init__()
        self.says, self.weight = says, torch.nn.Parameter(torch.zeros(1))
        self.dtype = torch.float32

    def forward(self, sample, timestep, encoder_hidden_states=None, return_dict=True):
        return (self.says(sample, timestep),)


def asked(says, scheduler=None):
    pipe = pipeline()
    if scheduler is not None:
        pipe.scheduler = scheduler
    access = PipelineAccess(pipe)
    access.asked = Knowing(says)
    clean = access.encode(PICTURES[0])
    draws = drawn_for(0, access.shape, 16, 0)
    return access, clean, draws


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
def test_knowing_nothing_is_worth_nothing(predicts):
    """The best linear guess for values of mean 0 and variance 1, written down for each kind by hand."""
    scheduler = DDIMScheduler(prediction_type=predicts)
    kept = scheduler.alphas_cumprod

    def says(noisy, steps):
        image, added = kept[steps].sqrt().view(-1, 1, 1, 1), (1 - kept[steps]).sqrt().view(-1, 1, 1, 1)
        return {"epsilon": added * noisy, "v_prediction": 0 * noisy, "sample": image * noisy}[predicts]

    access, clean, draws = asked(says, scheduler)
    assert knowledge(access, clean, draws, {}) == pytest.approx(np.zeros(16), abs=1e-6)


def test_knowing_the_picture_is_worth_the_loss_of_knowing_nothing():
    access, clean, draws = asked(lambda noisy, steps: draws.noise)
    kept = access.noising.kept[(draws.times * 1000).long()].float().view(-1, 1, 1, 1)
    noisy = kept.sqrt() * clean + (1 - kept).sqrt() * draws.noise
    loss = ((1 - kept).sqrt() * noisy - draws.noise).square().flatten(1).mean(dim=1)
    assert knowledge(access, clean, draws, {}) == pytest.approx(loss.numpy(), rel=1e-5)


# --- shares ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted():
    """A model of eight pictures, and two LoRAs that each learnt one more."""
    pipe = pipeline()
    train(pipe, PICTURES[4:], 100)
    for at, name in enumerate("ab"):
        add_lora(pipe, name, seed=at)
        train(pipe, PICTURES[at : at + 1], 90, name)
    pipe.set_adapters(["a", "b"], [1.0, 1.0])
    return pipe


@pytest.mark.parametrize(("picture", "name"), [(0, "a"), (1, "b")])
def test_adapter_that_learnt_a_picture_has_the_largest_share_in_it(planted, picture, name):
    found = adapter_shares(planted, Pictured(PICTURES[picture]), AskedAt(draws=48))
    shares = {one.name: one.share for one in found.adapters}
    errors = {one.name: one.draw_error for one in found.adapters}
    assert max(shares, key=shares.get) == name
    (other,) = {*shares} - {name}
    assert shares[name] - 2 * errors[name] > max(shares[other] + 2 * errors[other], 0)
    assert sum(shares.values()) + found.base_share == pytest.approx(1, abs=1e-6)
    assert found.asked == 4
    assert [one.standard_error for one in found.adapters] == [None, None]


def test_shares_are_the_same_again_and_leave_no_trace(planted):
    before, said = state(planted), answer(planted)
    first = adapter_shares(planted, Pictured(PICTURES[0]))
    assert adapter_shares(planted, Pictured(PICTURES[0])) == first
    assert state(planted) == before
    assert torch.equal(answer(planted), said)


def test_share_says_whose_the_adapter_is(planted):
    known = {"a": Credited("a" * 64, "Ada")}
    found = adapter_shares(planted, Pictured(PICTURES[0]), credited=known)
    assert [(one.name, one.sha256, one.holder) for one in found.adapters] == [("a", "a" * 64, "Ada"), ("b", None, "")]


def test_negative_of_an_adapter_takes_out_what_it_brought(planted):
    brought = adapter_shares(planted, Pictured(PICTURES[0]), weights={"a": 1.0, "b": 0.0})
    taken = WorthAt(planted, Switches(planted, {"a": -1.0}), Pictured(PICTURES[0]), AskedAt())
    assert [one.name for one in brought.adapters] == ["a"]
    assert taken(["a"]).mean() < taken([]).mean()


# --- adapters over text ---------------------------------------------------------------------------------------------


class Worded(Pictures):
    """One whose prompts go through a layer that an adapter may lie over."""

    def __init__(self, unet, scheduler, text_encoder):
        super(Pictures, self).__init__()
        self.register_modules(unet=unet, scheduler=scheduler, text_encoder=text_encoder)

    @torch.no_grad()
    def __call__(self, prompt=None, num_inference_steps=2, generator=None, output_type="np", **kwargs):
        self.scheduler.set_timesteps(num_inference_steps)
        words = self.text_encoder(torch.full((1, 1, 8), float(len(prompt or ""))))
        now = randn_tensor((1, 3, 8, 8), generator=generator)
        for at in self.scheduler.timesteps:
            now = self.unet(now, at, encoder_hidden_states=words, return_dict=False)[0]
        return now


class Words(torch.nn.Module):
    """A text encoder of one layer."""

    def __init__(self):
        super().__init__()
        self.to_q = torch.nn.Linear(8, 8)

    def forward(self, given):
        return self.to_q(given)


def test_adapter_over_text_changes_what_a_caption_means():
    from peft import LoraConfig, inject_adapter_in_model

    plain = pipeline()
    text = inject_adapter_in_model(LoraConfig(target_modules=["to_q"], init_lora_weights=False), Words(), "words")
    pipe = Worded(plain.unet, plain.scheduler, text)
    switches = Switches(pipe)
    assert switches.names == ("words",)
    assert switches.over_text
    asker = WorthAt(pipe, switches, Pictured(PICTURES[0], "a fox"), AskedAt(draws=4))
    assert asker(["words"]).tolist() != asker([]).tolist()
