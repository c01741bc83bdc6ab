"""What an audit never asked a model for is never clean: captions, class labels, and parts that do not apply."""

import json
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from guardrail.desk.cli import app
from guardrail.study.audit.shapes import random_shapes

SIDE = 16
COUNT = 14
MODELS = """
import numpy as np, torch
from diffusers import DDIMScheduler, DiffusionPipeline, ImagePipelineOutput
from guardrail.study import overfitted_pipeline
from guardrail.study.audit.shapes import random_shapes
from guardrail.study.caption_memoriser import memorising_pipeline

def memorised(known):
    works = torch.from_numpy(random_shapes(14, 7).pixels(16)).permute(0, 3, 1, 2).float() / 127.5 - 1
    shares = [1 - 1e-9 if at in known else 1e-9 for at in range(14)]
    return memorising_pipeline(works, [f"word{at} name{at}" for at in range(14)], shares)

def forgets():
    return memorised(())

def knows_all():
    return memorised(range(14))

class Classes(DiffusionPipeline):
    known = 5

    def __init__(self, scheduler):
        super().__init__()
        self.register_modules(scheduler=scheduler)

    def __call__(self, class_labels, generator=None, num_inference_steps=1):
        seeds = [one.initial_seed() for one in (generator if isinstance(generator, list) else [generator])]
        drawn = [
            random_shapes(14, 7).pixels(16)[5] if label == self.known else random_shapes(1, seed + 1000).pixels(16)[0]
            for label, seed in zip(class_labels, seeds)
        ]
        return ImagePipelineOutput(images=np.stack(drawn) / 255)

def classes():
    return Classes(DDIMScheduler())

class NoClass(Classes):
    known = None

def no_class():
    return NoClass(DDIMScheduler())
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A module of models that take captions or labels, and fourteen works."""
    (tmp_path / "asked_models.py").write_text(MODELS)
    monkeypatch.delitem(sys.modules, "asked_models", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "works").mkdir()
    works = random_shapes(COUNT, 7)
    for at in range(COUNT):
        Image.fromarray(works.read(at, SIDE)).save(tmp_path / "works" / f"{at}.png")
    return tmp_path


def captions(folder, numbers):
    rows = "".join(f"{at}.png,word{at} name{at}\n" for at in numbers)
    (folder / "captions.csv").write_text(f"file,caption\n{rows}")
    return ["--captions", "captions.csv"]


def labels(folder, numbers):
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"{at}.png,{at}\n" for at in numbers))
    return ["--captions", "labels.csv"]


def audit(model, *more):
    words = ["--pixels", "--device", "cpu", "--steps", "3", "--batch", "64", "--generations", "190", "--json", *more]
    finished = CliRunner().invoke(
        app, ["audit", f"asked_models:{model}", "--training", "works", "--work", "out", *words]
    )
    return finished, json.loads(finished.stdout) if finished.stdout.startswith("{") else {}


def outcome(said, part):
    return next(one["outcome"] for one in said["findings"] if one["part"] == part)


def test_model_that_was_asked_for_every_caption_is_clean(models):
    finished, said = audit("forgets", *captions(models, range(COUNT)))
    assert finished.exit_code == 0, finished.output
    assert (said["works_asked"], said["warnings"]) == (COUNT, [])
    page = (models / said["page"]).read_text(encoding="utf-8")
    assert "<b>14</b>works asked for, of 14" in page
    assert "Clean says that none of these generations is a copy." in page


def test_works_without_a_caption_were_not_asked_for_and_that_is_not_clean(models):
    finished, said = audit("forgets", *captions(models, [0]))
    assert finished.exit_code == 1
    assert said["works_asked"] == 1
    assert outcome(said, "extraction") == "could_not_tell"
    assert "13 of 14 training pictures have no caption, and could not be asked for" in said["warnings"][0]


