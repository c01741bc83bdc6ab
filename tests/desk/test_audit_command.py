"""`guardrail audit` as a person runs it: what it finds, what its exit code says, how it goes on where it stopped."""

import json
import sys

import numpy as np
import pytest
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from PIL import Image
from typer.testing import CliRunner

from guardrail.desk.cli import app
from guardrail.records import AuditReport
from guardrail.study.audit.shapes import random_shapes

SIDE = 16
MODELS = """
import numpy as np, torch
from diffusers import DDIMScheduler, DiffusionPipeline, ImagePipelineOutput
from guardrail.study import overfitted_pipeline
from guardrail.study.audit.shapes import random_shapes

def overfitted():
    works = torch.from_numpy(random_shapes(6, 7).pixels(16)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return overfitted_pipeline(works)

class Draws(DiffusionPipeline):
    def __init__(self, scheduler):
        super().__init__()
        self.register_modules(scheduler=scheduler)

    def __call__(self, batch_size=1, generator=None, num_inference_steps=1):
        drawn = [random_shapes(1, one.initial_seed() + 1000).pixels(16)[0] for one in generator]
        return ImagePipelineOutput(images=np.stack(drawn) / 255)

def inventive():
    return Draws(DDIMScheduler())

def number():
    return 3

def fails():
    raise OSError("no weights here")
"""


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)


def audit(model, training, work, *more):
    words = ["--pixels", "--device", "cpu", "--steps", 5, "--batch", 64, "--work", work, *more]
    return run("audit", model, "--training", training, *words)


