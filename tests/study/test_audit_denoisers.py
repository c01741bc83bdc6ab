"""The network inside a pipeline gives the same noise whatever it predicts, and strange ones are refused."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMPipeline, DDIMScheduler, UNet2DConditionModel, UNet2DModel

from guardrail.study import OptimalDenoiser, overfitted_pipeline
from guardrail.study.audit import access_to, side_of
from guardrail.study.audit.shapes import random_shapes

SIDE = 16


@pytest.fixture(scope="module")
def pixels():
    return random_shapes(3, 7).pixels(SIDE)


def as_works(pixels):
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


class Predicts(OptimalDenoiser):
    """The optimal denoiser as it would be if trained to predict something else than noise."""

    says = "epsilon"

    def forward(self, sample, timestep, return_dict=True):
        noise = super().forward(sample, timestep, return_dict=False)[0]
        kept = self.alphas[torch.as_tensor(timestep).long().expand(len(sample))][:, None, None, None]
        clean = (sample - (1 - kept).sqrt() * noise) / kept.sqrt()
        return ({"sample": clean, "v_prediction": kept.sqrt() * noise - (1 - kept).sqrt() * clean}[self.says],)


@pytest.mark.parametrize("says", ["sample", "v_prediction"])
def test_noise_is_noise_whatever_is_predicted(pixels, says):
    plain = overfitted_pipeline(as_works(pixels))
    network = Predicts(images=3, sample_size=SIDE)
    network.works.data.copy_(as_works(pixels))
    network.says = says
    other = DDIMPipeline(unet=network, scheduler=DDIMScheduler(prediction_type=says))
    noisy = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    expected = access_to(plain, "cpu").predict_noise(noisy, 500, [None] * 3)
    assert torch.allclose(access_to(other, "cpu").predict_noise(noisy, 500, [None] * 3), expected, atol=1e-3)


def test_optimal_denoiser_sees_the_noise_in_its_own_works(pixels):
    access = access_to(overfitted_pipeline(as_works(pixels)), "cpu")
    clean = access.encode(pixels)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    kept = float(access.alphas[300])
    seen = access.predict_noise(kept**0.5 * clean + (1 - kept) ** 0.5 * noise, 300, [None] * 3)
    assert float((seen - noise).abs().max()) < 1e-3


def test_pictures_come_back_through_encode_and_decode(pixels):
    access = access_to(overfitted_pipeline(as_works(pixels)), "cpu")
    assert np.array_equal(access.decode(access.encode(pixels)), pixels)
    assert access.encode(random_shapes(1, 7).pixels(40)).shape == (1, 3, SIDE, SIDE)
    assert access.alphas.shape == (1000,)
    assert access.alphas[0] > access.alphas[-1] > 0


class Latent:
    """A pipeline of latents and prompts, as Stable Diffusion is one."""

    def __init__(self, in_channels=4):
        torch.manual_seed(0)
        self.vae = AutoencoderKL(
            block_out_channels=(4, 4),
            norm_num_groups=2,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
        )
        self.unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=in_channels,
            out_channels=4,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
            cross_attention_dim=6,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )
        self.scheduler = DDIMScheduler()
        self.asked = []

    def encode_prompt(self, prompt, device, num_images_per_prompt, do_classifier_free_guidance):
        self.asked.append(prompt)
        return torch.full((1, 3, 6), float(len(prompt))), None


def test_latent_model_is_asked_in_its_latents_with_its_captions(pixels):
    pipe = Latent()
    access = access_to(pipe, "cpu")
    assert side_of(pipe) == SIDE
    clean = access.encode(pixels)
    assert clean.shape == (3, 4, 8, 8)
    assert torch.equal(clean, access.encode(pixels))
    assert access.decode(clean).shape == (3, SIDE, SIDE, 3)
    seen = access.predict_noise(clean, 500, ["a", "longer caption", None])
    one = access.predict_noise(clean[1:2], 500, ["longer caption"])
    assert torch.allclose(seen[1:2], one, atol=1e-5)
    assert not torch.allclose(access.predict_noise(clean[1:2], 500, ["a"]), one, atol=1e-5)
    assert sorted(pipe.asked) == ["", "a", "longer caption"]


def test_class_label_reaches_the_network(pixels):
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=SIDE,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        num_class_embeds=5,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    access = access_to(DDIMPipeline(unet=network, scheduler=DDIMScheduler()), "cpu")
    clean = access.encode(pixels)
    one, other = (access.predict_noise(clean, 10, [None] * 3, [label] * 3) for label in (1, 4))
    assert not torch.allclose(one, other)


def test_network_with_conditions_that_are_not_understood_is_not_asked():
    assert access_to(Latent(in_channels=9), "cpu") is None
    assert access_to(object(), "cpu") is None
