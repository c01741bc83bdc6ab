"""Checking in bulk: the journal that a run goes on from, sources of every kind, and exit codes over all runs."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from guardrail.desk.bulk_check import Journal, Line, Listed, read_listed, sources_of
from guardrail.desk.cli import app
from guardrail.errors import SettingsInvalid
from guardrail.intake import SourceOptions

WORKS = Path(__file__).parents[2] / "indexes" / "demo" / "works"
RUNNER = CliRunner()


def run(*words):
    return RUNNER.invoke(app, [str(word) for word in words], catch_exceptions=True)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """An index of one work, and settings."""
    home = tmp_path_factory.mktemp("shelf")
    (home / "works").mkdir()
    shutil.copy(WORKS / "red-eye-frog.webp", home / "works")
    assert run("index", "build", home / "works", home / "index").exit_code == 0
    (home / "guardrail.toml").write_text('index = "index"\nhome = "home"\ndevice = "cpu"\nbatch = 2\n')
    return home


def noise(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).resize((90, 90), Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture
def outputs(tmp_path):
    folder = tmp_path / "outputs"
    folder.mkdir()
    for at in range(5):
        noise(folder / f"{at}.png", at)
    return folder


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_journal_is_gone_on_from_and_counts_all_runs(shelf, outputs, tmp_path):
    words = ("check", outputs, "--settings", shelf / "guardrail.toml", "--jsonl", tmp_path / "v.jsonl", "--json")
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["counts"] == {"accept": 5}
    before = (tmp_path / "v.jsonl").read_bytes()
    assert run(*words).exit_code == 0
    assert (tmp_path / "v.jsonl").read_bytes() == before, "nothing is checked twice"

    shutil.copy(WORKS / "red-eye-frog.webp", outputs / "5.webp")
    noise(outputs / "0.png", 77)
    done = run(*words)
    assert (done.exit_code, json.loads(done.stdout)["counts"]) == (11, {"accept": 5, "block": 1})
    assert [Path(line["path"]).name for line in lines_of(tmp_path / "v.jsonl")[5:]] == ["0.png", "5.webp"]
    assert run(*words).exit_code == 11, "a copy that an earlier run found still counts"
    (outputs / "5.webp").unlink()
    assert run(*words).exit_code == 0, "what is no longer there does not"


def test_what_could_not_be_checked_is_checked_again(shelf, outputs, tmp_path):
    words = ("check", outputs, "--settings", shelf / "guardrail.toml", "--jsonl", tmp_path / "v.jsonl")
    (outputs / "9.png").write_bytes(b"no picture")
    assert run(*words).exit_code == 1
    assert run(*words).exit_code == 1
    assert [Path(line["path"]).name for line in lines_of(tmp_path / "v.jsonl")[5:]] == ["9.png", "9.png"]


def test_line_that_a_crash_cut_is_made_again(shelf, outputs, tmp_path):
    journal = tmp_path / "v.jsonl"
    words = ("check", outputs, "--settings", shelf / "guardrail.toml", "--jsonl", journal)
    assert run(*words).exit_code == 0
    journal.write_bytes(journal.read_bytes()[:-20])
    assert run(*words).exit_code == 0
    assert sorted(Path(line["path"]).name for line in lines_of(journal)) == [f"{at}.png" for at in range(5)]


def test_verdicts_of_another_index_are_made_again(shelf, outputs, tmp_path):
    journal = tmp_path / "v.jsonl"
    words = ("check", outputs, "--settings", shelf / "guardrail.toml", "--jsonl", journal)
    assert run(*words).exit_code == 0
    (tmp_path / "more").mkdir()
    shutil.copy(outputs / "3.png", tmp_path / "more")
    assert run("index", "build", tmp_path / "more", tmp_path / "index").exit_code == 0
    assert run(*words, "--index", tmp_path / "index").exit_code == 11
    assert len(lines_of(journal)) == 10


def test_file_that_is_no_journal_is_not_written_to(shelf, outputs, tmp_path):
    (tmp_path / "mine.txt").write_text("mine\n")
    done = run("check", outputs, "--settings", shelf / "guardrail.toml", "--jsonl", tmp_path / "mine.txt")
    assert isinstance(done.exception, SettingsInvalid)
    assert (tmp_path / "mine.txt").read_text() == "mine\n"


def test_pictures_in_tar_shards_are_checked_by_their_names(shelf, outputs, tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, content in (
            ("a.png", (outputs / "0.png").read_bytes()),
            ("b.webp", (WORKS / "red-eye-frog.webp").read_bytes()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    done = run("check", tmp_path / "0.tar", outputs / "1.png", "--settings", shelf / "guardrail.toml", "--json")
    assert done.exit_code == 11
    assert [(Path(image["path"]).name, image["decision"]) for image in json.loads(done.stdout)["images"]] == [
        ("a.png", "accept"),
        ("b.webp", "block"),
        ("1.png", "accept"),
    ]


def test_workers_give_what_one_process_gives(outputs):
    noise(outputs / "6.png", 6)
    (outputs / "7.png").write_bytes(b"no picture")
    read = [
        [(one.name, picture.name, picture.file_sha256) for some in batches for one, picture in zip(*some, strict=True)]
        for batches in (
            list(read_listed(Listed(sources_of([str(outputs)], SourceOptions())), 10_000, workers, 3))
            for workers in (0, 1)
        )
    ]
    assert read[0] == read[1]
    assert len(read[0]) == 7


def test_picture_whose_process_dies_is_unread(outputs, monkeypatch):
    from guardrail.desk import bulk_check
    from guardrail.desk.bulk_pool import Lost

    monkeypatch.setattr(bulk_check, "Spread", lambda work, workers: lambda places: (Lost("SIGKILL") for _ in places))
    ((listed, pictures),) = read_listed(Listed(sources_of([str(outputs)], SourceOptions())), 10_000, 1, 16)
    assert [picture.failure.error for picture in pictures] == ["SIGKILL"] * 5
    assert [one.name for one in listed] == [picture.name for picture in pictures]


def test_file_given_twice_is_checked_once(outputs, tmp_path):
    listed = Listed(sources_of([str(outputs), str(outputs / "0.png")], SourceOptions()))
    journal = Journal(tmp_path / "v.jsonl", "state")
    new = list(journal.new(listed, lambda: None))
    assert len(new) == 5
    journal.write(Line(one, "accept", "state", again=False, document={}) for one in new)
    assert journal.outcomes() == {"accept": 5}
    journal.close()


def test_journal_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(SettingsInvalid, match="cannot be written"):
        Journal(tmp_path / "no such folder" / "v.jsonl", "state")
