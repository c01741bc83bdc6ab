"""What is read of a run before it begins, and that it can be made again from that."""

import pytest
import torch
from PIL import Image
from run_samples import add_lora, small_pipeline

from guardrail.intake import finish_context, prompt_of, read_context, replaying
from guardrail.records import GenerationContext


@pytest.fixture
def pipe():
    return small_pipeline()


def read(pipe, *args, **kwargs):
    return read_context(pipe, pipe.__call__, args, kwargs)


def test_positional_arguments_are_named_by_the_signature(pipe):
    context = read(pipe, "a fox", None, 0.4, 2, 5)
    assert context.prompts == {"prompt": "a fox"}
    assert (context.strength, context.images_per_prompt, context.steps) == (0.4, 2, 5)
    assert context.guidance_scale == 1.5  # a default counts as said


def test_arguments_that_do_not_fit_are_said_to_be_unread(pipe):
    context = read(pipe, "a fox", prompt="twice")
    assert context.is_unread("arguments")
    assert not context.is_unread("strength")


def test_strength_that_denoising_start_takes_the_place_of_is_unread(pipe):
    context = read(pipe, "a fox", None, 0.1, denoising_start=0.4)
    assert context.strength is None
    assert "strength: denoising_start takes its place" in context.unread
    assert read(pipe, "a fox", None, 0.1, denoising_start=None).strength == 0.1


def test_scheduler_is_known_by_class_and_settings(pipe):
    context = read(pipe)
    assert context.scheduler == "DDIMScheduler"
    assert read(small_pipeline()).scheduler_config_sha256 == context.scheduler_config_sha256
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, beta_end=0.5)
    assert read(pipe).scheduler_config_sha256 != context.scheduler_config_sha256


def test_revision_is_the_snapshot_of_the_hubs_cache(pipe):
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert read(pipe).model_revision is None
    pipe.unet.register_to_config(_name_or_path=f"/cache/models--somebody--model/snapshots/{commit}/unet")
    assert read(pipe).model_revision == commit


@pytest.mark.parametrize(
    ("prompts", "each", "expected"),
    [
        ("one", 3, ["one", "one", "one"]),
        (["one", "two"], 1, ["one", "two", None]),
        (["one", "two"], 2, ["one", "one", "two", "two", None]),
    ],
)
def test_image_belongs_to_its_prompt(pipe, prompts, each, expected):
    context = read(pipe, prompts, num_images_per_prompt=each)
    assert [prompt_of(context, number) for number in range(len(expected))] == expected


def test_image_of_a_call_without_prompt_has_none(pipe):
    assert prompt_of(read(pipe), 0) is None


def generators(kind):
    made = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    if kind == "used":
        torch.randn(5, generator=made[0])
    return {"none": None, "one": made[0], "used": made[0], "several": made, "listed": made[:1]}[kind]


@pytest.mark.parametrize("kind", ["none", "one", "used", "several", "listed"])
def test_replay_with_the_recorded_states_is_bit_exact(pipe, kind):
    generator = generators(kind)
    said = {"num_images_per_prompt": 2 if kind == "several" else 1}
    context = GenerationContext.model_validate_json(read(pipe, generator=generator, **said).model_dump_json())
    made = pipe(generator=generator, **said)
    assert not torch.equal(pipe(generator=generator, **said), made), "the generator has moved on"
    with replaying(context) as again:
        assert torch.equal(pipe(generator=again, **said), made)


def test_replay_puts_torchs_own_generator_back(pipe):
    context = read(pipe)
    torch.randn(3)
    before = torch.get_rng_state()
    with replaying(context):
        pipe()
    assert torch.equal(torch.get_rng_state(), before)


def test_run_without_states_is_not_replayed(pipe):
    context = read(pipe).model_copy(update={"generators": ()})
    with pytest.raises(ValueError, match="cannot be replayed"), replaying(context):
        pass


def test_fresh_generator_is_known_by_its_seed_alone(pipe):
    (fresh,) = read(pipe, generator=generators("one")).generators
    (used,) = read(pipe, generator=generators("used")).generators
    assert (fresh.seed, fresh.state, used.seed) == (3, "", 3)
    assert used.state


def test_seed_is_that_of_the_one_generator(pipe):
    assert read(pipe, generator=generators("one")).seed == 3
    assert read(pipe, generator=generators("several")).seed is None
    context = read(pipe)
    assert context.seed is None
    assert context.is_unread("seed")


def test_something_else_in_place_of_a_generator_is_said(pipe):
    context = read(pipe, generator=[3, 4])
    assert "seed: a list" in context.unread


def test_reading_a_run_changes_nothing_of_it(pipe):
    add_lora(pipe, "a")
    made = pipe(generator=generators("one"))
    generator = generators("one")
    read(pipe, generator=generator, image=Image.new("RGB", (8, 8)))
    assert torch.equal(pipe(generator=generator), made)


def test_steps_are_those_really_taken(pipe):
    context = read(pipe, num_inference_steps=None)
    pipe(num_inference_steps=4)
    assert finish_context(context, pipe).steps == 4


def test_any_callable_has_a_context():
    class Painter:
        def __init__(self):
            self.network = torch.nn.Linear(2, 2)

        def __call__(self, words):
            return Image.new("RGB", (8, 8))

    painter = Painter()
    context = read_context(painter, painter.__call__, ("a fox",), {})
    assert context.pipeline == "Painter"
    assert context.weights_sha256
    assert finish_context(context, painter) == context


def test_object_without_weights_says_so():
    def paint(prompt):
        return Image.new("RGB", (8, 8))

    context = read_context(paint, paint, ("a fox",), {})
    assert context.prompts == {"prompt": "a fox"}
    assert context.is_unread("weights")
