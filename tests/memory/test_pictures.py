"""Pictures of cases: what was put is got back, whole or not at all, and nothing is taken away that a case names."""

import hashlib
import multiprocessing
import os
import time
from pathlib import Path
from uuid import uuid4

import pytest

from guardrail.errors import ExtraMissing, MemoryUnwritable
from guardrail.memory import Held, Memory
from guardrail.memory.pictures import Pictures
from guardrail.records import Decision
from guardrail.review_errors import PictureMissing

PNG = b"\x89PNG a picture"
SHA256 = hashlib.sha256(PNG).hexdigest()
DAY_S = 24 * 3600


@pytest.fixture(params=["folder", "file://", "memory://", "process"])
def pictures(request, tmp_path):
    places = {
        "folder": str(tmp_path / "a" / "pictures"),
        "file://": f"file://{tmp_path}/b",
        "memory://": f"memory://{uuid4().hex}",
        "process": "",
    }
    return Pictures(places[request.param])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


def file_of(folder):
    return folder / SHA256[:2] / SHA256[2:4] / SHA256


# --- every store -----------------------------------------------------------------------------------------


def test_what_was_put_is_got_back_by_its_digest(pictures):
    assert not pictures.has(SHA256)
    assert pictures.put(PNG) == SHA256
    assert pictures.put(PNG) == SHA256
    assert pictures.has(SHA256)
    assert pictures.get(SHA256) == PNG
    assert pictures.put(b"") == hashlib.sha256().hexdigest()
    assert pictures.get(hashlib.sha256().hexdigest()) == b""


def test_what_was_deleted_is_gone_and_can_be_put_again(pictures):
    pictures.put(PNG)
    pictures.delete(SHA256)
    assert not pictures.has(SHA256)
    with pytest.raises(PictureMissing, match="deleted, or never kept"):
        pictures.get(SHA256)
    pictures.delete(SHA256)
    pictures.put(PNG)
    assert pictures.get(SHA256) == PNG


@pytest.mark.parametrize(
    "odd", ["", "x", "../../../etc/passwd", SHA256.upper(), f"{SHA256}/..", f"{SHA256}\n", "0" * 63]
)
def test_what_is_no_digest_leads_nowhere(pictures, odd):
    pictures.put(PNG)
    assert not pictures.has(odd)
    with pytest.raises(PictureMissing):
        pictures.get(odd)
    pictures.delete(odd)
    assert pictures.get(SHA256) == PNG


def test_orphans_are_taken_away_and_what_is_named_or_fresh_stays(pictures):
    named = pictures.put(b"named")
    pictures.put(PNG)
    assert pictures.sweep({named}) == ()
    assert pictures.sweep({named}, older_than_h=-1) == (SHA256,)
    assert pictures.get(named) == b"named"
    assert not pictures.has(SHA256)
    assert pictures.sweep(set(), older_than_h=-1) == (named,)


# --- a folder --------------------------------------------------------------------------------------------


def test_folder_and_files_are_for_their_owner_alone(folder):
    before = os.umask(0)
    try:
        Pictures(str(folder)).put(PNG)
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_dir()} == {"0o700"}
    assert [oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()] == ["0o600"]
    assert folder.stat().st_mode & 0o077 == 0


def test_picture_that_was_changed_is_missing_until_it_is_put_again(folder):
    pictures = Pictures(str(folder))
    pictures.put(PNG)
    file_of(folder).write_bytes(PNG + b"!")
    with pytest.raises(PictureMissing, match="another file"):
        pictures.get(SHA256)
    pictures.put(PNG)
    assert pictures.get(SHA256) == PNG


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_is_not_followed_nor_waited_for(folder, tmp_path, kind):
    pictures = Pictures(str(folder))
    pictures.put(PNG)
    path = file_of(folder)
    path.unlink()
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(PNG)
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(PictureMissing):
        pictures.get(SHA256)


def test_orphan_that_is_put_again_is_as_good_as_new(folder):
    pictures = Pictures(str(folder))
    pictures.put(PNG)
    os.utime(file_of(folder), (0, 0))
    pictures.put(PNG)
    assert pictures.sweep(set()) == ()
    os.utime(file_of(folder), (0, 0))
    assert pictures.has(SHA256)
    assert pictures.sweep(set()) == ()
    os.utime(file_of(folder), (time.time() - DAY_S - 1,) * 2)
    assert pictures.sweep(set()) == (SHA256,)


def test_parts_that_were_left_behind_are_taken_away_and_other_files_let_alone(folder):
    pictures = Pictures(str(folder))
    pictures.put(PNG)
    part, other = file_of(folder).with_name(f".{'a' * 32}.part"), file_of(folder).with_name("notes.txt")
    for path in (part, other):
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    assert pictures.sweep({SHA256}) == ()
    assert not part.exists()
    assert other.exists()


def put_until_killed(folder, contents):
    pictures = Pictures(folder)
    while True:
        for content in contents:
            pictures.put(content)
            pictures.delete(hashlib.sha256(content).hexdigest())


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads, says Python 3.12
def test_writer_that_is_killed_leaves_whole_pictures_or_none(folder):
    contents = [bytes([at]) * 300_000 for at in range(8)]
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        writer = context.Process(target=put_until_killed, args=(str(folder), contents))
        writer.start()
        time.sleep(0.05)
        writer.kill()
        writer.join()
    found = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".part")]
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in found)
    pictures = Pictures(str(folder))
    for content in contents:
        assert pictures.get(pictures.put(content)) == content


