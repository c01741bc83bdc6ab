"""The shipped signs, asked as a run asks them, and the hooks they stand on."""

from datetime import UTC, datetime, timedelta

import pytest
import torch
from diffusers import PriorTransformer, UnCLIPScheduler

from guardrail.carriers import ImageBatch, Sign, SignReading, Unread
from guardrail.hookspecs import hookimpl
from guardrail.intake.watching import Watch, watched_call
from guardrail.plugins import build_plugins
from guardrail.records import Decision, Disposition, Neighbour, Signal, SignUnavailable, Work
from guardrail.settings import Settings
from guardrail.study.conditional_denoiser import prompt_embedding, prompted_pipeline

STEPS = 4


def work(name, **more):
    return Work(work_id=name, bank="bank", **more)


def pictures(count, seed):
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (16, 16), mode="bicubic").clamp(-1, 1)


@pytest.fixture
def run(tmp_path):
    """Run a pipeline of two prompts, the first memorised, with some signs; returns what was found on the image."""
    pipe = prompted_pipeline([pictures(1, 1), pictures(6, 2)])

    def make(*plugins, look=None, prompt=0, **signs):
        said = {
            "prompt_embeds": prompt_embedding(prompt, 2),
            "negative_prompt_embeds": prompt_embedding(None, 2),
            "num_inference_steps": STEPS,
            "height": 16,
            "width": 16,
            "generator": torch.Generator().manual_seed(0),
            "output_type": "np",
        }
        watch = Watch(build_plugins(plugins), Settings(home=tmp_path, signs=signs), look=look)
        return watched_call(pipe, pipe.__call__, (), said, watch).signs_for(0, 1, "images[0]")

    return make


class Counts:
    """A sign of somebody else: the number of the step."""

    @hookimpl
    def before_generation(self, context, settings):
        self.before = (context, settings.signs["counts"].enabled)
        return [Sign("counts", "steps", over="max")]

    @hookimpl
    def during_generation(self, step, context, settings):
        return SignReading("counts", torch.full((len(step.latents),), float(step.number)), (work("w"),))


def test_hook_before_generation(run):
    plugin = Counts()
    (found,) = run(plugin, counts={})
    assert plugin.before == (None, True)
    assert (found.sign, found.unit) == ("counts", "steps")


def test_hook_during_generation(run):
    (found,) = run(Counts(), counts={"flag_above": 2.0, "block_above": 9.0})
    assert (found.value, found.steps, found.work) == (STEPS - 1, STEPS, work("w"))
    assert (found.reaches, found.calibration) == (Decision.FLAG, "settings")


def test_noise_magnitude_is_higher_where_a_prompt_is_memorised(run):
    (memorised,), (other,) = run(prompt=0, noise_magnitude={}), run(prompt=1, noise_magnitude={})
    assert memorised.value > other.value
    assert memorised.steps == STEPS
    assert memorised.calibration.startswith("uncalibrated")


def test_first_steps_may_be_enough(run):
    (found,) = run(noise_magnitude={"steps": 1})
    assert found.steps == 1


def test_update_norm_is_the_mean_root_mean_square_change(run):
    moved = []

    class Looks:
        @hookimpl
        def during_generation(self, step):
            moved.append(float((step.after - step.latents).square().mean().sqrt()))
            return

        @hookimpl
        def before_generation(self):
            return [Sign("looks", "nothing")]

    found = {one.sign: one for one in run(Looks(), update_norm={}, looks={})}
    assert len(moved) == STEPS
    assert found["update_norm"].value == pytest.approx(sum(moved) / STEPS, rel=1e-5)


# --- look-ups ---------------------------------------------------------------------------------------------------


def near(one, similarity, signal=Signal.COPY):
    return Neighbour(work=one, row=0, signal=signal, similarity=similarity)


def test_early_match_looks_every_so_many_steps_and_keeps_the_nearest(run):
    seen, answers = [], iter([0.5, 0.9])

    def look(batch):
        seen.append(batch)
        return [[near(work("a"), next(answers)), near(work("b"), 0.99, Signal.CLIP)]]

    (found,) = run(look=look, early_match={"every": 2, "block_above": 0.8})
    assert [type(batch) for batch in seen] == [ImageBatch, ImageBatch]
    assert seen[0].pictures[0].pixels.shape == (3, 16, 16)
    assert (found.value, found.steps, found.work.work_id) == (pytest.approx(0.9), 2, "a")
    assert found.reaches is Decision.BLOCK


def test_early_match_sees_protected_works_only(run):
    generic = work("g", disposition=Disposition.IGNORE)
    expired = work("e", expires_at=datetime.now(UTC) - timedelta(days=1))
    found = run(
        look=lambda batch: [[near(generic, 0.99), near(expired, 0.98), near(work("a"), 0.1)]], early_match={"every": 2}
    )
    assert (found[0].value, found[0].work.work_id) == (pytest.approx(0.1), "a")


