"""`guardrail attribute bench`: the tables, the document, and truths that are missing or too small."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from guardrail.desk.cli import app
from guardrail.errors import GuardrailError
from guardrail.study.attribution_bench.making import TruthMaker
from guardrail.study.attribution_bench.tasks import TASKS, BenchTask, Plan, pictures_of
from guardrail.study.attribution_bench.truth import write_truth

PLAN = Plan(subsets=8, seeds=2, generated=3, held_out=3, draws=2, left_out=True, moved=1)
SMALL = BenchTask("tiny", 8, 2, 20, 1, 3, (8,), 4, 4, 3e-3, 1, PLAN)


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("truths")
    maker = TruthMaker(SMALL, pictures_of(SMALL), home / "parts")
    maker.make(lambda *_: None)
    write_truth(maker.truth(), home / "tiny.npz")
    yield home
    torch.set_num_threads(before)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(TASKS, "tiny", SMALL)


def test_document_holds_every_method_goal_and_ceiling(small, truth, tmp_path):
    page = tmp_path / "bench.html"
    words = ["attribute", "bench", "--truth", str(truth), "--no-mini", "--json", "--html", str(page)]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    assert {row["method"] for row in document["rows"]} == {
        "neighbours by pixels",
        "noise_norm K=10 k=4096",
        "loss K=10 k=4096",
        "noise_norm K=100 exact",
    }
    assert len(document["rows"]) == 8
    assert all(row["lds"]["low"] <= row["lds"]["high"] for row in document["rows"])
    assert {*document["noise_ceilings"]} == {"generated", "held-out"}
    assert len(document["goals"]) == 8  # three for each kind of query, of the holders, of what moved
    assert "noise_norm K=10 k=4096" in page.read_text(encoding="utf-8")


def test_table_marks_goals(small, truth):
    ran = CliRunner().invoke(app, ["attribute", "bench", "--truth", str(truth), "--no-mini"])
    assert ran.exit_code == 0, ran.output
    assert "8 of 8 subsets are trained" in ran.stdout
    assert ran.stdout.count("met: ") + ran.stdout.count("MISSED: ") == 8


def test_no_truth_is_an_error_that_says_how_to_make_it(small, tmp_path):
    ran = CliRunner().invoke(app, ["attribute", "bench", "--truth", str(tmp_path), "--no-mini"])
    assert isinstance(ran.exception, GuardrailError)
    assert "tools/attribution/truth.py" in str(ran.exception)


def test_cifar2_asks_for_its_pictures(monkeypatch, truth):
    monkeypatch.setattr("guardrail.desk.attribute_bench_run.read_truth", lambda *_: np.empty(0))
    ran = CliRunner().invoke(app, ["attribute", "bench", "--task", "cifar2", "--truth", str(truth), "--no-mini"])
    assert isinstance(ran.exception, GuardrailError)
    assert "--pictures" in str(ran.exception)
