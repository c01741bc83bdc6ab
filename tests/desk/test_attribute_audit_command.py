"""`guardrail attribute audit` as a person runs it: what moves, what its exit code says, how it goes on."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from guardrail.desk import attribute_audit_run
from guardrail.desk.cli import app
from guardrail.records import DisputeReport
from guardrail.study.audit.shapes import random_shapes
from guardrail.testing import FakeEmbedder

SIDE, COPIES, OTHERS, SEED = 8, 8, 15, 12
MODELS = f"""
import torch
from diffusers import DDIMPipeline, DDIMScheduler
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput

class Layers(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, sample_size={SIDE}, in_channels=3, out_channels=3):
        super().__init__()
        values = in_channels * sample_size**2
        self.first, self.second = torch.nn.Linear(values + 2, 160), torch.nn.Linear(160, values)

    def forward(self, sample, timestep, return_dict=True):
        at = torch.as_tensor(timestep).float().expand(len(sample))[:, None] / 1000
        hidden = torch.nn.functional.silu(self.first(torch.cat([sample.flatten(1), at, 1 - at], dim=1)))
        found = self.second(hidden).view_as(sample)
        return UNet2DOutput(sample=found) if return_dict else (found,)

def scheduler():
    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False)

def memorising():
    torch.manual_seed(0)
    network = Layers()
    network.load_state_dict(torch.load("weights.pt", weights_only=True))
    return DDIMPipeline(network, scheduler())
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def given(tmp_path_factory, _one_thread):
    """A folder with pictures, one of them planted eight times, and a model that memorised that one."""
    folder = tmp_path_factory.mktemp("disputed")
    (folder / "disputed_models.py").write_text(MODELS)
    pixels = random_shapes(OTHERS + 1, 5).pixels(SIDE)
    named = {f"planted/{at}.png": pixels[0] for at in range(COPIES)} | {
        f"{at:02d}.png": pixels[at + 1] for at in range(OTHERS)
    }
    (folder / "works" / "planted").mkdir(parents=True)
    for name, one in named.items():
        Image.fromarray(one).save(folder / "works" / name)
    sys.path.insert(0, str(folder))
    import disputed_models as models

    torch.manual_seed(0)
    network, kept = models.Layers(), models.scheduler().alphas_cumprod
    clean = torch.from_numpy(np.stack([*named.values()])).permute(0, 3, 1, 2).float() / 127.5 - 1
    stepper = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(2000):
        rows, at = torch.randint(0, len(clean), (32,)), torch.randint(0, 1000, (32,))
        image, added = (kept[at].sqrt().view(-1, 1, 1, 1), (1 - kept[at]).sqrt().view(-1, 1, 1, 1))
        loss = (
            (network(image * clean[rows] + added * torch.randn(32, 3, SIDE, SIDE), at)[0] - clean[rows]).square().mean()
        )
        stepper.zero_grad()
        loss.backward()
        stepper.step()
    torch.save(network.state_dict(), folder / "weights.pt")
    sys.path.remove(str(folder))
    return folder


