"""`index calibrate` from pictures to limits, on a small world with the fake embedder."""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from guardrail import plugins
from guardrail.carriers import ImageBatch
from guardrail.desk.cli import app
from guardrail.desk.making import build_folder_index
from guardrail.desk.probing import Prober
from guardrail.errors import CalibrationUnfit
from guardrail.guard import Guard
from guardrail.index import Recipe
from guardrail.index.calibrated import CALIBRATION
from guardrail.records import Signal
from guardrail.settings import Settings
from guardrail.testing import FakePlugin

RUNNER = CliRunner()
PICTURES = 200
TABLE = "file,disposition\nfox.png,protect\nelk.png,protect\nowl.png,credit\nsky.png,ignore\n"


def drawing(seed, side=48):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def run(*words):
    return RUNNER.invoke(app, [str(word) for word in words], catch_exceptions=True)


@contextmanager
def fake_embedder():
    """Commands know the fake embedder."""
    original = plugins.build_plugins
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "build_plugins", lambda extra=(): original([*extra, FakePlugin()]))
        yield


@pytest.fixture(autouse=True)
def _fake_embedder():
    with fake_embedder():
        yield


def copied(index, target):
    return Path(shutil.copytree(index, target))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Four works and their index; a background with a copy, an equal file, one twice, a blank and a broken one."""
    home = tmp_path_factory.mktemp("calibrating")
    for folder in ("works", "background/clean", "background/odd"):
        (home / folder).mkdir(parents=True)
    for seed, name in enumerate(("fox", "elk", "owl", "sky"), start=1):
        drawing(seed).save(home / "works" / f"{name}.png")
    (home / "works.csv").write_text(TABLE)
    settings = Settings(home=home, device="cpu")
    build_folder_index(
        home / "works",
        home / "index",
        settings,
        Recipe(embedder="fake"),
        home / "works.csv",
        extra_plugins=[FakePlugin()],
    )
    for seed in range(PICTURES):
        drawing(1000 + seed).save(home / "background/clean" / f"{seed:03d}.png")
    odd = home / "background/odd"
    drawing(1).save(odd / "equal.png")
    drawing(1).resize((40, 40)).save(odd / "copy.png")
    drawing(4).save(odd / "generic.png")
    drawing(1000).save(odd / "twice.png")
    Image.new("RGB", (48, 48), (80, 90, 80)).save(odd / "blank.png")
    (odd / "broken.png").write_bytes(b"no picture")
    (home / "guardrail.toml").write_text(f'home = "{home}"\ndevice = "cpu"\nproof = "never"\n')
    return home


@pytest.fixture
def index(home, tmp_path):
    """An index of one's own to calibrate."""
    return copied(home / "index", tmp_path / "index")


def calibrate(home, index, *words):
    asked = ("--false-alarms", "0.05,0.02", "--settings", home / "guardrail.toml")
    return run("index", "calibrate", index, "--background", home / "background", *asked, *words)


@pytest.fixture(scope="module")
def first_run(home, tmp_path_factory):
    """One calibration, plot and copies and all; its index stays as it is."""
    target = copied(home / "index", tmp_path_factory.mktemp("first") / "index")
    plot = target.parent / "plot.png"
    with fake_embedder():
        done = calibrate(home, target, "--json", "--copies", "--plot", plot)
    assert done.exit_code == 0, done.output
    return SimpleNamespace(index=target, document=json.loads(done.stdout), plot=plot)


@pytest.fixture
def calibrated(first_run, tmp_path):
    """A calibrated index of one's own."""
    return SimpleNamespace(index=copied(first_run.index, tmp_path / "index"), document=first_run.document)


def test_calibration_is_taken_by_the_next_guard_and_named_in_its_verdicts(home, calibrated):
    guard = Guard(calibrated.index, Settings(home=home, device="cpu", memory="sqlite://"))
    (verdict,) = guard.check([drawing(77)]).verdicts
    assert verdict.calibration == calibrated.document["id"]
    assert guard.limits.copy_.flag_above == calibrated.document["limits"]["copy"]["flag_above"]
    guard.memory.close()


