"""`bench copies` as a person runs it: what takes part, what is measured, and what is refused."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from typer.testing import CliRunner

from guardrail.desk import copies_run
from guardrail.desk.cli import app
from guardrail.desk.console import progress_of
from guardrail.desk.copies_choice import Sides, choose
from guardrail.desk.copies_run import Asked, run_copies
from guardrail.guard import Guard
from guardrail.hookspecs import hookimpl
from guardrail.index import Recipe
from guardrail.records import Signal
from guardrail.settings import Settings

RUNNER = CliRunner()
WORKS = Path(__file__).parents[2] / "indexes" / "demo" / "works"
TAKEN = 18
SMALL = ("--works", 6, "--queries", 3, "--clean-take", 30, "--false-alarms", 0.2, "--side", 160, "--device", "cpu")


def bench(*words):
    done = RUNNER.invoke(app, [str(word) for word in ("bench", "copies", *words)])
    return done, json.loads(done.stdout) if done.exit_code == 0 and "--json" in words else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eighteen drawings and photos, and what must be left out: a twin, a near-twin, a blank page, a broken file."""
    home = tmp_path_factory.mktemp("pictures")
    files = sorted(WORKS.glob("*.webp"))[:TAKEN]
    for file in files:
        shutil.copy(file, home)
    with Image.open(home / files[0].name) as image:
        whole = image.convert("RGB")
    whole.save(home / "twin.png")
    ImageOps.mirror(whole).save(home / "near-twin.jpg", quality=90)
    Image.new("RGB", (300, 200), "white").save(home / "blank.png")
    (home / "broken.png").write_bytes(b"no picture")
    return home


def sides(folder, **other):
    said = {"clean": None, "works": 6, "clean_take": 30, "side_px": 160, "seed": 0, "duplicate_bits": 16}
    return Sides(folder=folder, **{**said, "least_quality": 50, "largest_image_px": 10**7, **other})


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory):
    """One run with its plot, and the folder in which it is kept."""
    home = tmp_path_factory.mktemp("run")
    words = (folder, *SMALL, "--edits", "mirror,crop", "--intensity", "20,60", "--keep", home / "keep")
    done, document = bench(*words, "--plot", home / "recall.svg", "--json")
    assert done.exit_code == 0, done.output
    return home, words, document


def test_run_measures_every_edit_intensity_and_signal(measured):
    _, _, document = measured
    assert (document["works"], document["copies"]) == (6, 3 * 3)
    assert {(one["edit"], one["intensity"]) for one in document["edits"]} == {
        ("mirror", 100),
        ("crop", 20),
        ("crop", 60),
    }
    names = {one["signal"] for one in document["signals"]}
    assert {"pdq", "phash", "copy", "correlation", "fused", "phash16", "dhash16"} <= names
    assert names == set(document["micro_ap"])


def test_views_find_every_mirrored_copy_and_hashes_without_views_do_not(measured):
    _, _, document = measured
    found = {one["signal"]: one["found"] for one in document["edits"] if one["edit"] == "mirror"}
    assert found["pdq"] == found["phash"] == found["fused"] == 3
    assert found["dhash16"] < 3


def test_pictures_that_spoil_the_figures_are_left_out_and_listed(measured):
    _, _, document = measured
    left_out = {one["file"]: one["reason"] for one in document["left_out"]}
    assert left_out["broken.png"] == "unreadable"
    assert left_out["blank.png"] == "faint"
    first = sorted(WORKS.glob("*.webp"))[0].name
    reasons = sorted(left_out[name] for name in ("twin.png", "near-twin.jpg", first) if name in left_out)
    assert reasons == ["identical", "near_duplicate"]


def test_no_picture_has_two_roles(measured):
    _, _, document = measured
    files = [file for role in document["files"].values() for file in role]
    assert len(files) == len(set(files))
    assert not {one["file"] for one in document["left_out"]} & set(files)


def test_plot_is_drawn(measured):
    home, _, _ = measured
    assert "<!-- mirror -->" in (home / "recall.svg").read_text()


def test_interrupted_run_goes_on_without_looking_again(measured, monkeypatch):
    _, words, document = measured
    monkeypatch.setattr(copies_run._Bench, "_seen", lambda bench, images: pytest.fail("it was looked at before"))
    done, again = bench(*words, "--json")
    assert done.exit_code == 0, done.output
    assert again == document


def test_kept_pieces_of_another_seed_are_not_taken(measured, monkeypatch):
    _, words, _ = measured

    def look(bench, images):
        raise RuntimeError("looked")

    monkeypatch.setattr(copies_run._Bench, "_seen", look)
    done, _ = bench(*words, "--seed", 1)
    assert done.exit_code == 1


def test_kept_index_of_other_fingerprints_is_built_again(measured, monkeypatch):
    _, words, _ = measured
    monkeypatch.setattr(copies_run, "HASHES", {"pdq": "pdq-2"})
    asked = []
    monkeypatch.setattr(copies_run, "build_folder_index", lambda *given, **named: asked.append(named["overwrite"]))
    bench(*words)
    assert asked == [True]


