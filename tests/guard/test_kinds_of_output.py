"""Latents, states of modular pipelines, videos, pictures that ranks share: each is looked at, and fails closed."""

import base64
import io
import pickle
import socket

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, ModularPipeline
from diffusers.modular_pipelines import ModularPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils import BaseOutput
from PIL import Image

from guardrail import intake
from guardrail.errors import OutputNotUnderstood
from guardrail.intake import taking
from guardrail.records import CheckFailed, Decision
from guardrail.testing import FakePipeline
from tests.guard.conftest import drawing

ACCEPT, FLAG, BLOCK = Decision


def same(image, other):
    return np.array_equal(np.asarray(image), np.asarray(other))


def decisions(report):
    return [verdict.decision for verdict in report.verdicts]


# --- latents ---------------------------------------------------------------------------------------------------------


class Paints(DiffusionPipeline):
    """Draws what its seed says; its latents are the picture in the order of a shuffled code, or an autoencoder's.

    With `ignores` it returns a finished picture whatever it is asked for, as DDPM and DiT do.
    """

    def __init__(self, vae=None, ignores=False):
        super().__init__()
        self.register_modules(vae=vae)
        self.ignores, self.calls = ignores, 0

    def __call__(self, prompt, generator=None, output_type="pil", return_dict=True):
        self.calls += 1
        seeds = torch.randint(2, (len(prompt),), generator=generator)
        made = [drawing(1 if word == "fox" else 70 + int(seed)) for word, seed in zip(prompt, seeds, strict=True)]
        arrays = torch.from_numpy(np.stack([np.array(image) for image in made])).permute(0, 3, 1, 2).float() / 127.5 - 1
        if output_type == "latent" and not self.ignores:
            latents = arrays.flatten(1).roll(7, 1) if self.vae is None else self._encoded(arrays)
            return ImagePipelineOutput(images=latents) if return_dict else (latents, None)
        return ImagePipelineOutput(images=made) if return_dict else (made, None)

    @torch.no_grad()
    def _encoded(self, arrays):
        return self.vae.encode(arrays).latent_dist.mode() * self.vae.config.scaling_factor


class Packed(Paints):
    """Latents of three axes, as Flux has them."""

    def __call__(self, prompt, generator=None, output_type="pil", return_dict=True):
        output = super().__call__(prompt, generator, output_type, True)
        if isinstance(output.images, torch.Tensor):
            output = ImagePipelineOutput(images=output.images.view(len(prompt), 96, -1))
        return output if return_dict else (output.images,)


@pytest.mark.parametrize("return_dict", [True, False])
def test_latents_are_decoded_by_another_call_and_only_the_copy_is_emptied(guard, return_dict):
    plain = Packed()(["fox", "new"], torch.Generator().manual_seed(5), "latent", return_dict)
    pipe = guard.wrap(Packed())
    generator = torch.Generator().manual_seed(5)
    output = pipe(["fox", "new"], generator, "latent", return_dict)
    latents, unguarded = (output.images, plain.images) if return_dict else (output[0], plain[0])
    assert decisions(guard.last_report) == [BLOCK, ACCEPT]
    assert torch.equal(latents[1], unguarded[1])
    assert not latents[0].any()
    assert pipe.calls == 2


def test_random_numbers_go_on_after_latents_as_without_a_guard(guard):
    plain, guarded = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    torch.manual_seed(3)
    Packed()(["new"], plain, "latent")
    unguarded = torch.rand(1)
    torch.manual_seed(3)
    guard.wrap(Packed())(["new"], guarded, "latent")
    assert torch.equal(torch.rand(1), unguarded)
    assert torch.equal(plain.get_state(), guarded.get_state())


def test_latents_of_an_autoencoder_are_decoded_without_another_call(guard):
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=4)
    pipe = guard.wrap(Paints(vae))
    output = pipe(["new", "new"], torch.Generator().manual_seed(1), "latent")
    assert pipe.calls == 1
    assert len(output.guard.verdicts) == 2
    assert output.images.shape == (2, 4, 96, 96)


def test_latents_are_withheld_where_the_settings_say_not_to_decode(make_guard):
    guard = make_guard(on_latent="refuse")
    output = guard.wrap(Packed())(["new"], torch.Generator().manual_seed(1), "latent")
    (verdict,) = output.guard.verdicts
    assert verdict.decision is BLOCK
    assert [found.check for found in verdict.evidence if isinstance(found, CheckFailed)] == ["latents"]
    assert not output.images.any()


