"""`guardrail bench search` measures what it says, finds what was planted, and leaves out what does not fit."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from guardrail.desk import search_bench_run
from guardrail.desk.cli import app
from guardrail.desk.search_probe import index_at, written_index
from guardrail.study.search_speed import drawn_vectors

QUICK = ("--dimensions", "32", "--batches", "1,3", "--repeats", "2", "--json")


def run(*words):
    return CliRunner().invoke(app, ["bench", "search", *[str(word) for word in words]], catch_exceptions=True)


def measured(*words):
    done = run(*words, *QUICK)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_every_size_is_measured_beside_faiss():
    document = measured("--sizes", "2000,300", "--kinds", "vectors,hashes")
    assert [at["size"] for at in document["vectors"]] == [at["size"] for at in document["hashes"]] == [300, 2000]
    for at in document["vectors"]:
        names = {(pace["name"], pace["batch"]) for pace in at["paces"]}
        assert names == {
            (name, batch) for name in ("guardrail", "faiss, same structure", "faiss, flat float32") for batch in (1, 3)
        }
        assert all(pace["query_cpu_ms"] > 0 for pace in at["paces"])
        assert at["structure"] == "flat"
        assert at["bytes_each"] == 64
        assert at["recall"] == {"0.6": 1, "0.7": 1, "0.8": 1, "0.9": 1}
    assert all(at["recall"] == {"0": 1, "16": 1, "31": 1} for at in document["hashes"])
    assert set(document["growth"]) >= {"vectors, guardrail, batch 1", "hashes, faiss, same structure, batch 3"}
    assert document["indexes"] == []
    assert document["vectors_of"] == "synthetic"


def test_inverted_lists_are_measured_with_their_changes():
    (at,) = measured("--sizes", "1500", "--kinds", "vectors", "--structure", "ivf_rabitq")["vectors"]
    assert at["structure"] == "ivf_rabitq"
    assert {"merge_100_cpu_ms", "purge_1000_cpu_ms", "add_100_cpu_ms", "remove_1000_cpu_ms", "open_cpu_ms"} <= set(at)
    assert at["recall"]["0.9"] == 1
    assert at["build_cpu_s"] > 0


def test_size_that_does_not_fit_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr(
        search_bench_run, "available_bytes", lambda folder: (search_bench_run.needed_bytes(500, 32), 10**12)
    )
    done = run("--sizes", "500,50000", "--kinds", "vectors,hashes", *QUICK)
    document = json.loads(done.stdout)
    assert [at["size"] for at in document["vectors"]] == [500]
    assert document["left_out"][0]["size"] == 50000
    assert "GB are free" in document["left_out"][0]["reason"]
    assert "50000 of 32: left out" in " ".join(done.stderr.split())


def test_tables_name_sizes_and_growth():
    done = run("--sizes", "100,200", "--kinds", "vectors,hashes", *QUICK[:-1])
    assert done.exit_code == 0, done.output
    assert "grows with the size to the power of" in " ".join(done.stdout.split())


def test_cost_is_drawn_where_it_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(search_bench_run, "_COMPARED", 500)  # so that faiss's flat index is left out of 3 x 200
    measured("--sizes", "100,200", "--kinds", "vectors,hashes", "--plots", tmp_path / "cost.svg")
    assert "<!-- vectors, batches of 3 -->" in (tmp_path / "cost.svg").read_text()


def test_whole_index_is_opened_in_a_process_of_its_own(tmp_path):
    vectors = np.concatenate(list(drawn_vectors(400, 32, 0)))
    at = index_at(vectors, tmp_path / "index", lambda done, total: None)
    assert at["found"] == 1, "every stored vector is its own nearest work"
    assert at["resident_bytes"] >= at["resident_bytes_before_opening"] > 0
    assert 0 < at["open_s"] < 10
    assert at["query_cpu_ms"] > 0


def test_real_vectors_are_taken_from_a_file_or_an_index(tmp_path):
    vectors = np.concatenate(list(drawn_vectors(400, 32, 7)))
    np.save(tmp_path / "mini.npy", vectors)
    written_index(vectors, tmp_path / "index", lambda done, total: None)
    for path in (tmp_path / "mini.npy", tmp_path / "index"):
        document = measured("--sizes", "300,500", "--kinds", "vectors,hashes", "--real", path)
        assert document["vectors_of"] == str(path)
        assert [at["size"] for at in document["vectors"]] == [300]
        assert document["left_out"] == [{"size": 500, "reason": "only 400 vectors are there"}]


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (np.ones((4, 8), np.float32), "float32"),
        (np.ones((4, 8), np.float16), "another length"),
        (np.zeros(4, np.float16), "expected float16 (N, D)"),
    ],
)
def test_file_of_something_else_is_refused(tmp_path, stored, said):
    np.save(tmp_path / "mini.npy", stored)
    done = run("--real", tmp_path / "mini.npy", *QUICK)
    assert done.exit_code == 1
    assert said in str(done.exception)


@pytest.mark.parametrize("words", [("--sizes", "0"), ("--sizes", "1e6"), ("--batches", "1,,2")])
def test_numbers_that_are_none_are_refused(words):
    done = run(*words)
    assert done.exit_code == 1
    assert "numbers from 1 on are expected" in str(done.exception)


def test_kind_that_is_none_is_refused():
    done = run("--kinds", "vectors,speed")
    assert done.exit_code == 1
    assert "vectors, hashes, indexes" in str(done.exception)


def test_hashes_alone_need_no_vectors():
    document = measured("--sizes", "400", "--kinds", "hashes")
    assert [at["size"] for at in document["hashes"]] == [400]
    assert document["vectors"] == document["indexes"] == []