def test_embedder_stands_beside_as_a_peer(folder):
    asked = Asked(sides(folder), 1, (("mirror", 100.0),), Recipe(), ("mini",), False, None)
    nearness = run_copies(asked, Settings(device="cpu"), progress_of).looks.nearness
    assert nearness["mini"] == pytest.approx(nearness["copy"], abs=1e-3)  # an index keeps float16


def test_same_seed_chooses_the_same_pictures_whatever_their_names(folder, tmp_path):
    (tmp_path / "renamed").mkdir()
    for number, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        shutil.copy(file, tmp_path / "renamed" / f"{number:03d}{file.suffix}")
    one = choose(sides(folder), tmp_path / "one", lambda done, total: None)
    other = choose(sides(tmp_path / "renamed"), tmp_path / "other", lambda done, total: None)
    assert [chosen.pixels_sha256 for chosen in one.works] == [chosen.pixels_sha256 for chosen in other.works]
    another = choose(sides(folder, seed=7), tmp_path / "another", lambda done, total: None)
    assert {chosen.pixels_sha256 for chosen in one.works} != {chosen.pixels_sha256 for chosen in another.works}


def test_clean_folder_takes_the_place_of_a_part_of_the_folder(folder, tmp_path):
    (tmp_path / "clean").mkdir()
    for file in sorted(WORKS.glob("*.webp"))[TAKEN : TAKEN + 5]:
        shutil.copy(file, tmp_path / "clean")
    for file in sorted(WORKS.glob("*.webp"))[:2]:  # works in truth, which must not count as clean
        shutil.copy(file, tmp_path / "clean")
    choice = choose(sides(folder, clean=tmp_path / "clean", works=50), tmp_path / "out", lambda done, total: None)
    assert len(choice.works) == TAKEN
    assert len(choice.clean) == 5


def test_files_of_a_named_pattern_take_no_part(folder, tmp_path):
    choice = choose(sides(folder, leave_out=("[a-b]*", "twin*")), tmp_path / "out", lambda done, total: None)
    chosen = [one.file for one in (*choice.works, *choice.clean, *choice.backdrops)]
    named = [one.file for one in choice.left_out if one.reason == "named"]
    assert named
    assert sorted(named) == sorted(file.name for file in folder.iterdir() if file.name.startswith(("a", "b", "twin")))
    assert not set(named) & set(chosen)


def test_clean_pictures_above_a_limit_are_named_with_the_work_they_are_near(measured):
    _, _, document = measured
    counts = {one["signal"]: one["alarms"] for one in document["signals"]}
    for signal in document["own_signals"]:
        named = [one for one in document["alarms"] if one["signal"] == signal]
        assert len(named) == counts[signal]
        assert {one["file"] for one in named} <= set(document["files"]["clean"])
        assert {one["work"] for one in named} <= set(document["files"]["works"])


class Crash:
    """A plugin whose closer look always fails."""

    @hookimpl
    def find_evidence(self, picture):
        raise RuntimeError("no closer look")


def test_failed_checks_are_told_and_not_taken_for_silence(folder, monkeypatch):
    monkeypatch.setattr(copies_run, "Guard", partial(Guard, plugins=(Crash(),)))
    asked = Asked(sides(folder), 1, (("mirror", 100.0),), Recipe(), ("none",), True, None)
    run = run_copies(asked, Settings(device="cpu"), progress_of)
    assert len(run.failures) == 1 + len(run.choice.clean)  # of this plugin alone: the shipped ones were given all
    assert all("no closer look" in failure for failure in run.failures)


def test_without_proof_no_plugin_speaks(folder):
    asked = Asked(sides(folder), 1, (("mirror", 100.0),), Recipe(), ("none",), False, None)
    run = run_copies(asked, Settings(device="cpu"), progress_of)
    assert set(run.looks.nearness) == {str(Signal.PDQ), str(Signal.PHASH), str(Signal.COPY)}
    assert np.isfinite(run.looks.nearness["copy"]).sum(axis=1).min() == len(run.choice.works)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--edits", "crop,wobble"), "'wobble'"),
        (("--suite", "nobody"), "expected one of default, all, thorn"),
        (("--intensity", "120"), "expected numbers from 0 to 100"),
        (("--false-alarms", "0"), "expected rates above 0"),
        (("--plot", "plot.gif"), ".svg"),
        (("--tiles", "3"), "tiles"),
    ],
)
def test_words_that_cannot_be_followed_are_refused_before_any_work(folder, words, said):
    done, _ = bench(folder, *words)
    assert done.exit_code == 1
    assert said in str(done.exception)


def test_rate_that_the_clean_pictures_cannot_show_is_refused(measured):
    _, words, _ = measured
    done, _ = bench(*words, "--false-alarms", "0.001")
    assert done.exit_code == 1
    assert "at least 1000" in str(done.exception)


def test_folder_without_enough_pictures_is_refused(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    done, _ = bench(tmp_path)
    assert done.exit_code == 1
    assert "0 works" in str(done.exception)