def test_store_that_cannot_be_written_is_a_typed_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MemoryUnwritable, match="nothing was released"):
        Pictures(str(tmp_path / "file" / "pictures")).put(PNG)


def test_store_that_fails_is_a_missing_picture(monkeypatch):
    pictures = Pictures("memory://fails")
    pictures.put(PNG)
    monkeypatch.setattr(pictures._store._files, "cat_file", lambda path: 1 / 0)
    with pytest.raises(PictureMissing, match="cannot be read"):
        pictures.get(SHA256)


@pytest.mark.parametrize(
    ("place", "error"), [("nonsense://x", MemoryUnwritable), ("abfs://container/pictures", ExtraMissing)]
)
def test_url_of_an_unknown_kind_is_a_typed_error(place, error, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "adlfs", None)
    with pytest.raises(error):
        Pictures(place)


def test_no_place_means_that_nothing_is_kept():
    with pytest.raises(MemoryUnwritable, match=r"desk\.pictures"):
        Pictures(None).put(PNG)


def test_secrets_of_a_url_are_not_shown():
    assert "hush" not in Pictures("memory://user:hush@bucket/pictures").shown


# --- with the memory -------------------------------------------------------------------------------------


def case(making, digit, png=PNG):
    return Held(making.verdict(Decision.FLAG, verdict_id=digit * 32, pixels_sha256=digit * 64), png)


def test_pictures_lie_beside_a_file_and_nowhere_for_a_server_that_was_told_no_place(memory, making, url, tmp_path):
    own = Memory(url)
    own.record_verdicts([case(making, "1")], None)
    assert [path.name for path in (tmp_path / "deep" / "memory.db-pictures").rglob("*") if path.is_file()] == [SHA256]
    own.close()


def test_picture_that_two_cases_have_goes_with_the_last(memory, making):
    memory.record_verdicts([case(making, "1"), case(making, "2")], None)
    memory.erase("1" * 32, "request 17")
    assert memory.pictures.get(SHA256) == PNG
    memory.erase("2" * 32, "request 18")
    assert not memory.pictures.has(SHA256)


def test_case_whose_picture_cannot_be_kept_is_not_opened(url, making, tmp_path):
    (tmp_path / "file").write_text("no folder")
    memory = Memory(url, pictures=str(tmp_path / "file"))
    with pytest.raises(MemoryUnwritable):
        memory.record_verdicts([case(making, "1")], None)
    assert memory.counts().rows == 0
    memory.close()


def test_picture_that_is_taken_away_before_its_case_is_opened_is_put_back(memory, making, monkeypatch):
    taken = []

    def append(*args):
        memory.pictures.delete(SHA256)
        taken.append(SHA256)
        return original(*args)

    from guardrail.memory import ledger

    original = ledger.append
    monkeypatch.setattr(ledger, "append", append)
    memory.record_verdicts([case(making, "1")], None)
    assert taken == [SHA256]
    assert memory.pictures.get(SHA256) == PNG


def test_sweep_leaves_what_cases_name(memory, making):
    memory.record_verdicts([case(making, "1")], None)
    orphan = memory.pictures.put(b"of a case that was not opened")
    assert memory.sweep_pictures() == ()
    assert memory.sweep_pictures(older_than_h=-1) == (orphan,)
    assert memory.pictures.get(SHA256) == PNG


def test_sweep_leaves_what_checks_that_are_still_to_be_done_name(memory):
    kept = [memory.pictures.put(f"of check {number}".encode()) for number in range(3)]
    for sha256 in kept:
        memory.jobs.add("default", "check", {"check_id": "c", "images": [{"name": "a", "sha256": sha256}]})
    running, failed = memory.jobs.take({"check"}), memory.jobs.take({"check"})
    memory.jobs.fail(failed, {}, for_good=True)
    swept = failed.asked["images"][0]["sha256"]
    assert memory.sweep_pictures(older_than_h=-1) == (swept,)
    memory.jobs.finish(running, {})
    assert memory.sweep_pictures(older_than_h=-1) == (running.asked["images"][0]["sha256"],)
    assert len([one for one in kept if memory.pictures.has(one)]) == 1


def test_sweep_goes_through_more_pictures_than_it_takes_away_at_a_time(memory, making, monkeypatch):
    monkeypatch.setattr("guardrail.memory.purging._PICTURES_AT_A_TIME", 2)
    memory.record_verdicts([case(making, "1")], None)
    orphans = {memory.pictures.put(f"orphan {number}".encode()) for number in range(5)}
    taken = memory.sweep_pictures(older_than_h=-1)
    assert (set(taken), len(taken)) == (orphans, 5)
    assert memory.pictures.get(SHA256) == PNG


def test_erasing_fails_while_a_picture_cannot_be_deleted(memory, making, monkeypatch):
    memory.record_verdicts([case(making, "1")], None)

    def refuse(sha256):
        raise OSError("the disk is read-only")

    monkeypatch.setattr(memory.pictures._store, "delete", refuse)
    with pytest.raises(MemoryUnwritable, match="read-only"):
        memory.erase("1" * 32, "request 17")
    monkeypatch.undo()
    assert memory.counts().erased == 0
    assert memory.erase("1" * 32, "request 17") == (1,)
    assert not memory.pictures.has(SHA256)


def test_what_lies_there_is_named_by_its_content(folder):
    Pictures(str(folder)).put(PNG)
    assert [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()] == [
        Path(SHA256[:2]) / SHA256[2:4] / SHA256
    ]
