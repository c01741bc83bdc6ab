"""`guardrail credit extraction`: a LoRA that memorised a picture, and its inverse, looked at by a guard."""

import json
from pathlib import Path

import pytest
from extraction_model import PICTURES
from PIL import Image
from typer.testing import CliRunner

from guardrail.desk.cli import app
from guardrail.index import FolderIndex
from guardrail.records import ExtractionReport

pytestmark = pytest.mark.slow

SIDE_PX = 128  # of the works' files: the model's 8 px, enlarged


def run(*args):
    said = CliRunner().invoke(app, [str(arg) for arg in args])
    if said.exception is not None and not isinstance(said.exception, SystemExit):
        raise said.exception
    return said


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The pictures as works, without near-duplicates among them."""
    folder = tmp_path_factory.mktemp("works")
    for at, pixels in enumerate(PICTURES):
        Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST).save(folder / f"{at}.png")
    run("index", "build", folder, folder.parent / "index")
    return folder.parent / "index"


def work(index, title):
    """The work whose file had this name."""
    pinned = FolderIndex(index).pinned()
    works = [pinned.work(row) for row in pinned.rows().tolist()]
    return next(f"{one.bank}/{one.work_id}" for one in works if one.title == title)


def extraction(index, *args):
    words = ("--adapter", "inverse", "--index", index, "--generations", 24, "--steps", 20, "--draws", 48, "--json")
    said = run("credit", "extraction", "extraction_model:made", *words, *args)
    return said.exit_code, ExtractionReport.model_validate(json.loads(said.stdout))


def test_inverse_of_what_memorised_a_work_takes_it_out(index, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    code, found = extraction(index, "--work", work(index, "0"))
    assert (code, found.took_out) == (0, True)
    assert found.with_adapter.copies < found.without.copies
    assert found.known_with < found.known_without
    assert found.weights_sha256 is not None


def test_another_work_is_not_taken_out(index, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    code, found = extraction(index, "--work", work(index, "7"))
    assert (code, found.took_out) == (14, False)
    assert any("no copy of the work without the adapter" in one for one in found.warnings)


def test_work_that_is_not_there_is_said(index, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    with pytest.raises(ValueError, match="no such work"):
        extraction(index, "--work", "default/99.png")
