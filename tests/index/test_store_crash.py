"""kill -9 at any moment: no acknowledged change is lost, none is done twice, no reader sees half of one."""

import json
import os
import random
import signal
import threading
import time

import pytest
from stored import asked, made_index, made_up

from guardrail.index import FolderIndex, verify_index

TRIALS = int(os.environ.get("GUARDRAIL_KILL_TRIALS", "25"))
OPENED_WITHIN_S = 3.0


def writer(folder, seed, told):
    """Change an index at random, saying before each change what it will be, and after it that it was acknowledged."""
    chance = random.Random(seed)
    index = FolderIndex(folder)

    def say(what):
        os.write(told, (json.dumps(what) + "\n").encode())

    for step in range(10_000):
        act = chance.choice(["put", "put", "put", "update", "withdraw", "seal", "compact"])
        numbers = sorted(chance.sample(range(60), chance.randint(1, 6)))
        look = f"{seed}/{step}" if act == "update" else ""
        say({"act": act, "numbers": numbers, "look": look})
        if act in ("put", "update"):
            index.put(made_up(numbers, look=look))
        elif act == "withdraw":
            index.withdraw([("default", f"work-{number}") for number in numbers])
        else:
            getattr(index, act)()
        say({"acknowledged": step})


def applied(state, change):
    """What the index holds after a change: by number, its look."""
    after = dict(state)
    for number in change["numbers"] if change["act"] in ("put", "update", "withdraw") else ():
        if change["act"] == "withdraw":
            after.pop(number, None)
        else:
            after[number] = change["look"]
    return after


def held(index):
    """By number, the look of each work, by the digest of its file; every column is compared with what it should be."""
    found = {}
    for batch in index.export_batches():
        for at, work in enumerate(batch.works):
            number = int(work.work_id.removeprefix("work-"))
            assert number not in found, f"{work.work_id} is there twice"
            found[number] = (batch.file_sha256[at], batch.arrays["copy"][at].tobytes(), batch.previews[at])
    return found


def expected_of(state):
    rows = {number: made_up([number], look=look) for number, look in state.items()}
    return {
        number: (one.file_sha256[0], one.arrays["copy"][0].tobytes(), one.previews[0]) for number, one in rows.items()
    }


def run_and_kill(folder, seed, after_s):
    """Let a writer run for a while, kill it, and give what it said."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        try:
            writer(folder, seed, write_end)
        finally:
            os._exit(1)
    os.close(write_end)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(read_end) as said:
        return [json.loads(line) for line in said.read().split("\n") if line]


@pytest.fixture
def reading(tmp_path):
    """A reader that searches all the while, in this process; what goes wrong there is told at the end."""
    stop, failures, seen = threading.Event(), [], []

    def read():
        index = FolderIndex(tmp_path / "index")
        try:
            while not stop.is_set():
                pinned = index.pinned()
                found = pinned.search(asked(made_up([3, 20])), 3)
                assert pinned.header.works == len(set(pinned.works)) == len(pinned.works)
                for near in found[0][:2]:
                    assert pinned.preview(near.row).startswith(b"\xff\xd8")
                seen.append(pinned.header.snapshot)
        except Exception as error:  # noqa: BLE001 - whatever the reader met is told
            failures.append(error)

    thread = threading.Thread(target=read)
    made_index(tmp_path / "index", range(3))
    thread.start()
    yield seen
    stop.set()
    thread.join()
    assert failures == []


def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9(tmp_path, reading):
    folder, chance = tmp_path / "index", random.Random(4)
    state = dict.fromkeys(range(3), "")
    acts = []
    for trial in range(TRIALS):
        said = run_and_kill(folder, trial, chance.uniform(0.0, 0.12))
        pending = None
        for one in said:
            if "act" in one:
                pending = one
            else:
                state, pending = applied(state, pending), None
        started = time.monotonic()
        index = FolderIndex(folder)
        assert time.monotonic() - started < OPENED_WITHIN_S
        now = held(index)
        possible = [state] + ([applied(state, pending)] if pending else [])
        fits = [one for one in possible if expected_of(one) == now]
        assert fits, (
            f"trial {trial}, killed in {pending}: {sorted(now)} is neither of {[sorted(one) for one in possible]}"
        )
        state = fits[-1]
        acts.append(pending["act"] if pending else "none")
        assert [str(damage) for damage in verify_index(folder)[1] if "ACKNOWLEDGED" not in str(damage)] == []
    assert len(set(reading)) > 5, "the reader saw the index change"
    index = FolderIndex(folder)
    index.put(made_up([70]))
    index.compact()
    assert set(held(index)) == set(state) | {70}
    assert len(list((folder / "segments").iterdir())) == 1, "leavings of killed writers are gone"
