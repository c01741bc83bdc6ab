"""`guardrail ledger ...` as a person runs it: exit codes, one document on stdout, and what each command finds."""

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardrail.desk.cli import app
from guardrail.memory import Held, Memory
from guardrail.records import Decision, Verdict

RUNNER = CliRunner()
VERDICT = "1" * 32


def run(*words, **also):
    return RUNNER.invoke(app, [str(word) for word in words], catch_exceptions=True, **also)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "guardrail.toml").write_text('home = "home"\n')
    return tmp_path / "guardrail.toml"


@pytest.fixture
def ledger(settings, tmp_path):
    """Three verdicts; where it lies."""
    path = tmp_path / "home" / "memory.db"
    memory = Memory(f"sqlite:///{path}")
    said = {"image": "images[0]", "rule": "r", "explanation": "e", "calibration": "c", "at": datetime.now(UTC)}
    said |= {"pixels_sha256": "a" * 64, "index_snapshot": "b" * 64, "policy_sha256": "c" * 64}
    said |= {"evidence": (), "nearest": (), "decision": Decision.ACCEPT}
    for digit in "123":
        memory.record_verdicts([Held(Verdict(verdict_id=digit * 32, **said))], None)
    memory.close()
    return path


def cut(path):
    """Cut the last row off, and mend the tree, so that the ledger alone does not show it."""
    shorter = Memory("sqlite://")
    with closing(sqlite3.connect(path)) as connection, connection:
        kept = [bytes(row[0]) for row in connection.execute("select leaf_hash from ledger order by sequence")][:-1]
        from guardrail.memory.tree import Frontier

        frontier = Frontier()
        frontier.extend(kept)
        connection.execute("delete from ledger_labels where sequence = (select max(sequence) from ledger)")
        connection.execute("delete from ledger where sequence = (select max(sequence) from ledger)")
        connection.execute("update ledger_state set size = ?, frontier = ?", (frontier.size, frontier.to_bytes()))
    shorter.close()


def test_ledger_that_holds_is_said_to_hold(settings, ledger):
    done = run("ledger", "verify", "--settings", settings)
    assert done.exit_code == 0, done.output
    assert "3 rows, the tree holds, no checkpoint to compare with" in done.stdout
    done = run("ledger", "verify", "--deep", "--json", "--settings", settings)
    document = json.loads(done.stdout)
    assert (document["rows"], document["erased"], document["open_cases"], document["deep"]) == (3, 0, 0, True)
    assert len(document["tip"]) == 64


def test_checkpoint_finds_rows_that_were_cut_off(settings, ledger, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert run("ledger", "checkpoint", "--out", elsewhere / "one", "--settings", settings).exit_code == 0
    shutil.move(tmp_path / "home" / "keys" / "ledger.pub", elsewhere)
    shutil.rmtree(tmp_path / "home" / "keys")  # as if whoever cut it off had all of it
    against = ("--checkpoint", elsewhere / "one", "--key", elsewhere / "ledger.pub", "--settings", settings)
    done = run("ledger", "verify", *against)
    assert done.exit_code == 0, done.output
    assert "as in checkpoints of 3 rows" in done.stdout
    cut(ledger)
    assert run("ledger", "verify", "--settings", settings).exit_code == 0
    done = run("ledger", "verify", *against)
    assert done.exit_code == 1
    assert "found only 2 rows, expected the 3 that a checkpoint names" in str(done.exception)


def test_what_was_signed_last_is_compared_without_being_asked(settings, ledger):
    assert run("ledger", "checkpoint", "--settings", settings).exit_code == 0
    cut(ledger)
    for words in (("verify",), ("checkpoint",), ("prove", "1")):
        done = run("ledger", *words, "--settings", settings)
        assert done.exit_code == 1
        assert "a checkpoint names" in str(done.exception)


def test_checkpoint_is_printed_and_nothing_else(settings, ledger):
    done = run("ledger", "checkpoint", "--settings", settings)
    origin, size, _, empty, signature, end = done.stdout.split("\n")
    assert (size, empty, end) == ("3", "", "")
    assert signature.startswith(f"\N{EM DASH} {origin} ")
    document = json.loads(run("ledger", "checkpoint", "--json", "--settings", settings).stdout)
    assert (document["origin"], document["size"], document["posted"]) == (origin, 3, None)
    assert document["note"] == done.stdout


def test_row_is_proved_to_somebody_without_the_ledger(settings, ledger, tmp_path):
    proof = tmp_path / "proof.json"
    assert run("ledger", "prove", VERDICT, "--out", proof, "--settings", settings).exit_code == 0
    key = shutil.copy(tmp_path / "home" / "keys" / "ledger.pub", tmp_path)
    shutil.rmtree(tmp_path / "home")
    done = run("ledger", "check-proof", proof, "--key", key, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["row"], document["size"]) == (1, 3)
    assert document["content"]["content"]["verdict"]["verdict_id"] == VERDICT
    proof.write_text(proof.read_text().replace("accept", "block!"))
    done = run("ledger", "check-proof", proof, "--key", key)
    assert done.exit_code == 1
    assert "edited" in str(done.exception)


def test_proof_whose_content_was_left_out_is_not_said_to_be_erased(settings, ledger, tmp_path):
    proof = json.loads(run("ledger", "prove", VERDICT, "--settings", settings).stdout)
    (tmp_path / "p").write_text(json.dumps(proof | {"leaf": None}))
    words = ("ledger", "check-proof", tmp_path / "p", "--key", tmp_path / "home" / "keys" / "ledger.pub")
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "the proof holds no content; whether it was erased only the ledger can say" in done.stdout
    document = json.loads(run(*words, "--json").stdout)
    assert (document["content"], document["sha256"], "erased" in document) == (None, proof["leaf_sha256"], False)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"index": -1}'])
