"""A guard that has been used works in processes forked from it, with as many threads as torch takes by itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("used_then_forked.py")
WITHIN_S, LOADED_S = 90, 180  # for the forked processes; and for what is around them


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_used_guard_works_in_forked_processes_whatever_the_threads(world, tmp_path):
    """Without OMP_NUM_THREADS a child once waited for ever for threads that only its parent had."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, CHILD, world.index, world.keys, tmp_path, tmp_path / "out", WITHIN_S]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, timeout=WITHIN_S + LOADED_S
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["threads"] >= 2
    assert said["ended"] == [0, 0], "-9: it had to be killed"
    assert len(list((tmp_path / "out").iterdir())) == 4