def test_latents_that_cannot_be_decoded_are_withheld(guard):
    class Breaks(Packed):
        def __call__(self, prompt, generator=None, output_type="pil", return_dict=True):
            if output_type == "pil":
                raise RuntimeError("out of memory")
            return super().__call__(prompt, generator, output_type, return_dict)

    output = guard.wrap(Breaks())(["new"], torch.Generator().manual_seed(1), "latent")
    assert decisions(output.guard) == [BLOCK]
    assert "out of memory" in output.guard.verdicts[0].evidence[0].error
    assert not output.images.any()


def test_finished_picture_is_judged_though_latents_were_asked_for(guard, pictures):
    output = guard.wrap(Paints(ignores=True))(["fox", "new"], torch.Generator().manual_seed(1), "latent")
    assert decisions(output.guard) == [BLOCK, ACCEPT]
    assert not same(output.images[0], pictures["fox"])


def test_latents_beside_other_tensors_are_refused(guard):
    class Two(DiffusionPipeline):
        def __call__(self, output_type="latent", return_dict=False):
            return torch.rand(1, 4, 8, 8), torch.rand(1, 4, 8, 8)

    with pytest.raises(OutputNotUnderstood, match="several tensors"):
        guard.wrap(Two())()


def test_latents_that_the_callers_own_callback_may_have_changed_are_withheld(guard):
    class Calls(Packed):
        def __call__(self, prompt, generator=None, output_type="pil", return_dict=True, callback_on_step_end=None):
            return super().__call__(prompt, generator, output_type, return_dict)

    pipe = guard.wrap(Calls())
    output = pipe(["new"], torch.Generator().manual_seed(1), "latent", callback_on_step_end=lambda *_: {})
    assert decisions(output.guard) == [BLOCK]
    assert not output.images.any()


def test_pictures_beside_latents_are_refused(guard, pictures):
    class Previews(DiffusionPipeline):
        def __call__(self, output_type="latent", return_dict=False):
            return torch.rand(1, 4, 8, 8), [pictures["fox"]]

    with pytest.raises(OutputNotUnderstood, match="something else"):
        guard.wrap(Previews())()


def test_latents_that_decode_to_too_few_pictures_are_withheld(guard):
    class Loses(Packed):
        def __call__(self, prompt, generator=None, output_type="pil", return_dict=True):
            if output_type == "pil":
                return ImagePipelineOutput(images=[])
            return super().__call__(prompt, generator, output_type, return_dict)

    output = guard.wrap(Loses())(["new"], torch.Generator().manual_seed(1), "latent")
    assert decisions(output.guard) == [BLOCK]
    assert not output.images.any()


def test_words_of_a_string_enum_ask_for_latents_too(guard):
    import enum

    class Kind(str, enum.Enum):  # noqa: UP042 - what StrEnum prints is another thing
        LATENT = "latent"

    output = guard.wrap(Packed())(["fox"], torch.Generator().manual_seed(5), Kind.LATENT)
    assert decisions(output.guard) == [BLOCK]


def test_latents_are_not_made_anew(make_guard):
    guard = make_guard(on_block="regenerate")
    pipe = guard.wrap(Packed())
    output = pipe(["fox"], torch.Generator().manual_seed(5), "latent")
    assert pipe.calls == 2
    assert output.guard.remedies == ()


# --- pictures in other words -----------------------------------------------------------------------------------------


def as_png(image):
    kept = io.BytesIO()
    image.save(kept, "PNG")
    return kept.getvalue()


@pytest.mark.parametrize(
    "spell",
    [
        lambda image: base64.b64encode(as_png(image)).decode(),
        lambda image: base64.urlsafe_b64encode(as_png(image)).decode(),
        lambda image: "data:image/png;base64," + base64.b64encode(as_png(image)).decode(),
        lambda image: np.asarray(image).tolist(),
        lambda image: np.asarray(image)[None].tolist(),
        lambda image: np.moveaxis(np.asarray(image), -1, 0).tolist(),
        lambda image: np.asarray(image.convert("L")).tolist(),
    ],
    ids=["base64", "urlsafe", "data url", "rows", "batch", "channels first", "grey"],
)
def test_picture_spelled_out_beside_a_judged_one_is_refused(guard, pictures, spell):
    guarded = guard.wrap(lambda: {"image": pictures["new"], "more": spell(pictures["fox"])})
    with pytest.raises(OutputNotUnderstood):
        guarded()


