import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from attacked import SIDE_PX, as_set, asked, overfitted, pictures, quiet, subject
from peft import LoraConfig, inject_adapter_in_model

from guardrail.errors import AuditImpossible
from guardrail.records import AuditOutcome
from guardrail.study.audit.asks import AuditPart, Budget
from guardrail.study.audit.sweeps import AdapterSweep, StrengthSweep, adapter_weights, noised_and_back

MEMBERS, OTHERS = pictures(10, 1), pictures(10, 2)


@pytest.fixture(scope="module")
def model():
    return subject(MEMBERS, OTHERS, knows=MEMBERS)


def read(output):
    return output.images


# --- strength ---------------------------------------------------------------------------------------------------


def test_members_come_back_from_a_strength_at_which_others_do_not(model):
    for pixels, comes_back in ((MEMBERS, True), (OTHERS, False)):
        clean = noised_and_back(model.denoiser, model.denoiser.encode(pixels), asked(pixels), 0.4, seed=0)
        off = np.abs(model.denoiser.decode(clean).astype(int) - pixels).reshape(10, -1).max(1)
        assert ((off <= 2) == comes_back).all()


def test_at_full_strength_whatever_comes_is_a_member(model):
    clean = noised_and_back(model.denoiser, model.denoiser.encode(OTHERS), asked(OTHERS), 1.0, seed=0)
    apart = np.abs(model.denoiser.decode(clean)[:, None].astype(int) - MEMBERS[None]).reshape(10, 10, -1).max(2)
    assert ((apart <= 3).sum(1) == 1).sum() >= 9


def test_an_overfitted_model_is_found_by_where_its_members_stop_coming_back(model):
    part = StrengthSweep(strengths=(0.3, 0.6))
    assert isinstance(part, AuditPart)
    assert part.cost(model).evaluations == 20 * (6 + 12)
    found = part.run(model, Budget(), quiet)
    assert found.outcome is AuditOutcome.MEMORISED
    figures = {one.name: one.value for one in found.measured}
    assert figures["members that come back at strength 0.3"] == 1.0
    assert figures["held-out pictures that come back at strength 0.3"] == 0.0
    assert "of the held-out pictures at strength 0.3" in found.reason
    assert found == part.run(model, Budget(), quiet)


def test_a_model_that_never_saw_either_is_clean():
    unknown = subject(pictures(150, 3), pictures(150, 4), knows=MEMBERS)
    found = StrengthSweep(strengths=(0.3, 0.6), most_each=150, steps=5).run(unknown, Budget(), quiet)
    assert found.outcome is AuditOutcome.CLEAN


class Editor:
    """An image-to-image pipeline that gives known pictures back at any strength, and noise from strength 0.5 on."""

    def __init__(self, knows):
        self.knows = knows

    def __call__(self, image, strength, generator):
        picture = np.asarray(image)
        if strength >= 0.5 and not any(np.array_equal(picture, known) for known in self.knows):
            picture = np.random.default_rng(generator.initial_seed()).integers(0, 256, picture.shape).astype(np.uint8)
        return SimpleNamespace(images=[picture])


def test_an_image_to_image_pipeline_is_called(model):
    part = StrengthSweep(read=read, strengths=(0.2, 0.8))
    edited = replace(model, pipeline=Editor(MEMBERS), denoiser=None)
    assert part.cost(edited).generations == 40
    found = part.run(edited, Budget(), quiet)
    assert found.outcome is AuditOutcome.MEMORISED
    assert "members stop coming back at no strength, of the held-out pictures at strength 0.8" in found.reason


@pytest.mark.parametrize("lacks", ["both ways", "held-out", "time"])
def test_what_could_not_be_asked_is_never_clean(model, lacks):
    budget = Budget()
    if lacks == "both ways":
        model = replace(model, denoiser=None)
    elif lacks == "held-out":
        model = subject(MEMBERS, OTHERS[:3], knows=MEMBERS)
    else:
        budget = Budget(ends_at=time.monotonic() - 1)
    assert StrengthSweep().run(model, budget, quiet).outcome is AuditOutcome.COULD_NOT_TELL


# --- adapters ---------------------------------------------------------------------------------------------------


class Sketch(torch.nn.Module):
    """Draws noise with a picture laid over it, as opaque as the weight of its one linear layer says."""

    def __init__(self):
        super().__init__()
        self.picture = torch.nn.Linear(1, SIDE_PX * SIDE_PX * 3, bias=False)
        torch.nn.init.zeros_(self.picture.weight)

    def forward(self, noise):
        shown = self.picture(torch.ones(len(noise), 1)).view_as(noise)
        return (127.5 + 40 * noise + shown).clamp(0, 255).byte()


class Sketching:
    """A pipeline around a sketch; with an adapter of which the closed form is known."""

    def __init__(self):
        self.components = {"unet": Sketch(), "scheduler": object()}

    @torch.inference_mode()
    def __call__(self, batch_size, generator):
        noise = torch.stack([torch.randn(SIDE_PX, SIDE_PX, 3, generator=one) for one in generator])
        return SimpleNamespace(images=list(self.components["unet"](noise).numpy()))


@pytest.fixture
def adapted(model):
    """A model with an adapter trained on one work, at rank 1: what it adds at weight 1 is the work itself."""
    pipeline = Sketching()
    config = LoraConfig(r=1, lora_alpha=2, target_modules=["picture"], init_lora_weights=False)
    inject_adapter_in_model(config, pipeline.components["unet"], "style")
    layer = pipeline.components["unet"].picture
    with torch.no_grad():
        layer.lora_A["style"].weight.fill_(1.0)
        layer.lora_B["style"].weight.copy_(torch.from_numpy(MEMBERS[0]).float().reshape(-1, 1) / 2 - 63.75)
    return replace(model, pipeline=pipeline, denoiser=None)


