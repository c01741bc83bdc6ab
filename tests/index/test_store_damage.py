"""Every file of an index flipped or cut: it is named, and search refuses or answers as before."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from stored import asked, ids, made_index, made_up

from guardrail.errors import GuardrailError, IndexDamaged, IndexMissing, IndexUnwritable
from guardrail.index import FolderIndex, verify_index
from guardrail.index.layout import snapshot_of
from guardrail.index.structures import train

PLACES = (0.0, 0.4, 1.0)  # of the file, where a byte is flipped


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An index with all that one can have: two segments, withdrawn rows, a log, a cached search structure."""
    folder = tmp_path_factory.mktemp("damage") / "index"
    index = made_index(folder, range(40))
    index.put(made_up(range(40, 50)))
    index.seal()
    index.withdraw([("default", "work-3"), ("default", "work-44")])
    index.compact()
    index.withdraw([("default", "work-4")])
    index.put(made_up([60]))
    index.seal()
    index.put(made_up([61, 62]))
    index.withdraw([("default", "work-5")])
    train(index.pinned().state, "copy")
    return folder


def answers(index):
    found = index.search(asked(made_up([0, 7, 33, 45, 60, 61], look="")), 3)
    rows = {near.row for near in sum(found, ())}
    return found, [(index.preview(row), index.proof_pixels(row).tobytes()) for row in sorted(rows)]


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def spoiled(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "gone":
        path.unlink()
    elif how == "longer":
        path.write_bytes(bytes(content) + b"\0")
    elif content:
        content[min(int(how * len(content)), len(content) - 1)] ^= 0x10
        path.write_bytes(content)


def named(folder):
    """The files that verification names."""
    try:
        _, damages = verify_index(folder)
    except IndexMissing:
        return "MANIFEST.json"
    except GuardrailError as error:
        return str(error)
    return "\n".join(map(str, damages))


@pytest.mark.parametrize("how", [*PLACES, "cut", "gone"])
@pytest.mark.parametrize("large", [False, True])
def test_every_spoiled_file_is_named_and_never_searched_unseen(tmp_path, monkeypatch, whole, how, large):
    if large:
        monkeypatch.setattr("guardrail.index.store.opening.CHECKED_AT_OPEN_BYTES", 0)
    expected, folder = answers(FolderIndex(whole)), tmp_path / "copy"
    shutil.copytree(whole, folder)
    for name in files(whole):
        if not (whole / name).stat().st_size:
            continue  # the lock while nobody writes, a list of no files
        spoiled(folder / name, how)
        named_by = name.removesuffix(".json").removesuffix(".rows.npy")  # what describes a search structure
        assert named_by in named(folder), name
        with contextlib.suppress(IndexDamaged, IndexMissing):
            assert answers(FolderIndex(folder)) == expected, f"{name} ({how}) was searched as if it held"
        shutil.copy(whole / name, folder / name)


def test_log_that_was_cut_below_what_was_acknowledged_is_damage(tmp_path, whole):
    for keep in (0, 10, 64, 200):
        folder = tmp_path / str(keep)
        shutil.copytree(whole, folder)
        (log,) = folder.glob("log-*.bin")
        os.truncate(log, keep)
        with pytest.raises(IndexDamaged, match="acknowledged"):
            FolderIndex(folder)


def test_write_that_was_cut_short_is_no_damage(tmp_path, whole):
    expected = answers(FolderIndex(whole))
    for rubbish in (b"\0" * 5, b"GRL2", b"\0" * 5000, os.urandom(300)):
        folder = tmp_path / rubbish[:4].hex()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        (log,) = folder.glob("log-*.bin")
        with log.open("ab") as file:
            file.write(rubbish)
        index = FolderIndex(folder)
        assert answers(index) == expected
        index.put(made_up([99]))
        assert "work-99" in ids(FolderIndex(folder))
        assert verify_index(folder)[1] == ()


def test_records_of_another_index_are_not_taken(tmp_path, whole):
    index = made_index(tmp_path / "one", range(3))
    index.put(made_up([9]))
    (log,) = (tmp_path / "one").glob("log-*.bin")
    other = made_index(tmp_path / "two", range(4))
    shutil.copy(log, tmp_path / "two" / log.name)
    assert ids(FolderIndex(tmp_path / "two")) == ids(other)


def test_damage_while_it_is_open_is_met_by_the_reading(tmp_path, monkeypatch, whole):
    monkeypatch.setattr("guardrail.index.store.opening.CHECKED_AT_OPEN_BYTES", 0)
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    index = FolderIndex(folder)
    for path in folder.rglob("previews.bin"):
        os.truncate(path, 3)
    with pytest.raises(IndexDamaged, match="previews"):
        index.preview(7)


@pytest.mark.parametrize("step", ["pwrite", "fsync", "rename"])
@pytest.mark.parametrize("act", ["put", "withdraw", "seal", "compact"])
def test_full_disk_changes_nothing(tmp_path, monkeypatch, whole, step, act):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    index = FolderIndex(folder)
    before, expected, listed = index.header, answers(index), set(files(folder))
    calls = {
        "put": lambda: index.put(made_up(range(70, 80))),
        "withdraw": lambda: index.withdraw([("default", "work-1")]),
        "seal": index.seal,
        "compact": index.compact,
    }

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = "pathlib.Path.rename" if step == "rename" else f"os.{step}"
    monkeypatch.setattr(target, full)
    if act in ("put", "withdraw") and step == "rename":
        pytest.skip("nothing is renamed")
    with pytest.raises(IndexUnwritable, match="No space left"):
        calls[act]()
    monkeypatch.undo()
    assert set(files(folder)) - {"LOCK"} == listed - {"LOCK"}
    for one in (index, FolderIndex(folder)):
        assert one.header == before
        assert answers(one) == expected
    assert verify_index(folder)[1] == ()
    assert calls[act]() is not index
    assert verify_index(folder)[1] == ()


def test_disk_that_is_really_full_is_met_cleanly(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is then an error, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            for number in range(100):
                index.put(made_up(range(100 + 5 * number, 105 + 5 * number)))
        except IndexUnwritable:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert verify_index(tmp_path / "index")[1] == ()
    again = FolderIndex(tmp_path / "index")
    assert (again.header.works - 3) % 5 == 0
    again.put(made_up([9]))
    assert "work-9" in ids(again)


def test_vectors_are_read_back_as_they_were(whole):
    index = FolderIndex(whole)
    kept = index.kept([("default", f"work-{number}") for number in (0, 45, 61)])
    assert np.array_equal(kept.arrays["copy"], made_up([0, 45, 61]).arrays["copy"])
    assert kept.previews == made_up([0, 45, 61]).previews


def test_manifest_that_leaves_out_a_file_is_refused(tmp_path, whole):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    segment = next(name for name in manifest["files"] if name.endswith("standing.npy"))
    for change in (
        lambda files: files.pop(segment),
        lambda files: files.pop("unreadable.jsonl"),
        lambda files: files.update({"../x": {"bytes": 0, "sha256": "0" * 64}}),
        lambda files: files.update({"other.bin": {"bytes": 0, "sha256": "0" * 64}}),
    ):
        edited = json.loads(json.dumps(manifest))
        change(edited["files"])
        edited["snapshot"] = snapshot_of(edited)
        (folder / "MANIFEST.json").write_text(json.dumps(edited))
        with pytest.raises(IndexDamaged, match="MANIFEST"):
            FolderIndex(folder)


@pytest.mark.parametrize("act", ["seal", "compact"])
def test_error_behind_the_swap_leaves_the_new_generation_whole(tmp_path, monkeypatch, whole, act):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    index, expected = FolderIndex(folder), answers(FolderIndex(whole))

    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("guardrail.index.layout.sync_folder", failing)
    with pytest.raises(IndexUnwritable, match="Input/output"):
        getattr(index, act)()
    monkeypatch.undo()
    assert answers(FolderIndex(folder)) == answers(index) == expected
    assert verify_index(folder)[1] == ()


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.rename"])
def test_disk_that_is_full_at_the_first_write_leaves_format_1_as_it_was(tmp_path, monkeypatch, step):
    folder = tmp_path / "old"
    shutil.copytree(Path(__file__).parent / "format-1", folder)
    index = FolderIndex(folder)
    listed, works = set(files(folder)), index.works

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(step, full)
    with pytest.raises(IndexUnwritable, match="No space"):
        index.withdraw([(works[0].bank, works[0].work_id)])
    monkeypatch.undo()
    assert set(files(folder)) - {"LOCK"} == listed
    assert FolderIndex(folder).works == works
    assert index.withdraw([(works[0].bank, works[0].work_id)]).works == len(works) - 1
