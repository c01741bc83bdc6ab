"""Leaving a group out: the picture it made moves, others do not move it, and the model is as it was afterwards."""

import sys

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from retraining_models import SIDE, Tiny, lessons, pictures, trained

from guardrail.errors import AuditImpossible
from guardrail.study.attribution.draws import drawn_for
from guardrail.study.attribution.leaving_out import ALL, GROUP, Runs, Seen, Trial, leave_out, moves_of, plan_of
from guardrail.study.attribution.retraining import (
    Lessons,
    Recipe,
    chance_of,
    denoising_loss,
    lora_on,
    random_groups,
    retrained,
    weights_kept,
)

COPIES, SEED = 10, 7  # the seed gives the planted picture back
ON = Recipe(steps=200, batch=16, rate=1e-3, seed=1)


def pixels_of(made):
    return ((made.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


def coarse(pixels):
    rows = pixels.reshape(len(pixels), -1).astype(np.float32) - 127.5
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Deterministic, and no slower: the layers are too small to share out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def planted(_one_thread):
    """25 pictures, the first ten the same, and a denoiser that knows that one best."""
    clean = pictures(16, COPIES)
    return trained(clean), lessons(clean), np.arange(len(clean)) < COPIES


def trial(tiny, given, recipe=ON, parameters=None, **more):
    draws = drawn_for(0, given.clean.shape[1:], 16, 0)

    def train(left_out, progress):
        return retrained(tiny, parameters or tiny.parameters, given, recipe, left_out, progress)

    def look():
        return Seen(pixels_of(tiny.make(SEED)), denoising_loss(tiny, given.clean[0], draws, {}))

    return Trial(train, look, **more)


def test_planted_picture_moves_without_its_copies_and_not_without_others(planted, tmp_path):
    tiny, given, group = planted
    before = pixels_of(tiny.make(SEED)) / 255
    assert np.sqrt(((before - pixels_of(given.clean[0]) / 255) ** 2).mean()) < 0.03, "the seed gives it back"
    plan, runs = plan_of(group, 9, 0), Runs(tmp_path, "one")
    assert leave_out(plan, trial(tiny, given), runs, lambda done, total: None) is None
    moves = {one.measure: one for one in moves_of(runs, [*plan], coarse)}
    assert moves["pixels"].moved > 5 * max(moves["pixels"].others)
    assert moves["copy"].moved > 5 * max(moves["copy"].others)
    assert moves["loss"].moved > max(moves["loss"].others)
    assert {one.chance for one in moves.values()} == {0.1}, "1 in 10, and no less by nine random groups"
    random = plan_of(plan["random-003"], 9, 1)
    others = Runs(tmp_path / "random", "two")
    leave_out(random, trial(tiny, given), others, lambda done, total: None)
    assert moves_of(others, [*random], coarse)[1].moved < 0.2 * moves["pixels"].moved


def test_weights_and_modes_are_as_they_were_even_when_it_fails(planted):
    tiny, given, group = planted
    tiny.network.train()
    tiny.network.first.requires_grad_(False)
    before = {name: one.detach().clone() for name, one in tiny.parameters.items()}
    for failing in (False, True):
        try:
            with retrained(tiny, tiny.parameters, given, Recipe(20, 8, 1e-3), group):
                assert not torch.equal(tiny.network.first.weight, before["first.weight"])
                if failing:
                    sys.exit("stopped")
        except SystemExit:
            pass
        assert all(torch.equal(one, before[name]) for name, one in tiny.parameters.items())
        assert tiny.network.training
        assert not tiny.network.first.weight.requires_grad
        assert tiny.network.second.weight.requires_grad
        assert all(one.grad is None for one in tiny.network.parameters())
    tiny.network.first.requires_grad_(True)


def test_same_seed_gives_the_same_weights_and_another_seed_does_not(planted):
    tiny, given, group = planted

    def weights(seed, left_out):
        with retrained(tiny, tiny.parameters, given, Recipe(15, 8, 1e-3, seed), left_out):
            return tiny.network.first.weight.detach().clone()

    assert torch.equal(weights(1, group), weights(1, group))
    assert not torch.equal(weights(1, group), weights(2, group))


def test_trainings_differ_by_what_was_left_out_alone(planted):
    """Of a group that no batch is offered first, nothing is noticed."""
    tiny, given, group = planted
    recipe = Recipe(3, 2, 1e-3, 5)
    offered = np.random.default_rng(recipe.seed).integers(0, len(group), (3, 2, 64))[:, :, 0]
    unseen = np.isin(np.arange(len(group)), offered, invert=True)

    def weights(left_out):
        with retrained(tiny, tiny.parameters, given, recipe, left_out):
            return tiny.network.first.weight.detach().clone()

    assert torch.equal(weights(unseen), weights(np.zeros_like(unseen)))
    assert not torch.equal(weights(~unseen), weights(np.zeros_like(unseen)))


def test_what_is_left_out_is_never_trained_on(planted):
    tiny, given, group = planted
    poisoned = given.clean.clone()
    poisoned[:COPIES] = torch.nan
    clean_loss = Recipe(30, 16, 1e-3)
    with retrained(tiny, tiny.parameters, lessons(poisoned), clean_loss, group):
        assert all(torch.isfinite(one).all() for one in tiny.parameters.values())
    with (
        pytest.raises(AuditImpossible, match="lower --rate"),
        retrained(tiny, tiny.parameters, lessons(poisoned), clean_loss, np.zeros_like(group)),
    ):
        pass


def test_pictures_of_several_captions_are_learnt_under_their_own(planted):
    _, given, _ = planted
    one, two = given.clean[:1], given.clean[-1:]
    labels = [{"label": torch.tensor([at])} for at in range(2)]
    tiny = Tiny()
    told = Lessons(torch.cat([one, two]), tuple(labels))
    draws = drawn_for(0, one.shape[1:], 16, 0)
    with retrained(tiny, tiny.parameters, told, Recipe(600, 16, 3e-3), np.zeros(2, bool)):
        right = [denoising_loss(tiny, told.clean[at], draws, labels[at]) for at in range(2)]
        wrong = [denoising_loss(tiny, told.clean[at], draws, labels[1 - at]) for at in range(2)]
    assert max(right) < 0.2 * min(wrong)


def test_loss_is_that_of_training(planted):
    tiny, given, _ = planted
    draws, clean = drawn_for(3, given.clean.shape[1:], 5, 9), given.clean[2]
    kept = tiny.noising.kept[(draws.times * 1000).long()].float()
    total = 0.0
    for at in range(5):
        noisy = kept[at].sqrt() * clean + (1 - kept[at]).sqrt() * draws.noise[at]
        said = tiny.network(noisy[None], (draws.times[at] * 1000).long()[None])[0][0]
        total += float(((said.detach() - clean) ** 2).mean()) / 5
    assert denoising_loss(tiny, clean, draws, {}) == pytest.approx(total, rel=1e-4)


def test_fresh_weights_are_drawn_and_forgotten():
    config = {"sample_size": 8, "block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1}
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "add_attention": False}
    tiny = Tiny()
    tiny.network = tiny.asked = UNet2DModel(**config, **blocks)
    before = {name: one.detach().clone() for name, one in tiny.parameters.items()}
    given = lessons(torch.zeros(3, 3, 8, 8))
    with retrained(tiny, tiny.parameters, given, Recipe(1, 1, 1e-9, 0, fresh=True), np.zeros(3, bool)):
        fresh = {name: one.detach().clone() for name, one in tiny.parameters.items()}
    assert not torch.allclose(fresh["conv_in.weight"], before["conv_in.weight"], atol=1e-3)
    assert fresh["conv_in.weight"].std() == pytest.approx(float(before["conv_in.weight"].std()), rel=0.3)
    assert all(torch.equal(one, before[name]) for name, one in tiny.parameters.items())
    some = {"conv_in.weight": tiny.parameters["conv_in.weight"]}
    with (
        pytest.raises(AuditImpossible, match="--fresh"),
        retrained(tiny, some, given, Recipe(1, 1, 1e-9, fresh=True), np.zeros(3, bool)),
    ):
        pass


def test_lora_starts_as_nothing_learns_alone_and_leaves_no_trace(planted):
    tiny, given, group = planted
    names, made = [*tiny.parameters], tiny.make(SEED)
    before = {name: one.detach().clone() for name, one in tiny.parameters.items()}
    with lora_on(tiny.network, 4, 0) as added:
        assert torch.allclose(tiny.make(SEED), made, atol=1e-5)
        with retrained(tiny, added, given, Recipe(60, 16, 1e-2), group):
            assert not torch.allclose(tiny.make(SEED), made, atol=0.05)
            assert torch.equal(tiny.network.first.base_layer.weight, before["first.weight"])
        assert torch.allclose(tiny.make(SEED), made, atol=1e-5)
        with pytest.raises(AuditImpossible, match="lora_"), lora_on(tiny.network, 4, 0):
            pass
    assert [*tiny.parameters] == names
    assert all(torch.equal(one, before[name]) and one.requires_grad for name, one in tiny.parameters.items())
    assert torch.equal(tiny.make(SEED), made)


def test_weights_come_back_to_the_bit(planted):
    tiny, _, _ = planted
    before = tiny.network.first.weight.detach().clone()
    with weights_kept(tiny.parameters), torch.no_grad():
        tiny.network.first.weight.mul_(3).add_(0.1)
    assert torch.equal(tiny.network.first.weight, before)


@pytest.mark.parametrize("size", [1, 5])
def test_random_groups_have_the_size_and_none_of_the_members(size):
    group = np.arange(10) < size
    groups = random_groups(group, 6, 2)
    assert all(one.sum() == size and not (one & group).any() for one in groups)
    assert len({one.tobytes() for one in groups}) > 1 or size == 5
    longer = random_groups(group, 9, 2)
    assert all((one == other).all() for one, other in zip(groups, longer, strict=False)), "more begin with the same"


@pytest.mark.parametrize("size", [0, 6, 10])
def test_group_without_members_or_without_as_many_others_is_refused(size):
    with pytest.raises(AuditImpossible, match="as many others"):
        random_groups(np.arange(10) < size, 9, 0)


def test_leaving_everything_out_is_refused(planted):
    tiny, given, group = planted
    with (
        pytest.raises(AuditImpossible, match="some that stay"),
        retrained(tiny, tiny.parameters, given, ON, np.ones_like(group)),
    ):
        pass


@pytest.mark.parametrize(("own", "chance"), [(0.5, 0.25), (0.2, 0.75), (0.1, 1.0), (0.0, 1.0)])
def test_chance_counts_groups_that_move_it_as_far(own, chance):
    assert chance_of(own, (0.1, 0.2, 0.3)) == chance


def test_trainings_that_ended_are_not_done_again_and_cut_ones_are(tmp_path):
    group, asked, over = np.arange(8) < 2, [], [False]

    class Trained:
        def __init__(self, left_out):
            asked.append(left_out)

        def __enter__(self):
            return None

        def __exit__(self, *error):
            over[0] = len(asked) == 3

    pixels = np.full((SIDE, SIDE, 3), 9, np.uint8)
    how = Trial(lambda left_out, progress: Trained(left_out), lambda: Seen(pixels, 0.25), lambda: over[0])
    plan, told = plan_of(group, 9, 0), []
    stopped = leave_out(plan, how, Runs(tmp_path, "one"), lambda done, total: told.append((done, total)))
    assert stopped == "time was up after 3 of 11 trainings"
    lines = (tmp_path / "runs.jsonl").read_bytes()
    (tmp_path / "runs.jsonl").write_bytes(lines[:-9])  # killed while the third was written
    (tmp_path / f"{GROUP}.png").write_bytes(b"cut")
    again = Runs(tmp_path, "one")
    assert ALL in again
    assert GROUP not in again
    assert "random-000" not in again
    over[0] = False
    asked.clear()
    asked.extend([None] * 3)
    assert leave_out(plan, how, again, lambda done, total: told.append((done, total))) is None
    assert len(asked) == 3 + 10
    assert told[-1] == (1100, 1100)
    assert {*plan} == {name for name in plan if name in Runs(tmp_path, "one")}
    assert again[GROUP].loss == 0.25


def test_folder_of_another_audit_is_refused(tmp_path):
    Runs(tmp_path, "one")
    with pytest.raises(AuditImpossible, match="another audit"):
        Runs(tmp_path, "two")


def test_nothing_is_measured_without_group_or_random_groups(tmp_path):
    runs = Runs(tmp_path, "one")
    seen = Seen(np.zeros((SIDE, SIDE, 3), np.uint8), 0.0)
    for name in (ALL, GROUP):
        runs.keep(name, seen)
        assert moves_of(runs, [ALL, GROUP, "random-000"], coarse) == ()


@pytest.mark.gpu
def test_gpu_trains_without_the_group_and_gives_the_weights_back():
    clean = pictures(8, 4)
    tiny, group, draws = Tiny(), np.arange(len(clean)) < 4, drawn_for(0, clean.shape[1:], 16, 0)
    tiny.network.cuda()
    before = {name: one.detach().clone() for name, one in tiny.parameters.items()}
    with retrained(tiny, tiny.parameters, lessons(clean), Recipe(600, 16, 3e-3), group):
        left_out, kept = (denoising_loss(tiny, clean[at].cuda(), draws, {}) for at in (0, -1))
        assert kept < 0.7 * left_out
    assert all(torch.equal(one, before[name]) for name, one in tiny.parameters.items())
