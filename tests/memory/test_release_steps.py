"""From the intent to the file in its place: whatever ends between two steps, the next start finds it and says so."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from guardrail.errors import MemoryUnwritable
from guardrail.memory import Memory

# A process that releases one file, and is killed at the step that it is told; conftest's Making says what of.
RELEASES = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from tests.memory.conftest import Making
from guardrail.memory import Memory

url, folder, stop = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

def at(step):
    if step == stop:
        os.kill(os.getpid(), signal.SIGKILL)

memory, file = Memory(url), folder / "out.png"
intent = Making.intent("a", file)
at("start")
memory.record_intent(intent)
at("intent")
memory.record_release(Making.release("a", file), Making.prints())
at("commit")
part = file.with_name(intent.part)
part.write_bytes(b"sig")
at("half a part")
part.write_bytes(b"signed")
at("part")
if stop == "taken":  # without hard links the name is taken first
    file.touch()
    at("taken")
os.link(part, file)
at("linked")
part.unlink()
at("in place")
if stop == "wait":
    print("waiting", flush=True)
    time.sleep(60)
memory.record_done(intent.intent_id)
at("done")
"""


def release_until(step, url, folder):
    root = str(Path(__file__).parents[2])
    words = [sys.executable, "-c", RELEASES, url, str(folder), step, root]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


KINDS = {
    "start": [],
    "intent": ["intent", "withdrawal"],
    "commit": ["intent", "release", "withdrawal"],
    "half a part": ["intent", "release", "withdrawal"],
    "part": ["intent", "release", "withdrawal"],
    "taken": ["intent", "release", "withdrawal"],
    "linked": ["intent", "release"],
    "in place": ["intent", "release"],
    "done": ["intent", "release"],
}


@pytest.mark.parametrize("step", KINDS)
def test_what_a_killed_process_left_is_reconciled(step, url, tmp_path):
    killed = release_until(step, url, tmp_path)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    memory = Memory(url)
    found = memory.reconcile()
    assert [row.kind for row in memory.rows()] == KINDS[step]
    stands = KINDS[step][-1:] == ["release"]
    assert [one.outcome for one in found] == ([] if step in {"start", "done"} else [("withdrawn", "released")[stands]])
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == (["out.png"] if stands else [])
    assert memory.fate_of("urn:c2pa:a") == (
        "released" if stands else "withdrawn" if "release" in KINDS[step] else "unknown"
    )
    assert len(list(memory.released_prints())) == stands
    assert memory.reconcile() == ()
    memory.verify(deep=True)
    memory.close()


def test_what_a_living_process_is_at_is_let_alone(url, tmp_path):
    living = release_until("wait", url, tmp_path)
    try:
        assert living.stdout.readline() == "waiting\n"
        memory = Memory(url)
        assert memory.reconcile() == ()
        assert memory.counts().unfinished == 1
    finally:
        living.kill()
        living.communicate(timeout=60)
    (found,) = memory.reconcile()
    assert (found.outcome, found.file) == ("released", str(tmp_path / "out.png"))
    memory.close()


def test_only_one_start_reconciles(url, tmp_path):
    release_until("part", url, tmp_path).communicate(timeout=60)
    words = f"from guardrail.memory import Memory; m = Memory({url!r}); print(len(m.reconcile()))"
    starts = [subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(start.communicate(timeout=60)[0]) for start in starts) == 1
    memory = Memory(url)
    assert [row.kind for row in memory.rows()] == KINDS["part"]
    memory.close()


def test_what_this_process_is_at_in_another_memory_is_let_alone(memory, making, url, tmp_path):
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    other = Memory(url)
    assert other.reconcile() == memory.reconcile() == ()
    memory.close()
    assert [one.outcome for one in other.reconcile()] == ["withdrawn"]
    other.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_keeps_no_writer_alive(memory, making, url, tmp_path):
    writing, reading = os.pipe()[::-1]
    pid = os.fork()
    if pid == 0:
        os.read(reading, 1)  # lives longer than the writer
        os._exit(0)
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    memory.close()
    other = Memory(url)
    assert len(other.reconcile()) == 1
    other.close()
    os.write(writing, b".")
    os.waitpid(pid, 0)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_has_a_writer_of_its_own(memory, making, url, tmp_path):
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    pid = os.fork()
    if pid == 0:
        memory.record_intent(making.intent("b", tmp_path / "b.png"))
        os._exit(0)
    os.waitpid(pid, 0)
    assert [one.intent_id for one in memory.reconcile()] == ["b" * 32]


