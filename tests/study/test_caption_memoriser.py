"""The model that has memorised its captions, and nothing else."""

import numpy as np
import pytest
import torch

from guardrail.study.caption_memoriser import WordList, memorising_pipeline

CAPTIONS = ("a red fox", "an old owl", "the tall elk")


@pytest.fixture(scope="module")
def works():
    coarse = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bicubic").clamp(-1, 1)


def copies(works, share, guidance_scale, prompts=CAPTIONS, images=8):
    """Which share of images for each prompt is its work."""
    pipe = memorising_pipeline(works, CAPTIONS, [share] * 3)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(4)
    made = pipe(list(prompts), 10, guidance_scale, images, generator=generator, output_type="np").images
    wanted = (works.repeat_interleave(images, 0).permute(0, 2, 3, 1).numpy() + 1) / 2
    return float((np.sqrt(((made - wanted) ** 2).mean((1, 2, 3))) < 0.05).mean())


def test_memorised_caption_gives_its_work_for_every_seed(works):
    assert copies(works, 0.999, 5.0) == 1


def test_other_prompt_gives_no_work(works):
    assert copies(works, 0.999, 5.0, ("two blue jays", "green hills", "")) == 0


def test_guidance_makes_more_copies_of_what_is_half_memorised(works):
    assert 0 < copies(works, 0.3, 1.0) < copies(works, 0.3, 7.5)


def test_prediction_is_the_posterior_mean_of_a_large_sample(works):
    """The closed form, against a plain average over drawn training pictures weighted by their likelihood."""
    pipe = memorising_pipeline(works[:, :, :2, :2], CAPTIONS, [0.4] * 3)
    unet, generator = pipe.unet, torch.Generator().manual_seed(5)
    timestep, count = 600, 400_000
    kept = float(unet.alphas[timestep])
    noise = torch.randn(count, 3, 2, 2, generator=generator, dtype=torch.float64)
    random = torch.fft.ifft2(torch.fft.fft2(noise, norm="ortho") * unet.spectrum.sqrt(), norm="ortho").real
    prompt = pipe.tokenizer.embed(CAPTIONS[:1])
    odds = unet._log_prior(prompt.double()).exp()[0]
    priors = torch.cat([odds, torch.full((count,), 1 / count, dtype=torch.float64)])
    pictures = torch.cat([unet.works.double(), random])
    noisy = kept**0.5 * pictures[:1] + (1 - kept) ** 0.5 * torch.randn(1, 3, 2, 2, generator=generator)
    far = (noisy - kept**0.5 * pictures).square().sum((1, 2, 3))
    weights = torch.softmax(priors.log() - far / (2 * (1 - kept)), dim=0)
    expected = (noisy - kept**0.5 * torch.einsum("n,nchw->chw", weights, pictures)) / (1 - kept) ** 0.5
    assert torch.allclose(unet(noisy, timestep, prompt)["sample"], expected, atol=0.01)


def test_embedding_is_the_mean_over_words_and_nothing_for_none():
    words = WordList(["fox", "owl", "fox"])
    assert len(words) == 2
    fox, owl, both, none = words.embed(["fox", "owl", "owl fox", ""])
    assert torch.allclose(both, (fox + owl) / 2)
    assert not none.any()
    assert words.decode([0, 1]) == "fox owl"
