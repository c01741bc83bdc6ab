"""The commands as a person runs them: exit codes, JSON on stdout and nothing else, and errors that say what to do."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from guardrail import plugins
from guardrail.carriers import Marked
from guardrail.desk.cli import app
from guardrail.hookspecs import hookimpl
from guardrail.records import Watermark, WatermarkFound

RUNNER = CliRunner()
WORKS = Path(__file__).parents[2] / "indexes" / "demo" / "works"
NAMES = ("bulldog-puppy", "caterpillar", "orange-slice", "pepperoni-pizza-slice", "red-eye-frog")


def run(*words):
    return RUNNER.invoke(app, [str(word) for word in words], catch_exceptions=True)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Five real works, their index, and keys."""
    home = tmp_path_factory.mktemp("shelf")
    (home / "works").mkdir()
    for name in NAMES:
        shutil.copy(WORKS / f"{name}.webp", home / "works")
    done = run("index", "build", home / "works", home / "index")
    assert done.exit_code == 0, done.output
    (home / "guardrail.toml").write_text('index = "index"\nhome = "home"\ndevice = "cpu"\n')
    assert run("keys", "init", "--settings", home / "guardrail.toml").exit_code == 0
    return home


@pytest.fixture
def settings(shelf, tmp_path):
    """Settings with a memory of their own."""
    path = shelf / f"{tmp_path.name}.toml"
    path.write_text(
        'index = "index"\nhome = "home"\nkeys = "home/keys"\ndevice = "cpu"\n'
        f'memory = "sqlite:///{tmp_path / "m.db"}"\n'
    )
    return path


def abstract(path, seed=0):
    """A picture that has nothing to do with the works."""
    chance = np.random.default_rng(seed)
    image = Image.new("RGB", (200, 140), (30, 60, 90))
    brush = ImageDraw.Draw(image)
    for _ in range(30):
        x, y, w, h = (int(v) for v in chance.integers(0, 140, 4))
        brush.rectangle((x, y, x + w, y + h), fill=tuple(int(v) for v in chance.integers(0, 256, 3)))
    image.save(path)
    return path


