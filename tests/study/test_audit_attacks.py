import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from attacked import SIDE_PX, asked, pictures, quiet, subject

from guardrail.errors import AuditImpossible
from guardrail.records import AuditOutcome
from guardrail.study.audit.asks import AuditPart, Budget
from guardrail.study.audit.attacks import Inpainting, correlations, distances, noise_levels, with_hidden_half

MEMBERS, OTHERS = pictures(10, 1), pictures(10, 2)
HALF = SIDE_PX // 2


@pytest.fixture(scope="module")
def model():
    return subject(MEMBERS, OTHERS, knows=MEMBERS)


def test_the_optimal_denoiser_gives_hidden_halves_of_members_back(model):
    hidden = MEMBERS.copy()
    hidden[:, :, HALF:] = 0  # nothing of it may be used
    clean = with_hidden_half(model.denoiser, model.denoiser.encode(hidden), asked(hidden), seed=0)
    off = np.abs(model.denoiser.decode(clean).astype(int) - MEMBERS).reshape(10, -1).max(1)
    assert (off <= 2).sum() >= 9  # one in forty gets stuck between two members


def test_of_a_held_out_picture_a_half_of_some_member_comes(model):
    clean = with_hidden_half(model.denoiser, model.denoiser.encode(OTHERS), asked(OTHERS), seed=0)
    made = model.denoiser.decode(clean)
    assert np.array_equal(made[:, :, :HALF], OTHERS[:, :, :HALF])
    apart = np.abs(made[:, None, :, HALF:].astype(int) - MEMBERS[None, :, :, HALF:]).mean((2, 3, 4)).min(1)
    assert (apart < 8).all()


def test_noise_levels_fall_to_the_first_timestep_or_near():
    alphas = np.linspace(0.999, 0.0, 1000)
    levels = noise_levels(alphas, 20)
    assert len(levels) == 20
    assert alphas[levels[0]] >= 0.004 > alphas[levels[0] + 1]
    assert list(levels) == sorted(levels, reverse=True)
    assert levels[-1] < 60
    assert noise_levels(alphas, 1, 0.5) == (noise_levels(alphas, 9, 0.5)[0],)


def test_distance_and_correlation_of_known_pictures():
    black, white = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 255, np.uint8)
    ramp = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(3, axis=3)
    assert distances(black, white) == pytest.approx(1.0)
    assert correlations(ramp, 3 * ramp + 40) == pytest.approx(1.0)
    assert correlations(ramp, 200 - ramp) == pytest.approx(-1.0)
    assert correlations(ramp, white) == 0.0


def test_an_overfitted_model_is_found_by_its_hidden_halves(model):
    part = Inpainting(steps=8, draws=1)
    assert isinstance(part, AuditPart)
    assert part.cost(model).evaluations == 20 * 8 * 3
    found = part.run(model, Budget(), quiet)
    assert found.outcome is AuditOutcome.MEMORISED
    figures = {one.name: one.value for one in found.measured}
    assert figures["members given back"] >= 0.9
    assert figures["held-out pictures given back"] < 0.3
    assert found == part.run(model, Budget(), quiet)


def test_a_model_that_never_saw_either_is_clean():
    unknown = subject(pictures(150, 3), pictures(150, 4), knows=MEMBERS)
    found = Inpainting(most_each=150, steps=4, draws=1).run(unknown, Budget(), quiet)
    assert found.outcome is AuditOutcome.CLEAN


def test_flat_halves_are_not_asked_about():
    flat = MEMBERS.copy()
    flat[:, :, HALF:] = 255
    found = Inpainting(steps=2, draws=1).run(subject(flat, OTHERS, knows=flat), Budget(), quiet)
    assert found.outcome is AuditOutcome.COULD_NOT_TELL
    assert "10 pictures with a half to give back" in found.reason


class Painter:
    """An inpainting pipeline that knows some pictures by their left halves, and leaves others as they are."""

    def __init__(self, knows, gives=True):
        self.knows, self.gives, self.prompts = knows, gives, []

    def __call__(self, prompt, image, mask_image, generator):
        self.prompts.append(prompt)
        picture = np.asarray(image).copy()
        hidden = np.asarray(mask_image) > 0
        assert hidden[:, HALF:].all()
        assert not hidden[:, :HALF].any()
        picture[hidden] = np.random.default_rng(generator.initial_seed()).integers(0, 256, (hidden.sum(), 3))
        for known in self.knows:
            if np.array_equal(known[:, :HALF], picture[:, :HALF]):
                picture = known
        return SimpleNamespace(images=[picture] if self.gives else [])


def test_an_inpainting_pipeline_is_called(model):
    painter = Painter(MEMBERS)
    painted = replace(model, pipeline=painter, denoiser=None)
    part = Inpainting(read=lambda output: output.images, draws=1)
    assert part.cost(painted).generations == 20
    found = part.run(painted, Budget(), quiet)
    assert found.outcome is AuditOutcome.MEMORISED
    assert len(painter.prompts) == 20


def test_a_call_that_gives_no_picture_is_not_taken_for_nothing_given_back(model):
    painted = replace(model, pipeline=Painter(MEMBERS, gives=False), denoiser=None)
    with pytest.raises(AuditImpossible, match="no picture"):
        Inpainting(read=lambda output: output.images).run(painted, Budget(), quiet)


@pytest.mark.parametrize("lacks", ["both ways", "held-out", "time"])
def test_what_could_not_be_asked_is_never_clean(model, lacks):
    budget = Budget()
    if lacks == "both ways":
        model = replace(model, denoiser=None)
    elif lacks == "held-out":
        model = subject(MEMBERS, OTHERS[:3], knows=MEMBERS)
    else:
        budget = Budget(ends_at=time.monotonic() - 1)
    assert Inpainting().run(model, budget, quiet).outcome is AuditOutcome.COULD_NOT_TELL
