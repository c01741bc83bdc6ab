"""The ladder of remedies, on a pipeline whose memorised prompts are known in closed form."""

import itertools
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image

from guardrail.errors import MemoryUnwritable, PictureNotKept
from guardrail.intake.calls import bound_call
from guardrail.intake.remedies import Hit, Ladder, matched_rows
from guardrail.records import Decision, ExactMatch, Neighbour, RemedyTried, Signal, Verdict, Work
from guardrail.study.caption_memoriser import memorising_pipeline
from guardrail.study.optimal_denoiser import overfitted_pipeline

SIDE = 16
CAPTIONS = ("a red fox", "an old owl", "the tall elk", "two blue jays")
WORDS = ("house", "tree", "river", "cloud")


def drawings(count: int) -> torch.Tensor:
    """Smooth random pictures, float (N, 3, 16, 16) in -1..1."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(-1, 1)


WORKS = drawings(4)


def work_picture(at: int) -> Image.Image:
    return Image.fromarray(((WORKS[at].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy())


def verdict_on(image: str, decision: str = "block", **said) -> Verdict:
    return Verdict(
        **{
            "image": image,
            "pixels_sha256": None,
            "at": datetime.now(UTC),
            "decision": decision,
            "rule": "copy",
            "explanation": "",
            "evidence": (),
            "nearest": (),
            "index_snapshot": None,
            "policy_sha256": "0" * 64,
            "calibration": "uncalibrated",
        }
        | said
    )


def hit(slot: int, work: int | None = None, **said) -> Hit:
    works = (lambda: [work_picture(work)]) if work is not None else tuple
    return Hit(f"images[{slot}]", slot, verdict_on(f"images[{slot}]", **said), works=works)


def memoriser(share: float = 0.5):
    pipe = memorising_pipeline(WORKS, CAPTIONS, [share] * 4, WORDS)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def asked_of(pipe, **kwargs):
    said = {"num_inference_steps": 10, "output_type": "np", **kwargs}
    return bound_call(pipe, type(pipe).__call__.__get__(pipe), (), said)


def ladder_on(asked, count, *remedies, at_most=10, **said):
    seeds = itertools.count(100)
    return Ladder(asked, count, remedies, at_most, said.pop("narrow", True), lambda: next(seeds))


def copied(images, works) -> list[bool]:
    """For each image whether it is its work, to within rounding."""
    wanted = (WORKS[list(works)].permute(0, 2, 3, 1).numpy() + 1) / 2
    return [bool(near) for near in np.sqrt(((images - wanted) ** 2).mean((1, 2, 3))) < 0.05]


def run_of(ladder, *hits):
    altered = ladder.next_try(hits)
    output = altered.run()
    return altered, None if output is None else output.images


def test_fresh_seed_makes_only_the_blocked_prompts_anew():
    asked = asked_of(memoriser(0.999), prompt=list(CAPTIONS))
    altered, images = run_of(ladder_on(asked, 4, "fresh_seed"), hit(1), hit(3))
    assert (altered.remedy, altered.places) == ("fresh_seed", {1: 0, 3: 1})
    assert copied(images, (1, 3)) == [True, True]


def test_images_of_one_prompt_keep_their_places():
    asked = asked_of(memoriser(0.999), prompt=list(CAPTIONS[:2]), num_images_per_prompt=3)
    altered, images = run_of(ladder_on(asked, 6, "fresh_seed"), hit(4))
    assert altered.places == {4: 1}
    assert copied(images, (1, 1, 1)) == [True, True, True]


def test_one_prompt_is_asked_for_as_many_images_as_are_blocked():
    asked = asked_of(memoriser(), prompt=CAPTIONS[0], num_images_per_prompt=5)
    altered, images = run_of(ladder_on(asked, 5, "fresh_seed"), hit(4), hit(1))
    assert len(images) == 2
    assert altered.places == {4: 0, 1: 1}


def test_unconditional_batch_is_cut_to_the_blocked_images():
    pipe = overfitted_pipeline(WORKS)
    pipe.set_progress_bar_config(disable=True)
    asked = asked_of(pipe, batch_size=4, num_inference_steps=3)
    altered, images = run_of(ladder_on(asked, 4, "fresh_seed"), hit(2))
    assert (altered.places, len(images)) == ({2: 0}, 1)


@pytest.mark.parametrize(
    "said",
    [
        {"callback_on_step_end": lambda pipe, number, timestep, tensors: tensors},
        {"latents": torch.zeros(4, 3, SIDE, SIDE)},
    ],
)
def test_call_that_cannot_be_cut_is_made_whole(said):
    asked = asked_of(memoriser(), prompt=list(CAPTIONS), **said)
    altered, images = run_of(ladder_on(asked, 4, "delayed_guidance"), hit(2))
    assert (altered.places, len(images)) == ({2: 2}, 4)


def test_callers_generators_are_not_drawn_from():
    given = [torch.Generator().manual_seed(seed) for seed in range(4)]
    before = [one.get_state() for one in given]
    asked = asked_of(memoriser(), prompt=list(CAPTIONS), generator=given)
    altered, _ = run_of(ladder_on(asked, 4, "fresh_seed", narrow=False), hit(1), hit(2))
    assert altered.seeds == (100, 101)
    assert all(torch.equal(one.get_state(), state) for one, state in zip(given, before, strict=True))


def test_only_blocked_slots_get_fresh_generators():
    given = [torch.Generator().manual_seed(seed) for seed in range(4)]
    pipe = memoriser(0.05)
    first = pipe(list(CAPTIONS), 10, generator=[one.clone_state() for one in given], output_type="np").images
    asked = asked_of(pipe, prompt=list(CAPTIONS), generator=given)
    _, images = run_of(ladder_on(asked, 4, "fresh_seed", narrow=False), hit(1))
    assert [bool(np.array_equal(*both)) for both in zip(images, first, strict=True)] == [True, False, True, True]


def test_same_seeds_give_the_same_try():
    made = [
        run_of(ladder_on(asked_of(memoriser(), prompt=CAPTIONS[0]), 1, remedy), hit(0, work=0))[1]
        for remedy in ("prompt_noise", "random_token", "away_from_work")
        for _ in range(2)
    ]
    assert all(np.array_equal(one, other) for one, other in zip(made[::2], made[1::2], strict=True))


def test_memorised_prompt_repeats_for_fresh_seeds_and_another_remedy_helps():
    asked = asked_of(memoriser(0.5), prompt=list(CAPTIONS), guidance_scale=7.5)
    hits = [hit(slot, work=slot) for slot in range(4)]
    copies = {}
    for remedy in ("fresh_seed", "prompt_noise", "random_token", "away_from_work"):
        _, images = run_of(ladder_on(asked, 4, remedy), *hits)
        copies[remedy] = sum(copied(images, range(4)))
    assert copies["fresh_seed"] >= 3
    assert max(copies["prompt_noise"], copies["random_token"], copies["away_from_work"]) <= 1


def test_delayed_guidance_is_the_prompts_own_prediction_first():
    pipe = memoriser(0.2)
    latents = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    asked = asked_of(pipe, prompt=list(CAPTIONS), latents=latents, guidance_scale=5.0)
    ladder = ladder_on(asked, 4, "delayed_guidance")
    _, images = run_of(ladder, hit(0))

    noisy = latents
    pipe.scheduler.set_timesteps(10)
    prompted, unprompted = pipe.encode_prompt(list(CAPTIONS), 1)
    for number, timestep in enumerate(pipe.scheduler.timesteps):
        scale = 1.0 if number < 4 else 5.0
        one, other = (pipe.unet(noisy, timestep, given)["sample"] for given in (unprompted, prompted))
        noisy = pipe.scheduler.step(one + scale * (other - one), timestep, noisy).prev_sample
    assert np.allclose(images, (noisy.clamp(-1, 1) / 2 + 0.5).permute(0, 2, 3, 1).numpy(), atol=1e-4)
    assert ladder.tried[0].changed.endswith("guidance set in after 4 steps")


def test_guidance_that_is_off_cannot_be_delayed():
    ladder = ladder_on(asked_of(memoriser(), prompt=CAPTIONS[0], guidance_scale=1.0), 1, "delayed_guidance")
    _, images = run_of(ladder, hit(0))
    assert images is None
    assert ladder.tried[0].unfit == "no guidance is in force"
    assert ladder.next_try([hit(0)]) is None


def test_fixed_latents_are_unfixable_by_reseed_and_other_remedies_go_on():
    asked = asked_of(memoriser(), prompt=CAPTIONS[0], latents=torch.zeros(1, 3, SIDE, SIDE))
    ladder = ladder_on(asked, 1, "fresh_seed", "prompt_noise")
    assert ladder.next_try([hit(0)]).remedy == "prompt_noise"
    assert ladder.tried[0].unfit.startswith("unfixable_by_reseed")


def test_own_input_that_is_repeated_is_not_tried_again():
    ladder = ladder_on(asked_of(memoriser(), prompt=list(CAPTIONS)), 4, "fresh_seed")
    mine, other = hit(0, input_repeated="image"), hit(1)
    assert ladder.next_try([mine]) is None
    assert [one.slot for one in ladder.next_try([mine, other]).hits] == [1]
    assert [(one.remedy, one.images) for one in ladder.tried] == [("any", ("images[0]",))]


def test_pipeline_without_prompt_has_no_remedy_on_prompts():
    asked = asked_of(overfitted_pipeline(WORKS), batch_size=1)
    ladder = ladder_on(asked, 1, "prompt_noise", "random_token")
    assert ladder.next_try([hit(0)]) is None
    assert {one.remedy: one.unfit for one in ladder.tried} == dict.fromkeys(
        ("prompt_noise", "random_token"), "the call has no prompt"
    )


@pytest.mark.parametrize("error", [PictureNotKept("index", "fox"), None])
def test_work_without_a_picture_cannot_be_led_away_from(error):
    def works():
        if error:
            raise error
        return []

    ladder = ladder_on(asked_of(memoriser(), prompt=CAPTIONS[0]), 1, "away_from_work")
    assert ladder.next_try([Hit("images[0]", 0, verdict_on("images[0]"), works=works)]) is None
    assert "no picture" in ladder.tried[0].unfit


def test_mirrored_copy_is_led_away_from_the_mirrored_work():
    from guardrail.intake.remedies.spaces import turned_like

    work = torch.from_numpy(np.array(work_picture(0)))
    for turns, mirrored in itertools.product(range(4), (False, True)):
        seen = torch.rot90(work.flip(1) if mirrored else work, turns, (0, 1))
        assert torch.equal(turned_like(work, seen.permute(2, 0, 1)), seen)


def test_picture_is_led_away_at_first_and_left_alone_at_the_end():
    ladder = ladder_on(asked_of(memoriser(0.999), prompt=list(CAPTIONS)), 4, "away_from_work")
    run_of(ladder, *(hit(slot, work=slot) for slot in range(4)))
    assert ladder.tried[0].changed.endswith("led away from 4 works in 6 steps")


@pytest.mark.parametrize("remedy", ["delayed_guidance", "prompt_noise", "random_token", "away_from_work"])
def test_pipeline_is_bit_identical_afterwards(remedy):
    pipe = memoriser()
    plain = dict(vars(pipe))
    classes = [type(part) for part in pipe.components.values()]

    def made():
        return pipe(list(CAPTIONS), 10, generator=torch.Generator().manual_seed(2), output_type="np").images

    before = made()
    _, images = run_of(ladder_on(asked_of(pipe, prompt=list(CAPTIONS)), 4, remedy), hit(0, work=0))
    assert images is not None
    assert np.array_equal(made(), before)
    assert [type(part) for part in pipe.components.values()] == classes
    assert vars(pipe).keys() == plain.keys()
    assert not pipe.unet._forward_hooks


@pytest.mark.parametrize("remedy", ["delayed_guidance", "prompt_noise", "away_from_work"])
def test_failing_call_is_noted_and_leaves_no_trace(remedy):
    pipe = memoriser()
    plain, freed = type(pipe.scheduler), []

    def fails(*_):
        raise RuntimeError("out of memory")

    pipe.maybe_free_model_hooks = lambda: freed.append(True)
    asked = asked_of(pipe, prompt=CAPTIONS[0], callback_on_step_end=fails)
    ladder = ladder_on(asked, 1, remedy, at_most=1)
    _, images = run_of(ladder, hit(0, work=0))
    assert images is None
    assert ladder.tried[0].failed == "RuntimeError: out of memory"
    assert type(pipe.scheduler) is plain
    assert "encode_prompt" not in vars(pipe)
    assert not pipe.unet._forward_hooks
    assert freed
    assert ladder.next_try([hit(0)]) is None, "a try that failed is a try"


def test_guardrails_own_errors_are_raised():
    def fails(*_):
        raise MemoryUnwritable("ledger", "full")

    asked = asked_of(memoriser(), prompt=CAPTIONS[0], callback_on_step_end=fails)
    with pytest.raises(MemoryUnwritable):
        run_of(ladder_on(asked, 1, "fresh_seed"), hit(0))


def test_ladder_goes_round_until_its_tries_are_used_up():
    ladder = ladder_on(asked_of(memoriser(), prompt=CAPTIONS[0]), 1, "fresh_seed", "prompt_noise", at_most=3)
    made = []
    while altered := ladder.next_try([hit(0)]):
        altered.run()
        made.append(altered.remedy)
    assert made == ["fresh_seed", "prompt_noise", "fresh_seed"]


def test_outcome_is_noted_by_slot():
    ladder = ladder_on(asked_of(memoriser(), prompt=list(CAPTIONS)), 4, "fresh_seed")
    altered, _ = run_of(ladder, hit(3), hit(1))
    outcome = {3: verdict_on("images[3]", "accept"), 1: verdict_on("images[1]")}
    ladder.note(altered, outcome)
    (tried,) = ladder.tried
    assert tried.images == ("images[3]", "images[1]")
    assert tried.before == (Decision.BLOCK, Decision.BLOCK)
    assert tried.after == (Decision.ACCEPT, Decision.BLOCK)
    assert tried.verdict_ids == (outcome[3].verdict_id, outcome[1].verdict_id)
    assert tried.failed is None
    assert RemedyTried.model_validate_json(tried.model_dump_json()) == tried


def test_outcome_that_was_not_judged_is_said_so():
    ladder = ladder_on(asked_of(memoriser(), prompt=CAPTIONS[0]), 1, "fresh_seed")
    altered, _ = run_of(ladder, hit(0))
    assert ladder.tried[0].failed == "the outcome was not judged"
    ladder.note(altered, {})
    assert ladder.tried[0].failed == "the outcome was not judged for images[0]"
    assert ladder.tried[0].after == ()


def test_pipeline_that_takes_no_generator_has_no_seed():
    class Fixed:
        def __call__(self, batch_size: int = 1):
            return torch.rand(batch_size)

    ladder = ladder_on(bound_call(Fixed(), Fixed().__call__, (), {"batch_size": 2}), 2, "fresh_seed", "away_from_work")
    altered = ladder.next_try([hit(1)])
    assert (altered.seeds, len(altered.run())) == ((), 1)
    assert ladder.tried[0].changed == "the next random numbers"
    assert ladder.next_try([hit(1, work=0)]).remedy == "fresh_seed"
    assert "no scheduler" in ladder.tried[1].unfit


def test_arguments_that_cannot_be_read_end_the_ladder():
    asked = bound_call(None, lambda prompt: None, (), {"unknown": 1})
    ladder = ladder_on(asked, 1, "fresh_seed")
    assert ladder.next_try([hit(0)]) is None
    assert "cannot be read" in ladder.tried[0].unfit


def test_rows_of_matched_works_are_those_that_evidence_names():
    fox, owl = (Work(work_id=name, bank="animals") for name in ("fox", "owl"))
    nearest = [
        Neighbour(work=owl, row=4, signal=Signal.COPY, similarity=0.2),
        Neighbour(work=fox, row=7, signal=Signal.COPY, similarity=0.9),
        Neighbour(work=fox, row=7, signal=Signal.PDQ, distance_bits=3),
    ]
    evidence = (ExactMatch(work=fox, signal=Signal.PIXELS),)
    assert matched_rows(verdict_on("images[0]", nearest=tuple(nearest), evidence=evidence)) == (7,)


def test_prompt_noise_goes_on_an_embedding_that_was_passed():
    from guardrail.intake.remedies.prompts import PromptNoise

    embedding = torch.randn(2, 5, 8)
    asked = bound_call(None, lambda prompt_embeds: None, (), {"prompt_embeds": embedding})
    kept = embedding.clone()
    noisy = PromptNoise(asked, lambda: 1).changed()["prompt_embeds"]
    assert torch.equal(embedding, kept)
    assert (noisy - embedding).std() == pytest.approx(0.5 * float(embedding.std()), rel=0.3)


def test_random_tokens_are_of_the_tokenizer_and_keep_the_prompts_words():
    from guardrail.intake.remedies.prompts import RandomToken

    asked = asked_of(memoriser(), prompt=["a red fox", "the tall elk"])
    one, other = RandomToken(asked, lambda: 1).changed()["prompt"]
    added = [word for word in one.split() if word not in ("a", "red", "fox")]
    assert len(one.split()) == len(other.split()) == 7
    assert [word for word in one.split() if word in ("a", "red", "fox")][:1]
    assert set(added) <= set(asked.pipe.tokenizer.words)
