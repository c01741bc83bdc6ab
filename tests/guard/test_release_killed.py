"""Kill -9 between any two steps of a release: nothing unsigned or unrecorded is left, and the next start tidies up."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardrail.act import load_anchors, verify_file
from guardrail.desk.cli import app
from guardrail.memory import Memory
from guardrail.records import VerifyOutcome

CHILD = Path(__file__).with_name("release_killed.py")
STANDS_FROM, STEPS = "link ends", 240
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked and killed as POSIX has it")


def killed_in(world, home, out, *steps):
    """Let children release into folders of `out` and be killed; what each was killed at."""
    command = [sys.executable, CHILD, world.index, world.keys, home, out, *map(str, steps)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["killed"]


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def ledger_of(home):
    memory = Memory(f"sqlite:///{home / 'memory.db'}", must_exist=True)
    rows = [(row.kind, row.content) for row in memory.rows()]
    memory.close()
    return rows


def files_that_stand(rows):
    """By intent, the released files that no withdrawal takes back."""
    withdrawn = {content["intent_id"] for kind, content in rows if kind == "withdrawal"}
    releases = [content["release"] for kind, content in rows if kind == "release"]
    return {one["intent_id"]: one["file"] for one in releases if one["intent_id"] not in withdrawn}


def require_signed_and_recorded(out, rows, world):
    """Every file under a released name is whole, ours, and stands in the ledger; and the other way round."""
    files = files_in(out)
    assert {verify_file(path, load_anchors(world.keys)).outcome for path in files} == {VerifyOutcome.OURS}
    assert sorted(files_that_stand(rows).values()) == [str(path) for path in files]


def require_every_intent_settled(guard, rows):
    """Each intent was followed by a file, or by a row that there is none."""
    intents = {content["intent"]["intent_id"] for kind, content in rows if kind == "intent"}
    withdrawn = [content["intent_id"] for kind, content in rows if kind == "withdrawal"]
    assert sorted(intents) == sorted([*files_that_stand(rows), *withdrawn])
    assert guard.memory.counts().unfinished == 0
    assert not guard.memory.reconcile()


def started_again(make_guard, world, tmp_path, *steps):
    out = tmp_path / "out"
    out.mkdir()
    killed = killed_in(world, tmp_path, out, *steps)
    assert {one["status"] for one in killed} == {signal.SIGKILL}, killed
    unsigned = [path for path in files_in(out) if path.suffix != ".part"]
    recorded = files_that_stand(ledger_of(tmp_path)).values()
    assert {str(path) for path in unsigned} <= set(recorded)  # even before anybody tidies up
    assert all(verify_file(path, load_anchors(world.keys)).outcome is VerifyOutcome.OURS for path in unsigned)
    return out, killed, make_guard()


def test_killed_between_any_two_steps_nothing_unsigned_or_unrecorded_is_left(make_guard, world, tmp_path, pictures):
    out, killed, guard = started_again(make_guard, world, tmp_path)
    rows = ledger_of(tmp_path)
    require_signed_and_recorded(out, rows, world)
    require_every_intent_settled(guard, rows)
    events = [one["event"] for one in killed]
    left = [one["event"] for one in killed if files_in(out / one["folder"])]
    assert left == events[events.index(STANDS_FROM) :]  # a file in place stands, and no other does
    (path,) = guard.check(pictures["new"]).save(out / "again")
    assert verify_file(path, load_anchors(world.keys)).outcome is VerifyOutcome.OURS
    settings = tmp_path / "guardrail.toml"
    settings.write_text(f'home = "{tmp_path}"\nkeys = "{world.keys}"\n', encoding="utf-8")
    verified = CliRunner().invoke(app, ["ledger", "verify", "--deep", "--settings", str(settings)])
    assert verified.exit_code == 0, verified.output


@pytest.mark.slow
@pytest.mark.skipif("GUARDRAIL_KILL_EVERYWHERE" not in os.environ, reason="minutes; set GUARDRAIL_KILL_EVERYWHERE=1")
def test_killed_anywhere_nothing_unsigned_or_unrecorded_is_left(make_guard, world, tmp_path):
    """At places spread over every call and return between the first step and the last, not at those that have names."""
    out, killed, guard = started_again(make_guard, world, tmp_path, STEPS)
    assert len(killed) == STEPS
    rows = ledger_of(tmp_path)
    require_signed_and_recorded(out, rows, world)
    require_every_intent_settled(guard, rows)
    guard.memory.verify(deep=True)
