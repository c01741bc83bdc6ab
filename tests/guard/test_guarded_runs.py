"""The run as evidence, through a whole guard: indexes of adapters, rules that speak of them, runs that are stopped."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

from guardrail.carriers import Sign, SignReading
from guardrail.desk.making import build_folder_index
from guardrail.errors import IndexMismatch, IndexMissing
from guardrail.hookspecs import hookimpl
from guardrail.index import Recipe
from guardrail.records import Adapter, CheckFailed, Decision, GenerationContext, MemorisationSign
from guardrail.settings import AdapterSettings, Policy, Rule, RunCondition, Settings, SignSettings
from guardrail.testing import FakeEmbedder, FakePlugin
from tests.guard.conftest import drawing

ACCEPT, FLAG, BLOCK = Decision
CATS = GenerationContext(pipeline="FakePipeline", adapters=(Adapter(name="cats", sha256="a" * 64),))


def decisions(report):
    return [verdict.decision for verdict in report.verdicts]


def index_of(picture, home, plugin, title="cat"):
    """An index of one picture, as an adapter's training folder would make it."""
    (home / "works").mkdir()
    picture.save(home / "works" / "cat.png")
    table = home / "works.csv"
    table.write_text(f"file,work_id,title,creator\ncat.png,fox,{title},Bo\n", encoding="utf-8")
    settings = Settings(home=home, device="cpu")
    build_folder_index(home / "works", home / "index", settings, Recipe(embedder="fake"), table, extra_plugins=[plugin])
    return home / "index"


@pytest.fixture(scope="session")
def cats(tmp_path_factory):
    return index_of(drawing(20), tmp_path_factory.mktemp("cats"), FakePlugin())


def known(index, **more):
    return {"cats": AdapterSettings(index=str(index), sha256="a" * 64, **more)}


def test_training_pictures_of_an_active_adapter_are_looked_for(make_guard, cats):
    guard = make_guard(adapters=known(cats))
    assert decisions(guard.check(drawing(20))) == [ACCEPT]
    (verdict,) = guard.check(drawing(20), CATS).verdicts
    assert verdict.decision is BLOCK
    assert verdict.nearest[0].work.title == "cat"
    assert list(verdict.adapter_snapshots) == ["cats"]


def test_works_of_the_guards_own_index_are_found_beside_them(make_guard, cats, pictures):
    guard = make_guard(adapters=known(cats))
    report = guard.check([pictures["fox"], drawing(20), pictures["new"]], CATS)
    assert decisions(report) == [BLOCK, BLOCK, ACCEPT]


def test_works_of_two_indexes_under_one_name_are_told_apart(make_guard, cats, pictures):
    (verdict,) = make_guard(adapters=known(cats)).check(drawing(20), CATS).verdicts
    banks = {near.work.bank for near in verdict.nearest if near.work.title == "cat"}
    assert len(banks) == 1
    assert all("cats" in bank for bank in banks)


def test_adapter_that_is_not_the_one_in_the_settings_is_a_failed_check(make_guard, cats, pictures):
    other = CATS.model_copy(update={"adapters": (Adapter(name="cats", sha256="b" * 64),)})
    (verdict,) = make_guard(adapters=known(cats)).check(pictures["new"], other).verdicts
    assert verdict.decision is not ACCEPT
    assert [found.check for found in verdict.evidence if isinstance(found, CheckFailed)] == ["adapter"]


def test_index_of_an_adapter_that_is_missing_stops_the_build(make_guard, tmp_path):
    with pytest.raises(IndexMissing):
        make_guard(adapters=known(tmp_path / "none"))


def test_index_of_an_adapter_with_other_fingerprints_stops_the_build(make_guard, tmp_path):
    other = index_of(drawing(20), tmp_path, FakePlugin(FakeEmbedder("others")))
    with pytest.raises(IndexMismatch):
        make_guard(adapters=known(other))


STRICT = Policy(
    rules=(
        Rule(
            name="small adapter and near a work",
            evidence="hash_match",
            decision=BLOCK,
            when=RunCondition(adapter_trained_on_fewer_than=50),
        ),
        *Policy.shipped().rules,
    )
)


@pytest.mark.parametrize(("trained_on", "decision"), [(40, BLOCK), (50, FLAG), (5000, FLAG)])
def test_rule_blocks_near_copies_of_adapters_trained_on_few_images(make_guard, cats, pictures, trained_on, decision):
    guard = make_guard(adapters=known(cats, trained_on=trained_on), policy=STRICT)
    assert decisions(guard.check(pictures["near fox"])) == [BLOCK]  # nobody knows the run: the stricter rule applies
    context = CATS.model_copy(update={"adapters": (CATS.adapters[0].model_copy(update={"trained_on": trained_on}),)})
    assert decisions(guard.check(pictures["near fox"], context)) == [decision]


# --- runs that are stopped -------------------------------------------------------------------------------------------