def test_another_file_in_its_place_is_let_alone(url, tmp_path):
    release_until("commit", url, tmp_path).communicate(timeout=60)
    (tmp_path / "out.png").write_bytes(b"somebody else's")
    memory = Memory(url)
    (found,) = memory.reconcile()
    assert (found.outcome, found.reason) == ("withdrawn", "interrupted; another file is in its place")
    assert (tmp_path / "out.png").read_bytes() == b"somebody else's"
    memory.close()


def test_file_whose_name_is_not_text_is_found_again(memory, making, url, tmp_path):
    raw = os.fsencode(tmp_path) + b"/a\xff.png"
    name = raw.decode("utf-8", "backslashreplace")
    memory.record_intent(making.intent("a", name))
    memory.record_release(making.release("a", name))
    with open(raw, "wb") as file:  # noqa: PTH123
        file.write(b"signed")
    memory.close()
    other = Memory(url)
    assert [one.outcome for one in other.reconcile()] == ["released"]
    other.close()


@pytest.mark.parametrize("part", ["out.png", "../out.part", ".x.part", f"sub/.{'a' * 32}.part", f".{'A' * 32}.part"])
def test_part_that_is_not_named_as_ours_is_refused(memory, making, tmp_path, part):
    intent = making.intent("a", tmp_path / "a.png").model_copy(update={"part": part})
    with pytest.raises(MemoryUnwritable, match="part"):
        memory.record_intent(intent)
    assert memory.counts() == (0, 0, 0, 0, 0)


def test_part_that_was_renamed_in_the_ledger_is_not_deleted(memory, making, tamper, url, tmp_path):
    (tmp_path / "precious.txt").write_text("kept")
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    memory.close()
    tamper("update unfinished set part = 'precious.txt'")
    other = Memory(url)
    assert len(other.reconcile()) == 1
    assert (tmp_path / "precious.txt").exists()
    other.close()


@pytest.mark.parametrize(
    "writer", ["{}/precious.txt", "../../precious.txt", "precious.txt", "..", "", "../" + "c" * 32, "A" * 32, "a" * 33]
)
def test_writer_that_is_not_named_as_ours_leads_to_no_file(memory, making, tamper, url, tmp_path, caplog, writer):
    precious = tmp_path / "precious.txt"
    precious.write_text("kept")
    (tmp_path / "deep" / ("c" * 32)).write_text("kept")
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    memory.close()
    tamper(f"update unfinished set writer = '{writer.format(tmp_path)}'")
    other = Memory(url)
    assert other.reconcile() == ()
    assert precious.read_text() == (tmp_path / "deep" / ("c" * 32)).read_text() == "kept"
    assert "it is let alone" in caplog.text
    assert other.counts().unfinished == 1
    other.close()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_lock_that_is_no_file_is_not_touched(memory, making, tamper, url, tmp_path, kind):
    (tmp_path / "precious.txt").write_text("kept")
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    lock = tmp_path / "deep" / "memory.db-writers" / ("c" * 32)
    if kind == "link":
        lock.symlink_to(tmp_path / "precious.txt")
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    tamper(f"update unfinished set writer = '{'c' * 32}'")
    assert soon(memory.reconcile) == ()
    assert os.path.lexists(lock)
    assert (tmp_path / "precious.txt").read_text() == "kept"


