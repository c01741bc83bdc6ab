"""Plots are written as what their names say, the same bytes for the same numbers."""

import numpy as np
import pytest
from PIL import Image

from guardrail.errors import ExtraMissing, SettingsInvalid
from guardrail.study import plots
from guardrail.study.plots import Distributions, Lines, draw_distributions, draw_lines, draw_shares


def test_lines_over_powers_of_ten_are_drawn_on_logarithmic_axes(tmp_path):
    for name, logarithmic in (("plain", False), ("logarithmic", True)):
        panel = Lines("cost", "works", "ms", [10, 1000, 100_000], {"ours": [1.0, 10.0, 100.0]}, logarithmic=logarithmic)
        draw_lines(tmp_path / f"{name}.svg", [panel])
    plain, logarithmic = ((tmp_path / f"{name}.svg").read_text() for name in ("plain", "logarithmic"))
    assert "100000" in plain
    assert "100000" not in logarithmic, "ticks are powers of ten"


def drawn(path):
    chance = np.random.default_rng(0)
    groups = {"clean": chance.normal(0.3, 0.1, 200), "copies": np.append(chance.normal(0.8, 0.1, 90), -np.inf)}
    draw_distributions(path, [Distributions("copy", "cosine", groups, {"flag": 0.6, "block": 0.7})])
    return path


def test_svg_names_groups_limits_and_only_what_is_finite(tmp_path):
    text = drawn(tmp_path / "plot.svg").read_text()
    assert text.startswith("<?xml")
    for words in ("clean (200)", "copies (90)", "flag: 0.6", "block: 0.7"):
        assert f"<!-- {words} -->" in text


@pytest.mark.parametrize("name", ["plot.svg", "plot.png"])
def test_same_numbers_give_the_same_file(tmp_path, name):
    (tmp_path / "again").mkdir()
    assert drawn(tmp_path / name).read_bytes() == drawn(tmp_path / "again" / name).read_bytes()


def test_png_grows_with_its_rows(tmp_path):
    heights = []
    for rows in (2, 20):
        draw_shares(
            tmp_path / "plot.png", "recall", {f"edit {row}": [0.1, 0.9] for row in range(rows)}, ["pdq", "copy"]
        )
        with Image.open(tmp_path / "plot.png") as image:
            heights.append(image.height)
    assert heights[0] < heights[1]


def test_lines_carry_their_names(tmp_path):
    bands = {"crop": np.array([[0.7, 0.4], [0.9, 0.6]])}
    draw_lines(tmp_path / "lines.svg", [Lines("recall", "intensity", "share", [0, 50], {"crop": [0.8, 0.5]}, bands)])
    assert "<!-- crop -->" in (tmp_path / "lines.svg").read_text()


def test_empty_groups_draw_nothing_and_raise_nothing(tmp_path):
    draw_distributions(tmp_path / "plot.svg", [Distributions("copy", "cosine", {"clean": np.zeros(0)})])
    assert (tmp_path / "plot.svg").is_file()


def test_other_endings_are_refused_before_any_work(tmp_path):
    with pytest.raises(SettingsInvalid, match=r"expected one of \.png, \.svg"):
        plots.require_plots(tmp_path / "plot.gif")


def test_missing_matplotlib_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ExtraMissing, match=r"diffusion-guardrail\[plots\]"):
        plots.require_plots(tmp_path / "plot.png")
