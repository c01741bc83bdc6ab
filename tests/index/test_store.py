import os
import shutil
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from stored import HEADER, asked, ids, made_index, made_up

from guardrail.carriers import IndexRows
from guardrail.errors import IndexDamaged, IndexExists, IndexLocked, IndexMismatch, IndexUnwritable, PictureNotKept
from guardrail.index import FolderIndex, verify_index
from guardrail.index.store.create import create_store
from guardrail.records import Disposition, Normalisation, Signal, Work


def by(index, rows, signal, limit=5):
    return [
        [near.work.work_id for near in found if near.signal is signal] for found in index.search(asked(rows), limit)
    ]


def test_added_work_is_found_by_the_next_search_of_an_open_index(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    FolderIndex(tmp_path / "index").put(made_up([7]))
    for signal in (Signal.BYTES, Signal.PIXELS, Signal.PDQ, Signal.PHASH, Signal.COPY):
        assert by(index, made_up([7]), signal)[0][0] == "work-7", signal


def test_withdrawn_work_is_gone_from_the_next_search_of_an_open_index(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    change = FolderIndex(tmp_path / "index").withdraw([("default", "work-1"), ("default", "nowhere")])
    assert (change.withdrawn, change.works, change.unknown) == (1, 2, ("default/nowhere",))
    assert "work-1" not in {near.work.work_id for near in index.search(asked(made_up([1])), 5)[0]}
    assert index.header.works == 2
    assert index.header.withdrawn == 1


def test_other_process_sees_a_change_within_a_second(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    code = "import sys; sys.path.insert(0, sys.argv[2]); from stored import *; index = FolderIndex(sys.argv[1])\n"
    code += "print(index.header.works, flush=True)\nfor line in sys.stdin: print(index.header.works, flush=True)"
    command = [sys.executable, "-c", code, str(tmp_path / "index"), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "3\n"
        index.put(made_up([9]))
        other.stdin.write("and now?\n")
        other.stdin.flush()
        assert other.stdout.readline() == "4\n"


def test_same_id_is_replaced_and_the_old_picture_counts_no_more(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    change = index.put(made_up([1, 5], look="new"))
    assert (change.added, change.replaced, change.works) == (1, 1, 4)
    assert by(index, made_up([1], look="new"), Signal.BYTES) == [["work-1"]]
    assert by(index, made_up([1]), Signal.BYTES) == [[]]
    assert by(index, made_up([1]), Signal.PDQ, 1) != [["work-1"]]


def test_same_id_in_another_bank_is_another_work(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    assert index.put(made_up([1], bank="other")).added == 1
    assert index.header.banks == {"default": 3, "other": 1}
    assert index.withdraw([("other", "work-1")]).works == 3
    assert ids(index) == ["work-0", "work-1", "work-2"]
    assert index.header.banks == {"default": 3}


def test_putting_the_same_again_changes_nothing(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    index.put(made_up([5]))
    before = index.header
    change = index.put(made_up([0, 5]))
    assert (change.added, change.replaced, change.unchanged) == (0, 0, 2)
    assert index.header == before


def test_only_what_differs_of_a_batch_is_written(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    change = index.put(made_up([0, 1, 9]))
    assert (change.added, change.unchanged) == (1, 2)
    assert index.header.withdrawn == 0


def test_every_change_gives_the_state_another_name(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    names = [index.header.snapshot]
    for number in range(3):
        names.append(index.put(made_up([10 + number])).snapshot)
        names.append(index.withdraw([("default", f"work-{number}")]).snapshot)
    assert len(set(names)) == 7
    assert FolderIndex(tmp_path / "index").header.snapshot == names[-1]


def test_calibration_lineage_survives_changes(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    index.put(made_up([4]))
    index.seal()
    index.compact()
    assert index.header.built_at == HEADER.built_at


def test_pinned_state_does_not_change(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    pinned = index.pinned()
    index.put(made_up([7]))
    index.withdraw([("default", "work-0")])
    index.compact()
    assert by(pinned, made_up([0]), Signal.BYTES) == [["work-0"]]
    assert by(pinned, made_up([7]), Signal.BYTES) == [[]]
    assert "work-7" not in by(pinned, made_up([7]), Signal.COPY)[0]
    assert pinned.proof_pixels(0).shape == (32, 32, 3)
    assert pinned.preview(0).endswith(b"0")


def test_rows_keep_their_number_through_sealing_and_compaction(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    index.withdraw([("default", "work-0")])
    index.put(made_up([7]))
    before = [near.row for near in index.search(asked(made_up([7])), 1)[0]]
    index.seal()
    index.compact()
    assert [near.row for near in index.search(asked(made_up([7])), 1)[0]] == before
    assert index.preview(before[0]).endswith(b"7")
    with pytest.raises(PictureNotKept, match="row 0"):
        index.preview(0)


def test_compaction_purges_withdrawn_works_from_disk_and_says_when(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    secret = made_up([1]).previews[0]

    def on_disk():
        return any(secret in path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file())

    assert on_disk()
    assert index.header.compacted_at is None
    index.withdraw([("default", "work-1")])
    assert index.compact() == 1
    assert not on_disk()
    assert index.header.withdrawn == 0
    assert datetime.now(UTC) - index.header.compacted_at < timedelta(minutes=1)


def test_sealing_changes_no_answer(tmp_path):
    index = made_index(tmp_path / "index", range(20))
    index.put(made_up(range(15, 40), look="b"))
    index.withdraw([("default", f"work-{at}") for at in range(0, 40, 3)])
    queries = asked(made_up(range(5), look="c"))
    before = index.search(queries, 4)
    index.seal()
    assert index.search(queries, 4) == before
    index.compact()
    assert index.search(queries, 4) == before
    assert FolderIndex(tmp_path / "index").search(queries, 4) == before
    assert verify_index(tmp_path / "index")[1] == ()


def test_long_log_is_sealed_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("guardrail.index.folder._SEAL_ROWS", 10)
    index = made_index(tmp_path / "index", range(3))
    for number in range(3):
        index.put(made_up(range(10 * number, 10 * number + 6)))
    assert index.pinned().state.logged_rows <= 10
    assert index.header.generation > 1
    assert len(ids(index)) == 18


def test_index_may_be_emptied_and_filled_again(tmp_path):
    index = made_index(tmp_path / "index", range(2))
    index.withdraw([("default", "work-0"), ("default", "work-1")])
    assert index.search(asked(made_up([0])), 3) == ((),)
    index.compact()
    assert FolderIndex(tmp_path / "index").header.works == 0
    index.put(made_up([1]))
    assert by(FolderIndex(tmp_path / "index"), made_up([1]), Signal.COPY) == [["work-1"]]


def test_dates_are_honoured_when_they_pass(tmp_path, monkeypatch):
    index = made_index(tmp_path / "index")
    soon = datetime.now(UTC) + timedelta(days=1)
    index.put(made_up([1], disposition=Disposition.CREDIT, opted_out_at=soon))
    index.put(made_up([2], expires_at=soon))
    index.put(made_up([3], disposition=Disposition.CREDIT, expires_at=soon))

    def standing():
        allowed = index.pinned().standings.allowed(index.pinned().state, moment)
        return [np.flatnonzero(one["pdq"].flags).tolist() for one in allowed]

    moment = datetime.now(UTC)
    assert standing() == [[1], [0, 2]]
    moment = soon
    assert standing() == [[0, 2]]


def test_standing_agrees_with_the_work_itself(tmp_path):
    index = made_index(tmp_path / "index")
    moments = [
        None,
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2020, 1, 1, 0, 0, 0, 1, UTC),
        datetime(2030, 1, 1, tzinfo=UTC),
    ]
    numbers = iter(range(1000))
    for disposition in Disposition:
        for opted in moments:
            for expires in moments:
                index.put(made_up([next(numbers)], disposition=disposition, opted_out_at=opted, expires_at=expires))
    for at in (*moments[1:], datetime(2019, 1, 1, tzinfo=UTC)):
        allowed = index.pinned().standings.allowed(index.pinned().state, at)
        protected = set(np.flatnonzero(allowed[0]["copy"].flags).tolist())
        others = set(np.flatnonzero(allowed[1]["copy"].flags).tolist()) if len(allowed) > 1 else set()
        for row, work in enumerate(index.works):
            standing = work.standing(at)
            assert (row in protected) == (standing is Disposition.PROTECT), work
            assert (row in others) == (standing not in (None, Disposition.PROTECT)), work


def test_kept_rows_can_be_put_again_with_other_facts(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    kept = index.kept([("default", "work-2"), ("default", "nowhere")])
    assert len(kept) == 1
    renamed = kept.works[0].model_copy(update={"rights_holder": "Ada"})
    index.put(IndexRows((renamed,), kept.files, kept.file_sha256, kept.pixels_sha256, kept.arrays, kept.previews))
    (near,) = [near for near in index.search(asked(made_up([2])), 1)[0] if near.signal is Signal.BYTES]
    assert near.work.rights_holder == "Ada"
    assert index.header.works == 3


def test_rows_of_a_hash_list_are_found_by_their_hash_alone(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    listed = made_up([8])
    index.put(IndexRows(listed.works, ("",), (None,), (None,), {"pdq": listed.arrays["pdq"]}, (b"",)))
    for again in (index, FolderIndex(tmp_path / "index")):
        found = again.search(asked(listed), 9)[0]
        assert {near.signal for near in found if near.work.work_id == "work-8"} == {Signal.PDQ}
        row = next(near.row for near in found if near.work.work_id == "work-8")
        for call in (again.preview, again.proof_pixels):
            with pytest.raises(PictureNotKept):
                call(row)
        index.seal()
    index.compact()
    assert {near.signal for near in index.search(asked(listed), 9)[0] if near.work.work_id == "work-8"} == {Signal.PDQ}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda arrays: arrays | {"copy": arrays["copy"][:, :8]},
        lambda arrays: arrays | {"copy": arrays["copy"].astype(np.float32)},
        lambda arrays: arrays | {"copy": arrays["copy"] * np.float16(2)},
        lambda arrays: arrays | {"copy": arrays["copy"] * np.float16("nan")},
        lambda arrays: arrays | {"pdq": arrays["pdq"][:, :31]},
        lambda arrays: arrays | {"clip": arrays["copy"]},
    ],
)
def test_rows_of_another_specification_are_refused(tmp_path, spoil):
    index, rows = made_index(tmp_path / "index", range(3)), made_up([5])
    before = index.header
    with pytest.raises(IndexMismatch):
        index.put(
            IndexRows(rows.works, rows.files, rows.file_sha256, rows.pixels_sha256, spoil(rows.arrays), rows.previews)
        )
    assert index.header == before


def test_batch_with_a_work_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="work-4' stands there twice"):
        made_index(tmp_path / "index", range(3)).put(made_up([4, 4]))


def test_second_writer_is_told_who_writes(tmp_path):
    made_index(tmp_path / "index", range(3))
    code = "import sys; from guardrail.index import FolderIndex\nwith FolderIndex(sys.argv[1]).writing():\n"
    code += "  print('mine', flush=True); sys.stdin.readline()"
    command = [sys.executable, "-c", code, str(tmp_path / "index")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "mine\n"
        index = FolderIndex(tmp_path / "index")
        with pytest.raises(IndexLocked, match=f"process {other.pid} on"), index.writing(wait_s=0.05):
            pass
        assert len(index.search(asked(made_up([1])), 1)[0]) == 5  # readers never wait
        other.communicate("done\n")
    assert index.put(made_up([4])).works == 4


def test_threads_write_and_search_one_index(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    failures = []

    def write(first):
        try:
            for number in range(first, first + 15):
                index.put(made_up([number]))
        except Exception as error:  # noqa: BLE001 - whatever a thread met is told below
            failures.append(error)

    def read():
        try:
            while writers[0].is_alive():
                assert by(index, made_up([0]), Signal.COPY, 1) == [["work-0"]]
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    writers = [threading.Thread(target=write, args=(first,)) for first in (100, 200)]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in (*writers, *readers):
        thread.join()
    assert failures == []
    assert index.header.works == 33


def test_index_that_cannot_be_written_can_be_searched():
    code = "import os, sys; sys.path.insert(0, sys.argv[2]); from stored import *\n"
    code += "'what is loaded late'.encode('utf-16be')\n"
    code += "os.getuid() or os.setuid(65534)\nindex = FolderIndex(sys.argv[1])\n"
    code += "print(len(index.search(asked(made_up([1])), 1)[0]))\n"
    code += "try: index.put(made_up([9]))\nexcept Exception as error: print(type(error).__name__)"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "index"
        made_index(folder, range(3))
        for path in (folder.parent, folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        told = subprocess.run(
            [sys.executable, "-c", code, str(folder), str(Path(__file__).parent)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        for path in (folder.parent, folder):
            path.chmod(0o755)
    assert told.stdout.split() == ["5", "IndexUnwritable"], told.stderr


def test_rebuilt_index_is_seen_by_who_has_it_open(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    later = HEADER.model_copy(update={"built_at": datetime(2026, 2, 2, tzinfo=UTC)})
    create_store(tmp_path / "index", later, [made_up(range(50, 60))], overwrite=True)
    assert by(index, made_up([55]), Signal.COPY, 1) == [["work-55"]]
    assert by(index, made_up([1]), Signal.BYTES) == [[]]


def test_create_refuses_to_write_over_something(tmp_path):
    made_index(tmp_path / "index", range(3))
    with pytest.raises(IndexExists):
        create_store(tmp_path / "index", HEADER, [])
    (tmp_path / "photos").mkdir()
    with pytest.raises(IndexExists):
        create_store(tmp_path / "photos", HEADER, [], overwrite=True)


def test_format_1_is_read_and_the_first_write_makes_it_format_2(tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(Path(__file__).parent / "format-1", folder)
    index = FolderIndex(folder)
    before, works = index.header, index.works
    assert before.format == 1
    assert verify_index(folder)[1] == ()
    index.withdraw([(works[0].bank, works[0].work_id)])
    again = FolderIndex(folder)
    assert (again.header.format, again.header.works) == (2, before.works - 1)
    assert again.works == works[1:]
    assert again.header.built_at == before.built_at
    assert not (folder / "copy.npy").exists()
    assert verify_index(folder)[1] == ()


def test_format_2_sample_loads_for_ever():
    index = FolderIndex(Path(__file__).parent / "format-2")
    assert ids(index) == ["work-0", "work-2", "work-7", "work-8"]
    assert by(index, made_up([7]), Signal.COPY, 1) == [["work-7"]]


def test_search_of_many_states_keeps_few_structures(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    for number in range(60):
        index.put(made_up([100 + number]))
        index.pinned()
    structures = index.pinned().structures
    assert len(structures.vectors["copy"]) <= 7
    assert sum(len(scan) for scan in structures.scans("copy")) == 63


def test_expired_rows_take_no_part_however_many(tmp_path):
    index = made_index(tmp_path / "index", range(1))
    past = datetime(2020, 1, 1, tzinfo=UTC)
    twins = made_up([0])
    for number in range(20):
        work = Work(work_id=f"old-{number}", expires_at=past)
        index.put(IndexRows((work,), twins.files, twins.file_sha256, twins.pixels_sha256, twins.arrays, twins.previews))
    assert by(index, twins, Signal.COPY, 2) == [["work-0"]]


def test_normalised_index_keeps_its_background(tmp_path):
    background = made_up(range(100, 160)).arrays["copy"].astype(np.float32)
    background /= np.linalg.norm(background, axis=1, keepdims=True)
    header = HEADER.model_copy(update={"normalisation": Normalisation(background=60, nearest=3)})
    create_store(tmp_path / "index", header, [made_up(range(5))], background=background)
    index = FolderIndex(tmp_path / "index")
    plain = made_index(tmp_path / "plain", range(5))
    both = [one.search(asked(made_up([2])), 1)[0] for one in (index, plain)]
    similar = [next(near.similarity for near in found if near.signal is Signal.COPY) for found in both]
    common = np.sort(background @ asked(made_up([2])).copy[0])[-3:].mean()
    assert similar[0] == pytest.approx(similar[1] - common, abs=1e-6)
    index.put(made_up([9]))
    index.compact()
    assert FolderIndex(tmp_path / "index").header.normalisation == header.normalisation


def test_unreachable_folder_is_an_error_that_names_it(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(Exception, match="index"):
        index.search(asked(made_up([1])), 1)
    with pytest.raises((IndexUnwritable, FileNotFoundError)):
        index.put(made_up([5]))


# --- what attackers found ------------------------------------------------------------------------------------


def taken_back(reader, act, monkeypatch):
    """A write that is seen to be on disk, and then fails: somebody stops it."""
    fsync = os.fsync

    def stopped(descriptor):
        fsync(descriptor)
        reader.pinned()
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", stopped)
    with pytest.raises(KeyboardInterrupt):
        act()
    monkeypatch.setattr("os.fsync", fsync)


def test_change_that_was_taken_back_stays_in_no_reader(tmp_path, monkeypatch):
    writer = made_index(tmp_path / "index", range(3))
    reader = FolderIndex(tmp_path / "index")
    taken_back(reader, lambda: writer.withdraw([("default", "work-0")]), monkeypatch)
    writer.withdraw([("default", "work-1")])
    assert ids(reader) == ids(FolderIndex(tmp_path / "index")) == ["work-0", "work-2"]
    taken_back(reader, lambda: writer.put(made_up([4])), monkeypatch)
    writer.put(made_up([5]))
    assert by(reader, made_up([5]), Signal.COPY, 1) == [["work-5"]]
    reader.put(made_up([6]))
    assert ids(FolderIndex(tmp_path / "index")) == ids(writer) == ["work-0", "work-2", "work-5", "work-6"]


def test_copy_that_went_another_way_is_seen_for_what_it_is(tmp_path):
    opened = made_index(tmp_path / "index", range(3))
    shutil.copytree(tmp_path / "index", tmp_path / "copy")
    opened.put(made_up([4]))
    other = FolderIndex(tmp_path / "copy")
    other.put(made_up([5]))
    for sealed in (False, True):
        if sealed:
            opened.put(made_up([6]))
            opened.seal()
            other.put(made_up([7]))
            other.seal()
        shutil.rmtree(tmp_path / "index")
        shutil.copytree(tmp_path / "copy", tmp_path / "index")
        for number in (5, 7) if sealed else (5,):
            for signal in (Signal.BYTES, Signal.PDQ, Signal.COPY):
                assert by(opened, made_up([number]), signal, 1) == [[f"work-{number}"]], (sealed, number, signal)


def test_batch_that_is_judged_by_a_former_build_spoils_nothing_of_the_next(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    former = index.pinned()
    later = HEADER.model_copy(update={"built_at": datetime(2026, 2, 2, tzinfo=UTC)})
    create_store(tmp_path / "index", later, [made_up(range(10, 13))], overwrite=True)
    now = index.pinned()
    former.search(asked(made_up([0, 1, 2])), 3)
    assert by(now, made_up([10]), Signal.PDQ, 1) == [["work-10"]]


def test_reader_that_failed_once_at_a_new_build_comes_round(tmp_path, monkeypatch):
    index = made_index(tmp_path / "index", range(3))
    later = HEADER.model_copy(update={"built_at": datetime(2026, 2, 2, tzinfo=UTC)})
    create_store(tmp_path / "index", later, [made_up(range(10, 13))], overwrite=True)

    def failing(*_):
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr("guardrail.index.folder.Structures.of", failing)
        with pytest.raises(MemoryError):
            index.pinned()
    index.put(made_up([20]))
    for number in (10, 20):
        for signal in (Signal.BYTES, Signal.PDQ, Signal.COPY):
            assert by(index, made_up([number]), signal, 1) == [[f"work-{number}"]]


def test_log_that_was_cut_under_an_open_writer_takes_nothing_more(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    index.put(made_up([4]))
    (log,) = (tmp_path / "index").glob("log-*.bin")
    os.truncate(log, 10)
    with pytest.raises((IndexUnwritable, IndexDamaged)):
        index.put(made_up([5]))


def test_compaction_does_not_launder_damage(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    path = next((tmp_path / "index").rglob("copy.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IndexDamaged, match="copy"):
        index.compact()


def test_many_seals_leave_few_segments(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    for number in range(20):
        index.put(made_up([100 + number]))
        index.seal()
    assert index.pinned().storage()["segments"] <= 5
    assert len(ids(FolderIndex(tmp_path / "index"))) == 23


def test_searches_go_on_while_it_is_compacted(tmp_path):
    index = made_index(tmp_path / "index", range(30))
    seen = []

    def progress(done, total):
        thread = threading.Thread(target=lambda: seen.append(by(index, made_up([3]), Signal.COPY, 1)))
        thread.start()
        thread.join(timeout=10)

    index.compact(progress)
    assert seen == [[["work-3"]]] * len(seen)
    assert seen


def test_old_generation_can_be_exported_after_another_process_compacted(tmp_path):
    index = made_index(tmp_path / "index", range(5))
    pinned = index.pinned()
    other = FolderIndex(tmp_path / "index")
    other.withdraw([("default", "work-1")])
    other.compact()
    (batch,) = pinned.export_batches()
    assert np.array_equal(batch.arrays["pdq"], made_up(range(5)).arrays["pdq"])


def test_writer_that_waited_while_the_index_was_replaced_locks_the_new_one(tmp_path):
    first = made_index(tmp_path / "index", range(3))
    shutil.copytree(tmp_path / "index", tmp_path / "other")
    waiting, got, done = FolderIndex(tmp_path / "index"), threading.Event(), threading.Event()

    def wait_and_hold():
        with waiting.writing(wait_s=10):
            got.set()
            done.wait(10)

    thread = threading.Thread(target=wait_and_hold)
    with first.writing():
        thread.start()
        (tmp_path / "index").rename(tmp_path / "gone")
        (tmp_path / "other").rename(tmp_path / "index")
    assert got.wait(10)
    with pytest.raises(IndexLocked), FolderIndex(tmp_path / "index").writing(wait_s=0.05):
        pass
    done.set()
    thread.join()
    assert FolderIndex(tmp_path / "index").put(made_up([8])).works == 4


def test_overwriting_leaves_no_moment_without_an_index(tmp_path):
    index, missing, stop = made_index(tmp_path / "index", range(3)), [], threading.Event()

    def look():
        while not stop.is_set():
            if not (tmp_path / "index" / "MANIFEST.json").exists():
                missing.append(1)

    thread = threading.Thread(target=look)
    thread.start()
    for day in range(2, 12):
        later = HEADER.model_copy(update={"built_at": datetime(2026, 2, day, tzinfo=UTC)})
        create_store(tmp_path / "index", later, [made_up([day])], overwrite=True)
        assert ids(index) == [f"work-{day}"]
    stop.set()
    thread.join()
    assert missing == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]