class Steps(DiffusionPipeline):
    """Ten steps towards one picture in pixel space; with a flag that asks to leave early."""

    def __init__(self, picture, scheduler=None):
        super().__init__()
        self.register_modules(scheduler=scheduler or DDIMScheduler(clip_sample=False, timestep_spacing="trailing"))
        self.towards = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        self.steps = 0

    @property
    def interrupt(self):
        return self._interrupt

    def __call__(self, generator=None, num_inference_steps=10, callback_on_step_end=None, return_dict=True):
        self._interrupt = False
        self.scheduler.set_timesteps(num_inference_steps)
        latents = torch.randn(self.towards.shape, generator=generator)
        for at, timestep in enumerate(self.scheduler.timesteps):
            if self.interrupt:
                continue
            self.steps += 1
            kept = self.scheduler.alphas_cumprod[timestep]
            noise = (latents - kept.sqrt() * self.towards) / (1 - kept).sqrt()
            latents = self.scheduler.step(noise, timestep, latents).prev_sample
            if callback_on_step_end is not None:
                callback_on_step_end(self, at, timestep, {"latents": latents})
        images = ((latents + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).numpy()
        return ImagePipelineOutput(images=images) if return_dict else (images,)


class NoFlag(Steps):
    """The same without a flag that asks to leave: it has to be left by an exception."""

    interrupt = False


class Suspicion:
    """A plugin whose sign is as large as it was told to be."""

    def __init__(self, value):
        self.value = value

    @hookimpl
    def before_generation(self):
        return (Sign("suspicion", "points"),)

    @hookimpl
    def during_generation(self, step):
        return SignReading("suspicion", torch.full((len(step.latents),), self.value))


def with_sign(**said):
    return {"suspicion": SignSettings(flag_above=0.5, block_above=0.9, **said)}


@pytest.mark.parametrize(("value", "decision"), [(0.1, ACCEPT), (0.6, ACCEPT), (0.95, FLAG)])
def test_sign_is_evidence_and_at_its_block_limit_flags(make_guard, pictures, value, decision):
    guard = make_guard(Suspicion(value), signs=with_sign())
    (verdict,) = guard.wrap(Steps(pictures["new"]))(torch.Generator().manual_seed(1)).guard.verdicts
    (sign,) = (found for found in verdict.evidence if isinstance(found, MemorisationSign))
    assert verdict.decision is decision
    assert sign.value == pytest.approx(value)


def test_picture_is_the_same_bit_for_bit_whether_signs_are_looked_for_or_not(make_guard, pictures):
    plain = Steps(pictures["new"])(torch.Generator().manual_seed(1)).images
    guard = make_guard(Suspicion(0.1), signs=with_sign())
    guarded = guard.wrap(Steps(pictures["new"]))(torch.Generator().manual_seed(1)).images
    assert np.array_equal(plain, guarded)


@pytest.mark.parametrize("return_dict", [True, False])
@pytest.mark.parametrize("kind", [Steps, NoFlag])
def test_stopped_run_saves_its_steps_and_gives_cards(make_guard, pictures, kind, return_dict):
    guard = make_guard(Suspicion(0.95), signs=with_sign(action="stop", steps=2))
    pipe = guard.wrap(kind(pictures["new"]))
    output = pipe(torch.Generator().manual_seed(1), return_dict=return_dict)
    assert pipe.steps < 10
    assert decisions(guard.last_report) == [BLOCK]
    evidence = guard.last_report.verdicts[0].evidence
    assert "generation_stopped" in [found.check for found in evidence if isinstance(found, CheckFailed)]
    assert len(output.images if return_dict else output[0]) == 1


def test_run_that_had_to_be_left_is_begun_anew_where_the_settings_say_so(make_guard, pictures):
    class OnlyFirst(Suspicion):
        @hookimpl
        def during_generation(self, step, context):
            value = 0.95 if pipe.steps < 3 else 0.1
            return SignReading("suspicion", torch.full((len(step.latents),), value))

    signs = with_sign(action="stop", steps=2)
    guard = make_guard(OnlyFirst(0), signs=signs, on_block="regenerate", remedies=("fresh_seed",))
    pipe = guard.wrap(NoFlag(pictures["new"]))
    output = pipe(torch.Generator().manual_seed(1))
    assert decisions(output.guard) == [ACCEPT]
    assert output.images.shape == (1, 96, 96, 3)
    assert [verdict.decision for verdict in output.guard.attempts] == [BLOCK]


def test_sign_that_crashes_is_a_failed_check(make_guard, pictures):
    class Broken(Suspicion):
        @hookimpl
        def during_generation(self, step):
            raise RuntimeError("broken")

    guard = make_guard(Broken(0.1), signs=with_sign())
    (verdict,) = guard.wrap(Steps(pictures["new"]))(torch.Generator().manual_seed(1)).guard.verdicts
    assert verdict.decision is BLOCK
    assert any(isinstance(found, CheckFailed) for found in verdict.evidence)


def test_callers_own_callback_is_called_as_without_a_guard(make_guard, pictures):
    guard, seen = make_guard(Suspicion(0.1), signs=with_sign()), []

    def note(pipe, at, timestep, given):
        seen.append((at, int(timestep)))
        return {}

    guard.wrap(Steps(pictures["new"]))(torch.Generator().manual_seed(1), callback_on_step_end=note)
    assert [at for at, _ in seen] == list(range(10))