def test_early_match_without_protected_works_or_index_is_unavailable(run):
    (found,) = run(look=lambda batch: [[]], early_match={"every": 1})
    assert found == SignUnavailable(
        sign="early_match", reason="the index holds no protected work with a copy descriptor"
    )
    (found,) = run(early_match={"every": 1})
    assert found.reason == "there is no index to look it up in"


def test_look_up_that_crashes_is_a_failed_check(run):
    def look(batch):
        raise OSError("index gone")

    failed, missing = run(look=look, early_match={"every": 1})
    assert (failed.check, failed.error) == ("during_generation:sign_early_match", "OSError('index gone')")
    assert missing == SignUnavailable(sign="early_match", reason="no step of the run could be watched")


# --- embeddings -------------------------------------------------------------------------------------------------


class Unclip:
    """The flow of an unCLIP pipeline: a prior denoises an image embedding, then pixels would be made of it."""

    def __init__(self):
        torch.manual_seed(0)
        self.prior = PriorTransformer(
            num_attention_heads=1, attention_head_dim=4, num_layers=1, embedding_dim=6, num_embeddings=3
        ).eval()
        self.prior_scheduler = UnCLIPScheduler(prediction_type="sample", num_train_timesteps=10)
        self.components = {"prior": self.prior, "prior_scheduler": self.prior_scheduler}
        self.decoded = 0

    @torch.no_grad()
    def __call__(self, count=2, generator=None):
        latents = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
        self.prior_scheduler.set_timesteps(2)
        for timestep in self.prior_scheduler.timesteps:
            words, states = torch.zeros(2 * count, 6), torch.zeros(2 * count, 3, 6)
            predicted = self.prior(
                torch.cat([latents] * 2), timestep, proj_embedding=words, encoder_hidden_states=states
            ).predicted_image_embedding
            without, given = predicted.chunk(2)
            latents = self.prior_scheduler.step(without + 2 * (given - without), timestep, latents).prev_sample
        embedding = self.prior.post_process_latents(latents)
        self.decoded += 1
        return embedding


def embedding_signs(tmp_path, seen, own, answers=(0.95, 0.5), embedder="clip:tiny"):
    pipe = Unclip()

    def look(vectors):
        seen.append(vectors)
        return [[near(work(f"w{at}"), value, Signal.CLIP)] for at, value in enumerate(answers)]

    settings = Settings(home=tmp_path, signs={"embedding_match": own, "noise_magnitude": {}})
    watch = Watch(build_plugins(), settings, look_embeddings=look if embedder else None, clip_embedder=embedder)
    return pipe, watched_call(pipe, pipe.__call__, (), {}, watch)


def test_embedding_is_looked_up_before_there_is_any_pixel(tmp_path):
    seen = []
    pipe, found = embedding_signs(tmp_path, seen, {"block_above": 0.9, "embedder": "clip:tiny"})
    assert torch.equal(found.output, Unclip()())
    assert torch.allclose(torch.from_numpy(seen[0]), torch.nn.functional.normalize(found.output, dim=1))
    signs = [found.signs_for(at, 2, "x") for at in range(2)]
    assert [one[0].value for one in signs] == pytest.approx([0.95, 0.5])
    assert [one[0].reaches for one in signs] == [Decision.BLOCK, Decision.ACCEPT]
    assert isinstance(signs[0][1], SignUnavailable), "what a prior denoises is no picture"
    assert pipe.decoded == 1


def test_stop_at_the_embedding_skips_the_decoder(tmp_path):
    own = {"block_above": 0.4, "embedder": "clip:tiny", "action": "stop"}
    pipe, found = embedding_signs(tmp_path, [], own)
    assert found.output is None
    assert pipe.decoded == 0
    assert type(pipe.prior) is PriorTransformer
    assert found.stopped.by == "embedding_match"


@pytest.mark.parametrize(
    ("embedder", "said", "reason"),
    [
        ("clip:tiny", "", "nobody said"),
        ("clip:other", "clip:tiny", "the index's CLIP embedder is 'clip:other'"),
        ("", "clip:tiny", "the index's CLIP embedder is ''"),
    ],
)
def test_embedding_of_another_model_is_not_looked_up(tmp_path, embedder, said, reason):
    seen = []
    _, found = embedding_signs(tmp_path, seen, {"embedder": said}, embedder=embedder)
    by_sign = {one.sign: one for one in found.signs_for(0, 2, "x")}
    assert reason in by_sign["embedding_match"].reason
    assert seen == []


def test_unread_says_why():
    assert Unread("because").reason == "because"
