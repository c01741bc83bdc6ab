"""Generations on disk: what was cut off is made again, what is whole is not, and another audit's is refused."""

import json

import numpy as np
import pytest

from guardrail.errors import AuditImpossible
from guardrail.study.audit import Budget, Keeping, Maker, Plan, asked_with, ordered_captions
from guardrail.study.audit.making import generate

SIDE = 8


class Unconditional:
    """Draws noise from each generator; counts what it was asked for."""

    def __init__(self):
        self.calls = []

    def __call__(self, batch_size=1, generator=None, brightness=1.0):
        generators = generator if isinstance(generator, list) else [generator]
        self.calls.append([one.initial_seed() for one in generators])
        assert len(generators) == batch_size
        return [np.full((SIDE, SIDE, 3), one.initial_seed() * brightness, np.uint8) for one in generators]


class Prompted:
    def __call__(self, prompt=None, generator=None):
        return [np.full((SIDE, SIDE, 3), len(one), np.uint8) for one in prompt]


class Classes:
    def __call__(self, class_labels=None, generator=None):
        return [np.full((SIDE, SIDE, 3), label, np.uint8) for label in class_labels]


def read(output):
    return output


def run(folder, plan, pipeline=None, batch=4, budget=None):
    pipeline = pipeline or Unconditional()
    keeping = Keeping(folder, plan)
    stopped = generate(Maker(pipeline, read, plan.call), keeping, batch, budget or Budget(), lambda done, total: None)
    return keeping, pipeline, stopped


def test_each_picture_has_the_next_seed(tmp_path):
    keeping, pipeline, stopped = run(tmp_path, Plan(count=6, seed=40, side_px=SIDE))
    made = keeping.generations()
    assert pipeline.calls == [[40, 41, 42, 43], [44, 45]]
    assert made.seeds == (40, 41, 42, 43, 44, 45)
    assert made.pixels[:, 0, 0, 0].tolist() == [40, 41, 42, 43, 44, 45]
    assert stopped is None


def test_run_goes_on_where_it_stopped(tmp_path):
    class Stops(Unconditional):
        def __call__(self, batch_size=1, generator=None):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().__call__(batch_size, generator)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Plan(count=10, side_px=SIDE), Stops(), batch=2)
    keeping, pipeline, _ = run(tmp_path, Plan(count=10, side_px=SIDE), batch=2)
    assert pipeline.calls == [[4, 5], [6, 7], [8, 9]]
    assert keeping.generations().numbers == tuple(range(10))


def test_plan_may_become_longer_and_shorter(tmp_path):
    run(tmp_path, Plan(count=4, side_px=SIDE))
    _, pipeline, _ = run(tmp_path, Plan(count=6, side_px=SIDE))
    assert pipeline.calls == [[4, 5]]
    assert Keeping(tmp_path, Plan(count=3, side_px=SIDE)).generations().numbers == (0, 1, 2)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"model_sha256": "b"}, {"call": {"brightness": 0.5}}, {"prompts": ("a",)}, {"side_px": 4}]
)
def test_work_of_another_audit_is_refused(tmp_path, other):
    run(tmp_path, Plan(count=2, side_px=SIDE))
    with pytest.raises(AuditImpossible, match="the work of another audit"):
        Keeping(tmp_path, Plan(**({"count": 2, "side_px": SIDE} | other)))


def test_picture_that_was_cut_or_edited_is_made_again(tmp_path):
    run(tmp_path, Plan(count=4, side_px=SIDE))
    (tmp_path / "generations" / "000001.png").write_bytes(b"cut")
    (tmp_path / "generations" / "000002.png").unlink()
    lines = (tmp_path / "done.jsonl").read_text().splitlines()
    (tmp_path / "done.jsonl").write_text("\n".join([*lines[:3], lines[3][:20]]))
    keeping, pipeline, _ = run(tmp_path, Plan(count=4, side_px=SIDE))
    assert pipeline.calls == [[1, 2, 3]]
    assert keeping.generations().pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert Keeping(tmp_path, Plan(count=4, side_px=SIDE)).missing() == ()


