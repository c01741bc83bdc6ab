"""What is so of a SQLite file alone: who may read it, its log, forks, and columns that hold anything."""

import multiprocessing
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from guardrail.errors import LedgerBroken, MemoryUnwritable
from guardrail.memory import Held, Memory
from guardrail.records import Decision
from tests.memory.conftest import in_a_fork

forking = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads, says Python 3.12


@pytest.fixture
def file(tmp_path):
    return tmp_path / "deep" / "memory.db"


@pytest.fixture
def held(making):
    def make(digit, decision=Decision.FLAG):
        return Held(making.verdict(decision, verdict_id=digit * 32, pixels_sha256=digit * 64), f"png {digit}".encode())

    return make


# --- the file --------------------------------------------------------------------------------------------


def test_case_that_is_no_json_is_a_typed_error(memory, held, tamper):
    memory.record_verdicts([held("1")], None)
    tamper("update cases set context = 'not json'")
    with pytest.raises(MemoryUnwritable, match="no JSON"):
        memory.open_cases()


@pytest.mark.parametrize(
    "statement",
    [
        "insert into ledger values ('one', 'verdict', x'00', x'00')",
        "update ledger set leaf = 'text' where sequence = 2",
        "update ledger_state set size = 'many'",
    ],
)
def test_columns_that_hold_something_else_are_a_broken_ledger(memory, held, tamper, statement):
    memory.record_verdicts([held("1"), held("2")], None)
    tamper(statement)
    with pytest.raises(LedgerBroken):
        memory.verify()


def test_unwritable_memory_is_a_typed_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(MemoryUnwritable, match="nothing was released"):
        Memory(f"sqlite:///{tmp_path / 'file' / 'memory.db'}")


def test_damaged_database_is_a_typed_error(tmp_path):
    (tmp_path / "memory.db").write_bytes(b"this is no database, it only has its name" * 50)
    with pytest.raises(MemoryUnwritable):
        Memory(f"sqlite:///{tmp_path / 'memory.db'}")


def test_ledger_that_must_exist_is_not_made(tmp_path):
    with pytest.raises(MemoryUnwritable, match="no ledger"):
        Memory(f"sqlite:///{tmp_path / 'none.db'}", must_exist=True)
    assert list(tmp_path.iterdir()) == []


def test_database_its_log_and_its_pictures_are_for_their_owner_alone(url, file, held):
    before = os.umask(0)
    try:
        memory = Memory(url)
        memory.record_verdicts([held("1")], None)
    finally:
        os.umask(before)
    found = {path.relative_to(file.parent).as_posix(): path.stat().st_mode for path in file.parent.rglob("*")}
    assert {"memory.db", "memory.db-wal", "memory.db-shm", "memory.db-pictures"} <= found.keys()
    assert {name: oct(stat.S_IMODE(mode)) for name, mode in found.items() if mode & 0o077} == {}
    assert file.parent.stat().st_mode & 0o077 == 0
    memory.close()


# --- its log ---------------------------------------------------------------------------------------------


def test_changes_go_through_a_log_to_the_disk_and_what_is_erased_is_overwritten(memory):
    with memory._database.reading() as session:
        asked = ("journal_mode", "synchronous", "secure_delete", "busy_timeout")
        found = [session.connection().exec_driver_sql(f"pragma {one}").scalar() for one in asked]
    assert found == ["wal", 3, 1, 30_000]


def test_old_file_goes_over_to_a_log(url, memory, held):
    memory.record_verdicts([held("1")], None)
    memory.close()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("pragma journal_mode = delete").fetchone() == ("delete",)
    again = Memory(url)
    again.record_verdicts([held("2")], None)
    assert again.verify(deep=True).rows == 2
    again.close()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)


def test_writer_does_not_wait_for_a_reader_who_sees_what_was(memory, held, url):
    memory.record_verdicts([held("1")], None)
    other = Memory(url)
    with memory._database.reading() as session:
        count = "select count(*) from ledger"
        assert session.connection().exec_driver_sql(count).scalar() == 1
        began = time.monotonic()
        other.record_verdicts([held("2")], None)
        assert time.monotonic() - began < 10  # a reader held a writer up for 30 s before there was a log
        assert session.connection().exec_driver_sql(count).scalar() == 1
    assert memory.counts().rows == 2
    other.close()


def test_nothing_that_was_erased_is_left_in_file_or_log(memory, making, file):
    canary = b"canary-7d1f"
    said = making.verdict(Decision.FLAG, verdict_id="1" * 32, explanation=canary.decode())
    memory.record_verdicts([Held(said, canary)], None)
    assert canary in b"".join(path.read_bytes() for path in file.parent.rglob("*") if path.is_file())
    memory.erase("1" * 32, "request 17")
    assert canary not in b"".join(path.read_bytes() for path in file.parent.rglob("*") if path.is_file())


