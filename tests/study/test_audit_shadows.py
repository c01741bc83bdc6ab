from dataclasses import replace

import numpy as np
import pytest
from attacked import as_set, overfitted, pictures, quiet, subject
from scipy.stats import norm

from guardrail.errors import AuditImpossible
from guardrail.records import AuditOutcome
from guardrail.study.audit.asks import AuditPart, Budget
from guardrail.study.audit.denoisers import access_to
from guardrail.study.audit.shadows import Shadow, ShadowModels, likelihood_ratios, read_shadow
from guardrail.study.audit.telling import area_under

MEMBERS, OTHERS = pictures(10, 1), pictures(10, 2)
NAMES = [*as_set(MEMBERS, "member").names, *as_set(OTHERS, "other").names]


def shadow(rows):
    """A model that was trained on some of all twenty pictures."""
    known = np.concatenate([MEMBERS, OTHERS])[rows]
    return Shadow(access_to(overfitted(known), "cpu"), frozenset(NAMES[row] for row in rows))


@pytest.fixture(scope="module")
def shadows():
    chance = np.random.default_rng(0)
    return tuple(shadow(chance.permutation(20)[:10]) for _ in range(8))


def test_the_ratio_is_that_of_both_normal_densities():
    shadows = np.array([[-4.0, -5.0, 0.0, 1.0, 2.0], [1.0, 0.0, 4.0, 5.0, 6.0]])
    known = np.array([[True, True, False, False, False]] * 2)
    found = likelihood_ratios(np.array([-4.0, 5.0]), shadows, known)
    within = np.sqrt(4 * 0.25 / 2)  # one spread for all, pooled over both pictures: 1 degree each
    without = np.sqrt(4 * 1.0 / 4)
    wanted = [
        norm.logpdf(-4.0, -4.5, within) - norm.logpdf(-4.0, 1.0, without),
        norm.logpdf(5.0, 0.5, within) - norm.logpdf(5.0, 5.0, without),
    ]
    assert found.online
    assert found.ratios == pytest.approx(wanted)


def test_without_models_trained_on_it_a_loss_is_compared_with_the_others_alone():
    shadows = np.array([[1.0, 2.0, 3.0], [11.0, 12.0, 13.0]])
    found = likelihood_ratios(np.array([0.0, 13.0]), shadows, np.zeros((2, 3), bool))
    assert not found.online
    assert found.ratios == pytest.approx([2.0, -1.0])


def test_from_sixty_four_shadows_on_each_picture_has_its_own_spread():
    chance = np.random.default_rng(0)
    shadows = chance.normal(size=(2, 64)) * np.array([[1.0], [10.0]])
    known = np.zeros((2, 64), bool)
    found = likelihood_ratios(np.array([-3.0, -3.0]), shadows, known)
    assert found.ratios == pytest.approx((shadows.mean(1) + 3) / shadows.std(1, ddof=1))


def test_ratios_take_out_how_easy_pictures_are():
    chance = np.random.default_rng(0)
    ease = chance.normal(0, 3, 200)
    member = np.arange(200) < 100
    known = chance.random((200, 16)) < 0.5
    losses = ease - 1.0 * member + chance.normal(0, 0.5, 200)
    shadows = ease[:, None] - 1.0 * known + chance.normal(0, 0.5, (200, 16))
    ratios = likelihood_ratios(losses, shadows, known).ratios
    assert area_under(ratios[member], ratios[~member]) > 0.85
    assert area_under(-losses[member], -losses[~member]) < 0.7


def test_shadows_find_what_an_overfitted_model_knows(shadows):
    part = ShadowModels(shadows)
    assert isinstance(part, AuditPart)
    model = subject(MEMBERS, OTHERS, knows=MEMBERS)
    assert part.cost(model).evaluations == 20 * 9 * 9
    found = part.run(model, Budget(), quiet)
    assert found.outcome is AuditOutcome.MEMORISED
    assert found.measured[0].value == 1.0
    assert "8 models trained with and without each picture" in found.reason


@pytest.mark.parametrize("lacks", ["denoiser", "shadows", "held-out", "models without"])
def test_what_could_not_be_compared_is_never_clean(shadows, lacks):
    model, part = subject(MEMBERS, OTHERS, knows=MEMBERS), ShadowModels(shadows)
    if lacks == "denoiser":
        model = replace(model, denoiser=None)
    elif lacks == "shadows":
        part = ShadowModels(shadows[:2])
    elif lacks == "held-out":
        model = subject(MEMBERS, OTHERS[:4], knows=MEMBERS)
    else:
        part = ShadowModels(tuple(replace(one, members=frozenset(NAMES)) for one in shadows))
    assert part.run(model, Budget(), quiet).outcome is AuditOutcome.COULD_NOT_TELL


def test_a_shadow_is_read_with_its_members(tmp_path, shadows):
    (tmp_path / "members.txt").write_text("member0\nother 3.png\n\n", encoding="utf-8")
    found = read_shadow(tmp_path, lambda folder: shadows[0].denoiser)
    assert found.members == {"member0", "other 3.png"}
    assert found.denoiser is shadows[0].denoiser


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_shadow_that_does_not_say_what_it_knows_is_an_error(tmp_path, shadows, content):
    if content is not None:
        (tmp_path / "members.txt").write_text(content)
    with pytest.raises(AuditImpossible, match=r"members\.txt"):
        read_shadow(tmp_path, lambda folder: shadows[0].denoiser)