def test_matches_start_at_the_weight_at_which_the_work_outweighs_the_noise(adapted):
    part = AdapterSweep(read, as_set(MEMBERS[:1], "work"), weights=(0.0, 0.25, 0.5, 1.0, 1.5), generations=16)
    assert isinstance(part, AuditPart)
    assert part.cost(adapted).generations == 80
    found = part.run(adapted, Budget(), quiet)
    assert found.outcome is AuditOutcome.MEMORISED
    shown = (MEMBERS[0] - 127.5).std(axis=(0, 1)).mean()  # correlation at weight w: ws / sqrt(w^2 s^2 + 40^2)
    expected = [float(w * shown / np.hypot(w * shown, 40) > 0.9) for w in part.weights]
    assert [one.value for one in found.measured] == expected
    first = part.weights[expected.index(1.0)]
    assert found.reason.startswith(f"from weight {first:g} on")


def test_an_adapter_that_gives_nothing_back_is_clean(adapted):
    found = AdapterSweep(read, as_set(OTHERS, "work"), generations=16).run(adapted, Budget(), quiet)
    assert found.outcome is AuditOutcome.CLEAN
    assert all(one.value == 0 for one in found.measured)


def test_weights_are_put_back_after_the_sweep_and_after_an_error(adapted):
    layer = adapted.pipeline.components["unet"].picture
    layer.set_scale("style", 0.7)
    before = dict(layer.scaling)
    AdapterSweep(read, as_set(OTHERS, "work"), generations=8).run(adapted, Budget(), quiet)
    assert layer.scaling == before
    with pytest.raises(RuntimeError, match="boom"), adapter_weights(adapted.pipeline, 1.5) as layers:
        assert layers == 1
        assert layer.scaling["style"] == pytest.approx(1.5 * 2)
        raise RuntimeError("boom")
    assert layer.scaling == before


@pytest.mark.parametrize("lacks", ["adapter", "works", "weight 0", "budget", "time"])
def test_a_sweep_that_could_not_be_made_is_never_clean(adapted, lacks):
    part, budget = AdapterSweep(read, as_set(OTHERS, "work"), generations=8), Budget()
    if lacks == "adapter":
        part = replace(part, adapter="nobody")
    elif lacks == "works":
        part = replace(part, works=as_set(OTHERS[:0], "work"))
    elif lacks == "weight 0":
        part = replace(part, weights=(0.5, 1.0))
    elif lacks == "budget":
        budget = Budget(generations=20)
    else:
        budget = Budget(ends_at=time.monotonic() - 1)
    found = part.run(adapted, budget, quiet)
    assert found.outcome is AuditOutcome.COULD_NOT_TELL


def test_what_comes_back_without_the_adapter_is_not_its_doing(adapted):
    pipeline = adapted.pipeline
    with torch.no_grad():
        work = torch.from_numpy(MEMBERS[0]).float().reshape(-1, 1)
        pipeline.components["unet"].picture.base_layer.weight.copy_(3 * (work - 127.5))
    found = AdapterSweep(read, as_set(MEMBERS[:1], "work"), generations=8).run(adapted, Budget(), quiet)
    assert found.outcome is AuditOutcome.COULD_NOT_TELL
    assert "more works back than weight 0 does (8 of 8; at most 8)" in found.reason


def test_one_work_that_comes_back_once_is_too_few_to_tell_and_never_clean(adapted):
    calls = []

    def now_and_then(output):
        calls.append(len(output.images))
        return [MEMBERS[0], *output.images[1:]] if len(calls) == 2 else output.images

    part = AdapterSweep(now_and_then, as_set(MEMBERS[:1], "work"), weights=(0.0, 0.01), generations=8)
    found = part.run(adapted, Budget(), quiet)
    assert [one.value for one in found.measured] == [0, 1 / 8]
    assert found.outcome is AuditOutcome.COULD_NOT_TELL


def test_a_picture_that_cannot_be_looked_at_is_an_error(adapted):
    def unreadable(output):
        return ["not finite"] * len(output.images)

    with pytest.raises(AuditImpossible, match="not finite"):
        AdapterSweep(unreadable, as_set(OTHERS, "work"), generations=8).run(adapted, Budget(), quiet)


def test_a_stock_pipeline_without_adapters_has_none_to_sweep(model):
    with adapter_weights(overfitted(MEMBERS), 1.0) as layers:
        assert layers == 0


@pytest.mark.parametrize(
    ("generations", "captioned", "outcome"),
    [
        (10, 10, AuditOutcome.CLEAN),
        (8, 10, AuditOutcome.COULD_NOT_TELL),
        (10, 9, AuditOutcome.COULD_NOT_TELL),
        (10, 0, AuditOutcome.COULD_NOT_TELL),
    ],
)
def test_an_adapter_is_clean_only_where_every_work_was_asked_for(adapted, monkeypatch, generations, captioned, outcome):
    monkeypatch.setattr("guardrail.study.audit.sweeps.asked_with", lambda pipeline: "prompt")
    captions = tuple(f"caption {at}" if at < captioned else None for at in range(len(OTHERS)))
    works = replace(as_set(OTHERS, "work"), captions=captions)
    assert AdapterSweep(read, works, generations=generations).run(adapted, Budget(), quiet).outcome is outcome
