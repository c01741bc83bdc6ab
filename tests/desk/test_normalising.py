"""An index whose similarities are normalised: what a background must be, and what it may not hide."""

import numpy as np
import pytest
from PIL import Image

from guardrail.desk.making import build_folder_index, normalised_limits
from guardrail.errors import SettingsInvalid
from guardrail.guard import Guard
from guardrail.index import FolderIndex, Recipe
from guardrail.records import Limits, SimilarityLimit
from guardrail.settings import Settings
from guardrail.testing import FakePlugin


def pictures(folder, count, seed, size=16):
    folder.mkdir()
    chance = np.random.default_rng(seed)
    for at in range(count):
        pixels = chance.integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(pixels).resize((128, 128), Image.Resampling.NEAREST).save(folder / f"{at:03d}.png")
    return folder


def built(tmp_path, background, **recipe):
    works = pictures(tmp_path / "works", 4, seed=1)
    chosen = Recipe(embedder="fake", background=str(background), **recipe)
    settings = Settings(home=tmp_path / "home", device="cpu")
    return build_folder_index(works, tmp_path / "index", settings, chosen, extra_plugins=[FakePlugin()])


def test_normalised_index_still_finds_its_works(tmp_path):
    built(tmp_path, pictures(tmp_path / "background", 60, seed=2), tiles=5, query_tiles=5)
    guard = Guard(tmp_path / "index", Settings(home=tmp_path / "home", device="cpu"), plugins=[FakePlugin()])
    verdict = guard.check([tmp_path / "works" / "000.png"]).verdicts[0]
    assert verdict.decision == "block"
    assert guard.index.header.normalisation.background == 60


def test_background_of_few_pictures_is_refused(tmp_path):
    with pytest.raises(SettingsInvalid, match="49 pictures that differ"):
        built(tmp_path, pictures(tmp_path / "background", 49, seed=2))


def test_background_of_one_picture_many_times_is_refused(tmp_path):
    background = pictures(tmp_path / "background", 1, seed=2)
    for at in range(80):
        (background / f"again-{at}.png").write_bytes((background / "000.png").read_bytes())
    with pytest.raises(SettingsInvalid, match="1 pictures that differ"):
        built(tmp_path, background)


def test_works_in_the_background_hide_nothing(tmp_path):
    background = pictures(tmp_path / "background", 60, seed=2)
    first = pictures(tmp_path / "copies", 4, seed=1)
    for path in first.iterdir():
        (background / f"work-{path.name}").write_bytes(path.read_bytes())
    report = built(tmp_path, background)
    assert report.hidden == 4
    assert FolderIndex(tmp_path / "index").header.normalisation.background == 60


def test_background_that_leaves_no_limit_is_refused():
    alike = np.array([[1.0, 0.0], [0.999, 0.04472]] * 30, np.float32)
    limits = Limits(copy=SimilarityLimit(flag_above=0.7, block_above=0.8))
    with pytest.raises(SettingsInvalid, match="no limit would be left"):
        normalised_limits(limits, alike, 3)