def test_words_and_numbers_that_are_no_picture_pass(guard, pictures):
    said = {"prompt": "a fox " * 40, "flags": [False] * 20, "ids": list(range(100)), "box": [[0, 0, 9, 9]] * 3}
    output = guard.wrap(lambda: {"image": pictures["new"], **said})()
    assert {name: output[name] for name in said} == said


# --- modular pipelines -----------------------------------------------------------------------------------------------


class Draw(ModularPipelineBlocks):
    """One block: latents, and with `decodes` the pictures they are of."""

    decodes = True

    @property
    def inputs(self):
        return [InputParam("words", required=True), InputParam("image"), InputParam("output_type", default="pil")]

    @property
    def intermediate_outputs(self):
        return [OutputParam("latents"), OutputParam("images"), OutputParam("mask_image")]

    def __call__(self, components, state):
        block = self.get_block_state(state)
        made = [drawing({"fox": 1}.get(word, 77)) for word in block.words]
        block.latents = torch.from_numpy(np.stack([np.array(image) for image in made])).permute(0, 3, 1, 2).float()
        block.images, block.mask_image = (made if self.decodes else None), None
        self.set_block_state(state, block)
        return components, state


class DrawLatents(Draw):
    decodes = False


@pytest.fixture
def modular(guard):
    pipe = guard.wrap(ModularPipeline(blocks=Draw()))
    yield pipe
    guard.unwrap(pipe)


def test_state_of_a_modular_pipeline_holds_cards_and_no_latents_once_a_picture_is_withheld(modular, guard, pictures):
    state = modular(words=["fox", "new"])
    assert decisions(guard.last_report) == [BLOCK, ACCEPT]
    assert state.guard is guard.last_report
    assert not same(state.images[0], pictures["fox"])
    assert same(state.images[1], pictures["new"])
    assert state.get("latents") is None
    assert state.get("words") == ["fox", "new"]


def test_state_of_a_modular_pipeline_is_whole_when_all_is_accepted(modular, guard, pictures):
    state = modular(words=["new"])
    plain = ModularPipeline(blocks=Draw())(words=["new"])
    assert set(state.values) == set(plain.values)
    assert torch.equal(state.latents, plain.latents)
    assert type(state) is type(plain)


@pytest.mark.parametrize("asked", ["images", ["images", "latents"], "latents"])
def test_whatever_is_asked_of_a_modular_pipeline_its_pictures_are_judged(modular, guard, pictures, asked):
    given = modular(words=["fox"], output=asked)
    assert decisions(guard.last_report) == [BLOCK]
    if asked == "latents":
        assert given is None
    else:
        images = given["images"] if isinstance(asked, list) else given
        assert not same(images[0], pictures["fox"])
        assert not isinstance(asked, list) or given["latents"] is None


def test_modular_pipeline_without_a_decoder_hands_out_nothing(guard):
    with pytest.raises(OutputNotUnderstood, match="latents and no picture"):
        guard.wrap(ModularPipeline(blocks=DrawLatents()))(words=["fox"], output="latents")


def test_picture_that_the_caller_put_into_a_modular_pipeline_is_not_taken_for_its_own(modular, guard, pictures):
    state = modular(words=["new"], image=pictures["fox"])
    assert decisions(guard.last_report) == [ACCEPT]
    assert same(state.image, pictures["fox"])


class Paints3(ModularPipelineBlocks):
    """A block that a user wrote: its picture is an array, or is painted into what the caller gave."""

    kind = "array"

    @property
    def inputs(self):
        return [InputParam("image")]

    @property
    def intermediate_outputs(self):
        return [OutputParam("picture")]

    def __call__(self, components, state):
        block = self.get_block_state(state)
        fox, block.picture = drawing(1), None
        if self.kind == "array":
            block.picture = np.asarray(fox)
        elif self.kind == "tensor":
            block.picture = torch.from_numpy(np.array(fox))
        elif isinstance(block.image, np.ndarray):
            block.image[:] = np.asarray(fox)
        else:
            block.image.paste(fox)
        self.set_block_state(state, block)
        return components, state


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_picture_under_a_name_of_its_own_is_judged_or_refused(guard, kind):
    blocks = Paints3()
    blocks.kind = kind
    pipe = guard.wrap(ModularPipeline(blocks=blocks))
    if kind == "tensor":
        with pytest.raises(OutputNotUnderstood):
            pipe()
    else:
        state = pipe()
        assert decisions(guard.last_report) == [BLOCK]
        assert not same(state.picture, drawing(1))