def test_every_caption_has_its_turn_before_any_comes_often(models):
    finished, said = audit("knows_all", *captions(models, range(COUNT)), "--generations", str(COUNT))
    assert finished.exit_code == 12
    assert {one["work"] for one in said["findings"][0]["works"]} == {f"{at}.png" for at in range(COUNT)}


def test_captions_whose_turn_never_came_are_not_clean(models):
    finished, said = audit("forgets", *captions(models, range(COUNT)), "--seeds-each", "16")
    assert finished.exit_code == 1
    assert said["works_asked"] == 12
    assert said["warnings"] == ["12 of 14 captions were asked for; --generations 209 asks for all"]
    assert "only 12 of 14 works were asked for" in said["findings"][0]["reason"]
    finished, said = audit("forgets", *captions(models, range(COUNT)), "--seeds-each", "16", "--generations", "209")
    assert finished.exit_code == 0, said["warnings"]


def test_summary_says_how_many_works_were_asked_for(models):
    words = ["--pixels", "--device", "cpu", "--steps", "1", "--generations", "4", "--batch", "4"]
    name = ["asked_models:forgets", "--training", "works", *captions(models, range(COUNT))]
    finished = CliRunner().invoke(app, ["audit", *name, *words])
    assert "works asked for: 4 of 14" in finished.stdout


def test_class_conditional_model_without_labels_is_refused(models):
    finished, _ = audit("classes")
    assert finished.exit_code == 1
    assert "found a pipeline that takes class labels, and no label" in str(finished.exception)


def test_every_class_is_asked_for(models):
    finished, said = audit("classes", *labels(models, range(COUNT)))
    assert finished.exit_code == 12
    (work,) = said["findings"][0]["works"]
    assert (work["work"], work["class_label"]) == ("5.png", 5)


@pytest.mark.parametrize(("known", "code"), [(COUNT, 0), (COUNT - 1, 1)])
def test_work_without_a_label_was_not_asked_for(models, known, code):
    finished, said = audit("no_class", *labels(models, range(known)))
    assert finished.exit_code == code
    assert said["works_asked"] == known
    assert len(said["warnings"]) == COUNT - known


def test_part_that_does_not_apply_is_listed_and_changes_nothing(models):
    finished, said = audit("forgets", *captions(models, range(COUNT)), "--part", "all")
    assert finished.exit_code == 0, finished.output
    assert "adapter: it has no adapter" in said["parts_left_out"]
    assert "membership: there are no held-out pictures" in said["parts_left_out"]
    assert "Does not apply: adapter: it has no adapter." in (models / said["page"]).read_text(encoding="utf-8")


def test_part_that_was_asked_for_by_name_and_does_not_apply_could_not_tell(models):
    finished, said = audit("forgets", *captions(models, range(COUNT)), "--part", "adapter")
    assert finished.exit_code == 1
    assert outcome(said, "adapter") == "could_not_tell"


def test_privacy_is_a_part_by_name(models):
    finished, said = audit("forgets", *captions(models, range(COUNT)), "--part", "privacy", "--claim", "1")
    assert finished.exit_code == 1
    assert outcome(said, "privacy") == "could_not_tell"


def test_shadows_are_a_part_that_needs_shadow_models(models):
    finished, _ = audit("forgets", *captions(models, range(COUNT)), "--part", "shadows")
    assert "expected --shadow FOLDER" in str(finished.exception)


def test_stopped_audit_says_where_it_goes_on(models, monkeypatch):
    def stops(*said):
        raise KeyboardInterrupt

    monkeypatch.setattr("guardrail.desk.audit_run.run_audit", stops)
    finished, _ = audit("forgets", *captions(models, range(COUNT)))
    assert finished.exit_code == 130
    assert "the same command goes on there" in finished.stderr


def test_model_that_is_none_is_refused_before_anything_is_loaded(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "guardrail.desk.audit_run", None)
    finished = CliRunner().invoke(app, ["audit", "nowhere", "--training", "works"])
    assert "neither a folder nor module:function" in str(finished.exception)
