"""`guardrail attribute` as a person runs it: what it makes, what it says, what its exit codes mean."""

import csv
import json

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image
from typer.testing import CliRunner

from guardrail.attribution_errors import AttributionImpossible, GradientsMismatch, GradientsMissing
from guardrail.desk.cli import app
from guardrail.index.works import unnamed_work
from guardrail.records import Attribution
from guardrail.study.attribution.keeping import GradientRows

SIDE = 16
DRAWS = ["--draws", "2", "--counters", "64"]


def pipeline_at(folder, seed=0):
    torch.manual_seed(seed)
    network = UNet2DModel(
        sample_size=SIDE,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
    )
    DDPMPipeline(unet=network, scheduler=DDPMScheduler()).save_pretrained(folder)
    return str(folder)


def pictures_at(folder, count, seed):
    folder.mkdir()
    rough = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)
    for at, one in enumerate(rough):
        Image.fromarray(one).resize((20, 20), Image.Resampling.NEAREST).save(folder / f"{at}.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A pipeline, 6 training pictures, 30 decoys, and their gradients."""
    home = tmp_path_factory.mktemp("attributed")
    pipeline = pipeline_at(home / "pipe")
    training, decoys = pictures_at(home / "training", 6, 1), pictures_at(home / "decoys", 30, 2)
    out = str(home / "gradients")
    fitted = CliRunner().invoke(
        app, ["attribute", "fit", pipeline, str(training), "--out", out, "--decoys", str(decoys), *DRAWS, "--json"]
    )
    assert fitted.exit_code == 0, fitted.output
    return home, pipeline, json.loads(fitted.stdout)


def run(*words):
    return CliRunner().invoke(app, ["attribute", *(str(word) for word in words)])


class TestFit:
    def test_says_what_it_made(self, made):
        _, _, said = made
        assert (said["images"], said["decoys"], said["made"], said["kept"]) == (6, 30, 36, 0)
        assert said["cpu_s"] > 0

    def test_rows_are_named_as_an_index_names_files(self, made):
        names = [row.name for row in GradientRows(made[0] / "gradients").rows if not row.decoy]
        assert names == [f"default/{unnamed_work(f'{at}.png')}" for at in range(6)]

    def test_same_command_again_makes_nothing(self, made):
        home, pipeline, _ = made
        before = (home / "gradients" / "rows.jsonl").read_bytes()
        again = run(
            "fit", pipeline, home / "training", "--out", home / "gradients", "--decoys", home / "decoys", *DRAWS
        )
        assert again.exit_code == 0
        assert "0 gradients" in again.stdout
        assert "36 were there" in again.stdout
        assert (home / "gradients" / "rows.jsonl").read_bytes() == before

    def test_other_choices_in_the_same_folder_are_refused(self, made):
        home, pipeline, _ = made
        other = run("fit", pipeline, home / "training", "--out", home / "gradients", "--draws", 3, "--counters", 64)
        assert isinstance(other.exception, GradientsMismatch)
        assert "draws 3" in str(other.exception)

    def test_unreadable_picture_is_named_with_an_exit_code_of_its_own(self, made, tmp_path):
        training = pictures_at(tmp_path / "training", 2, 3)
        (training / "broken.png").write_bytes(b"no picture")
        fitted = run("fit", made[1], training, "--out", tmp_path / "g", *DRAWS, "--json")
        assert fitted.exit_code == 10
        said = json.loads(fitted.stdout)
        assert said["unreadable"] == [f"default/{unnamed_work('broken.png')}"]
        assert said["images"] == 2

    def test_without_decoys_it_warns(self, made, tmp_path):
        fitted = run("fit", made[1], pictures_at(tmp_path / "training", 2, 3), "--out", tmp_path / "g", *DRAWS)
        assert fitted.exit_code == 0
        assert "no decoys" in fitted.stderr

    def test_table_with_labels_is_read(self, made, tmp_path):
        pictures_at(tmp_path / "training", 2, 3)
        with (tmp_path / "works.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [["file", "caption", "label"], ["training/0.png", "a", 4], ["training/1.png", "", 5]]
            )
        assert run("fit", made[1], tmp_path / "works.csv", "--out", tmp_path / "g", *DRAWS).exit_code == 0
        rows = GradientRows(tmp_path / "g").rows
        assert [(row.label, bool(row.caption_sha256)) for row in rows] == [(4, True), (5, False)]

    def test_parameters_by_name(self, made, tmp_path):
        fitted = run(
            "fit", made[1], made[0] / "training", "--out", tmp_path / "g", "--parameters", "conv_out*", *DRAWS, "--json"
        )
        assert json.loads(fitted.stdout)["parameters"] == 8 * 3 * 9 + 3

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--function", "both"], "noise_norm or loss"),
            (["--square", "round"], "crop, pad or squeeze"),
            (["--parameters", "nothing*"], "no parameter like"),
            (["--adapter", "none.safetensors=0.5"], "no such file"),
        ],
    )
    def test_what_cannot_be_followed_is_refused(self, made, tmp_path, words, said):
        refused = run("fit", made[1], made[0] / "training", "--out", tmp_path / "g", *DRAWS, *words)
        assert said in str(refused.exception)
        assert not (tmp_path / "g").exists()


