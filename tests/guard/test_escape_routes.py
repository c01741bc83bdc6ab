"""Ways past a guard that is around one pipeline, each of them closed; and that nothing of it stays behind."""

import asyncio
import copy
import gc
import pickle
import threading

import numpy as np
import pytest
import torch
from diffusers import (
    AnimateDiffPipeline,
    AutoencoderKL,
    AutoPipelineForImage2Image,
    AutoPipelineForText2Image,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    KandinskyV22CombinedPipeline,
    ModularPipeline,
    MotionAdapter,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

from guardrail import intake
from guardrail.errors import PipelineNotWrappable
from guardrail.intake import installing
from guardrail.records import Decision
from guardrail.testing import FakePipeline

ACCEPT, FLAG, BLOCK = Decision
DOORS = (
    (DiffusionPipeline, "register_modules"),
    (DiffusionPipeline, "__setattr__"),
    (DiffusionPipeline, "from_pipe"),
    (ModularPipeline, "register_components"),
)


def small_unet():
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=32,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )


def ddim():
    return DDIMPipeline(unet=small_unet(), scheduler=DDIMScheduler())


def stable_diffusion():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = AutoencoderKL(block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, sample_size=32)
    names = ("text_encoder", "tokenizer", "safety_checker", "feature_extractor")
    pipe = StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        requires_safety_checker=False,
        **dict.fromkeys(names),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


class _AsIs:
    def generate(self, pipe, call, args, kwargs):
        return call(*args, **kwargs)


_AS_IS = _AsIs()


def with_denoiser_of(pipe):
    other = stable_diffusion()
    other.unet = pipe.unet
    return other


def motion():
    return MotionAdapter(
        block_out_channels=(8, 8), motion_layers_per_block=1, motion_norm_num_groups=4, motion_num_attention_heads=2
    )


def without_checker(pipe):
    return {name: part for name, part in pipe.components.items() if name != "safety_checker"}


def close_doors():
    """Forget the guarded pipelines that were left behind; with the last of them the doors close."""
    if installing._watch.plain:
        gc.collect()
        intake.unwrap(intake.wrap(FakePipeline(), _AS_IS))


@pytest.fixture(autouse=True)
def no_traces():
    """Every test leaves diffusers as it was found."""
    close_doors()
    plain = [vars(owner)[name] for owner, name in DOORS]
    yield
    close_doors()
    assert [vars(owner)[name] for owner, name in DOORS] == plain


@pytest.fixture
def wrapped(guard):
    """Wrap for one test."""
    made = []

    def wrap(pipe):
        made.append(guard.wrap(pipe))
        return made[-1]

    yield wrap
    for pipe in made:
        guard.unwrap(pipe)


@pytest.fixture
def installed(guard):
    guard.install()
    yield guard
    guard.uninstall()


# --- pipelines made of a guarded one ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "escape",
    [
        lambda pipe: StableDiffusionImg2ImgPipeline.from_pipe(pipe),
        lambda pipe: StableDiffusionPipeline(**pipe.components, requires_safety_checker=False),
        lambda pipe: type(pipe)(**pipe.components, requires_safety_checker=False),
        lambda pipe: AutoPipelineForImage2Image.from_pipe(pipe),
        lambda pipe: AutoPipelineForText2Image.from_pipe(AutoPipelineForImage2Image.from_pipe(pipe)),
        copy.copy,
        copy.deepcopy,
        lambda pipe: StableDiffusionImg2ImgPipeline.from_pipe(copy.deepcopy(pipe)),
        lambda pipe: StableDiffusionPipeline(**copy.deepcopy(pipe).components, requires_safety_checker=False),
        lambda pipe: with_denoiser_of(pipe),
        lambda pipe: AnimateDiffPipeline.from_pipe(pipe, motion_adapter=motion()),
        lambda pipe: AnimateDiffPipeline(**without_checker(pipe), motion_adapter=motion()),
        lambda pipe: pipe.to("cpu"),
        lambda pipe: pipe.to(torch.float64),
    ],
    ids=[
        "from_pipe",
        "components",
        "its class",
        "auto",
        "auto and back",
        "copy",
        "deepcopy",
        "from_pipe of a copy",
        "components of a copy",
        "attribute",
        "film from_pipe",
        "film components",
        "device",
        "dtype",
    ],
)
def test_pipeline_made_of_a_guarded_one_is_guarded(guard, wrapped, escape):
    pipe = wrapped(stable_diffusion())
    made = escape(pipe)
    assert intake.guard_of(made) is guard
    guard.unwrap(made)


