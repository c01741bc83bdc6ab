"""Leading a prediction away, in the arithmetic of every scheduler that is known."""

import copy
import threading

import diffusers
import pytest
import torch

from guardrail.intake.remedies.away import AwayFromWorks
from guardrail.intake.remedies.stepping import SchedulerStep, altered_steps, scheduler_of
from guardrail.intake.remedies.unfit import RemedyUnfit
from guardrail.intake.steps import predicted_start, sigma_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # NumPy's, of torch inside diffusers

SCHEDULERS = [
    (name, kind)
    for name, kinds in {
        "DDIMScheduler": ("epsilon", "v_prediction", "sample"),
        "DDPMScheduler": ("epsilon", "v_prediction", "sample"),
        "DEISMultistepScheduler": ("epsilon", "v_prediction", "sample"),
        "DPMSolverMultistepScheduler": ("epsilon", "v_prediction", "sample"),
        "DPMSolverSinglestepScheduler": ("epsilon", "v_prediction"),
        "EulerAncestralDiscreteScheduler": ("epsilon", "v_prediction"),
        "EulerDiscreteScheduler": ("epsilon", "v_prediction"),
        "FlowMatchEulerDiscreteScheduler": ("",),
        "HeunDiscreteScheduler": ("epsilon", "v_prediction"),
        "LCMScheduler": ("epsilon", "v_prediction"),
        "LMSDiscreteScheduler": ("epsilon", "v_prediction"),
        "PNDMScheduler": ("epsilon", "v_prediction"),
        "UniPCMultistepScheduler": ("epsilon", "v_prediction", "flow_prediction"),
    }.items()
    for kind in kinds
]


class Holder:
    """A pipeline as far as remedies look: a scheduler, and pixels to denoise in."""

    def __init__(self, scheduler):
        self.scheduler = scheduler


def made(name: str, kind: str):
    said = {"prediction_type": kind} if kind else {}
    if kind == "flow_prediction":
        said |= {"use_flow_sigmas": True}
    scheduler = getattr(diffusers, name)(**said)
    scheduler.set_timesteps(8)
    return scheduler


def picture(seed: int) -> torch.Tensor:
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(coarse, size=(16, 16))[0].permute(1, 2, 0) * 255).byte()


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = (each - each.mean((1, 2), keepdim=True) for each in (one.double(), other.double()))
    return float((one * other).sum() / one.norm() / other.norm())


@pytest.mark.parametrize(("name", "kind"), SCHEDULERS)
def test_predicted_picture_is_led_just_as_far_as_asked(name, kind):
    scheduler = made(name, kind)
    generator = torch.Generator().manual_seed(1)
    work = picture(5)
    flat = work.permute(2, 0, 1).float() / 127.5 - 1
    sample, predicted = (torch.randn(1, 3, 16, 16, generator=generator) for _ in range(2))
    timestep = scheduler.timesteps[3]
    sigma = sigma_of(scheduler, timestep)
    scheduler.scale_model_input(sample, timestep) if hasattr(scheduler, "scale_model_input") else None
    # a prediction whose picture is much like the work
    for _ in range(20):
        at = predicted_start(scheduler, predicted, timestep, sample, sigma)
        moved = predicted_start(scheduler, predicted + 1, timestep, sample, sigma)
        predicted = predicted + (flat + 0.1 * sample - at) / (moved - at)
    before = predicted_start(scheduler, predicted, timestep, sample, sigma)[0]
    assert likeness(before, flat) > 0.8

    away = AwayFromWorks(Holder(scheduler), {0: [work]}, 1)
    altered = away._alter(SchedulerStep(scheduler, 0, 8, timestep, predicted, sample))
    after = predicted_start(scheduler, altered, timestep, sample, sigma)[0]
    assert likeness(after, flat) == pytest.approx(0, abs=1e-3)
    assert torch.allclose(after.mean((1, 2)), before.mean((1, 2)), atol=1e-3), "brightness and tint stay"
    own = getattr(scheduler.step(altered, timestep, sample), "pred_original_sample", None)
    if own is not None and name != "LCMScheduler":  # that one says what it mixed the picture with
        assert likeness(own[0], flat) == pytest.approx(0, abs=0.05), "the scheduler's own arithmetic says so, too"


def test_picture_that_is_not_like_the_work_is_left_alone():
    scheduler = made("DDIMScheduler", "sample")
    work = picture(5)
    negative = -(work.permute(2, 0, 1).float()[None] / 127.5 - 1)
    step = SchedulerStep(scheduler, 0, 8, scheduler.timesteps[3], negative, torch.zeros_like(negative))
    assert AwayFromWorks(Holder(scheduler), {0: [work]}, 1)._alter(step) is negative


def test_learned_variance_beside_the_prediction_stays():
    scheduler = made("DDPMScheduler", "sample")
    work = picture(5)
    flat = work.permute(2, 0, 1).float()[None] / 127.5 - 1
    noise = torch.randn(flat.shape, generator=torch.Generator().manual_seed(1))
    both = torch.cat([flat + 0.1 * noise, torch.full_like(flat, 0.3)], dim=1)
    step = SchedulerStep(scheduler, 0, 8, scheduler.timesteps[3], both, torch.zeros_like(flat))
    altered = AwayFromWorks(Holder(scheduler), {0: [work]}, 1)._alter(step)
    assert torch.equal(altered[:, 3:], both[:, 3:])
    assert likeness(altered[0, :3], flat[0]) == pytest.approx(0, abs=1e-3)


