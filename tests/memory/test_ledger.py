import multiprocessing
import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, text

from guardrail.errors import LedgerBroken, MemoryUnwritable
from guardrail.memory import Held, Memory
from guardrail.records import Decision, GenerationContext, Release, RemedyTried, Verdict

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def verdict(decision=Decision.ACCEPT, **also):
    return Verdict(
        image="images[0]",
        pixels_sha256="a" * 64,
        at=NOW,
        decision=decision,
        rule="r",
        explanation="e",
        evidence=(),
        nearest=(),
        index_snapshot="b" * 64,
        policy_sha256="c" * 64,
        calibration="uncalibrated",
        **also,
    )


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'deep' / 'memory.db'}"


@pytest.fixture
def memory(url):
    memory = Memory(url)
    yield memory
    memory.close()


def tamper(url, statement):
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_each_verdict_and_release_is_a_row_of_an_unbroken_chain(memory):
    memory.record_verdicts([Held(verdict()), Held(verdict())], None)
    release = Release(verdict_id="v", file="a.png", file_sha256="d" * 64, manifest_id="urn:x", at=NOW)
    memory.record_release(release)
    memory.record_withdrawal("v", "disk full")
    assert [row.kind for row in memory.rows()] == ["verdict", "verdict", "release", "withdrawal"]
    count, tip = memory.verify()
    assert count == 4
    assert len(tip) == 64


def test_each_remedy_that_was_tried_is_a_row_too(memory):
    tried = [RemedyTried(remedy="fresh_seed", images=("images[0]",), before=(Decision.BLOCK,), seeds=(7,))]
    memory.record_remedies(tried, "run")
    memory.record_remedies([], "another")
    (row,) = memory.rows()
    assert row.kind == "remedy"
    assert row.content["run_id"] == "run"
    assert RemedyTried.model_validate(row.content["remedy"]) == tried[0]
    assert memory.verify()[0] == 1


def test_empty_ledger_holds(memory):
    assert memory.verify() == (0, "0" * 64)


def test_ledger_goes_on_after_reopening(memory, url):
    memory.record_verdicts([Held(verdict())], None)
    again = Memory(url)
    again.record_verdicts([Held(verdict())], None)
    assert again.verify()[0] == 2
    again.close()


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger set content = replace(content, 'accept', 'block') where sequence = 2",
        "update ledger set kind = 'release' where sequence = 2",
        "delete from ledger where sequence = 2",
        "update ledger set sequence = 9 where sequence = 2",
        "update ledger set previous_sha256 = 'x' where sequence = 1",
        "insert into ledger values (-1, 'verdict', '{}', 'x', 'y')",
        "update ledger set content = '{bad json' where sequence = 2",
        "update ledger set content = '{\"a\": 1e400}' where sequence = 2",
        "update ledger set content = '{\"a\": 123456789012345678901234567890}' where sequence = 2",
    ],
)
def test_edited_ledger_is_found_broken(memory, url, statement):
    memory.record_verdicts([Held(verdict()) for _ in range(3)], None)
    tamper(url, statement)
    with pytest.raises(LedgerBroken):
        memory.verify()


def test_flagged_image_waits_with_its_picture_and_its_run(memory):
    context = GenerationContext(pipeline="P", prompts={"prompt": "a secret fox"})
    memory.record_verdicts([Held(verdict(Decision.FLAG), b"png"), Held(verdict())], context)
    (case,) = memory.open_cases()
    assert (case.png, case.sequence, case.state) == (b"png", 1, "open")
    assert case.context["prompts"] == {"prompt": "a secret fox"}


def test_prompts_never_reach_the_ledger(memory):
    memory.record_verdicts([Held(verdict())], GenerationContext(pipeline="P", prompts={"prompt": "a secret fox"}))
    assert "secret" not in str([row.content for row in memory.rows()])


def test_verdicts_of_a_batch_are_written_together_or_not_at_all(memory):
    same = verdict(Decision.FLAG)
    memory.record_verdicts([Held(same, b"png")], None)
    with pytest.raises(MemoryUnwritable):
        memory.record_verdicts([Held(verdict()), Held(same, b"png")], None)
    assert memory.verify()[0] == 1


def test_unwritable_memory_is_a_typed_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(MemoryUnwritable, match="nothing was released"):
        Memory(f"sqlite:///{tmp_path / 'file' / 'memory.db'}")


def test_damaged_database_is_a_typed_error(tmp_path):
    (tmp_path / "memory.db").write_bytes(b"this is no database, it only has its name" * 50)
    with pytest.raises(MemoryUnwritable):
        Memory(f"sqlite:///{tmp_path / 'memory.db'}")


def append_some(url):
    memory = Memory(url)
    for _ in range(10):
        memory.record_verdicts([Held(verdict())], None)
    memory.close()


def test_writers_in_several_processes_keep_one_chain(memory, url):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append_some, args=(url,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert memory.verify()[0] == 30


def test_database_and_its_folder_are_for_their_owner_alone(memory, tmp_path):
    assert (tmp_path / "deep").stat().st_mode & 0o077 == 0
    assert (tmp_path / "deep" / "memory.db").stat().st_mode & 0o077 == 0


def test_reader_holds_up_no_writer(memory, url):
    memory.record_verdicts([Held(verdict()) for _ in range(3)], None)
    reading = memory.rows()
    next(reading)
    other = Memory(url)
    began = time.monotonic()
    other.record_verdicts([Held(verdict())], None)
    assert time.monotonic() - began < 10
    reading.close()
    other.close()


def test_ledger_that_must_exist_is_not_made(tmp_path):
    with pytest.raises(MemoryUnwritable, match="no ledger"):
        Memory(f"sqlite:///{tmp_path / 'none.db'}", must_exist=True)
    assert list(tmp_path.iterdir()) == []