def test_time_that_is_up_stops_before_the_next_call(tmp_path):
    keeping, pipeline, stopped = run(tmp_path, Plan(count=4, side_px=SIDE), budget=Budget(ends_at=0.0))
    assert pipeline.calls == []
    assert "0 of 4" in stopped
    assert len(keeping.generations()) == 0


def test_picture_that_cannot_be_looked_at_is_a_failure_and_not_asked_for_again(tmp_path):
    class Sometimes(Unconditional):
        def __call__(self, batch_size=1, generator=None):
            made = super().__call__(batch_size, generator)
            return [made[0], "NaN", *made[2:]]

    keeping, _, _ = run(tmp_path, Plan(count=4, side_px=SIDE), Sometimes())
    assert keeping.failures == {1: "NaN"}
    assert keeping.generations().numbers == (0, 2, 3)
    again = Keeping(tmp_path, Plan(count=4, side_px=SIDE))
    assert again.missing() == ()
    assert again.failures == {1: "NaN"}


def test_prompts_follow_one_another_each_for_so_many_seeds(tmp_path):
    plan = Plan(count=7, prompts=("a", "bb"), each=2, side_px=SIDE)
    made = run(tmp_path, plan, Prompted())[0].generations()
    assert made.prompts == ("a", "a", "bb", "bb", "a", "a", "bb")
    assert made.pixels[:, 0, 0, 0].tolist() == [1, 1, 2, 2, 1, 1, 2]


def test_class_labels_are_handed_on(tmp_path):
    made = run(tmp_path, Plan(count=4, labels=(7, 9), side_px=SIDE), Classes())[0].generations()
    assert made.labels == (7, 9, 7, 9)
    assert made.pixels[:, 0, 0, 0].tolist() == [7, 9, 7, 9]


def test_of_several_frames_the_middle_one_is_taken(tmp_path):
    class Frames(Unconditional):
        def __call__(self, batch_size=1, generator=None):
            made = super().__call__(batch_size, generator)
            return [frame for one in made for frame in (one * 0, one, one * 0)]

    made = run(tmp_path, Plan(count=4, seed=5, side_px=SIDE), Frames())[0].generations()
    assert made.pixels[:, 0, 0, 0].tolist() == [5, 6, 7, 8]


def test_pipeline_that_returns_another_number_is_refused(tmp_path):
    class Two(Unconditional):
        def __call__(self, batch_size=1, generator=None):
            return super().__call__(batch_size, generator)[:2]

    with pytest.raises(AuditImpossible, match="2 pictures for 4 seeds"):
        run(tmp_path, Plan(count=4, side_px=SIDE), Two())


def test_pipeline_that_fails_is_told_apart_from_a_clean_one(tmp_path):
    class Fails(Unconditional):
        def __call__(self, batch_size=1, generator=None):
            raise RuntimeError("out of memory")

    with pytest.raises(AuditImpossible, match="RuntimeError when it was called"):
        run(tmp_path, Plan(count=4, side_px=SIDE), Fails())


def test_pipeline_that_needs_a_picture_cannot_be_audited():
    class Upscaler:
        def __call__(self, image=None, generator=None):
            return image

    with pytest.raises(AuditImpossible, match="a call that takes image, generator"):
        asked_with(Upscaler())


def test_work_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditImpossible, match="cannot be used"):
        Keeping(tmp_path / "file", Plan(count=1))


def test_frequent_captions_come_first_and_the_rest_by_seed():
    captions = ("once", "thrice", "thrice", None, "twice", "", "thrice", "twice", "also once")
    assert ordered_captions(captions, seed=0)[:2] == ("thrice", "twice")
    assert set(ordered_captions(captions, seed=0)) == {"once", "thrice", "twice", "also once"}


def test_plan_says_in_the_folder_which_it_is(tmp_path):
    plan = Plan(count=1, side_px=SIDE)
    Keeping(tmp_path, plan)
    assert json.loads((tmp_path / "plan.json").read_text()) == {"plan_sha256": plan.sha256}
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(AuditImpossible, match="another audit"):
        Keeping(tmp_path, plan)