def test_check_of_own_copies_and_unrelated_pictures(shelf, settings, tmp_path):
    folder = tmp_path / "outputs"
    folder.mkdir()
    frog = Image.open(WORKS / "red-eye-frog.webp").convert("RGB")
    frog.save(folder / "small copy.jpg", quality=40)
    frog.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((120, 120)).save(folder / "mirrored.png")
    abstract(folder / "fresh.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    (folder / "notes.txt").write_text("left out")
    done = run("check", folder, "--settings", settings, "--out", tmp_path / "publish", "--json")
    assert done.exit_code == 11
    document = json.loads(done.stdout)
    decisions = {Path(image["path"]).name: image["decision"] for image in document["images"]}
    assert decisions == {
        "broken.png": "block",
        "fresh.png": "accept",
        "mirrored.png": "block",
        "small copy.jpg": "block",
    }
    nearest = {Path(image["path"]).name: image["nearest"] for image in document["images"]}
    assert nearest["mirrored.png"][0]["title"] == "red-eye-frog"
    assert document["left_out"] == 1
    assert document["calibration"] == "uncalibrated"
    outputs = [image["output"] for image in document["images"] if image["output"]]
    assert outputs == [str(tmp_path / "publish" / "fresh.png")]
    assert [path.name for path in (tmp_path / "publish").iterdir()] == ["fresh.png"]
    verified = run("verify", *outputs, "--settings", settings, "--json")
    assert verified.exit_code == 0
    assert json.loads(verified.stdout)["files"][0]["outcome"] == "ours"


def test_check_exit_codes(shelf, settings, tmp_path):
    fresh, broken = abstract(tmp_path / "fresh.png"), tmp_path / "broken.png"
    broken.write_text("text")
    flat = tmp_path / "flat.png"
    Image.new("RGB", (64, 64), (90, 120, 90)).save(flat)
    copy = shelf / "works" / "caterpillar.webp"
    for files, code in (
        ((fresh,), 0),
        ((fresh, flat), 10),
        ((flat, copy), 11),
        ((fresh, broken), 1),
        ((broken, copy), 11),
    ):
        assert run("check", *files, "--settings", settings).exit_code == code, files
    assert run("check", tmp_path / "absent.png", "--settings", settings).exit_code == 1


def test_file_that_is_there_is_kept_and_the_rest_is_written(settings, tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        abstract(tmp_path / f"{name}.png", seed)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("mine")
    words = (
        "check",
        tmp_path / "a.png",
        tmp_path / "b.png",
        "--settings",
        settings,
        "--out",
        tmp_path / "out",
        "--json",
    )
    done = run(*words)
    assert done.exit_code == 1
    first, second = json.loads(done.stdout)["images"]
    assert first["output"] is None
    assert "not overwritten" in first["release_error"]
    assert second["output"] == str(tmp_path / "out" / "b.png")
    assert (tmp_path / "out" / "a.png").read_text() == "mine"
    assert run(*words, "--overwrite").exit_code == 0


def test_missing_keys_are_told_before_any_work(shelf, tmp_path):
    config = tmp_path / "s.toml"
    config.write_text(f'index = "{shelf / "index"}"\nhome = "home"\ndevice = "cpu"\n')
    done = run("check", abstract(tmp_path / "a.png"), "--settings", config, "--out", tmp_path / "out")
    assert "no signing key" in str(done.exception)
    assert json.loads(run("ledger", "verify", "--settings", config, "--json").stdout)["rows"] == 0


def test_faint_works_are_named(tmp_path):
    works = tmp_path / "works"
    works.mkdir()
    Image.new("RGB", (80, 80), "white").save(works / "blank.png")
    shutil.copy(WORKS / "caterpillar.webp", works)
    done = run("index", "build", works, tmp_path / "index", "--json")
    assert json.loads(done.stdout)["faint"] == ["blank.png"]


def test_files_of_one_name_get_names_of_their_own(settings, tmp_path):
    for folder, ending in (("a", "png"), ("a", "bmp"), ("b", "png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        abstract(tmp_path / folder / f"x.{ending}", seed=7)
    done = run("check", tmp_path / "a", tmp_path / "b", "--settings", settings, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    assert len({image["output"] for image in json.loads(done.stdout)["images"]}) == 3


def test_verify_exit_codes(shelf, settings, tmp_path):
    run("check", abstract(tmp_path / "a.png"), "--settings", settings, "--out", tmp_path / "out")
    signed = tmp_path / "out" / "a.png"
    altered = tmp_path / "altered.png"
    content = bytearray(signed.read_bytes())
    content[content.rindex(b"IDAT") + 12] ^= 1
    altered.write_bytes(content)
    run("keys", "init", "--dir", tmp_path / "other")
    text = tmp_path / "text.png"
    text.write_text("text")
    own = ("--settings", settings)
    for words, code in (
        ((signed, *own), 0),
        ((altered, *own), 20),
        ((signed, "--anchor", tmp_path / "other"), 21),
        ((tmp_path / "a.png", *own), 22),
        ((text, *own), 1),
        ((signed, altered, tmp_path / "a.png", *own), 20),
        ((signed, text, *own), 1),
    ):
        assert run("verify", *words).exit_code == code, words


def test_index_commands(shelf, tmp_path):
    shown = json.loads(run("index", "info", shelf / "index", "--json").stdout)
    assert (shown["works"], shown["embedders"]["copy"]["name"]) == (5, "mini")
    assert run("index", "verify", shelf / "index").exit_code == 0
    damaged = tmp_path / "damaged"
    shutil.copytree(shelf / "index", damaged)
    next(damaged.rglob("pdq.npy")).write_bytes(b"\0" * 10)
    done = run("index", "verify", damaged, "--json")
    assert done.exit_code == 1
    assert "pdq.npy" in json.loads(done.stdout)["damaged"][0]["file"]


def test_build_lists_unreadable_files(shelf, tmp_path):
    shutil.copytree(shelf / "works", tmp_path / "works")
    (tmp_path / "works" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    done = run("index", "build", tmp_path / "works", tmp_path / "index", "--json")
    assert done.exit_code == 0
    assert [one["file"] for one in json.loads(done.stdout)["unreadable"]] == ["cut.png"]
    assert json.loads(done.stdout)["works"] == 5


def test_ledger_holds_until_it_is_edited(settings, tmp_path):
    run("check", abstract(tmp_path / "a.png"), "--settings", settings)
    done = run("ledger", "verify", "--settings", settings, "--json")
    assert (done.exit_code, json.loads(done.stdout)["rows"]) == (0, 1)


def test_settings_show_is_json_with_the_policy(settings):
    shown = json.loads(run("settings", "show", "--settings", settings).stdout)
    assert shown["on_flag"] == "hold"
    assert len(shown["policy_sha256"]) == 64


def test_names_and_titles_from_elsewhere_are_printed_as_they_are(shelf, settings, tmp_path):
    works = tmp_path / "works"
    works.mkdir()
    shutil.copy(WORKS / "caterpillar.webp", works / "a.webp")
    (tmp_path / "works.csv").write_text(
        "file,title,creator\na.webp,[/] [red]evil \x1b[2J\u2028,[bold]x\n", encoding="utf-8"
    )
    assert run("index", "build", works, tmp_path / "index", "--works", tmp_path / "works.csv").exit_code == 0
    copy = tmp_path / "b[bold]\x1b]0;owned.webp"
    shutil.copy(WORKS / "caterpillar.webp", copy)
    strange = tmp_path / os.fsdecode(b"c\xff.webp")
    shutil.copy(WORKS / "caterpillar.webp", strange)
    done = run("check", copy, strange, "--settings", settings, "--index", tmp_path / "index")
    assert done.exit_code == 11, done.output
    assert "[red]evil" in done.output.replace("\n", "")
    assert "\x1b]0" not in done.output
    assert run("verify", copy, strange, "--settings", settings).exit_code == 22
    done = run("check", copy, strange, "--settings", settings, "--index", tmp_path / "index", "--json")
    assert len(json.loads(done.stdout)["images"]) == 2


def test_file_whose_name_is_not_text_is_listed_and_the_rest_is_indexed(tmp_path):
    shutil.copy(WORKS / "caterpillar.webp", tmp_path / "a.webp")
    shutil.copy(WORKS / "caterpillar.webp", tmp_path / os.fsdecode(b"b\xff.webp"))
    done = run("index", "build", tmp_path, tmp_path.parent / f"{tmp_path.name}-index", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["works"], [one["error"] for one in document["unreadable"]]) == (1, ["its name is not UTF-8"])


def test_ledger_that_is_not_there_is_not_made(settings, tmp_path):
    done = run("ledger", "verify", "--settings", settings)
    assert done.exit_code == 1
    assert not (tmp_path / "m.db").exists()


@pytest.mark.parametrize("name", ["GUARDRAIL_POLICY", "GUARDRAIL_NEIGHBOURS", "GUARDRAIL_ON_FLAG"])
def test_bad_environment_is_a_known_error(monkeypatch, name):
    monkeypatch.setenv(name, "nonsense")
    assert "environment" in str(run("settings", "show").exception)


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "guardrail", *map(str, words)], capture_output=True, text=True, **options
    )


def test_known_error_is_one_line_on_stderr_and_exit_1(tmp_path):
    done = command("check", "x.png", "--index", tmp_path / "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: no index at")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("check",), ("nonsense",), ("check", "a.png", "--no-such-option")])
def test_wrong_words_are_told_with_exit_2(tmp_path, words):
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "Usage" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_is_told_and_ends_with_130(monkeypatch, capsys):
    from guardrail.desk import cli

    @cli.app.command(hidden=True)
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["guardrail", "interrupted"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 130
    assert "nothing half-written stays" in capsys.readouterr().err
    cli.app.registered_commands.pop()


def test_unexpected_error_is_one_line(monkeypatch, capsys):
    from guardrail.desk import cli

    def broken(**options):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: RuntimeError: a bug; run with --verbose for the traceback\n"


def test_bad_settings_are_named(tmp_path):
    (tmp_path / "guardrail.toml").write_text("indx = 3\n")
    done = command("settings", "show", cwd=tmp_path)
    assert done.returncode == 1
    assert "guardrail.toml" in done.stderr
    assert "indx" in done.stderr


def test_every_command_has_an_example_and_its_exit_codes():
    import typer

    root = typer.main.get_command(app)
    commands = [group if not hasattr(group, "commands") else None for group in root.commands.values()]
    commands += [one for group in root.commands.values() for one in getattr(group, "commands", {}).values()]
    for one in filter(None, commands):
        assert "Example: guardrail" in one.help, one.name
        assert "Exit codes:" in one.help, one.name


class _Mark:
    """The lowest bit of every value, found again in pictures as bright as the first."""

    @hookimpl
    def watermark_image(self, pixels):
        return Marked(pixels | 1, Watermark(algorithm="test.low_bits", payload="5a", bits=8, bits_found=0))

    @hookimpl
    def find_watermark(self, pixels):
        return WatermarkFound(algorithm="test.low_bits", present=pixels.shape[1] == 200, bits=8, bits_found=8)


@pytest.fixture
def marking(settings, monkeypatch):
    """Settings under which what is 200 px wide keeps its mark, and all else leaves without."""
    shipped = plugins.build_plugins
    monkeypatch.setattr(plugins, "build_plugins", lambda extra=(): shipped((*extra, _Mark())))
    settings.write_text(settings.read_text() + '[watermark]\nname = "low_bits"\nwhen_lost = "unmarked"\n')
    return settings


def test_files_that_leave_without_their_mark_are_counted_and_named(marking, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    abstract(folder / "holds.png", 1)
    abstract(folder / "loses.png", 2)
    with Image.open(folder / "loses.png") as image:
        image.crop((0, 0, 190, 140)).save(folder / "loses.png")
    done = run("check", folder, "--settings", marking, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    told = {Path(one["path"]).name: one["watermark"] for one in json.loads(done.stdout)["images"]}
    assert told == {"holds.png": "kept", "loses.png": "lost"}
    assert "1 file left without an invisible mark" in done.stderr
    assert str(out / "loses.png") in done.stderr
    assert str(out / "holds.png") not in done.stderr
    unsaved = run("check", folder, "--settings", marking, "--json")
    assert [one["watermark"] for one in json.loads(unsaved.stdout)["images"]] == [None, None]
    assert "invisible mark" not in unsaved.stderr


def test_without_a_mark_asked_for_none_is_lost(settings, tmp_path):
    done = run("check", abstract(tmp_path / "a.png"), "--settings", settings, "--out", tmp_path / "out", "--json")
    assert [one["watermark"] for one in json.loads(done.stdout)["images"]] == [None]
    assert "invisible mark" not in done.stderr