class TestQuery:
    def test_answer_is_a_record_for_each_image(self, made):
        home, pipeline, _ = made
        asked = run(
            "query",
            home / "gradients",
            home / "training" / "3.png",
            home / "decoys" / "1.png",
            "--pipeline",
            pipeline,
            "--json",
        )
        assert asked.exit_code in (0, 1, 12), asked.output
        assert asked.stdout, repr(asked.exception)
        said = json.loads(asked.stdout)
        assert said["said"] == "estimated influence under this model and method"
        records = [Attribution.model_validate(one["attribution"]) for one in said["images"]]
        assert [(one.method.images, one.method.decoys, one.method.draws) for one in records] == [(6, 30, 2)] * 2
        likest = max(records[0].influences, key=lambda one: one.similarity)
        assert likest.work.work_id == unnamed_work("3.png")
        assert likest.similarity == pytest.approx(1, abs=1e-3)
        assert likest.posterior == max(one.posterior for one in records[0].influences)
        assert asked.exit_code == (12 if any(one.named for one in records) else 1 if records[0].decoys_needed else 0)

    def test_page_needs_nothing_and_shows_each_picture(self, made, tmp_path):
        home, pipeline, _ = made
        asked = run(
            "query",
            home / "gradients",
            home / "training" / "3.png",
            "--pipeline",
            pipeline,
            "--html",
            tmp_path / "o.html",
        )
        assert asked.exit_code in (0, 1, 12), asked.output
        page = (tmp_path / "o.html").read_text()
        assert "<h1>What this image is estimated to owe" in page
        assert page.count("data:image/png;base64,") == 1 + 6
        assert "similarity" in page
        assert "://" not in page

    def test_another_model_is_refused(self, made, tmp_path):
        home, _, _ = made
        other = pipeline_at(tmp_path / "other", seed=1)
        refused = run("query", home / "gradients", home / "training" / "3.png", "--pipeline", other)
        assert isinstance(refused.exception, GradientsMismatch)

    def test_image_that_cannot_be_read_is_refused(self, made, tmp_path):
        home, pipeline, _ = made
        (tmp_path / "broken.png").write_bytes(b"no picture")
        refused = run("query", home / "gradients", tmp_path / "broken.png", "--pipeline", pipeline)
        assert isinstance(refused.exception, AttributionImpossible)

    def test_folder_without_gradients_is_said(self, made, tmp_path):
        refused = run("query", tmp_path / "none", tmp_path / "broken.png", "--pipeline", made[1])
        assert isinstance(refused.exception, GradientsMissing)


class TestRows:
    @pytest.fixture
    def own(self, made, tmp_path):
        """Gradients of two pictures, made anew."""
        training = pictures_at(tmp_path / "training", 2, 3)
        assert run("fit", made[1], training, "--out", tmp_path / "g", *DRAWS).exit_code == 0
        return tmp_path / "g"

    def test_added_rows_are_made_as_those_that_are_there(self, made, own, tmp_path):
        added = run("add", own, "--pipeline", made[1], "--decoys", pictures_at(tmp_path / "more", 3, 4), "--json")
        assert added.exit_code == 0, added.output
        said = json.loads(added.stdout)
        assert (said["images"], said["decoys"], said["made"]) == (2, 3, 3)

    def test_add_without_pictures_is_refused(self, made, own):
        assert "expected pictures" in str(run("add", own, "--pipeline", made[1]).exception)

    def test_removed_rows_are_gone_and_missing_ones_said(self, own):
        name = GradientRows(own).rows[0].name
        removed = run("remove", own, name, "default/nobody", "--json")
        assert removed.exit_code == 1
        assert json.loads(removed.stdout) == {"removed": 1, "missing": ["default/nobody"]}
        assert len(GradientRows(own).rows) == 1
        assert run("remove", own, GradientRows(own).rows[0].name).exit_code == 0

    def test_list_and_info_say_what_there_is(self, own):
        listed = json.loads(run("list", own, "--json").stdout)
        assert [one["file"] for one in listed["images"]] == ["0.png", "1.png"]
        assert json.loads(run("list", own, "--decoys", "--json").stdout) == {"decoys": []}
        said = json.loads(run("info", own, "--json").stdout)
        assert (said["images"], said["draws"], said["counters"], said["function"]) == (2, 2, 64, "noise_norm")
        assert "noise_norm" in run("info", own).stdout
        assert "0.png" in run("list", own).stdout