def test_log_that_is_being_read_is_said_to_hold_old_pages(memory, held, url, caplog, monkeypatch):
    monkeypatch.setattr("guardrail.memory.database._SQLITE_WAIT_S", 0.2)
    other = Memory(url)
    other.record_verdicts([held("1")], None)
    with memory._database.reading() as session:
        session.connection().exec_driver_sql("select count(*) from ledger").scalar()
        other.erase("1" * 32, "request 17")
    assert "still being read" in caplog.text
    other.close()


# --- forks, starts and ends ------------------------------------------------------------------------------


@forking
def test_child_writes_on_after_its_parent_is_done(memory, held, url):
    """In WAL mode the last one to close deletes the log: a child that took the parent's file along would lose it."""
    memory.record_verdicts([held("1")], None)
    reading, writing = os.pipe()

    def write_later():
        os.read(reading, 1)
        memory.record_verdicts([held("2")], None)
        os.write(second_writing, b"x")
        os.read(reading, 1)
        memory.record_verdicts([held("3")], None)

    second_reading, second_writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            write_later()
            code = 0
        finally:
            os._exit(code)
    os.write(writing, b"x")
    os.read(second_reading, 1)  # its log is open now
    memory.record_verdicts([held("4")], None)
    memory.close()
    os.write(writing, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    again = Memory(url)
    assert again.verify(deep=True).rows == 4
    again.close()


@forking
def test_fork_waits_for_the_transactions_of_other_threads(memory, held):
    inside, go_on = threading.Event(), threading.Event()

    def write():
        with memory._database.writing():
            inside.set()
            go_on.wait(5)

    thread = threading.Thread(target=write)
    thread.start()
    inside.wait(5)
    threading.Timer(0.3, go_on.set).start()
    assert in_a_fork(lambda: memory.record_verdicts([held("1")], None))
    thread.join()
    memory.record_verdicts([held("2")], None)
    assert memory.verify(deep=True).rows == 2


@forking
def test_child_that_was_forked_in_the_middle_of_a_transaction_is_refused(memory, held):
    def refused():
        with pytest.raises(MemoryUnwritable, match="forked while a transaction was on"):
            memory.record_verdicts([held("1")], None)

    with memory._database.writing():
        assert in_a_fork(refused)
    memory.record_verdicts([held("1")], None)
    assert memory.verify(deep=True).rows == 1


@forking
def test_ledger_in_memory_is_refused_after_a_fork():
    memory = Memory("sqlite://")

    def refused():
        with pytest.raises(MemoryUnwritable, match="forked"):
            memory.record_withdrawal("v", "r")

    assert in_a_fork(refused)
    memory.close()


def test_ledger_in_memory_is_the_same_in_all_threads():
    memory = Memory("sqlite://")
    threads = [threading.Thread(target=memory.record_withdrawal, args=("v", "r")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.verify(deep=True)[0] == 4
    memory.close()


ENDLESS = """
import sys
from guardrail.memory import Memory
memory = Memory(sys.argv[1])
print("ready", flush=True)
for at in range(100_000):
    memory.record_withdrawal("v", f"number {at}")
    print(at, flush=True)
"""


def test_writer_that_is_killed_loses_no_row_that_it_was_told_of(url):
    """Kill -9 in the middle of writing: every row that was answered is there, and the ledger holds."""
    with subprocess.Popen([sys.executable, "-c", ENDLESS, url], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "ready\n"
        for _ in range(20):
            last = writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        last = writer.stdout.readlines()[-1:] or [last]
    memory = Memory(url)
    rows = memory.verify(deep=True).rows
    assert rows in (int(last[0]) + 1, int(last[0]) + 2)  # one more was entered, perhaps, and not answered
    memory.record_withdrawal("v", "after")
    assert memory.verify().rows == rows + 1
    memory.close()


def start(url, ready):
    ready.wait()
    memory = Memory(url)
    memory.record_withdrawal("v", "first start")
    memory.close()


def test_first_starts_at_the_same_time_make_one_database(url):
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(4)
    starts = [context.Process(target=start, args=(url, ready)) for _ in range(4)]
    for one in starts:
        one.start()
    for one in starts:
        one.join()
    assert [one.exitcode for one in starts] == [0] * 4
    memory = Memory(url)
    assert memory.verify(deep=True).rows == 4
    memory.close()
