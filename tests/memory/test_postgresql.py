"""The same on a PostgreSQL server: the database of `POSTGRESQL_TEST_URL`, which is emptied."""

import multiprocessing
import os

import pytest
from sqlalchemy import create_engine

from guardrail.errors import LedgerBroken
from guardrail.memory import Held, Memory
from guardrail.records import Decision, GenerationContext

URL = os.environ.get("POSTGRESQL_TEST_URL", "")
pytestmark = [pytest.mark.server, pytest.mark.skipif(not URL, reason="POSTGRESQL_TEST_URL names no database")]


def statement(*words):
    engine = create_engine(URL)
    with engine.begin() as connection:
        for one in words:
            connection.exec_driver_sql(one)
    engine.dispose()


@pytest.fixture(autouse=True)
def _empty():
    statement("drop schema public cascade", "create schema public")


def append_some(url, count):
    memory = Memory(url)
    for _ in range(count):
        memory.record_withdrawal("v", "a test")
    memory.close()


def test_writers_in_several_processes_keep_one_tree():
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append_some, args=(URL, 10)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    memory = Memory(URL)
    assert memory.verify(deep=True).rows == 30
    memory.close()


def left_behind(url, intents):
    memory = Memory(url)
    for intent in intents:
        memory.record_intent(intent)
    os._exit(9)


def test_what_a_dead_process_left_is_reconciled_and_a_living_one_is_let_alone(making, tmp_path):
    context = multiprocessing.get_context("spawn")
    dead = context.Process(target=left_behind, args=(URL, [making.intent("a", tmp_path / "a.png")]))
    dead.start()
    dead.join()
    living, memory = Memory(URL), Memory(URL)
    living.record_intent(making.intent("b", tmp_path / "b.png"))
    assert [one.intent_id for one in memory.reconcile()] == ["a" * 32]
    assert memory.reconcile() == ()
    living.close()
    assert [one.intent_id for one in memory.reconcile()] == ["b" * 32]
    assert memory.verify(deep=True).rows == 4
    memory.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_leaves_the_writer_of_its_parent_alone(making, tmp_path):
    memory, other = Memory(URL), Memory(URL)
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    pid = os.fork()
    if pid == 0:
        memory.record_intent(making.intent("b", tmp_path / "b.png"))
        os._exit(0)
    os.waitpid(pid, 0)
    assert [one.intent_id for one in other.reconcile()] == ["b" * 32]
    memory.record_release(making.release("a", tmp_path / "a.png"), making.prints())
    assert len(list(memory.released_prints())) == 1
    memory.close()
    other.close()


def test_edits_are_found_and_erasing_holds(making):
    memory = Memory(URL)
    flagged = making.verdict(Decision.FLAG, verdict_id="1" * 32)
    memory.record_verdicts([Held(flagged, b"png"), Held(making.verdict())], GenerationContext(pipeline="P"))
    assert memory.erase("1" * 32, "request 17") == (1,)
    assert memory.verify(deep=True).rows == 3
    statement("update ledger set leaf = null where sequence = 2")
    with pytest.raises(LedgerBroken):
        memory.verify()
    memory.close()
