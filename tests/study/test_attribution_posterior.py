"""The patch posterior: an ideal denoiser's weights, a noise level from pictures alone, and a re-ranking by it."""

import numpy as np
import pytest
import torch

from guardrail.study.attribution.posterior import Patches, data_noise, patch_weights, posterior, retrieve
from guardrail.study.audit.shapes import random_shapes
from guardrail.study.optimal_denoiser import OptimalDenoiser

SIDE = 16
WHOLE = Patches(SIDE, 1)


@pytest.fixture(scope="module")
def pictures():
    return random_shapes(24, 5).pixels(SIDE)


@pytest.mark.parametrize("timestep", [400, 700, 950])
def test_one_patch_gives_the_optimal_denoisers_weights(pictures, timestep):
    works = torch.from_numpy(pictures).permute(0, 3, 1, 2).double() / 127.5 - 1
    denoiser = OptimalDenoiser(images=len(works), sample_size=SIDE).double()
    denoiser.works.data.copy_(works)
    kept = float(denoiser.alphas[timestep])
    noisy = kept**0.5 * works[3:5] + (1 - kept) ** 0.5 * torch.randn(2, 3, SIDE, SIDE, generator=torch.manual_seed(1))
    noise = denoiser(noisy, timestep, return_dict=False)[0]
    mean = ((noisy - (1 - kept) ** 0.5 * noise) / kept**0.5).flatten(1).numpy()
    weights = patch_weights(
        noisy.permute(0, 2, 3, 1).numpy(), works.permute(0, 2, 3, 1).numpy(), kept, Patches(SIDE, 1)
    )
    assert np.allclose(weights @ works.flatten(1).numpy(), mean, atol=1e-5)
    assert np.allclose(weights.sum(axis=1), 1)


def test_weights_are_the_mean_of_softmaxes_over_patches(pictures):
    query, images, level = pictures[:1], pictures[1:9], 0.4
    found = posterior(query, images, level, Patches(5, 4))[0]
    starts = [0, 4, 8, 11]  # the last patch touches the edge
    as_values = [one.astype(float) / 127.5 - 1 for one in (query[0], *images)]
    summed = np.zeros(8)
    for top in starts:
        for left in starts:
            own, *others = (one[top : top + 5, left : left + 5].ravel() for one in as_values)
            likely = np.exp([-((own - other) ** 2).sum() / (2 * level**2) for other in others])
            summed += likely / likely.sum()
    assert np.allclose(found, summed / 16, atol=1e-9)


def test_an_image_pasted_from_two_owes_to_both_in_proportion(pictures):
    pasted = pictures[2].copy()
    pasted[: SIDE // 4] = pictures[7][: SIDE // 4]
    weights = posterior(pasted[None], pictures, None, Patches(4, 4))[0]
    assert set(np.argsort(-weights)[:2]) == {2, 7}
    assert weights[2] > weights[7] > 0.1
    whole = posterior(pasted[None], pictures, None, WHOLE)[0]
    assert whole[7] < 0.01, "by the whole picture the smaller part is overlooked"


def test_weights_add_up_to_one_and_flatten_with_noise(pictures):
    sharp, flat = posterior(pictures[:3], pictures, 0.02), posterior(pictures[:3], pictures, 1e3)
    assert np.allclose(sharp.sum(axis=1), 1)
    assert (sharp.argmax(axis=1) == [0, 1, 2]).all()
    assert np.allclose(flat, 1 / len(pictures), atol=1e-3)


def test_noise_level_is_found_again_in_noisy_copies():
    chance = np.random.default_rng(3)
    level = 0.2  # of values in -1..1: every picture is a common one with independent noise of level / sqrt(2)
    common = chance.uniform(60, 190, (SIDE, SIDE, 3))
    noise = chance.standard_normal((40, SIDE, SIDE, 3)) * level / np.sqrt(2) * 127.5
    pictures = np.rint(common + noise).clip(0, 255).astype(np.uint8)
    assert data_noise(pictures, Patches(SIDE, 1)) == pytest.approx(level, rel=0.1)


def test_noise_level_is_not_drawn_down_by_copies(pictures):
    with_copies = np.concatenate([pictures, np.repeat(pictures[:1], 10, axis=0)])
    assert data_noise(with_copies) == pytest.approx(data_noise(pictures), rel=0.35)
    assert data_noise(with_copies) > 0.05


@pytest.mark.parametrize("count", [0, 1, 2])
def test_pictures_that_do_not_differ_have_the_least_noise(pictures, count):
    assert data_noise(np.repeat(pictures[:1], count, axis=0)) == pytest.approx(2 / 255)


def test_noise_of_nothing_is_refused(pictures):
    with pytest.raises(ValueError, match="expected one above 0"):
        posterior(pictures[:1], pictures, 0.0)


def test_retrieval_weighs_the_nearest_only_and_ranks_them_anew(pictures):
    similarities = np.linspace(0.9, 0.1, len(pictures))  # the descriptor takes 0 for the nearest; it is 5 in truth
    asked = []

    def read(rows):
        asked.append(rows)
        return pictures[rows]

    found = retrieve(similarities, pictures[5], read, limit=8)
    assert asked[0].tolist() == list(range(8))
    assert found.rows[0] == 5
    assert found.posteriors.sum() == pytest.approx(1)
    assert (np.diff(found.posteriors) <= 0).all()
    assert found.similarities[0] == pytest.approx(similarities[5])


def test_retrieval_among_no_pictures_finds_none(pictures):
    found = retrieve(np.zeros(0), pictures[0], lambda rows: pictures[rows])
    assert len(found.rows) == len(found.posteriors) == 0
