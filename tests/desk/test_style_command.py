"""`bench style` as a person runs it: whose pictures are judged against what, and what counts as a false alarm."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from typer.testing import CliRunner

from guardrail.desk import style_run
from guardrail.desk.cli import app
from guardrail.errors import GuardrailError
from guardrail.guard import Guard
from guardrail.hookspecs import hookimpl
from guardrail.study.style import style_groups

RUNNER = CliRunner()
WORKS = sorted((Path(__file__).parents[2] / "indexes" / "demo" / "works").glob("*.webp"))
MAKERS = ("ann", "bo")
ALWAYS = "[limits.copy]\nflag_above = -1.0\n"  # every picture resembles every work


def style(*words):
    done = RUNNER.invoke(app, [str(word) for word in ("bench", "style", *words, "--device", "cpu")])
    return done, json.loads(done.stdout) if "--json" in words and done.stdout else None


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two makers, each of four drawings; one that ann made anew mirrored, a faint one by bo, and files that spoil."""
    home = tmp_path_factory.mktemp("hands")
    files = {f"{maker}/{at}.png": maker for maker in MAKERS for at in range(4)}
    rows = [*files.items(), ("bo/broken.png", "bo"), ("ann/not-there.png", "ann"), ("loose.png", "")]
    table = "file,creator,genre\n" + "".join(f"{file},{maker},drawing\n" for file, maker in rows)
    (home / "works.csv").write_text(table, encoding="utf-8")
    (home / "always.toml").write_text(ALWAYS, encoding="utf-8")
    folder = home / "pictures"
    for maker in MAKERS:
        (folder / maker).mkdir(parents=True)
    drawn = dict(zip(files, WORKS, strict=False))
    groups = {one.name: one for one in style_groups(groups_of(files), groups=9, each=8, seed=0)}
    for file, source in drawn.items():
        with Image.open(source) as image:
            image.convert("RGB").save(folder / file)
    with Image.open(folder / groups["ann"].indexed[0]) as image:
        ImageOps.mirror(image).save(folder / groups["ann"].judged[0])
    Image.fromarray(np.linspace(235, 245, 300 * 200).reshape(200, 300).astype(np.uint8)).save(
        folder / groups["bo"].judged[0]
    )
    (folder / "bo" / "broken.png").write_bytes(b"no picture")
    (folder / "loose.png").write_bytes((folder / "ann" / "0.png").read_bytes())
    return home


def groups_of(files):
    """As the command reads the table: of the files that are there."""
    return dict(files) | {"bo/broken.png": "bo"}


@pytest.fixture(scope="module")
def measured(home):
    done, document = style(
        home / "pictures", "--works", home / "works.csv", "--side", 200, "--html", home / "page.html", "--json"
    )
    assert done.exit_code == 0, done.output
    return document


def test_every_maker_is_in_one_index_and_judged_against_both(measured):
    assert {one["name"]: one["side"] for one in measured["groups"]}.keys() == set(MAKERS)
    (figures,) = measured["figures"]
    judged = sum(len(one["judged"]) for one in measured["groups"])
    assert figures["own"]["pictures"] == figures["other"]["pictures"] == judged
    assert measured["works"] == [len(one["indexed"]) for one in sorted(measured["groups"], key=lambda one: one["side"])]


def test_mirrored_copy_is_proved_with_its_makers_works_and_accepted_without_them(measured):
    mirrored = next(one["judged"][0] for one in measured["groups"] if one["name"] == "ann")
    found = {one["arm"]: one for one in measured["flagged"] if one["file"] == mirrored}
    assert found.keys() == {"own"}
    assert found["own"]["cause"] == "proved"
    work = next(one["indexed"][0] for one in measured["groups"] if one["name"] == "ann")
    first = found["own"]["works"][0]
    assert (first["file"], first["is_proved"]) == (work, True)


def test_picture_with_too_little_in_it_is_flagged_whatever_the_index_holds(measured):
    faint = {(one["arm"], one["cause"]) for one in measured["flagged"] if one["group"] == "bo"}
    assert faint >= {("own", "faint"), ("other", "faint")}