def soon(job):
    """What a job returns that must not wait for anything."""
    found = []
    thread = threading.Thread(target=lambda: found.append(job()), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return found[0]


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_is_not_read(url, tmp_path, kind):
    release_until("commit", url, tmp_path).communicate(timeout=60)
    (tmp_path / "signed").write_bytes(b"signed")
    file = tmp_path / "out.png"
    if kind == "link":
        file.symlink_to(tmp_path / "signed")
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    memory = Memory(url)
    (found,) = soon(memory.reconcile)
    assert (found.outcome, found.reason) == ("withdrawn", "interrupted; another file is in its place")
    assert os.path.lexists(file)
    memory.close()


def test_unfinished_release_that_no_row_intends_is_let_alone(memory, making, tamper, tmp_path, caplog):
    memory.record_release(making.release("b", tmp_path / "b.png", intent_id=None))
    part, empty = tmp_path / f".{'e' * 32}.part", tmp_path / "empty.png"
    part.touch()
    empty.touch()
    values = f"'{'e' * 32}', '{'1' * 32}', '{empty}', '{part.name}', 'committed', '{'f' * 32}', '0'"
    tamper(f"insert into unfinished (intent_id, verdict_id, file, part, stage, writer, file_sha256) values ({values})")
    assert memory.reconcile() == ()
    assert part.exists()
    assert empty.exists()
    assert "without its rows" in caplog.text
    assert memory.fate_of("urn:c2pa:b") == "released"


def test_file_that_was_renamed_in_the_notes_is_not_deleted(memory, making, tamper, url, tmp_path):
    empty = tmp_path / "empty.png"
    empty.touch()
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    memory.record_release(making.release("a", tmp_path / "a.png"))
    memory.close()
    tamper(f"update unfinished set file = '{empty}', file_sha256 = null, verdict_id = '{'7' * 32}'")
    other = Memory(url)
    (found,) = other.reconcile()
    assert (found.outcome, found.file, found.verdict_id) == ("withdrawn", str(tmp_path / "a.png"), "1" * 32)
    assert empty.exists()
    other.close()


def test_a_release_needs_its_open_intent(memory, making, tmp_path):
    with pytest.raises(MemoryUnwritable, match="no open intent"):
        memory.record_release(making.release("a", tmp_path / "a.png"), making.prints())
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    with pytest.raises(MemoryUnwritable, match="no committed release"):
        memory.record_done("a" * 32)
    memory.record_release(making.release("a", tmp_path / "a.png"), making.prints())
    with pytest.raises(MemoryUnwritable, match="no open intent"):
        memory.record_release(making.release("a", tmp_path / "a.png"), making.prints())
    memory.record_done("a" * 32)
    with pytest.raises(MemoryUnwritable, match="no committed release"):
        memory.record_done("a" * 32)
    assert [row.kind for row in memory.rows()] == ["intent", "release"]
    assert memory.counts().prints == 1


def test_the_same_intent_is_entered_once(memory, making, tmp_path):
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    with pytest.raises(MemoryUnwritable):
        memory.record_intent(making.intent("a", tmp_path / "b.png"))
    assert memory.verify(deep=True).rows == 1


def test_prints_come_back_as_they_were_given(memory, making, tmp_path):
    given = making.prints(0.25)
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    release = making.release("a", tmp_path / "a.png")
    memory.record_release(release, given)
    ((found, kept),) = memory.released_prints()
    assert found == release
    assert (kept.pdq, kept.embedder, kept.iscc, kept.preview) == (given.pdq, given.embedder, given.iscc, given.preview)
    np.testing.assert_array_equal(kept.copy, given.copy)
    assert kept.copy.dtype == np.float16


def test_a_second_release_of_a_verdict_stands_when_the_first_is_withdrawn(memory, making, tmp_path):
    for digit in "ab":
        memory.record_intent(making.intent(digit, tmp_path / f"{digit}.png"))
        memory.record_release(making.release(digit, tmp_path / f"{digit}.png"), making.prints())
    memory.record_withdrawal("1" * 32, "no", "a" * 32)
    assert [memory.fate_of(f"urn:c2pa:{digit}") for digit in "abc"] == ["withdrawn", "released", "unknown"]
    assert memory.releases_by_manifest("urn:c2pa:a") == ()
    assert [one.file for one in memory.releases_by_manifest("urn:c2pa:b")] == [str(tmp_path / "b.png")]
    assert [release.manifest_id for release, _ in memory.released_prints()] == ["urn:c2pa:b"]


def test_many_prints_come_a_few_at_a_time(memory, making, monkeypatch):
    monkeypatch.setattr("guardrail.memory.releases._ROWS_AT_A_TIME", 2)
    for _ in range(5):
        memory.record_release(making.release("a", "a.png", intent_id=None), making.prints())
    began = time.monotonic()
    assert len(list(memory.released_prints())) == 5
    assert time.monotonic() - began < 30


def locks_in(tmp_path):
    return list((tmp_path / "deep" / "memory.db-writers").iterdir())


def test_lock_of_a_writer_goes_with_it(memory, making, url, tmp_path):
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    assert len(locks_in(tmp_path)) == 1
    memory.reconcile()
    assert len(locks_in(tmp_path)) == 1  # it lives
    memory.record_withdrawal("1" * 32, "no", "a" * 32)
    memory.close()
    assert locks_in(tmp_path) == []
    release_until("done", url, tmp_path).communicate(timeout=60)
    assert len(locks_in(tmp_path)) == 1  # it was killed
    memory.reconcile()
    assert locks_in(tmp_path) == []


def test_writer_whose_lock_was_swept_away_before_it_held_it_takes_another(memory, making, tmp_path, monkeypatch):
    import fcntl

    swept, flock = [], fcntl.flock

    def late(descriptor, operation):
        if not swept and operation == fcntl.LOCK_EX:
            swept.extend(locks_in(tmp_path))
            swept[0].unlink()
        flock(descriptor, operation)

    monkeypatch.setattr("guardrail.memory.writers.fcntl.flock", late)
    memory.record_intent(making.intent("a", tmp_path / "a.png"))
    assert len(swept) == 1
    assert len(locks_in(tmp_path)) == 1
    assert memory.reconcile() == ()