def test_what_does_not_count_is_listed_with_the_reason(calibrated):
    left_out = {one["file"]: one["reason"] for one in calibrated.document["left_out"]}
    assert left_out == {
        "odd/broken.png": "unreadable",
        "odd/equal.png": "same_as_a_work",
        "odd/twice.png": "twice",
    }
    background = calibrated.document["background"]
    assert background["pictures"] == PICTURES + 3
    assert background["near_blank"] == 1
    assert background["left_out"] == {"same_as_a_work": 1, "twice": 1, "unreadable": 1}


def test_suspect_is_listed_with_its_work_and_counts_until_it_is_named(home, calibrated):
    (suspect,) = calibrated.document["suspects"]
    assert (suspect["file"], suspect["title"]) == ("odd/copy.png", "fox")
    assert calibrated.document["limits_without_suspects"] != calibrated.document["limits"]
    again = json.loads(calibrate(home, calibrated.index, "--json", "--leave-out", "copy.png").stdout)
    assert again["suspects"] == []
    assert again["background"]["left_out"]["named"] == 1
    assert again["limits"]["copy"] == calibrated.document["limits_without_suspects"]["copy"]


def test_generic_picture_can_reach_no_limit(home, index):
    prober = Prober(index, Settings(home=home, device="cpu", proof="never"))
    seen = prober.look([prober.read(home / "background/odd/generic.png")])[0]
    assert seen.nearness[Signal.COPY] == -np.inf
    assert seen.nearness[Signal.PDQ] == -np.inf
    assert seen.same_as is None


def test_blank_picture_counts_not_for_pdq_and_copy(home, index):
    prober = Prober(index, Settings(home=home, device="cpu", proof="never"))
    seen = prober.look([prober.read(home / "background/odd/blank.png")])[0]
    assert seen.near_blank
    assert np.isnan(seen.nearness[Signal.PDQ])
    assert np.isnan(seen.nearness[Signal.COPY])
    assert seen.nearness[Signal.CORRELATION] < 0.5


def test_transparent_picture_is_as_near_as_its_nearest_look(home, index, tmp_path):
    """Under a transparency that hides it lies a copy: the guard looks there, so the background is looked at there."""
    hidden = drawing(1).convert("RGBA")
    hidden.putalpha(Image.fromarray(np.tile(np.array([[0, 255]], np.uint8), (48, 24))))
    hidden.save(tmp_path / "hidden.png")
    prober = Prober(index, Settings(home=home, device="cpu", proof="never"))
    seen = prober.look([prober.read(tmp_path / "hidden.png")])[0]
    assert seen.nearness[Signal.COPY] > 0.99


def test_nearness_is_that_of_the_neighbours_a_guard_finds(home, index):
    """The prober against the guard: same picture, same nearest protected work."""
    settings = Settings(home=home, device="cpu", memory="sqlite://", proof="never")
    guard = Guard(index, settings)
    picture = home / "background/clean/007.png"
    (verdict,) = guard.check([picture]).verdicts
    prober = Prober(index, settings)
    seen = prober.look([prober.read(picture)])[0]
    pdq = [near.distance_bits for near in verdict.nearest if near.signal is Signal.PDQ and near.work.title != "sky"]
    copy = [near.similarity for near in verdict.nearest if near.signal is Signal.COPY]
    assert not pdq or -seen.nearness[Signal.PDQ] in pdq
    assert not copy or any(seen.nearness[Signal.COPY] == pytest.approx(value) for value in copy)
    assert pdq or copy
    guard.memory.close()


def test_broken_plugin_leaves_its_pictures_out(home, index, monkeypatch):
    """What could not be checked is no clean picture: it would make limits look looser than they are."""
    from guardrail_hooks import pixel_proof

    def crash(picture, neighbours, index, limits):
        raise RuntimeError("no proof today")

    monkeypatch.setattr(pixel_proof.find_evidence, "__code__", crash.__code__)
    prober = Prober(index, Settings(home=home, device="cpu", proof="never"))
    seen = prober.look([prober.read(home / "background/clean/001.png")])[0]
    assert "no proof today" in seen.failure