def test_unreadable_file_is_listed_and_one_of_no_group_takes_no_part(measured):
    assert [(one["file"], one["reason"]) for one in measured["left_out"]] == [("bo/broken.png", "unreadable")]
    assert "loose.png" not in [file for one in measured["groups"] for file in (*one["indexed"], *one["judged"])]


def test_page_shows_what_was_flagged_and_fetches_nothing(home, measured):
    page = (home / "page.html").read_text(encoding="utf-8")
    for one in measured["flagged"]:
        assert one["file"] in page
    assert "data:image/jpeg;base64," in page
    assert "default-src 'none'" in page
    assert "://" not in page


def test_likeness_that_nothing_proves_is_a_false_alarm_with_either_index(home):
    words = (home / "pictures", "--works", home / "works.csv", "--side", 200, "--recipe", home / "always.toml")
    done, document = style(*words, "--json")
    assert done.exit_code == 0, done.output
    (figures,) = document["figures"]
    assert figures["own"]["faint"]["value"] == figures["other"]["faint"]["value"] == 0.25  # descriptors are not asked
    assert figures["other"]["unproved"]["value"] == 0.75  # all but the faint one, the mirrored copy among them
    assert figures["own"]["by_own_group"] == 2
    assert figures["own"]["signals"] == {"copy": 2}


def test_limits_of_another_index_are_tried_beside_the_shipped_ones(home, tmp_path):
    build = ["index", "build", home / "pictures" / "bo", tmp_path / "index", "--recipe", home / "always.toml"]
    assert RUNNER.invoke(app, [str(word) for word in build]).exit_code == 0
    words = (home / "pictures", "--works", home / "works.csv", "--side", 200, "--limits-of", tmp_path / "index")
    done, document = style(*words, "--json")
    assert done.exit_code == 0, done.output
    shipped, theirs = document["figures"]
    assert shipped["limits"] == "uncalibrated"
    assert theirs["limits"] != "uncalibrated"
    assert shipped["other"]["unproved"]["value"] == 0 < theirs["other"]["unproved"]["value"]


def test_generic_pictures_explain_a_likeness_away(home, measured, tmp_path):
    judged = [file for one in measured["groups"] for file in one["judged"]]
    for file in judged:
        with Image.open(home / "pictures" / file) as image:
            ImageEnhance.Brightness(image).enhance(0.9).save(tmp_path / file.replace("/", "-"))
    words = (home / "pictures", "--works", home / "works.csv", "--side", 200, "--recipe", home / "always.toml")
    done, document = style(*words, "--generic", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    assert document["figures"][0]["other"]["unproved"]["value"] == 0  # without them 0.75, see above


def test_picture_that_cannot_be_checked_is_told_and_counted_nowhere(home, monkeypatch):
    class Broken:
        @hookimpl
        def find_evidence(self, context, picture, neighbours, index, limits, settings):
            if picture.name.startswith("ann"):
                raise RuntimeError("the closer look broke")

    monkeypatch.setattr(style_run, "Guard", partial(Guard, plugins=[Broken()]))
    done, document = style(home / "pictures", "--works", home / "works.csv", "--side", 200, "--json")
    assert done.exit_code == 1
    assert len(document["failed_checks"]) == 2
    assert all("the closer look broke" in said for said in document["failed_checks"])
    assert {one["own"]["pictures"] for one in document["figures"]} == {2}
    assert not [one for one in document["flagged"] if one["group"] == "ann"]


def test_without_a_table_folders_are_groups(home):
    done, _ = style(home / "pictures", "--side", 200, "--each", 2)
    assert done.exit_code == 0, done.output
    assert "2 pictures of 2 groups" in done.stdout
    assert "of other groups only" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--by", "creator"), "without a table"),
        (("--works", "works.csv", "--by", "school"), "no column 'school'"),
        (("--works", "works.csv", "--by", "genre"), "1 groups of two pictures or more"),
        (("--html", "no-such-folder/page.html"), "a file in a folder that is there"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_words(home, words, expected):
    words = [str(home / word) if word == "works.csv" else word for word in words]
    done, _ = style(home / "pictures", *words)
    assert done.exit_code == 1
    assert isinstance(done.exception, GuardrailError)
    assert expected in str(done.exception)