def test_what_is_no_proof_is_refused(tmp_path, content):
    (tmp_path / "proof.json").write_text(content)
    done = run("ledger", "check-proof", tmp_path / "proof.json", "--key", tmp_path / "none")
    assert done.exit_code == 1
    assert "no proof" in str(done.exception)


def test_row_that_is_not_there_is_not_proved(settings, ledger):
    done = run("ledger", "prove", "urn:c2pa:none", "--settings", settings)
    assert done.exit_code == 1
    assert "has no row 'urn:c2pa:none'" in str(done.exception)


def test_erasing_asks_first(settings, ledger, tmp_path):
    words = ("ledger", "erase", VERDICT, "--reason", "request 17", "--settings", settings)
    assert run(*words, input="n\n").exit_code == 1
    assert run(*words, "--json").exit_code == 1
    assert json.loads(run("ledger", "verify", "--json", "--settings", settings).stdout)["erased"] == 0
    done = run(*words, input="y\n")
    assert done.exit_code == 0, done.output
    assert "erased the content of rows 1" in done.stdout
    assert json.loads(run("ledger", "verify", "--json", "--settings", settings).stdout)["erased"] == 1
    proof = json.loads(run("ledger", "prove", "1", "--settings", settings).stdout)
    assert proof["leaf"] is None
    (tmp_path / "p").write_text(json.dumps(proof))
    done = run("ledger", "check-proof", tmp_path / "p", "--key", tmp_path / "home" / "keys" / "ledger.pub")
    assert (done.exit_code, "the proof holds no content" in done.stdout) == (0, True)
    assert json.loads(run(*words[:2], "2" * 32, *words[3:], "--yes", "--json").stdout) == {"erased": [2]}


def test_failed_post_leaves_the_checkpoint_written(settings, ledger, tmp_path):
    out = tmp_path / "one"
    words = ("ledger", "checkpoint", "--out", out, "--post", "http://127.0.0.1:9", "--json", "--settings", settings)
    done = run(*words)
    assert done.exit_code == 1
    assert "did not take the checkpoint" in done.stderr
    assert json.loads(done.stdout)["posted"] is None
    assert out.read_text() == json.loads(done.stdout)["note"]


def test_answer_of_the_log_is_kept_beside_the_checkpoint(settings, ledger, tmp_path, monkeypatch):
    from guardrail import memory

    entry = memory.LogEntry("uuid", 41, {"uuid": {"logIndex": 41}})
    asked = []
    monkeypatch.setattr(memory, "post_checkpoint", lambda *words: asked.append(words) or entry)
    out = tmp_path / "one"
    done = run("ledger", "checkpoint", "--out", out, "--post", "https://log.example", "--settings", settings)
    assert done.exit_code == 0, done.output
    assert asked == [(out.read_text(), "https://log.example", Path(tmp_path / "home" / "keys"))]
    assert json.loads((tmp_path / "one.log.json").read_text()) == {"uuid": {"logIndex": 41}}