def test_too_small_a_background_is_refused_and_says_how_many_it_takes(home, index):
    done = run("index", "calibrate", index, "--background", home / "background", "--settings", home / "guardrail.toml")
    assert done.exit_code == 1
    assert f"{PICTURES + 6} pictures" in str(done.exception), "said from the count of files, before any is looked at"
    assert "takes at least 1000" in str(done.exception)
    assert not (index / CALIBRATION).exists()


def test_interrupted_calibration_leaves_the_one_before(home, calibrated, monkeypatch):
    before = (calibrated.index / CALIBRATION).read_bytes()

    def stop(self, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(Prober, "read", stop)
    assert calibrate(home, calibrated.index).exit_code != 0
    assert (calibrated.index / CALIBRATION).read_bytes() == before


def test_nothing_readable_is_an_error(home, index, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run("index", "calibrate", index, "--background", tmp_path / "empty", "--settings", home / "guardrail.toml")
    assert done.exit_code == 1
    assert "no readable image" in str(done.exception)


def test_misspelt_name_to_leave_out_is_an_error(home, index):
    done = calibrate(home, index, "--leave-out", "cpoy.png")
    assert done.exit_code == 1
    assert "no image 'cpoy.png' in the background" in str(done.exception)


@pytest.mark.parametrize("said", ["1e-3", "1e-4,1e-3", "0,0", "a,b", "0.9,0.1", "nan,nan"])
def test_odd_rates_are_a_mistake_of_usage(home, index, said):
    asked = ("--background", home / "background", "--false-alarms", said, "--settings", home / "guardrail.toml")
    done = run("index", "calibrate", index, *asked)
    assert done.exit_code == 2, done.output


def test_table_names_signals_rates_and_suspects(home, index):
    done = calibrate(home, index)
    assert done.exit_code == 0, done.output
    assert all(word in done.output for word in ("correlation", "phash", "flag, all signals together", "stale at 8"))
    assert "odd/copy.png" in done.output


def test_plot_and_copies_are_told(first_run):
    pytest.importorskip("matplotlib")
    assert first_run.plot.read_bytes().startswith(b"\x89PNG")
    copies = first_run.document["copies"]
    assert copies["pictures"] == 12
    assert copies["share_blocked"] <= copies["share_flagged"]
    assert copies["share_flagged"] > 0.2


def test_info_shows_the_calibration(calibrated):
    told = json.loads(run("index", "info", calibrated.index, "--json").stdout)["calibration"]
    assert told["id"] == calibrated.document["id"]
    assert told["stale"] is False
    assert told["stale_at_works"] == 8
    text = run("index", "info", calibrated.index).stdout
    assert calibrated.document["id"][:12] in text.replace("\n", "")
    assert f"{PICTURES + 3} pictures" in text


def test_info_says_where_limits_are_the_shipped_ones(index):
    assert json.loads(run("index", "info", index, "--json").stdout)["calibration"] is None
    assert "shipped" in run("index", "info", index).stdout


def test_verify_names_an_edited_calibration(calibrated):
    path = calibrated.index / CALIBRATION
    assert run("index", "verify", calibrated.index).exit_code == 0
    path.write_text(path.read_text().replace('"works": 4', '"works": 400'))
    done = run("index", "verify", calibrated.index, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["damaged"][0]["file"] == str(path)
    with pytest.raises(CalibrationUnfit):
        Guard(calibrated.index, Settings(device="cpu", memory="sqlite://"))


def test_picture_that_normalises_the_index_does_not_count(home, index):
    """Similarities are lowered by how near the normalising pictures are: one of these would be judged by itself."""
    settings = Settings(home=home, device="cpu", proof="never")
    before = Prober(index, settings)
    paths = [home / "background/clean/003.png", home / "background/clean/004.png"]
    first = before.guard.fingerprint(ImageBatch((before.read(paths[0]),)))
    np.save(index / "background.npy", first.copy)
    prober = Prober(index, settings)
    assert [seen.normalises for seen in prober.look([prober.read(path) for path in paths])] == [True, False]
