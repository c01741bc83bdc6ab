"""The shipped embedders are offered through the public hook."""

import shutil
import warnings
from pathlib import Path

import pytest
import torch

from guardrail import Guard, Settings
from guardrail.desk.making import build_folder_index
from guardrail.errors import EmbedderUnknown, IndexMismatch, WeightsUnusable
from guardrail.index import Recipe
from guardrail.plugins import build_plugins, make_embedder
from guardrail.protocols import Embedder
from guardrail_hooks import embedders

WORKS = Path(__file__).parents[2] / "indexes" / "demo" / "works"


class Grid(torch.nn.Module):
    """The picture at 4x4, as 48 numbers, times a weight."""

    def __init__(self, weight: float):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.weight * torch.nn.functional.adaptive_avg_pool2d(pictures, 4).flatten(1)


def saved_model(path, weight=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is what SSCD's makers ship
        torch.jit.save(torch.jit.script(Grid(weight)), str(path))
    return path


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """An index of three works made with a model file of a user's."""
    home = tmp_path_factory.mktemp("shelf")
    (home / "works").mkdir()
    for work in sorted(WORKS.iterdir())[:3]:
        shutil.copy(work, home / "works")
    model = saved_model(home / "models" / "grid.pt")
    settings = Settings(device="cpu", home=home / "home")
    build_folder_index(home / "works", home / "index", settings, Recipe(embedder=f"sscd:{model}"))
    return home


def test_hook_register_embedders():
    assert set(embedders.register_embedders()) == {"mini", "clip", "sscd", "onnx"}


def test_mini_is_an_embedder():
    mini = embedders.register_embedders()["mini"]("", "cpu")
    assert isinstance(mini, Embedder)
    assert mini.spec.name == "mini"


def test_mini_takes_no_more_words():
    with pytest.raises(EmbedderUnknown, match="mini:large"):
        embedders.register_embedders()["mini"]("large", "cpu")


def test_clip_without_an_architecture_says_what_it_takes():
    with pytest.raises(EmbedderUnknown, match="<arch>"):
        embedders.register_embedders()["clip"]("", "cpu")


def test_sscd_without_a_file_says_what_it_takes():
    with pytest.raises(EmbedderUnknown, match="sscd:<TorchScript file>"):
        embedders.register_embedders()["sscd"]("", "cpu")


def test_onnx_without_a_file_says_what_it_takes():
    with pytest.raises(EmbedderUnknown, match="onnx:<file>"):
        embedders.register_embedders()["onnx"]("", "cpu")


def test_index_names_the_model_file_without_its_folder(shelf):
    manifest = (shelf / "index" / "MANIFEST.json").read_text()
    assert '"sscd:grid.pt"' in manifest
    assert str(shelf) not in manifest


def test_index_is_opened_again_with_the_model_in_the_folder_of_weights(shelf, tmp_path):
    guard = Guard(shelf / "index", Settings(device="cpu", home=tmp_path, weights=shelf / "models"))
    assert guard.check([sorted((shelf / "works").iterdir())[0]]).verdicts[0].decision == "block"


def test_folder_of_weights_is_in_the_home_unless_said_otherwise(shelf, tmp_path):
    shutil.copytree(shelf / "models", tmp_path / "weights")
    assert Guard(shelf / "index", Settings(device="cpu", home=tmp_path)).fingerprint.copy.spec.name == "sscd:grid.pt"


def test_index_whose_model_is_not_at_hand_is_refused(shelf, tmp_path):
    with pytest.raises(WeightsUnusable, match=r"'grid\.pt'.*setting `weights`"):
        Guard(shelf / "index", Settings(device="cpu", home=tmp_path))


def test_other_weights_under_the_same_name_are_refused(shelf, tmp_path):
    saved_model(tmp_path / "weights" / "grid.pt", weight=2.0)
    with pytest.raises(IndexMismatch, match=r"sscd:grid\.pt"):
        Guard(shelf / "index", Settings(device="cpu", home=tmp_path))


@pytest.mark.parametrize(
    ("named", "located"),
    [
        ("", ""),
        ("grid.pt", "{kept}"),
        ("grid.pt?size=32", "{kept}?size=32"),
        ("arch/grid.pt", "arch/{kept}"),
        ("other.pt", "other.pt"),
        ("arch/tag", "arch/tag"),
        ("here/there/grid.pt", "here/there/grid.pt"),
        ("/absolute/grid.pt", "/absolute/grid.pt"),
        ("near/grid.pt", "near/grid.pt"),
    ],
)
def test_only_a_file_named_without_a_folder_is_looked_for(tmp_path, monkeypatch, named, located):
    monkeypatch.chdir(tmp_path)
    kept = saved_model(tmp_path / "weights" / "grid.pt")
    saved_model(tmp_path / "near" / "grid.pt")
    seen = []

    class Listening:
        __name__ = "listening"

        @staticmethod
        @embedders.hookimpl
        def register_embedders():
            return {"heard": lambda rest, device: seen.append(rest)}

    make_embedder(build_plugins([Listening()]), f"heard:{named}", "cpu", tmp_path / "weights")
    assert seen == [located.format(kept=kept)]
