"""`guardrail bench hash|overhead` measure what they say, and print one JSON document where it is asked for."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardrail.desk.cli import app
from guardrail.desk.making import build_folder_index
from guardrail.index import Recipe
from guardrail.settings import Settings
from guardrail.testing import FakePlugin

WORKS = Path(__file__).parents[2] / "indexes" / "demo" / "works"
QUICK = ("--side", "64", "--repeats", "2", "--batches", "1,3", "--device", "cpu", "--json")


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)


@pytest.fixture(autouse=True)
def _fake_embedder(monkeypatch):
    """An embedder named `fake` beside those that are installed."""
    from guardrail import plugins

    build = plugins.build_plugins

    def with_fake(extra=()):
        return build([*extra, FakePlugin()])

    for module in ("guardrail.plugins", "guardrail.desk.making"):
        monkeypatch.setattr(sys.modules.get(module) or pytest.fail(module), "build_plugins", with_fake)


@pytest.fixture
def shelf(tmp_path):
    (tmp_path / "works").mkdir()
    for work in sorted(WORKS.iterdir())[:3]:
        shutil.copy(work, tmp_path / "works")
    build_folder_index(
        tmp_path / "works", tmp_path / "index", Settings(device="cpu", home=tmp_path), Recipe(embedder="fake")
    )
    return tmp_path


def test_bench_hash_measures_every_stage_at_every_batch_size():
    done = run("bench", "hash", WORKS, "--embedder", "fake", *QUICK)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["device"], document["side_px"], document["embedder"]) == ("cpu", 64, "fake")
    seen = {(pace["stage"], pace["batch"]) for pace in document["paces"]}
    ours = ("sha256 of pixels", "PDQ, eight views", "pHash, eight views", "copy descriptor", "whole fingerprint")
    assert {(stage, batch) for stage in ours for batch in (1, 3)} <= seen
    assert all(pace["image_ms"] > 0 and pace["repeats"] == 2 for pace in document["paces"])
    took = {(pace["stage"], pace["batch"]): pace["image_ms"] for pace in document["paces"]}
    assert took["whole fingerprint", 3] > took["sha256 of pixels", 3]


def test_bench_hash_sets_imagehash_beside_ours():
    done = run("bench", "hash", WORKS, "--embedder", "fake", *QUICK)
    peers = [peer for peer in json.loads(done.stdout)["peers"] if peer["peer"] == "imagehash, one view"]
    assert [(peer["stage"], peer["batch"]) for peer in peers] == [("pHash, eight views", 1), ("pHash, eight views", 3)]
    assert all(peer["times_as_fast"]["median"] > 0 for peer in peers)


def test_bench_hash_without_pdqhash_says_so_and_goes_on(monkeypatch):
    from guardrail.desk import speed_commands

    monkeypatch.setattr(speed_commands.importlib.util, "find_spec", lambda name: None)
    done = run("bench", "hash", WORKS, "--embedder", "fake", *QUICK)
    assert done.exit_code == 0
    assert "pdqhash is not installed" in done.stderr
    assert {peer["peer"] for peer in json.loads(done.stdout)["peers"]} == {"imagehash, one view"}


def test_bench_hash_of_a_folder_without_images_fails(tmp_path):
    done = run("bench", "hash", tmp_path, "--embedder", "fake", *QUICK)
    assert done.exit_code == 1
    assert "no readable image" in str(done.exception)


@pytest.mark.parametrize("batches", ["0", "", "1,", "a", "-1"])
def test_batches_must_be_numbers(batches):
    done = run("bench", "hash", WORKS, "--embedder", "fake", "--batches", batches)
    assert done.exit_code == 1
    assert "--batches" in str(done.exception)


def test_bench_overhead_says_each_stage_and_the_share_of_a_given_generation(shelf):
    done = run("bench", "overhead", "--index", shelf / "index", "--images", WORKS, "--generation-ms", "50", *QUICK)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["works"] == 3
    took = {(pace["stage"], pace["batch"]): pace["image_ms"] for pace in document["paces"]}
    stages = ("intake", "fingerprint", "search", "evidence", "decide and remember")
    for batch in (1, 3):
        assert all(took[stage, batch] > 0 for stage in ("wrapper", *stages))
        assert sum(took[stage, batch] for stage in stages) == pytest.approx(took["all of the guard", batch], rel=0.5)
        share = document["share_of_generation"][str(batch)]
        assert share == pytest.approx(took["all of the guard", batch] / 50)
    assert document["generation"] == "as given"


def test_bench_overhead_leaves_no_trace_in_the_users_memory(shelf):
    (shelf / "guardrail.toml").write_text('home = "home"\n')
    settings = ("--settings", shelf / "guardrail.toml")
    done = run("bench", "overhead", "--index", shelf / "index", *settings, "--generation-ms", "50", *QUICK)
    assert done.exit_code == 0, done.output
    assert not (shelf / "home").exists()


def test_bench_overhead_measures_a_generation_of_its_own_and_says_which(shelf):
    words = ("--side", "32", "--repeats", "1", "--batches", "1", "--device", "cpu", "--json")
    done = run("bench", "overhead", "--index", shelf / "index", *words)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert "UNet" in document["generation"]
    assert 0 < document["share_of_generation"]["1"] < 10


@pytest.mark.gpu
def test_bench_on_a_gpu_names_it(shelf):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    words = [*QUICK[:-3], "--device", "cuda", "--json"]
    for command in (("hash", WORKS, "--embedder", "fake"), ("overhead", "--index", shelf / "index")):
        done = run("bench", *command, *words)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["device"] == torch.cuda.get_device_name()


def test_tables_are_shown_without_json(shelf):
    words = ("--side", "32", "--repeats", "1", "--batches", "2", "--device", "cpu")
    hashes = run("bench", "hash", WORKS, "--embedder", "fake", *words)
    assert "whole fingerprint" in hashes.stdout
    assert "times as fast" in hashes.stdout
    overhead = run("bench", "overhead", "--index", shelf / "index", "--generation-ms", "1000", *words)
    assert "batch 2: the guard adds" in overhead.stdout