def test_parts_kept_after_their_pipeline_is_gone_are_still_guarded(guard, wrapped):
    pipe = wrapped(stable_diffusion())
    parts = dict(pipe.components)
    keeper = pipe
    del pipe
    made = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    assert intake.guard_of(made) is guard
    guard.unwrap(made)
    assert intake.guard_of(keeper) is guard


def test_denoiser_that_was_put_into_a_guarded_pipeline_later_is_known_after_its_first_call(guard, wrapped):
    pipe = wrapped(ddim())
    pipe.unet = small_unet()
    pipe(num_inference_steps=1, batch_size=1)
    made = DDPMPipeline(unet=pipe.unet, scheduler=DDPMScheduler())
    assert intake.guard_of(made) is guard
    guard.unwrap(made)


def test_pipeline_that_shares_a_codec_alone_is_left_as_it_is(wrapped):
    pipe, other = wrapped(stable_diffusion()), stable_diffusion()
    parts = {**other.components, "vae": pipe.vae}
    assert intake.guard_of(StableDiffusionPipeline(**parts, requires_safety_checker=False)) is None


def test_pickled_pipeline_is_guarded():
    pipe = intake.wrap(ddim(), _AS_IS)
    copied = pickle.loads(pickle.dumps(pipe))
    assert type(intake.guard_of(copied)) is type(_AS_IS)
    for one in (pipe, copied):
        intake.unwrap(one)


# --- install ---------------------------------------------------------------------------------------------------------


def test_installed_guard_is_around_every_pipeline_built_afterwards(installed, tmp_path):
    made = [ddim(), stable_diffusion()]
    made[0].save_pretrained(tmp_path / "saved")
    made.append(DiffusionPipeline.from_pretrained(tmp_path / "saved"))
    assert [intake.guard_of(pipe) for pipe in made] == [installed] * 3
    assert [type(pipe).__name__ for pipe in made] == ["DDIMPipeline", "StableDiffusionPipeline", "DDIMPipeline"]


def test_uninstalling_takes_the_guard_off_those_and_no_others(guard):
    before = guard.wrap(ddim())
    guard.install()
    after = ddim()
    guard.uninstall()
    assert (intake.guard_of(before), intake.guard_of(after), type(after)) == (guard, None, DDIMPipeline)
    assert intake.guard_of(ddim()) is None
    guard.unwrap(before)


def test_two_guards_are_not_installed_at_once(installed, make_guard):
    with pytest.raises(PipelineNotWrappable, match="another guard"):
        make_guard().install()
    assert intake.installed_guard() is installed


def test_installed_guard_lets_a_pipeline_of_another_guard_be(installed, make_guard):
    other = make_guard()
    installed.uninstall()
    pipe = other.wrap(ddim())
    installed.install()
    made = DDPMPipeline(unet=pipe.unet, scheduler=DDPMScheduler())
    assert intake.guard_of(made) is other
    for one in (pipe, made):
        other.unwrap(one)


def test_unwrapping_the_last_pipeline_leaves_no_trace(guard):
    plain = [vars(owner)[name] for owner, name in DOORS]
    pipe = ddim()
    before = dict(vars(pipe))
    guard.wrap(pipe)
    assert [vars(owner)[name] for owner, name in DOORS] != plain
    guard.unwrap(pipe)
    assert type(pipe) is DDIMPipeline
    assert vars(pipe) == before
    assert intake.guard_of(DDPMPipeline(unet=pipe.unet, scheduler=DDPMScheduler())) is None


# --- pipelines in pipelines, and calls within calls ------------------------------------------------------------------


class Combined(DiffusionPipeline):
    """A pipeline of two: the second makes the picture; a callback of the caller may do what it likes."""

    def __init__(self, first, second):
        super().__init__()
        self.register_modules(first=first, second=second)

    def __call__(self, meanwhile=None, callback_on_step_end=None):
        self.first()
        if callback_on_step_end is not None:
            callback_on_step_end(self, 0, 0, {})
        return self.second()


Combined.__module__ = "diffusers.pipelines.combined"  # as if it were one of diffusers' own


