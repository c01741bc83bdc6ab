"""A watched call is the call it would have been; what was found on its way is evidence."""

import copy
import pickle
import threading
from contextlib import contextmanager
from itertools import pairwise

import diffusers
import numpy as np
import pytest
import torch
from diffusers.callbacks import PipelineCallback
from watch_samples import PROMPTS, STEPS, plain_state, prompted, said, settings_of, unconditional, watched

from guardrail.carriers import Sign, SignReading
from guardrail.hookspecs import hookimpl
from guardrail.intake.observing import Change
from guardrail.intake.swapping import standing_around
from guardrail.intake.tally import unknown_signs
from guardrail.intake.watching import Watch, watched_call
from guardrail.plugins import build_plugins
from guardrail.records import CheckFailed, Decision, MemorisationSign, SignUnavailable
from guardrail.settings import Settings

SCHEDULERS = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LCMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
]


@pytest.fixture
def everything(tmp_path):
    return settings_of(tmp_path, noise_magnitude={}, update_norm={}, early_match={"every": 1}, embedding_match={})


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # of diffusers' schedulers
@pytest.mark.parametrize("name", SCHEDULERS)
def test_watched_output_has_the_same_bits(everything, tmp_path, name):
    pipe = prompted()
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    unwatched = pipe(**said(0, num_images_per_prompt=2)).images
    found = watched(pipe, said(0, num_images_per_prompt=2), everything)
    assert np.array_equal(found.output.images, unwatched)
    assert found.rows == 2
    assert found.stopped is None


def test_pipeline_without_callbacks_is_watched_by_its_scheduler(everything):
    pipe = unconditional()
    call = {"batch_size": 2, "num_inference_steps": 4, "output_type": "np"}
    unwatched = pipe(**call, generator=torch.Generator().manual_seed(1)).images
    found = watched(pipe, {**call, "generator": torch.Generator().manual_seed(1)}, everything)
    assert np.array_equal(found.output.images, unwatched)
    by_sign = {one.sign: one for one in found.signs_for(0, 2, "a")}
    assert by_sign["noise_magnitude"].reason == "one prediction a step: guidance is off, or built into the model"
    assert by_sign["update_norm"].steps == 4


def test_no_trace_is_left(everything):
    pipe = prompted()
    before = plain_state(pipe)
    watched(pipe, said(), everything)
    after = plain_state(pipe)
    assert (after.classes, after.hooks) == (before.classes, 0)


def test_without_signs_the_call_is_just_made():
    pipe = prompted()
    seen = []

    def call(*args, **kwargs):
        seen.append((args, kwargs, type(pipe.scheduler), len(pipe.unet._forward_hooks)))
        return "output"

    found = watched_call(pipe, call, (1,), {"a": 2}, Watch(build_plugins(), Settings()))
    assert found.output == "output"
    assert seen == [((1,), {"a": 2}, diffusers.DDIMScheduler, 0)]
    assert found.signs_for(0, 1, "x") == ()