def _enter(monkeypatch, folder):
    """There, with a descriptor that is quick; the shipped one has a test of its own."""
    shipped = attribute_audit_run.make_embedder

    def make(plugins, name, device, weights):
        return FakeEmbedder() if name == "mini" else shipped(plugins, name.removeprefix("shipped "), device, weights)

    monkeypatch.setattr(attribute_audit_run, "make_embedder", make)
    monkeypatch.delitem(sys.modules, "disputed_models", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(folder)


@pytest.fixture
def here(given, monkeypatch):
    _enter(monkeypatch, given)
    return given


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    """An audit of the planted picture that was never stopped: its exit code, record and page."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _enter(monkeypatch, given)
        finished = audit(tmp_path_factory.mktemp("whole"), "--group", "planted/*", "--json")
        return (finished.exit_code, *report(finished))


def audit(work, *more):
    gentle = ["--steps", 40, "--rate", "2e-3", "--call", "num_inference_steps=10", "--device", "cpu", "--work", work]
    words = ["attribute", "audit", "disputed_models:memorising", "works", "--random", 9, "--seed", SEED, *gentle, *more]
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)


def document(finished):
    assert finished.stdout, finished.output
    return json.loads(finished.stdout)


def report(finished):
    said = document(finished)
    page = said.pop("page")
    return DisputeReport.model_validate_json(json.dumps(said)), Path(page).read_text(encoding="utf-8")


def test_planted_image_moves_without_its_copies(whole):
    exit_code, found, html = whole
    assert exit_code == 12
    assert found.outcome == "moved"
    assert found.group == tuple(f"planted/{at}.png" for at in range(COPIES))
    moves = {one.measure: one for one in found.moves}
    assert moves["copy"].p_value == moves["pixels"].p_value == 0.1
    assert moves["pixels"].moved > 3 * max(moves["pixels"].others)
    assert found.drift_pixels < moves["pixels"].moved / 2
    assert found.off_pixels == 0
    assert found.warnings == ()
    assert html.count('alt="without a random group"') == 9
    assert "http" not in html.replace("http-equiv", "")
    assert "no proof of copying" in html


def test_image_does_not_move_without_random_pictures(here, tmp_path):
    finished = audit(tmp_path, "--group", "02.png", "--group", "05.png")
    assert finished.exit_code == 0, finished.output
    assert "does not move more than without random pictures" in " ".join(finished.stdout.split())


def test_retrieval_chooses_the_group_and_unlearning_names_the_image(here, tmp_path):
    found, html = report(
        audit(tmp_path, "--top", COPIES, "--image", "works/planted/0.png", "--embedder", "shipped mini", "--json")
    )
    assert found.chosen_by == "retrieval"
    assert found.group == tuple(f"planted/{at}.png" for at in range(COPIES))
    assert {one.image for one in found.images[:COPIES]} == set(found.group), (
        "what is most unlearned is the image itself"
    )
    assert all(one.in_group for one in found.images[:COPIES])
    assert found.own_loss[1] > 1.4 * found.own_loss[0]
    assert sum(one.posterior for one in found.images) == pytest.approx(1)
    assert "training picture planted/0.png" in html


def test_run_goes_on_where_it_was_and_says_the_same(here, tmp_path, whole):
    stopped = audit(tmp_path, "--group", "planted/*", "--minutes", 0, "--json")
    assert stopped.exit_code == 1, stopped.output
    assert "time was up after 0 of 11 trainings" in document(stopped)["warnings"][0]
    assert document(stopped)["outcome"] == "could_not_tell"
    longer, _ = report(audit(tmp_path, "--group", "planted/*", "--random", 10, "--json"))
    assert longer.images == whole[1].images
    assert longer.moves[0].others[:9] == whole[1].moves[0].others
    assert len(longer.moves[0].others) == 10
    lines = (tmp_path / "runs.jsonl").read_bytes()
    again, _ = report(audit(tmp_path, "--group", "planted/*", "--json"))
    assert again.moves == whole[1].moves
    assert (tmp_path / "runs.jsonl").read_bytes() == lines, "nothing was trained again"


def test_another_audit_does_not_go_on_in_the_same_folder(here, tmp_path):
    audit(tmp_path, "--group", "planted/*", "--minutes", 0)
    other = audit(tmp_path, "--group", "02.png", "--minutes", 0)
    assert other.exit_code == 1
    assert "another audit" in str(other.exception)


def test_lora_and_fresh_weights_can_be_trained(here, tmp_path):
    lora, _ = report(audit(tmp_path / "lora", "--group", "planted/*", "--lora", 4, "--unlearn", 0, "--json"))
    assert lora.how.trained == "a LoRA of rank 4"
    assert {one.loss_rise for one in lora.images} == {None}
    fresh, _ = report(audit(tmp_path / "fresh", "--group", "planted/*", "--fresh", "--unlearn", 0, "--json"))
    assert fresh.how.fresh
    assert fresh.drift_pixels > lora.drift_pixels, "from new weights it is another picture"
    loss = next(one for one in fresh.moves if one.measure == "loss")
    assert loss.moved > max(loss.others), "a model that never saw it denoises it worse"


def test_seed_that_does_not_make_the_image_is_said(here, tmp_path):
    found, html = report(audit(tmp_path, "--group", "planted/*", "--image", "works/03.png", "--minutes", 0, "--json"))
    assert found.off_pixels > 0.1
    assert any("does not make the disputed image" in one for one in found.warnings)
    assert "does not make the disputed image" in html


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--group", "nobody/*"), "no training picture like 'nobody/*'"),
        (("--group", "*.png", "--group", "planted/*"), "as many others"),
        (("--group", "planted/*", "--square", "round"), "expected crop, pad or squeeze"),
        (("--group", "planted/*", "--rate", "0"), "expected a learning rate above 0"),
        (("--group", "planted/*", "--image", "nothing.png"), "the disputed image"),
        (("--group", "planted/*", "--train", "no_block*"), "no_block"),
    ],
)
def test_what_cannot_be_audited_is_said(here, tmp_path, more, said):
    finished = audit(tmp_path, *more)
    assert finished.exit_code == 1
    assert said in str(finished.exception)


def test_fewer_than_nine_random_groups_are_refused(here, tmp_path):
    finished = audit(tmp_path, "--random", 8)
    assert finished.exit_code == 2