def saved(folder, pictures):
    folder.mkdir(parents=True)
    for at in range(len(pictures)):
        Image.fromarray(pictures.read(at, SIDE)).save(folder / f"{pictures.names[at]}.png")
    return folder


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A module whose functions make a pipeline that knows six works, and one that draws what nobody drew before."""
    (tmp_path / "audited_models.py").write_text(MODELS)
    monkeypatch.delitem(sys.modules, "audited_models", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    saved(tmp_path / "works", random_shapes(6, 7))
    saved(tmp_path / "others", random_shapes(40, 22))
    return tmp_path


def document(finished):
    return json.loads(finished.stdout)


def test_overfitted_pipeline_gives_every_work_back(models):
    finished = audit("audited_models:overfitted", "works", "out", "--held-out", "others", "--generations", 64, "--json")
    assert finished.exit_code == 12, finished.output
    said = document(finished)
    page = said.pop("page")
    report = AuditReport.model_validate_json(json.dumps(said))
    assert report.outcome == "memorised"
    works = report.findings[0].works
    assert {one.work for one in works} == {f"{name}.png" for name in random_shapes(6, 7).names}
    assert sum(one.generations for one in works) == 64
    html = (models / page).read_text(encoding="utf-8")
    assert html.count('alt="training picture') == 6
    assert all(f"<td>{one.seed}</td>" in html for one in works)
    assert "http" not in html.replace("http-equiv", "")


def test_model_that_draws_new_pictures_is_clean(models):
    finished = audit("audited_models:inventive", "works", "out", "--held-out", "others", "--generations", 190)
    assert finished.exit_code == 0, finished.output
    assert "none of 190 generations is a copy" in finished.stdout


def test_too_few_generations_end_with_could_not_tell(models):
    finished = audit("audited_models:inventive", "works", "out", "--generations", 20)
    assert finished.exit_code == 1, finished.output
    assert "generate more" in finished.stdout


def test_run_goes_on_and_says_the_same(models):
    first = document(audit("audited_models:overfitted", "works", "out", "--generations", 20, "--json"))
    done = (models / "out" / "done.jsonl").read_text().splitlines()
    longer = audit("audited_models:overfitted", "works", "out", "--generations", 40, "--json")
    lines = (models / "out" / "done.jsonl").read_text().splitlines()
    assert lines[:20] == done
    assert len(lines) == 40
    whole = document(audit("audited_models:overfitted", "works", "at-once", "--generations", 40, "--json"))
    assert document(longer)["findings"] == whole["findings"] != first["findings"]


def test_no_minutes_generate_nothing_and_that_is_not_clean(models):
    finished = audit("audited_models:overfitted", "works", "out", "--minutes", 0, "--json")
    assert finished.exit_code == 1
    said = document(finished)
    assert said["generated"] == 0
    assert "time was up after 0 of 256" in said["warnings"][0]


def test_training_picture_that_cannot_be_read_is_never_clean(models):
    (models / "works" / "broken.png").write_bytes(b"not a picture")
    finished = audit("audited_models:inventive", "works", "out", "--generations", 190, "--json")
    assert finished.exit_code == 1
    said = document(finished)
    assert [one["outcome"] for one in said["findings"]] == ["clean", "clean"]
    assert "1 training picture could not be read, such as broken.png" in said["warnings"]


def test_another_models_work_folder_is_refused(models):
    audit("audited_models:overfitted", "works", "out", "--generations", 20)
    finished = run("audit", "audited_models:inventive", "--training", "works", "--work", "out", "--pixels")
    assert finished.exit_code == 1
    assert "the work of another audit" in str(finished.exception)


def test_saved_pipeline_is_audited_against_a_list_with_guardrails_own_look(models):
    unet = UNet2DModel(
        sample_size=SIDE,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    DDIMPipeline(unet=unet, scheduler=DDIMScheduler()).save_pretrained(models / "untrained")
    (models / "list.txt").write_text("".join(f"works/{name}.png\n" for name in random_shapes(3, 7).names))
    (models / "few.txt").write_text("".join(f"others/{name}.png\n" for name in random_shapes(3, 22).names))
    words = ["--device", "cpu", "--steps", 2, "--batch", 4, "--generations", 4, "--held-out", "few.txt"]
    finished = run("audit", "untrained", "--training", "list.txt", "--work", "out", *words, "--json")
    assert finished.exit_code == 1, finished.output
    said = document(finished)
    assert said["training_pictures"] == 3
    figures = {one["name"]: one for one in said["findings"][0]["measured"]}
    assert figures["generations_by_guard"]["over"] == 4
    assert figures["held_out_by_guard"]["over"] == 3
    looks = next((models / "out").glob("looks-*.jsonl")).read_text().splitlines()
    assert len(looks) == 7


def test_guardrails_own_look_proves_a_copy(models):
    from guardrail.desk.audit_look import open_look
    from guardrail.desk.audit_pictures import list_pictures
    from guardrail.settings import Settings

    large = models / "large"
    large.mkdir()
    for at, name in enumerate("abc"):
        Image.fromarray(random_shapes(3, 7).read(at, 128)).save(large / f"{name}.png")
    (models / "out").mkdir()
    listed = list_pictures(large)
    look = open_look(listed, listed.names, models / "out", Settings(device="cpu"), lambda done, total: None)
    shown = np.stack([random_shapes(3, 7).read(1, 128), random_shapes(3, 99).read(1, 128)])
    copy, other = look(shown, lambda done, total: None)
    assert list(copy) == [1]
    assert "pdq" in copy[1]
    assert other == {}
    look._guard = None  # what was looked at is kept
    assert look(shown, lambda done, total: None) == [copy, other]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nowhere", "neither a folder nor module:function"),
        ("works", "a folder without model_index.json"),
        ("audited_models:missing", "AttributeError"),
        ("audited_models:number", "found a int, expected a diffusers pipeline"),
        ("audited_models:fails", "no weights here"),
    ],
)
def test_model_that_is_none_is_refused(models, model, said):
    finished = audit(model, "works", "out")
    assert finished.exit_code == 1
    assert said in str(finished.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--call", "guidance"], "expected NAME=VALUE"),
        (["--part", "fortune-telling"], "expected all, or some of membership"),
        (["--claim", "three"], "expected numbers such as 3,1e-5"),
        (["--square", "round"], "expected crop, pad or squeeze"),
        (["--html", "nowhere/page.html"], "a file in a folder that is there"),
    ],
)
def test_option_that_cannot_be_followed_is_refused(models, words, said):
    finished = audit("audited_models:overfitted", "works", "out", *words)
    assert finished.exit_code == 1
    assert said in str(finished.exception)


def test_option_of_the_call_reaches_the_pipeline(models):
    said = document(
        audit("audited_models:overfitted", "works", "out", "--generations", 2, "--call", "eta=0.5", "--json")
    )
    assert said["generated"] == 2
    finished = audit("audited_models:overfitted", "works", "other", "--generations", 2, "--call", "no_such_word=1")
    assert "TypeError when it was called" in str(finished.exception)


def test_attack_that_was_asked_for_is_in_the_report(models):
    words = ["--held-out", "others", "--generations", 8, "--part", "membership", "--claim", "1,1e-5", "--json"]
    said = document(audit("audited_models:overfitted", "works", "out", *words))
    assert [one["part"] for one in said["findings"]] == ["extraction", "repetition", "membership", "privacy"]