def test_steps_tell_what_the_scheduler_was_given(tmp_path):
    steps = []
    pipe = prompted()
    found = watched(pipe, said(2), settings_of(tmp_path), watchers=[steps.append])
    assert [step.number for step in steps] == list(range(STEPS))
    assert {(step.stage, step.total, step.guidance) for step in steps} == {("scheduler", STEPS, 4.0)}
    for step, after in pairwise(steps):
        assert torch.equal(step.after, after.latents)
    last = (steps[-1].after / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(last, found.output.images)


def test_gap_is_the_length_between_both_predictions(tmp_path):
    pairs, gaps = [], []
    pipe = prompted()
    handle = pipe.unet.register_forward_hook(lambda module, given, returned: pairs.append(returned[0].clone()))
    watched(
        pipe, said(2, num_images_per_prompt=3), settings_of(tmp_path), watchers=[lambda step: gaps.append(step.gap)]
    )
    handle.remove()
    assert len(gaps) == STEPS
    for pair, gap in zip(pairs, gaps, strict=True):
        unconditional, conditional = pair.chunk(2)
        expected = [float((one - other).norm()) for one, other in zip(unconditional, conditional, strict=True)]
        assert gap.tolist() == pytest.approx(expected, rel=1e-5)


# --- the caller's own callbacks ----------------------------------------------------------------------------------


@contextmanager
def noting(into):
    into.append("out")
    yield
    into.append("in")


def test_own_callback_is_composed_and_runs_outside(everything):
    def own(pipe, step, timestep, tensors):
        events.append(step)
        tensors["latents"] = tensors["latents"] * 0.9
        return tensors

    events = []
    pipe = prompted()
    unwatched = pipe(**said(callback_on_step_end=own)).images
    events.clear()
    found = watched(pipe, said(callback_on_step_end=own), everything, outside=lambda: noting(events))
    assert np.array_equal(found.output.images, unwatched)
    assert events == [event for step in range(STEPS) for event in ("out", step, "in")]


def test_own_callback_runs_outside_where_no_sign_is_on(tmp_path):
    events = []

    def own(pipe, step, timestep, tensors):
        return tensors

    watched(prompted(), said(callback_on_step_end=own), settings_of(tmp_path), outside=lambda: noting(events))
    assert events == ["out", "in"] * STEPS


class Halves(PipelineCallback):
    tensor_inputs = ("latents", "prompt_embeds")

    def callback_fn(self, pipeline, step_index, timesteps, callback_kwargs):
        assert set(callback_kwargs) == {"latents", "prompt_embeds"}
        return {**callback_kwargs, "latents": callback_kwargs["latents"] / 2}


def test_callback_object_of_diffusers_keeps_its_tensors(everything):
    pipe = prompted()
    unwatched = pipe(**said(callback_on_step_end=Halves())).images
    found = watched(pipe, said(callback_on_step_end=Halves()), everything)
    assert np.array_equal(found.output.images, unwatched)


def test_error_of_own_callback_goes_through_and_models_are_freed(everything, monkeypatch):
    def own(pipe, step, timestep, tensors):
        raise KeyError("mine")

    pipe, freed = prompted(), []
    before = plain_state(pipe)
    monkeypatch.setattr(pipe, "maybe_free_model_hooks", lambda: freed.append(True))
    with pytest.raises(KeyError, match="mine"):
        watched(pipe, said(callback_on_step_end=own), everything)
    assert freed == [True]
    assert (plain_state(pipe).classes, plain_state(pipe).hooks) == (before.classes, 0)


def test_a_call_inside_own_callback_is_not_counted(tmp_path):
    pipe, steps = prompted(), []

    def own(_, step, timestep, tensors):
        timesteps = pipe.scheduler.timesteps
        pipe.unet(tensors["latents"], 10, said()["prompt_embeds"])
        pipe.scheduler.step(tensors["latents"], timesteps[step], tensors["latents"])
        return tensors

    watched(pipe, said(callback_on_step_end=own), settings_of(tmp_path), watchers=[steps.append])
    assert len(steps) == STEPS
    assert all(isinstance(step.gap, torch.Tensor) for step in steps)


def test_two_threads_see_their_own_pipelines_only(tmp_path):
    barrier, found, unwatched = threading.Barrier(2), {}, {}
    pipes = {0: prompted(), 2: prompted()}
    pipes[2].unet = pipes[0].unet  # one network, two pipelines

    def wait(step):
        barrier.wait(timeout=20)

    def run(prompt):
        found[prompt] = watched(pipes[prompt], said(prompt), settings_of(tmp_path, noise_magnitude={}), watchers=[wait])

    for prompt, pipe in pipes.items():
        unwatched[prompt] = watched(pipe, said(prompt), settings_of(tmp_path, noise_magnitude={}))
    threads = [threading.Thread(target=run, args=(prompt,)) for prompt in pipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for prompt, pipe in pipes.items():
        assert np.array_equal(found[prompt].output.images, unwatched[prompt].output.images)
        assert found[prompt].tally.values() == unwatched[prompt].tally.values()
        assert len(pipe.unet._forward_hooks) == 0


def test_copies_made_meanwhile_are_of_the_plain_class():
    scheduler = diffusers.DDIMScheduler()
    with standing_around(scheduler, "step"), standing_around(scheduler, "step"):
        assert type(scheduler) is not diffusers.DDIMScheduler
        assert isinstance(scheduler, diffusers.DDIMScheduler)
        assert type(copy.deepcopy(scheduler)) is diffusers.DDIMScheduler
        assert type(pickle.loads(pickle.dumps(scheduler))) is diffusers.DDIMScheduler
    assert type(scheduler) is diffusers.DDIMScheduler


# --- what is done about signs ------------------------------------------------------------------------------------

STOPS = {"action": "stop", "steps": 2, "block_above": 0.0}


def test_stopped_run_is_interrupted_and_no_policy_accepts_it(tmp_path):
    pipe, steps = prompted(), []
    found = watched(pipe, said(), settings_of(tmp_path, noise_magnitude=STOPS), watchers=[steps.append])
    assert len(steps) == 2
    assert (found.stopped.by, found.stopped.step, found.stopped.total) == ("noise_magnitude", 2, STEPS)
    assert found.output is not None
    sign, failed = found.signs_for(0, 1, "images[0]")
    assert (sign.action, sign.step, sign.reaches) == ("stopped", 2, Decision.BLOCK)
    assert (type(failed), failed.check, failed.image) == (CheckFailed, "generation_stopped", "images[0]")
    assert pipe._interrupt is False
    assert watched(pipe, said(), settings_of(tmp_path)).output.images.shape == (1, 16, 16, 3)


@pytest.mark.parametrize("is_watched", [True, False])
def test_stop_in_one_thread_ends_no_other_call_of_the_same_pipeline(tmp_path, is_watched):
    pipe, found = prompted(), {}
    whole = pipe(**said(2)).images
    begun, ended = threading.Event(), threading.Event()

    def wait(*told):
        begun.set()
        assert ended.wait(timeout=20)
        return {} if told[1:] else None  # a callback's tensors, or what a watcher changes

    def other():
        if is_watched:
            found["other"] = watched(pipe, said(2), settings_of(tmp_path), watchers=[wait])
        else:
            found["other"] = watched(pipe, said(2, callback_on_step_end=wait), settings_of(tmp_path))

    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(timeout=20)
    found["stopped"] = watched(pipe, said(), settings_of(tmp_path, noise_magnitude=STOPS))
    ended.set()
    thread.join()
    assert (found["stopped"].output, found["stopped"].stopped.step) == (None, 2)
    assert found["other"].stopped is None
    assert np.array_equal(found["other"].output.images, whole)
    alone = watched(pipe, said(), settings_of(tmp_path, noise_magnitude=STOPS))
    assert alone.output is not None  # interrupted, as no other call runs any more


def test_run_that_is_left_takes_back_no_interruption_of_the_callers_own(tmp_path):
    pipe = unconditional()
    pipe._interrupt = True
    found = watched(pipe, {"num_inference_steps": 4, "output_type": "np"}, settings_of(tmp_path, update_norm=STOPS))
    assert (found.output, pipe._interrupt) == (None, True)


def test_pipeline_that_cannot_be_interrupted_is_left(tmp_path, monkeypatch):
    pipe, freed = unconditional(), []
    monkeypatch.setattr(pipe, "maybe_free_model_hooks", lambda: freed.append(True))
    call = {"batch_size": 2, "num_inference_steps": 4, "output_type": "np"}
    found = watched(pipe, call, settings_of(tmp_path, update_norm=STOPS))
    assert found.output is None
    assert (found.stopped.step, found.rows, freed) == (2, 2, [True])
    assert [type(one) for one in found.signs_for(1, 2, "x")] == [MemorisationSign, CheckFailed]


def test_run_goes_on_where_only_some_images_reach_the_limit(tmp_path):
    pipe = prompted()
    middle = watched(pipe, said(0, num_images_per_prompt=2), settings_of(tmp_path, noise_magnitude={"steps": 2}))
    low, high = sorted(next(iter(middle.tally.values().values())))
    stops = {**STOPS, "block_above": (low + high) / 2}
    found = watched(pipe, said(0, num_images_per_prompt=2), settings_of(tmp_path, noise_magnitude=stops))
    assert found.stopped is None
    signs = [found.signs_for(at, 2, "x")[0] for at in range(2)]
    assert {one.action for one in signs} == {"not stopped: 1 of 2 images reach the limit"}
    assert {one.reaches for one in signs} == {Decision.ACCEPT, Decision.BLOCK}


def test_guidance_comes_later_and_is_as_before_afterwards(tmp_path):
    pipe, steps = prompted(), []
    later = {"action": "guide_later", "steps": 1, "block_above": 0.0, "guide_from": 0.5}
    found = watched(pipe, said(2), settings_of(tmp_path, noise_magnitude=later), watchers=[steps.append])
    assert [step.guidance for step in steps] == [4.0] + [1.0001] * 2 + [4.0] * 3
    assert found.signs_for(0, 1, "x")[0].action == "guided later: from step 4 of 6"
    assert pipe._guidance_scale == 4.0


def test_pipeline_without_guidance_says_so(tmp_path):
    later = {"action": "guide_later", "steps": 1, "block_above": 0.0}
    found = watched(unconditional(), {"num_inference_steps": 3}, settings_of(tmp_path, update_norm=later))
    assert "could not be changed" in found.signs_for(0, 1, "x")[0].action


def test_action_on_a_mean_that_comes_too_late_is_refused(tmp_path):
    with pytest.raises(ValueError, match="set steps"):
        watched(prompted(), said(), settings_of(tmp_path, noise_magnitude={"action": "stop", "block_above": 1}))


def test_watcher_changes_latents(tmp_path):
    pipe = prompted()
    found = watched(
        pipe, said(), settings_of(tmp_path), watchers=[lambda step: Change(latents=torch.zeros_like(step.after))]
    )
    assert np.array_equal(found.output.images, np.full((1, 16, 16, 3), 0.5, np.float32))


def test_watcher_stops_the_run(tmp_path):
    found = watched(prompted(), said(), settings_of(tmp_path), watchers=[lambda step: Change(stop="enough")])
    assert str(found.stopped) == f"watcher ended the run after step 1 of {STEPS}: enough"


# --- what fails is evidence --------------------------------------------------------------------------------------


class Broken:
    @hookimpl
    def before_generation(self):
        return [Sign("broken", "nothing")]

    @hookimpl
    def during_generation(self, step):
        raise ZeroDivisionError("half way")


def test_plugin_that_crashes_is_a_failed_check_and_not_asked_again(tmp_path):
    pipe = prompted()
    settings = settings_of(tmp_path, broken={}, noise_magnitude={})
    found = watched(pipe, said(), settings, Broken())
    failed, missing, sign = found.signs_for(0, 1, "images[0]")
    assert (failed.check, failed.error) == ("during_generation:Broken", "ZeroDivisionError('half way')")
    assert (type(missing), missing.sign) == (SignUnavailable, "broken")
    assert (sign.sign, sign.steps) == ("noise_magnitude", STEPS)


def test_run_goes_on_where_it_cannot_be_looked_at(tmp_path, monkeypatch):
    pipe = prompted()
    unwatched = pipe(**said()).images
    monkeypatch.setattr("guardrail.intake.observing.gap_of", lambda pipe, heard, like: 1 / 0)
    found = watched(pipe, said(), settings_of(tmp_path, noise_magnitude={}))
    assert np.array_equal(found.output.images, unwatched)
    failed, missing = found.signs_for(0, 1, "x")
    assert (failed.check, failed.error) == ("watching", "ZeroDivisionError('division by zero')")
    assert isinstance(missing, SignUnavailable)


class Words:
    @hookimpl
    def before_generation(self):
        return [Sign("words", "nothing"), "a word"]

    @hookimpl
    def during_generation(self, step):
        return SignReading("words", [1.0])


def test_answers_of_another_kind_are_failed_checks(tmp_path):
    found = watched(prompted(), said(), settings_of(tmp_path, words={}), Words()).signs_for(0, 1, "x")
    errors = {one.check: one.error for one in found if isinstance(one, CheckFailed)}
    assert errors == {
        "before_generation:Words": "it answered a str",
        "during_generation:Words": "it measured a list, not a tensor",
    }


def test_value_that_is_no_number_is_a_failed_check(tmp_path):
    pipe = prompted()
    pipe.unet.means[0, 0] = torch.nan
    found = watched(pipe, said(0), settings_of(tmp_path, noise_magnitude={}))
    (failed,) = found.signs_for(0, 1, "x")
    assert (failed.check, failed.error) == ("sign:noise_magnitude", "it measured nan")


def test_sign_that_nobody_offers_is_unavailable(tmp_path):
    (found,) = watched(prompted(), said(), settings_of(tmp_path, unheard_of={})).signs_for(0, 1, "x")
    assert found == SignUnavailable(sign="unheard_of", reason="no plugin offers a sign of that name")


class NeedsARun:
    @hookimpl
    def before_generation(self, context):
        return [Sign(f"sign_of_{context.pipeline}", "nothing")]


def test_signs_of_the_settings_that_no_plugin_offers_are_named_before_any_run(tmp_path):
    settings = settings_of(
        tmp_path, noise_magnitude={}, embedding_match={}, no_such={}, mine={}, off={"enabled": False}
    )
    assert unknown_signs(build_plugins(), settings) == ("mine", "no_such")
    shipped = settings_of(tmp_path, noise_magnitude={}, update_norm={}, early_match={}, embedding_match={})
    assert unknown_signs(build_plugins(), shipped) == ()
    assert unknown_signs(build_plugins([Broken()]), settings_of(tmp_path, broken={}, brocken={})) == ("brocken",)


def test_no_sign_is_called_unknown_where_a_plugin_cannot_say_what_it_offers(tmp_path):
    assert unknown_signs(build_plugins([NeedsARun()]), settings_of(tmp_path, no_such={})) == ()


def test_sign_that_is_off_is_not_looked_for(tmp_path):
    found = watched(prompted(), said(), settings_of(tmp_path, noise_magnitude={"enabled": False}))
    assert (found.rows, found.signs_for(0, 1, "x")) == (0, ())


def test_without_guidance_the_pair_is_missing(tmp_path):
    found = watched(prompted(), said(guidance_scale=1.0), settings_of(tmp_path, noise_magnitude={}))
    assert "one prediction a step" in found.signs_for(0, 1, "x")[0].reason


def test_frames_share_the_value_of_their_clip_and_strangers_the_highest(tmp_path):
    found = watched(prompted(), said(num_images_per_prompt=2), settings_of(tmp_path, noise_magnitude={}))
    first, second = next(iter(found.tally.values().values()))
    assert [found.signs_for(at, 6, "x")[0].value for at in range(6)] == [first] * 3 + [second] * 3
    assert found.signs_for(0, 5, "x")[0].value == max(first, second)


def test_prompts_are_four():
    assert prompted().unet.config.prompts == PROMPTS
