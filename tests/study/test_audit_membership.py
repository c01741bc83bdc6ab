import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from attacked import asked, pictures, quiet, subject

from guardrail.records import AuditOutcome
from guardrail.study.audit.asks import AuditPart, Budget
from guardrail.study.audit.membership import (
    ATTACKS,
    Membership,
    denoising_losses,
    inversion_errors,
    membership_traits,
    proximal_errors,
)

MEMBERS, OTHERS = pictures(12, 1), pictures(12, 2)


@pytest.fixture(scope="module")
def model():
    return subject(MEMBERS, OTHERS, knows=MEMBERS)


def test_losses_of_the_optimal_denoiser_are_those_of_its_closed_form(model):
    at = 50  # little noise: the posterior is the nearest training picture alone
    kept = float(model.denoiser.alphas[at])
    for pixels in (MEMBERS, OTHERS):
        clean = model.denoiser.encode(pixels)
        squared = ((clean[:, None] - model.denoiser.encode(MEMBERS)[None]) ** 2).flatten(2).mean(2).min(1).values
        losses = denoising_losses(model.denoiser, clean, asked(pixels), (at,), seed=0)[:, 0]
        assert losses == pytest.approx(kept / (1 - kept) * squared.numpy(), rel=0.02, abs=1e-6)


def test_a_member_has_no_proximal_and_no_inversion_error(model):
    clean, others = model.denoiser.encode(MEMBERS), model.denoiser.encode(OTHERS)
    for normalised in (False, True):
        found = proximal_errors(model.denoiser, clean, asked(MEMBERS), 200, normalised=normalised)
        apart = proximal_errors(model.denoiser, others, asked(OTHERS), 200, normalised=normalised)
        assert found.max() < 0.02 < 0.5 < apart.min()
    assert inversion_errors(model.denoiser, clean, asked(MEMBERS), 100).max() < 1e-8
    assert inversion_errors(model.denoiser, others, asked(OTHERS), 100).max() > 1e-8


class Recording:
    """Predicts a fixed noise at timestep 0 and remembers what it was shown later."""

    alphas = np.linspace(0.99, 0.01, 1000)

    def __init__(self, noise):
        self.noise, self.shown = noise, []

    def predict_noise(self, noisy, timestep, captions, labels=()):
        self.shown.append(noisy)
        return self.noise


def test_normalised_proximal_noise_has_the_mean_modulus_of_normal_noise():
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 0.1]).view(
        2, 1, 1, 1
    )
    model, clean = Recording(noise), torch.zeros(2, 3, 4, 4)
    proximal_errors(model, clean, asked(MEMBERS[:2]), 500, normalised=True)
    added = model.shown[1] / (1 - model.alphas[500]) ** 0.5
    assert added.abs().flatten(1).mean(1).numpy() == pytest.approx((2 / np.pi) ** 0.5, rel=1e-5)


def test_all_pictures_see_the_same_noise():
    model, clean = Recording(torch.zeros(2, 3, 4, 4)), torch.zeros(2, 3, 4, 4)
    denoising_losses(model, clean, asked(MEMBERS[:2]), (100, 500), seed=3, draws=2)
    assert len(model.shown) == 4
    assert all(torch.equal(one[0], one[1]) for one in model.shown)
    assert not torch.equal(model.shown[0], model.shown[1])


def test_every_attack_has_a_trait_for_every_picture(model):
    traits = membership_traits(model.denoiser, asked(OTHERS), seed=0)
    assert tuple(traits) == ATTACKS
    assert all(values.shape == (12,) and np.isfinite(values).all() for values in traits.values())


def test_the_part_is_an_audit_part(model):
    part = Membership()
    assert isinstance(part, AuditPart)
    assert part.cost(model).evaluations == 24 * 24


def test_an_overfitted_model_knows_its_members_and_says_so_twice_alike(model):
    findings = [Membership().run(model, Budget(), quiet) for _ in range(2)]
    assert findings[0].outcome is AuditOutcome.MEMORISED
    assert findings[0].part == "membership"
    assert findings[0] == findings[1]
    area = findings[0].measured[0]
    assert area.value == 1.0
    assert area.low > 0.65


def test_a_model_that_never_saw_either_is_clean():
    unknown = subject(pictures(150, 3), pictures(150, 4), knows=MEMBERS)
    found = Membership().run(unknown, Budget(), quiet)
    assert found.outcome is AuditOutcome.CLEAN
    assert 0.4 < found.measured[0].value < 0.6


@pytest.mark.parametrize("lacks", ["denoiser", "held-out", "time", "evaluations"])
def test_what_could_not_be_asked_is_never_clean(model, lacks):
    budget = Budget()
    if lacks == "denoiser":
        model = replace(model, denoiser=None)
    elif lacks == "held-out":
        model = subject(MEMBERS, OTHERS[:7], knows=MEMBERS)
    elif lacks == "time":
        budget = Budget(ends_at=time.monotonic() - 1)
    else:
        budget = Budget(evaluations=24 * 15)
    found = Membership().run(model, budget, quiet)
    assert found.outcome is AuditOutcome.COULD_NOT_TELL
    assert found.reason
