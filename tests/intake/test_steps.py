"""What a step says of the image the model is heading for."""

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL
from watch_samples import works

from guardrail.carriers import Unread
from guardrail.intake.steps import pictures_of, predicted_start, sigma_of

VARIANCE_PRESERVING = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LCMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
]
SIGMA_SCALED = [
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "KDPM2DiscreteScheduler",
]
FLOWS = ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"]
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # of the schedulers


def noisy(name, **config):
    """A scheduler, the middle of its timesteps, images, noise, and the images with that noise as it adds it."""
    scheduler = getattr(diffusers, name)(**config)
    scheduler.set_timesteps(10)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(4)
    timestep = scheduler.timesteps[4]
    images, noise = works(2), torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    add = getattr(scheduler, "scale_noise", None)
    if add is not None:
        return scheduler, timestep, images, noise, add(images, timestep[None], noise)
    return scheduler, timestep, images, noise, scheduler.add_noise(images, noise, timestep[None].repeat(2))


@pytest.mark.parametrize("name", VARIANCE_PRESERVING + SIGMA_SCALED)
def test_start_is_found_again_from_the_true_noise(name):
    scheduler, timestep, images, noise, sample = noisy(name)
    start = predicted_start(scheduler, noise, timestep, sample, sigma_of(scheduler, timestep))
    assert torch.allclose(start, images, atol=1e-3)


@pytest.mark.parametrize("name", FLOWS)
def test_start_is_found_again_from_the_true_slope(name):
    scheduler, timestep, images, noise, sample = noisy(name)
    start = predicted_start(scheduler, noise - images, timestep, sample, sigma_of(scheduler, timestep))
    assert torch.allclose(start, images, atol=1e-4)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_start_is_found_again_from_the_true_velocity(name):
    scheduler, timestep, images, noise, sample = noisy(name, prediction_type="v_prediction")
    kept = scheduler.alphas_cumprod[int(timestep)] if name == "DDIMScheduler" else None
    sigma = sigma_of(scheduler, timestep)
    alpha = kept**0.5 if kept is not None else torch.tensor(1 / (1 + sigma**2) ** 0.5)
    if name == "DPMSolverMultistepScheduler":
        alpha, _ = scheduler._sigma_to_alpha_sigma_t(torch.tensor(sigma))
    velocity = alpha * noise - (1 - alpha**2) ** 0.5 * images
    assert torch.allclose(predicted_start(scheduler, velocity, timestep, sample, sigma), images, atol=1e-3)


def test_predicted_variance_is_left_out():
    scheduler, timestep, images, noise, sample = noisy("DDPMScheduler")
    both = torch.cat([noise, torch.full_like(noise, 9.0)], dim=1)
    assert torch.allclose(predicted_start(scheduler, both, timestep, sample, None), images, atol=1e-3)


def test_unknown_scheduler_says_so():
    scheduler = diffusers.EDMEulerScheduler()
    scheduler.set_timesteps(4)
    found = predicted_start(scheduler, torch.zeros(1, 3, 2, 2), scheduler.timesteps[0], torch.zeros(1, 3, 2, 2), 1.0)
    assert found == Unread("what EDMEulerScheduler predicts is not known")


class Pipe:
    def __init__(self, **parts):
        self.__dict__.update(parts)


def test_pixels_are_pictures_as_they_are():
    images = works(2)
    batch = pictures_of(Pipe(), images, {})
    assert [picture.name for picture in batch.pictures] == ["predicted[0]", "predicted[1]"]
    expected = (images[1] * 127.5 + 127.5).round().to(torch.uint8)
    assert torch.equal(batch.pictures[1].pixels, expected)


def test_latents_are_decoded_as_the_pipeline_does():
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, scaling_factor=0.5).eval()
    latents = torch.randn(2, 4, 8, 8)
    batch = pictures_of(Pipe(vae=vae), latents, {})
    with torch.no_grad():
        expected = (vae.decode(latents / 0.5).sample.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    assert torch.equal(torch.stack([picture.pixels for picture in batch.pictures]), expected)


@pytest.mark.parametrize(
    ("parts", "shape", "said"),
    [
        ({}, (1, 4, 8, 8), "no autoencoder"),
        ({}, (1, 3, 2, 8, 8), "no autoencoder"),
        ({"movq": object()}, (1, 3, 8, 8), "no autoencoder"),
        ({"vae": Pipe(config={})}, (1, 5, 4), "in patches"),
        ({"vae": Pipe(config={"latent_channels": 4})}, (1, 4, 2, 8, 8), "does not decode alone"),
    ],
)
def test_what_cannot_be_decoded_says_so(parts, shape, said):
    found = pictures_of(Pipe(**parts), torch.zeros(shape), {})
    assert isinstance(found, Unread)
    assert said in found.reason


def test_prediction_without_numbers_is_no_picture():
    found = pictures_of(Pipe(), torch.full((1, 3, 8, 8), torch.nan), {})
    assert found == Unread("a prediction holds values that are no numbers")
