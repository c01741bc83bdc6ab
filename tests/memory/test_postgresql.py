"""Writers on a PostgreSQL server, which are known to live in another way than those of a file.

All else of the ledger is tested there by the modules that use `both_stores`.
"""

import multiprocessing
import os

import pytest

from guardrail.memory import Memory

pytestmark = pytest.mark.server


def left_behind(url, intents):
    memory = Memory(url)
    for intent in intents:
        memory.record_intent(intent)
    os._exit(9)


def test_what_a_dead_process_left_is_reconciled_and_a_living_one_is_let_alone(postgresql_url, making, tmp_path):
    context = multiprocessing.get_context("spawn")
    dead = context.Process(target=left_behind, args=(postgresql_url, [making.intent("a", tmp_path / "a.png")]))
    dead.start()
    dead.join()
    assert dead.exitcode == 9
    living, memory = Memory(postgresql_url), Memory(postgresql_url)
    living.record_intent(making.intent("b", tmp_path / "b.png"))
    assert [one.intent_id for one in memory.reconcile()] == ["a" * 32]
    assert memory.reconcile() == ()
    living.close()
    assert [one.intent_id for one in memory.reconcile()] == ["b" * 32]
    assert memory.verify(deep=True).rows == 4
    memory.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_leaves_the_writer_of_its_parent_alone(postgresql_url, making, tmp_path):
    memory, other = Memory(postgresql_url), Memory(postgresql_url)
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    pid = os.fork()
    if pid == 0:
        try:
            memory.record_intent(making.intent("b", tmp_path / "b.png"))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert [one.intent_id for one in other.reconcile()] == ["b" * 32]
    memory.record_release(making.release("a", tmp_path / "a.png"), making.prints())
    assert len(list(memory.released_prints())) == 1
    memory.close()
    other.close()