@pytest.fixture
def combined(installed, pictures):
    return Combined(FakePipeline([[pictures["new"]]]), FakePipeline([[pictures["fox"]]]))


def test_picture_of_a_combined_pipeline_is_judged_once(installed, combined):
    assert [intake.guard_of(pipe) for pipe in (combined, combined.first, combined.second)] == [installed] * 3
    output = combined()
    assert [verdict.decision for verdict in output.guard.verdicts] == [BLOCK]
    assert len(list(installed.memory.rows())) == 1


def test_part_of_a_combined_pipeline_is_guarded_on_its_own(installed, combined, pictures):
    output = combined.second()
    assert [verdict.decision for verdict in output.guard.verdicts] == [BLOCK]
    assert not np.array_equal(np.asarray(output.images[0]), np.asarray(pictures["fox"]))


def test_other_pipeline_called_within_a_call_is_guarded(installed, pictures):
    inner, seen = FakePipeline([[pictures["fox"]]]), []

    class Outer(FakePipeline):
        def __call__(self):
            seen.append(inner().images[0])
            return super().__call__()

    Outer([[pictures["new"]]])()
    assert not np.array_equal(np.asarray(seen[0]), np.asarray(pictures["fox"]))


def test_part_called_by_the_callers_own_callback_is_guarded(installed, combined, pictures):
    seen = []
    combined(callback_on_step_end=lambda pipe, *_: seen.append(pipe.second().images[0]))
    assert not np.array_equal(np.asarray(seen[0]), np.asarray(pictures["fox"]))


def test_parts_of_a_wrapped_combined_pipeline_are_guarded_until_it_is_unwrapped(guard, pictures):
    combined = guard.wrap(Combined(FakePipeline([[pictures["new"]]]), FakePipeline([[pictures["fox"]]])))
    assert [intake.guard_of(part) for part in (combined.first, combined.second)] == [guard] * 2
    assert [verdict.decision for verdict in combined().guard.verdicts] == [BLOCK]
    guard.unwrap(combined)
    assert [intake.guard_of(part) for part in (combined, combined.first, combined.second)] == [None] * 3


def test_object_that_keeps_what_its_pipeline_makes_gets_a_card(guard, pictures):
    class Service:
        def __init__(self):
            self.pipe, self.kept = guard.wrap(FakePipeline([[pictures["fox"]]])), None

        def __call__(self):
            self.kept = self.pipe().images[0]
            return [pictures["new"]]

    service = guard.wrap(Service())
    service()
    assert not np.array_equal(np.asarray(service.kept), np.asarray(pictures["fox"]))
    guard.unwrap(service.pipe)


def test_uninstalling_takes_the_guard_off_what_was_made_of_installed_ones(guard):
    guard.install()
    first = stable_diffusion()
    second, third = StableDiffusionImg2ImgPipeline.from_pipe(first), copy.deepcopy(first)
    assert third.components
    guard.uninstall()
    assert [intake.guard_of(pipe) for pipe in (first, second, third)] == [None] * 3
    assert intake.guard_of(StableDiffusionPipeline(**first.components, requires_safety_checker=False)) is None


@pytest.mark.parametrize("kind", ["function", "class"])
def test_asynchronous_callables_are_refused(guard, kind):
    async def paint():
        return []

    class Painter:
        async def __call__(self):
            return []

    with pytest.raises(PipelineNotWrappable, match="asynchronous"):
        guard.wrap(paint if kind == "function" else Painter())


def test_object_with_slots_is_guarded(guard, pictures):
    class Painter:
        __slots__ = ()

        def __call__(self):
            return [pictures["fox"]]

    painted = guard.wrap(Painter())()
    assert not np.array_equal(np.asarray(painted[0]), np.asarray(pictures["fox"]))


def test_combined_pipelines_of_diffusers_hold_their_parts_as_pipelines():
    assert {"prior_prior", "unet"} <= set(KandinskyV22CombinedPipeline.__init__.__annotations__)


# --- callables that are no pipelines ---------------------------------------------------------------------------------


def test_function_that_returns_pictures_is_guarded(guard, pictures):
    def paint(prompt, count=1):
        """Paint."""
        return [pictures["fox"], pictures["new"]][:count]

    guarded = guard.wrap(paint)
    fox, new = guarded("a fox", count=2)
    assert (guarded.__name__, guarded.__doc__) == ("paint", "Paint.")
    assert not np.array_equal(np.asarray(fox), np.asarray(pictures["fox"]))
    assert np.array_equal(np.asarray(new), np.asarray(pictures["new"]))
    assert [verdict.decision for verdict in guard.last_report.verdicts] == [BLOCK, ACCEPT]
    assert guard.last_report.context.pipeline == "paint"
    assert guard.unwrap(guarded) is paint


