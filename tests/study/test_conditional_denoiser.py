"""The closed-form model of prompts does what it is said to do."""

import pytest
import torch

from guardrail.study.conditional_denoiser import prompt_embedding, prompted_pipeline


def pictures(count, seed):
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (16, 16), mode="bicubic").clamp(-1, 1)


@pytest.fixture(scope="module")
def groups():
    return [pictures(1, 1), pictures(5, 2)]


def generated(pipe, prompt, count=8):
    images = pipe(
        prompt_embeds=prompt_embedding(prompt, 2),
        negative_prompt_embeds=prompt_embedding(None, 2),
        num_inference_steps=20,
        guidance_scale=1.0,
        num_images_per_prompt=count,
        height=16,
        width=16,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1


def test_memorised_prompt_gives_its_picture_back_for_every_seed(groups):
    images = generated(prompted_pipeline(groups), 0)
    assert (images - groups[0]).abs().max() < 0.02


def test_other_prompt_gives_new_pictures_of_the_same_mean_and_spread(groups):
    images = generated(prompted_pipeline(groups), 1, count=200)
    assert torch.cdist(images[:8].flatten(1), images[:8].flatten(1)).fill_diagonal_(9).min() > 1.0
    assert torch.cdist(images.flatten(1), groups[1].flatten(1)).min() > 0.5
    mean = groups[1].mean(0)
    assert (images.mean(0) - mean).abs().max() < 0.3
    spread, expected = (images - mean).square().mean(), (groups[1] - mean).square().mean()
    assert spread == pytest.approx(float(expected), rel=0.3)  # 20 steps draw a little in


def test_prediction_is_the_posterior_mean_by_numbers(groups):
    """Against plain linear algebra with the whole covariance."""
    unet = prompted_pipeline(groups).unet
    noisy, at = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)), 500
    kept = unet.alphas[at].double()
    flat = groups[1].flatten(1).double()
    mean, away = flat.mean(0), flat - flat.mean(0)
    covariance = away.T @ away / len(flat)
    inverse = torch.linalg.inv(kept * covariance + (1 - kept) * torch.eye(len(mean), dtype=torch.float64))
    posterior = mean + kept.sqrt() * covariance @ inverse @ (noisy.flatten().double() - kept.sqrt() * mean)
    expected = (noisy.flatten().double() - kept.sqrt() * posterior) / (1 - kept).sqrt()
    assert torch.allclose(unet(noisy, at, prompt_embedding(1, 2)).sample.flatten().double(), expected, atol=1e-4)


def test_without_a_prompt_prompts_are_weighed_by_likelihood_and_pictures(groups):
    unet = prompted_pipeline(groups).unet
    noisy, at = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2)), 990
    kept = unet.alphas[at].double()
    shares = []
    for group in groups:
        flat = group.flatten(1).double()
        away = flat - flat.mean(0)
        spread = kept * away.T @ away / len(flat) + (1 - kept) * torch.eye(flat.shape[1], dtype=torch.float64)
        normal = torch.distributions.MultivariateNormal(kept.sqrt() * flat.mean(0), spread)
        shares.append(normal.log_prob(noisy.flatten().double()) + torch.tensor(float(len(group))).log())
    one, other = torch.softmax(torch.stack(shares), 0).float()
    predictions = [unet(noisy, at, prompt_embedding(prompt, 2)).sample for prompt in (0, 1, None)]
    assert torch.allclose(one * predictions[0] + other * predictions[1], predictions[2], atol=1e-4)


def test_tuple_is_returned_when_asked(groups):
    unet = prompted_pipeline(groups).unet
    noisy = torch.zeros(1, 3, 16, 16)
    given = prompt_embedding(None, 2)
    assert torch.equal(unet(noisy, 500, given, return_dict=False)[0], unet(noisy, 500, given).sample)
