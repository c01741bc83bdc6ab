"""Truths of attribution: made training by training, written, read, and gone on with."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution_bench.comparing import compare
from guardrail.study.attribution_bench.estimates import Way, gradients_of, influences_of
from guardrail.study.attribution_bench.making import LOSS_SEED, TruthMaker, model_of
from guardrail.study.attribution_bench.pictures import draw_pictures
from guardrail.study.attribution_bench.tasks import TASKS, BenchTask, Plan, pictures_of
from guardrail.study.attribution_bench.training import as_given, as_pixels, losses_of, train
from guardrail.study.attribution_bench.truth import read_truth, subsets_of, write_truth

PLAN = Plan(subsets=3, seeds=2, generated=2, held_out=2, draws=3, left_out=False, moved=1)
SMALL = BenchTask("tiny", 8, 2, 20, 1, 3, (8,), 4, 4, 3e-3, 1, PLAN)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    maker = TruthMaker(SMALL, pictures_of(SMALL), folder)
    assert maker.make(lambda *_: None) == 0
    return maker.truth()


def test_pictures_are_the_same_for_the_same_seed_and_planted_ones_repeat():
    one, other = (draw_pictures(8, 20, 2, 5, 3, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert one.pixels.shape == (28, 8, 8, 3)
    for work in one.planted:
        copies = one.pixels[one.works == work]
        assert len(copies) == 5
        assert (copies == copies[0]).all()


@pytest.mark.parametrize("patch_px", [1, 2])
def test_pictures_come_back_from_what_the_network_is_given(patch_px):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(as_pixels(as_given(pixels, patch_px), patch_px), pixels)


def test_rows_that_are_not_kept_have_no_say():
    """Changing a picture that is left out changes no weight, to the bit."""
    pictures = pictures_of(SMALL)
    kept = np.arange(len(pictures.pixels)) % 2 == 0
    changed = pictures.pixels.copy()
    changed[~kept] = 0
    one, other = (train(SMALL, pixels, kept, 3).state_dict() for pixels in (pictures.pixels, changed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_training_lowers_the_loss():
    pictures = pictures_of(SMALL)
    every = np.ones(len(pictures.pixels), np.bool_)
    longer = replace(SMALL, channels=(16,), steps=100, batch=16, rate=1e-2)
    short, long = (train(task, pictures.pixels, every, 0) for task in (replace(longer, steps=1), longer))
    before, after = (losses_of(SMALL, network, pictures.held_out, 1).mean() for network in (short, long))
    assert after < 0.8 * before


def test_a_half_holds_half_of_the_works():
    assert (subsets_of(SMALL).sum(axis=1) == 10).all()


def test_truth_goes_on_from_a_partial_one_and_ends_the_same(made, tmp_path):
    partial = replace(made, losses=made.losses.copy(), moved_top=made.moved_top * np.nan)
    partial.losses[2] = np.nan
    write_truth(partial, tmp_path / "tiny.npz")
    maker = TruthMaker(SMALL, pictures_of(SMALL), tmp_path / "parts", read_truth(tmp_path / "tiny.npz", SMALL))
    assert maker.make(lambda *_: None) == 0
    again = maker.truth()
    np.testing.assert_array_equal(again.losses, made.losses)
    np.testing.assert_array_equal(again.moved_top, made.moved_top)
    assert again.cpu_s > partial.cpu_s


def test_no_time_trains_nothing_and_says_what_is_missing(tmp_path):
    maker = TruthMaker(SMALL, pictures_of(SMALL), tmp_path)
    assert maker.make(lambda *_: None, seconds=-1) == len(maker.trainings) == 10


def test_another_tasks_truth_is_refused(made, tmp_path):
    write_truth(made, tmp_path / "tiny.npz")
    with pytest.raises(AttributionImpossible, match="other subsets"):
        read_truth(tmp_path / "tiny.npz", TASKS["tiny"])


def test_too_few_subsets_are_no_truth_yet(made):
    with pytest.raises(AttributionImpossible, match="3 trained subsets"):
        compare(SMALL, made, pictures_of(SMALL), lambda *_: None)


def test_a_work_is_the_most_influential_on_itself(made):
    works = pictures_of(SMALL).pixels[:20]
    gradients = gradients_of(SMALL, model_of(SMALL, made.weights), works, works[:5], Way("loss", 400, 4096))
    assert (influences_of(gradients).argmax(axis=1) == np.arange(5)).mean() >= 0.8


def test_committed_truth_is_what_its_weights_say():
    """The losses that were kept come out again of the weights that were kept, on the first queries of either kind."""
    task = TASKS["tiny"]
    truth = read_truth(Path(__file__).parents[2] / "indexes" / "attribution" / "tiny.npz", task)
    pictures, asked = pictures_of(task), [0, 1, task.plan.generated]
    queries = np.concatenate([truth.generated, pictures.held_out])[asked]
    again = losses_of(task, model_of(task, truth.weights), queries, LOSS_SEED)
    np.testing.assert_allclose(again, truth.full[0, asked], rtol=1e-4)