@pytest.mark.parametrize("form", [lambda image: image, np.array], ids=["Pillow", "NumPy"])
def test_picture_that_is_painted_into_the_callers_own_is_judged(guard, form):
    blocks = Paints3()
    blocks.kind = "paint"
    mine = form(drawing(77))
    state = guard.wrap(ModularPipeline(blocks=blocks))(image=mine)
    assert decisions(guard.last_report) == [BLOCK]
    assert not same(state.image, drawing(1))
    assert same(mine, drawing(77))


def test_modular_pipeline_is_pickled_and_unwrapped_like_any(modular, guard):
    assert intake.guard_of(modular) is guard
    assert type(guard.unwrap(modular)) is ModularPipeline


# --- videos ----------------------------------------------------------------------------------------------------------


class Film(BaseOutput):
    frames: list


class Films(DiffusionPipeline):
    """Returns what it was given as frames."""

    def __init__(self, frames):
        super().__init__()
        self.kept = frames

    def __call__(self, return_dict=True):
        return _film(self.kept) if return_dict else (self.kept,)


def _film(frames):
    from diffusers.pipelines.animatediff.pipeline_output import AnimateDiffPipelineOutput

    return AnimateDiffPipelineOutput(frames=frames)


def pan(seed, count):
    """A slow pan over one drawing: each frame hardly differs from the one before."""
    wide = drawing(seed, side=112)
    return [wide.crop((at, 8, at + 96, 104)) for at in range(count)]


@pytest.mark.parametrize("return_dict", [True, False])
def test_of_a_video_few_frames_are_looked_at_and_all_come_back(guard, return_dict):
    film = [pan(70, 16), pan(71, 16)]
    output = guard.wrap(Films(film))(return_dict)
    frames = output.frames if return_dict else output[0]
    report = guard.last_report
    assert [len(one) for one in frames] == [16, 16]
    assert decisions(report) == [ACCEPT] * len(report.verdicts)
    assert all(map(same, frames[0] + frames[1], film[0] + film[1]))
    assert 4 <= len(report.verdicts) < 32
    assert sum(1 + len(verdict.frames) for verdict in report.verdicts) == 32


def test_copy_that_flashes_up_in_a_video_is_found_and_the_block_names_its_frames(guard, pictures):
    film = [drawing(77)] * 5 + [pictures["fox"]] * 2 + [drawing(77)] * 5
    output = guard.wrap(Films([film]))()
    blocked = [verdict for verdict in output.guard.verdicts if verdict.decision is BLOCK]
    assert [verdict.image for verdict in blocked] == ["frames[0][5]", "frames[0][6]"]
    assert len(output.guard.verdicts) == 12
    assert not any(same(frame, pictures["fox"]) for frame in output.frames[0])
    assert same(output.frames[0][4], film[4])


def test_every_frame_is_looked_at_where_the_settings_say_so(make_guard):
    guard = make_guard(frame_every=1)
    output = guard.wrap(Films([pan(70, 6)]))()
    assert len(output.guard.verdicts) == 6


def test_arrays_of_videos_are_sampled_and_carded_in_place(guard, pictures):
    film = np.stack([np.asarray(drawing(77))] * 3 + [np.asarray(pictures["fox"])] * 4)[None].astype(np.float32) / 255
    output = guard.wrap(Films(film))()
    assert decisions(output.guard) == [ACCEPT] * 3 + [BLOCK] * 4
    assert np.array_equal(output.frames[0, :3], film[0, :3])
    assert not np.array_equal(output.frames[0, 3], film[0, 3])
    assert np.array_equal(output.frames[0, 3], output.frames[0, 6])


def test_frame_that_cannot_be_read_always_stays_in(guard):
    film = np.full((1, 6, 96, 96, 3), 0.5, np.float32)
    film[0, 2] = np.nan
    output = guard.wrap(Films(film))()
    failed = [verdict for verdict in output.guard.verdicts if verdict.decision is BLOCK]
    assert [verdict.image for verdict in failed] == ["frames[0][2]"]
    assert np.isfinite(output.frames).all()