def test_works_are_brought_into_a_vaes_latents():
    from guardrail.intake.remedies.spaces import works_like

    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.5,
        shift_factor=0.25,
    )
    pipe = Holder(None)
    pipe.vae = vae
    work = picture(5)
    with torch.no_grad():
        found = works_like(pipe, [work], torch.zeros(1, 4, 8, 8))
        pixels = work.permute(2, 0, 1).float()[None] / 127.5 - 1
        expected = (vae.encode(pixels).latent_dist.mode() - 0.25) * 0.5
    assert torch.allclose(found, expected, atol=1e-5)


def test_latents_packed_into_tokens_are_packed_as_the_pipeline_does():
    from guardrail.intake.remedies.spaces import works_like

    class Packs(Holder):
        class Codec:
            config = diffusers.configuration_utils.FrozenDict(block_out_channels=(1,), scaling_factor=1.0)
            parameters = staticmethod(lambda: iter([torch.zeros(1)]))
            encode = staticmethod(lambda pixels: type("Encoded", (), {"latents": pixels})())

        vae = Codec
        _pack_latents = staticmethod(diffusers.FluxPipeline._pack_latents)

    found = works_like(Packs(None), [picture(5)], torch.zeros(1, 64, 12))
    assert found.shape == (1, 64, 12)
    pixels = picture(5).permute(2, 0, 1).float() / 127.5 - 1
    assert torch.equal(found[0, 0].view(3, 2, 2), pixels[:, :2, :2])


@pytest.mark.parametrize(
    ("sample", "reason"),
    [(torch.zeros(1, 4, 8, 8), "no VAE"), (torch.zeros(2, 3, 16, 16), "once for each item")],
)
def test_space_that_works_cannot_be_brought_into_is_unfit(sample, reason):
    scheduler = made("DDIMScheduler", "epsilon")
    away = AwayFromWorks(Holder(scheduler), {0: [picture(5)]}, 1)
    with pytest.raises(RemedyUnfit, match=reason):
        away._alter(SchedulerStep(scheduler, 0, 8, scheduler.timesteps[0], sample, sample))


def test_unknown_scheduler_is_unfit():
    class OwnScheduler(diffusers.DDIMScheduler):
        pass

    scheduler = OwnScheduler()
    scheduler.set_timesteps(8)
    zeros = torch.zeros(1, 3, 16, 16)
    with pytest.raises(RemedyUnfit, match="OwnScheduler"):
        AwayFromWorks(Holder(scheduler), {0: [picture(5)]}, 1)._alter(
            SchedulerStep(scheduler, 0, 8, scheduler.timesteps[0], zeros, zeros)
        )


def test_steps_are_counted_from_where_image_to_image_begins():
    scheduler = made("DDIMScheduler", "epsilon")
    seen, zeros = [], torch.zeros(1, 3, 4, 4)

    def note(step):
        seen.append((step.number, step.total))
        return step.predicted

    with altered_steps(scheduler_of(Holder(scheduler)), note):
        for timestep in scheduler.timesteps[5:]:
            scheduler.step(zeros, timestep, sample=zeros)
    assert seen == [(0, 3), (1, 3), (2, 3)]
    scheduler.step(zeros, scheduler.timesteps[0], zeros)
    assert len(seen) == 3


def test_copies_and_other_threads_step_as_always():
    scheduler = made("DDIMScheduler", "epsilon")
    zeros = torch.zeros(1, 3, 4, 4)
    with altered_steps(scheduler_of(Holder(scheduler)), lambda step: step.predicted + 1):
        thread_answers = []
        thread = threading.Thread(
            target=lambda: thread_answers.append(scheduler.step(zeros, scheduler.timesteps[0], zeros).prev_sample)
        )
        thread.start()
        thread.join()
        copied = copy.deepcopy(scheduler).step(zeros, scheduler.timesteps[0], zeros).prev_sample
        altered = scheduler.step(zeros, scheduler.timesteps[0], zeros).prev_sample
    assert not thread_answers[0].any()
    assert not copied.any()
    assert altered.any()


def test_watched_call_is_altered_too():
    """A watch on the altered call stands around the same step, and neither hides the other."""
    from guardrail.intake.swapping import standing_around, taking_part

    class Watches:
        seen = 0

        def around(self, target, method, original, args, kwargs):
            self.seen += 1
            return original(*args, **kwargs)

    scheduler, watch, zeros = made("DDIMScheduler", "epsilon"), Watches(), torch.zeros(1, 3, 4, 4)
    plain = type(scheduler)
    with (
        altered_steps(scheduler_of(Holder(scheduler)), lambda step: step.predicted + 1),
        standing_around(scheduler, "step"),
        taking_part(watch),
    ):
        altered = scheduler.step(zeros, scheduler.timesteps[0], zeros).prev_sample
    assert altered.any()
    assert watch.seen == 1
    assert type(scheduler) is plain