def test_object_with_a_call_is_guarded_in_place(guard, pictures):
    class Painter:
        def __call__(self):
            return np.stack([np.asarray(pictures["fox"])])

    painter = Painter()
    assert guard.wrap(painter) is painter
    assert not np.array_equal(painter()[0], np.asarray(pictures["fox"]))
    assert type(guard.unwrap(painter)) is Painter


@pytest.mark.parametrize("thing", [42, "pipe", FakePipeline, None])
def test_what_cannot_be_called_or_is_a_class_is_not_wrapped(guard, thing):
    with pytest.raises(PipelineNotWrappable):
        guard.wrap(thing)


class LangevinSampler:
    """A generator with auxiliary variables: positions are the picture, and each has a velocity (no diffusers in it).

    Critically damped Langevin dynamics around one picture, whose noise enters through the velocity alone.
    """

    def __init__(self, centre, steps=40, damping=4.0, noise=0.02):
        self.centre, self.steps, self.damping, self.noise = centre, steps, damping, noise

    def __call__(self, seed=0):
        chance = torch.Generator().manual_seed(seed)
        position = torch.randn(self.centre.shape, generator=chance)
        velocity = torch.zeros_like(position)
        for _ in range(self.steps):
            kick = self.noise * torch.randn(velocity.shape, generator=chance)
            velocity = velocity + 0.25 * (4 * (self.centre - position) - self.damping * velocity) + kick
            position = position + 0.25 * velocity
        return position.clamp(0, 1)[None], velocity[None].flatten(1)[:, :8]


@pytest.mark.parametrize(("name", "decision"), [("fox", BLOCK), ("new", ACCEPT)])
def test_sampler_with_auxiliary_variables_is_guarded(guard, pictures, name, decision):
    centre = torch.from_numpy(np.array(pictures[name])).permute(2, 0, 1).float() / 255
    sampler = LangevinSampler(centre)
    plain, velocity = sampler(seed=3)
    guard.wrap(sampler)
    picture, still = sampler(seed=3)
    assert guard.last_report.verdicts[0].decision is decision
    assert torch.equal(picture, plain) == (decision is ACCEPT)
    assert still.shape == velocity.shape


# --- threads and servers ---------------------------------------------------------------------------------------------


def test_threads_with_a_pipeline_each_keep_their_reports_apart(guard, pictures):
    names = ["fox", "new", "owl", "sky"] * 3
    pipes = [guard.wrap(FakePipeline([[pictures[name]]])) for name in names]
    found = {}

    def run(at):
        output = pipes[at]()
        found[at] = (output.guard.verdicts[0].decision, guard.last_report is output.guard)

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[at][0] for at in range(len(names))] == [BLOCK, ACCEPT, ACCEPT, ACCEPT] * 3
    assert all(kept for _, kept in found.values())
    assert len(list(guard.memory.rows())) == len(names)
    for pipe in pipes:
        guard.unwrap(pipe)


def test_tasks_of_a_server_each_get_their_own_verdicts(guard, pictures):
    pipes = [guard.wrap(FakePipeline([[pictures[name]]])) for name in ("fox", "new")]

    async def serve():
        return await asyncio.gather(*(asyncio.to_thread(pipe) for pipe in pipes))

    outputs = asyncio.run(serve())
    assert [output.guard.verdicts[0].decision for output in outputs] == [BLOCK, ACCEPT]
    for pipe in pipes:
        guard.unwrap(pipe)


def test_pipeline_used_by_two_threads_at_once_is_guarded_in_both(guard, pictures):
    barrier = threading.Barrier(2)

    class Waits(FakePipeline):
        def __call__(self):
            barrier.wait(timeout=30)
            return ImagePipelineOutput(images=[pictures["fox"]])

    pipe, shown = guard.wrap(Waits()), []
    threads = [threading.Thread(target=lambda: shown.append(pipe().images[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shown) == 2
    assert not any(np.array_equal(np.asarray(image), np.asarray(pictures["fox"])) for image in shown)
    guard.unwrap(pipe)
