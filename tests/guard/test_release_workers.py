"""Releases side by side, in threads, in forked and in spawned workers: every file is ours, and no row is lost."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from guardrail.act import load_anchors, verify_file
from guardrail.records import VerifyOutcome
from tests.guard.conftest import drawing

WORKERS, EACH = 3, 2  # processes, and pictures that each releases
THREADS = 8


def release(guard, folder, seeds):
    """Check and save new pictures, one after another; gives the files."""
    return [str(guard.check(drawing(seed)).save(folder)[0]) for seed in seeds]


def release_as_worker(guard, folder, seeds):
    return os.getpid(), release(guard, Path(folder), seeds)


def seeds_of(worker):
    return [5000 + 10 * worker + number for number in range(EACH)]


def require_all_there(guard, world, folder, files):
    """Every file is ours and in the ledger, once; each release went through its steps; nothing else lies about."""
    assert sorted(map(str, folder.iterdir())) == sorted(files)
    anchors = load_anchors(world.keys)
    assert {verify_file(Path(file), anchors).outcome for file in files} == {VerifyOutcome.OURS}
    rows = [(row.kind, row.content) for row in guard.memory.rows()]
    assert sorted(content["release"]["file"] for kind, content in rows if kind == "release") == sorted(files)
    kinds = [kind for kind, _ in rows]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(["verdict", "intent", "release"], len(files))
    counts = guard.memory.counts()
    assert (counts.unfinished, counts.prints) == (0, len(files))
    assert guard.memory.verify(deep=True).rows == len(rows)


def test_threads_of_one_guard_release_side_by_side(guard, world, tmp_path):
    folder = tmp_path / "out"
    with ThreadPoolExecutor(THREADS) as pool:
        made = pool.map(lambda seed: release(guard, folder, [seed]), range(5000, 5000 + THREADS))
        files = [file for one in made for file in one]
    require_all_there(guard, world, folder, files)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_workers_forked_after_the_first_signature_release_side_by_side(guard, world, tmp_path):
    """What c2pa holds dies in a forked process, and so would a connection to the ledger that is shared with it."""
    folder = tmp_path / "out"
    files = release(guard, folder, [4999])
    children = []
    for worker in range(WORKERS):
        child = os.fork()
        if not child:
            status = 1
            try:
                release(guard, folder, seeds_of(worker))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert {os.waitpid(child, 0)[1] for child in children} == {0}
    files += release(guard, folder, [4998])  # and what the parent holds is whole still
    there = sorted(map(str, folder.iterdir()))
    assert len(there) == WORKERS * EACH + len(files)
    require_all_there(guard, world, folder, there)


def test_spawned_worker_gets_the_guard_and_releases_beside_its_parent(guard, world, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = tmp_path / "out"
    files = release(guard, folder, [4999])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked = pool.submit(release_as_worker, guard, str(folder), seeds_of(1))
        while not asked.done():
            files += release(guard, folder, [6000 + len(files)])
            time.sleep(1)
        pid, made = asked.result()
    assert pid != os.getpid()
    require_all_there(guard, world, folder, files + made)
