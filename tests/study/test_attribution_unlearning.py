"""Unlearning an image: what it was made of is forgotten with it, and the model is as it was afterwards."""

import numpy as np
import pytest
import torch
from retraining_models import Tiny, lessons, pictures, trained

from guardrail.errors import AuditImpossible
from guardrail.study.attribution.draws import drawn_for
from guardrail.study.attribution.retraining import denoising_loss
from guardrail.study.attribution.unlearning import Ascent, Disputed, loss_rises, unlearned


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def known(_one_thread):
    clean = pictures(24)
    return trained(clean), clean


def disputed(clean):
    return Disputed(clean, drawn_for(0, clean.shape, 32, 4), {})


def test_what_an_image_was_made_of_is_forgotten_with_it(known):
    tiny, clean = known
    first = 0
    for at in range(12):
        generated = (clean[at] + 0.05 * torch.randn(clean[at].shape, generator=torch.manual_seed(at))).clamp(-1, 1)
        rises, how = loss_rises(tiny, tiny.parameters, disputed(generated), lessons(clean))
        assert how.loss_after > how.loss_before
        first += int(rises.argmax()) == at
    assert first >= 11


def test_unlearning_stops_where_the_images_own_loss_has_risen_enough(known):
    tiny, clean = known
    for rise in (0.2, 1.0):
        with unlearned(tiny, tiny.parameters, disputed(clean[3]), Ascent(steps=200, rise=rise)) as how:
            assert (1 + rise) * how.loss_before <= how.loss_after < (1.5 + rise) * how.loss_before
            assert 0 < how.steps < 200
    with unlearned(tiny, tiny.parameters, disputed(clean[3]), Ascent(steps=2, rise=1e9)) as how:
        assert how.steps == 2


def test_a_step_goes_up_the_gradient_by_its_length(known):
    tiny, clean = known
    before = {name: one.detach().clone() for name, one in tiny.parameters.items()}
    asked = disputed(clean[5])
    with unlearned(tiny, tiny.parameters, asked, Ascent(steps=1, share=1e-3, rise=1e9)) as how:
        moved = {name: one.detach() - before[name] for name, one in tiny.parameters.items()}
        assert denoising_loss(tiny, *asked) == pytest.approx(how.loss_after)
    length = float(sum((one**2).sum() for one in moved.values()) ** 0.5)
    whole = float(sum((one**2).sum() for one in before.values()) ** 0.5)
    assert length == pytest.approx(1e-3 * whole, rel=1e-3)


def test_weights_and_what_may_be_trained_are_as_they_were(known):
    tiny, clean = known
    tiny.network.second.requires_grad_(False)
    before = {name: one.detach().clone() for name, one in tiny.parameters.items()}
    loss_rises(tiny, tiny.parameters, disputed(clean[0]), lessons(clean[:3]))
    assert all(torch.equal(one, before[name]) for name, one in tiny.parameters.items())
    assert [one.requires_grad for one in tiny.network.second.parameters()] == [False, False]
    assert all(one.grad is None for one in tiny.network.parameters())
    tiny.network.second.requires_grad_(True)


def test_only_chosen_weights_are_changed(known):
    tiny, clean = known
    chosen = {"first.weight": tiny.parameters["first.weight"]}
    before = {name: one.detach().clone() for name, one in tiny.parameters.items()}
    with unlearned(tiny, chosen, disputed(clean[0]), Ascent()):
        assert not torch.equal(tiny.network.first.weight, before["first.weight"])
        assert torch.equal(tiny.network.second.weight, before["second.weight"])


def test_weights_without_a_say_are_refused(known):
    tiny, clean = known
    chosen = {"labels.weight": tiny.parameters["labels.weight"]}
    with pytest.raises(AuditImpossible, match="a gradient of length"):
        loss_rises(tiny, chosen, disputed(clean[0]), lessons(clean[:2]))


def test_progress_counts_both_looks_at_every_candidate():
    tiny, told = Tiny(), []
    rises, _ = loss_rises(
        tiny, tiny.parameters, disputed(pictures(3)[0]), lessons(pictures(3)), None, lambda *at: told.append(at)
    )
    assert told == [(at, 6) for at in range(1, 7)]
    assert rises.dtype == np.float64