def test_blocked_video_is_made_anew_as_a_whole(make_guard, pictures):
    guard = make_guard(on_block="regenerate", regenerate_at_most=1)
    first, second = [drawing(77)] * 2 + [pictures["fox"]] * 2, [drawing(78)] * 4

    class Twice(DiffusionPipeline):
        calls = 0

        def __call__(self, generator=None):
            Twice.calls += 1
            return _film([first if Twice.calls == 1 else second])

    output = guard.wrap(Twice())()
    assert all(same(frame, second[0]) for frame in output.frames[0])
    assert {verdict.decision for verdict in output.guard.verdicts} == {ACCEPT}
    assert output.guard.remedies[0].remedy == "fresh_seed"


@pytest.mark.parametrize(
    ("first", "second"), [("fefefe", "ffffff"), ("nfffff", "ffffff"), ("ffffff", "nnffff"), ("ffffff", "nnnfff")]
)
def test_no_copy_of_a_second_try_leaves_in_a_video(make_guard, pictures, first, second):
    names = {"f": pictures["fox"], "e": pictures["elk"], "n": pictures["new"]}
    films, calls = [[names[at] for at in film] for film in (first, second)], []

    class Twice(DiffusionPipeline):
        def __call__(self, generator=None):
            calls.append(1)
            return _film([films[min(len(calls), 2) - 1]])

    guard = make_guard(on_block="regenerate", remedies=("fresh_seed",), regenerate_at_most=1)
    output = guard.wrap(Twice())()
    assert len(calls) == 2
    assert not any(same(frame, names[work]) for frame in output.frames[0] for work in "fe")


def test_grey_film_of_one_clip_is_not_taken_for_one_picture(guard, pictures):
    grey = np.stack([np.asarray(pictures[name].convert("L")) for name in ("new", "new", "fox")])
    film = torch.from_numpy(grey)[None, None].float() / 255
    output = guard.wrap(Films(film))()
    assert ACCEPT not in decisions(output.guard)


# --- ranks -----------------------------------------------------------------------------------------------------------


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class _Shared(torch.nn.Module):
    """A denoiser that says it is split among ranks."""

    def __init__(self):
        super().__init__()
        shared = type("Shared", (), {"_flattened_mesh": None})()
        self._parallel_config = type("Parallel", (), {"context_parallel_config": shared})()


class _OfRanks:
    def __init__(self):
        self.transformer = _Shared()


def _on_a_rank(rank, port, queue):
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    pipe = _OfRanks()
    said = [intake.first_rank_says(pipe, lambda: f"rank {rank} judged")]

    def refuse():
        raise ValueError(f"rank {rank} could not")

    try:
        intake.first_rank_says(pipe, refuse)
    except ValueError as error:
        said.append(str(error))
    queue.put((rank, intake.is_shared_by_ranks(pipe), said))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_verdict_of_the_first_rank_is_everybodys():
    context = torch.multiprocessing.get_context("spawn")
    queue, port = context.Queue(), _free_port()
    ranks = [context.Process(target=_on_a_rank, args=(rank, port, queue)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    heard = sorted(queue.get(timeout=120) for _ in ranks)
    for rank in ranks:
        rank.join(timeout=60)
    assert heard == [(rank, True, ["rank 0 judged", "rank 0 could not"]) for rank in range(2)]


def test_one_process_judges_for_itself():
    assert intake.first_rank_says(_OfRanks(), lambda: "mine") == "mine"
    assert not intake.is_shared_by_ranks(_OfRanks())


def _in_a_worker(guard, queue):
    pipe = guard.wrap(FakePipeline([[drawing(1)], [drawing(77)]]))
    queue.put([pipe().guard.verdicts[0].decision for _ in range(2)])
    guard.memory.close()


def test_workers_in_parallel_share_index_and_ledger(guard):
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    made = pickle.dumps(guard)
    workers = [context.Process(target=_in_a_worker, args=(pickle.loads(made), queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=180) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
    assert found == [[BLOCK, ACCEPT]] * 2
    assert guard.memory.verify()[0] == 4


def test_stopped_call_gives_as_many_cards_as_it_was_to_make_pictures():
    taken = taking.nothing_taken(3, "stopped at step 2")
    assert [picture.failure.check for picture in taken.batch.pictures] == ["generation_stopped"] * 3
    assert isinstance(taken.batch.pictures[0].name, str)
    assert Image is not None
