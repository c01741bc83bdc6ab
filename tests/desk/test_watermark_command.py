"""`guardrail bench watermark`: measured through the plugins, as a guard asks them."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from guardrail.carriers import Marked
from guardrail.desk.cli import app
from guardrail.desk.making import build_folder_index
from guardrail.hookspecs import hookimpl
from guardrail.index import Recipe
from guardrail.records import Watermark, WatermarkFound
from guardrail.settings import Settings
from guardrail.testing import FakePlugin

WORKS = Path(__file__).parents[2] / "indexes" / "demo" / "works"


class LowestBits:
    """A mark in the lowest bit of every value, which a mirror keeps and JPEG does not."""

    @hookimpl
    def watermark_image(self, pixels, verdict, settings):
        if settings.watermark.name != "lowest":
            return None
        said = Watermark(algorithm="lowest bits", payload=settings.watermark.payload, bits=8, bits_found=8)
        return Marked(pixels | np.uint8(1), said)

    @hookimpl
    def find_watermark(self, pixels, settings):
        if settings.watermark.name != "lowest":
            return None
        right = int(8 * (pixels & 1).mean())
        return WatermarkFound(algorithm="lowest bits", present=right == 8, bits=8, bits_found=right)


@pytest.fixture(autouse=True)
def _own_plugins(monkeypatch):
    from guardrail import guard, plugins

    build = plugins.build_plugins

    def with_own(extra=()):
        return build([*extra, FakePlugin(), LowestBits()])

    for module in ("guardrail.plugins", "guardrail.desk.making"):
        monkeypatch.setattr(sys.modules.get(module) or pytest.fail(module), "build_plugins", with_own)
    monkeypatch.setattr(guard.tools, "build_plugins", with_own)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    shelf = tmp_path_factory.mktemp("shelf")
    (shelf / "works").mkdir()
    for work in sorted(WORKS.iterdir())[:3]:
        shutil.copy(work, shelf / "works")
    settings = Settings(device="cpu", home=shelf)
    recipe = Recipe(embedder="fake")
    build_folder_index(shelf / "works", shelf / "index", settings, recipe, extra_plugins=[FakePlugin()])
    return shelf


def bench(shelf, *words):
    said = ["bench", "watermark", shelf / "works", "--index", shelf / "index", "--side", 64, *words]
    return CliRunner().invoke(app, [str(word) for word in said], catch_exceptions=True)


def test_bench_watermark_measures_attacks_change_and_decisions(shelf):
    done = bench(shelf, "--name", "lowest", "--attacks", "mirror,jpeg:50", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [(one["edit"], one["images"], one["present"]) for one in told["attacks"]] == [
        ("mirror", 3, 3),
        ("jpeg", 3, 0),
    ]
    assert (told["algorithm"], told["images"], told["kept"], told["alarms"]) == ("lowest bits", 3, 3, 0)
    assert told["psnr_db"][1] > 45
    assert told["chance"] is None
    assert set(told["decided_otherwise"]) <= {"block>flag", "block>accept"}
    assert "marking and attacking" in done.stderr


def test_bench_watermark_says_it_to_people_and_draws_it(shelf):
    done = bench(shelf, "--name", "lowest", "--attacks", "mirror", "--take", 1, "--plot", shelf / "marks.svg")
    assert done.exit_code == 0, done.output
    assert "nothing done: found in 1 of 1 images" in done.stdout
    assert (shelf / "marks.svg").read_text().lstrip().startswith("<?xml")


def test_bench_watermark_leaves_no_mark_behind(shelf, monkeypatch):
    monkeypatch.setenv("GUARDRAIL_HOME", str(shelf / "home"))
    assert bench(shelf, "--name", "lowest", "--attacks", "mirror", "--take", 1).exit_code == 0
    assert not (shelf / "home").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected a plugin that marks"),
        (("--name", "nobody's"), "puts no mark into an image"),
        (("--name", "lowest", "--attacks", "shake:50"), "found 'shake:50'"),
        (("--name", "lowest", "--attacks", "jpeg:101"), "found 'jpeg:101'"),
        (("--name", "trustmark"), "watermark.weights"),
        (("--name", "lowest", "--plot", "marks.pdf"), "'.pdf'"),
    ],
)
def test_bench_watermark_that_cannot_run_says_why(shelf, words, message):
    done = bench(shelf, *words)
    assert done.exit_code == 1, done.output
    assert message in str(done.exception)


def test_bench_watermark_of_a_folder_without_images_fails(tmp_path):
    done = CliRunner().invoke(app, ["bench", "watermark", str(tmp_path), "--name", "lowest"])
    assert done.exit_code == 1
    assert "no readable image" in str(done.exception)
