"""Building in bulk: interruptions, changes, shards, and that every file is a work, unreadable or left out."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from guardrail.carriers import Picture, SourcePicture
from guardrail.errors import IndexDamaged, IndexMismatch, IndexUnwritable, NothingToIndex
from guardrail.index import Builder, FolderIndex, Recipe, ShardList, WorkRow, build_from_shards, build_index, chunks
from guardrail.index.done import Done, Met
from guardrail.index.shards import read_columns, shard_bytes, specification_of
from guardrail.intake import FolderSource
from guardrail.records import CheckFailed, Disposition, EmbedderSpec, Limits, Sampling, Work
from guardrail.testing import made_up_prints

SPEC = EmbedderSpec(name="made-up", weights_sha256="a" * 64, preprocessing="none", dimensions=16)


def grey_picture(path):
    if isinstance(path, Picture):
        return path
    if not path.exists() or path.read_bytes() == b"bad":
        return Picture(str(path), failure=CheckFailed(check="read_file", image=str(path), error="cut"))
    return Picture(str(path), pixels=torch.full((3, 8, 8), 99, dtype=torch.uint8))


class Fingerprints:
    """Hands out made-up fingerprints that nobody else has, and counts; stops a build after some."""

    def __init__(self, stop_after=None):
        self.seen, self.stop_after = 0, stop_after

    def __call__(self, batch):
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        prints = made_up_prints(len(batch), seed=self.seen)
        self.seen += len(batch)
        return replace(prints, failures=tuple(picture.failure for picture in batch.pictures))


def builder(fingerprint=None, **other):
    wanted = {"embedders": {"copy": SPEC}, "hashes": {"pdq": "1", "phash": "1"}, "limits": Limits()} | other
    return Builder(grey_picture, fingerprint or Fingerprints(), **wanted)


def folder_of(tmp_path, count, name="works"):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    for at in range(count):
        (folder / f"work-{at:05d}.png").write_bytes(b"good")
    return folder


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    """A shard for every batch, however quick."""
    monkeypatch.setattr(chunks, "_SHARD_S", 0)


class Listed:
    """A source of made-up pictures."""

    location, left_out = "made up", 0

    def __init__(self, pictures):
        self.pictures = pictures

    def __iter__(self):
        return iter(self.pictures)

    def estimate(self):
        return 0

    def find(self, name):
        return None

    def open(self, picture):
        return Picture(picture.name, pixels=torch.full((3, 8, 8), 9, dtype=torch.uint8))


def listed(*names, **facts):
    return Listed([SourcePicture(name, f"stamp of {name}", None, facts) for name in names])


# --- going on ------------------------------------------------------------------------------------------------------


def test_interrupted_build_goes_on_where_it_stopped(tmp_path):
    source = FolderSource(folder_of(tmp_path, 150))
    with pytest.raises(KeyboardInterrupt):
        build_index(source, tmp_path / "index", builder(Fingerprints(stop_after=64)), Recipe())
    assert not (tmp_path / "index").exists()
    (tmp_path / "works" / "work-00003.png").write_bytes(b"good and changed since")
    (tmp_path / "works" / "work-00004.png").unlink()
    rest = Fingerprints()
    report = build_index(source, tmp_path / "index", builder(rest), Recipe())
    assert (report.works, report.resumed, rest.seen) == (149, 62, 87)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "works"]


def test_changed_file_counts_with_its_new_fingerprint_only(tmp_path):
    source = FolderSource(folder_of(tmp_path, 65))
    with pytest.raises(KeyboardInterrupt):
        build_index(source, tmp_path / "index", builder(Fingerprints(stop_after=64)), Recipe())
    (tmp_path / "works" / "work-00000.png").write_bytes(b"good and changed since")

    def fresh(batch):
        return made_up_prints(len(batch), seed=77)

    build_index(source, tmp_path / "index", builder(fresh), Recipe())
    index = FolderIndex(tmp_path / "index")
    (found,) = index.search(made_up_prints(1, seed=77), 1)
    assert found[0].work.title == "work-00000"
    assert index.header.works == 65


def test_unreadable_file_is_tried_again_after_an_interruption(tmp_path):
    folder = folder_of(tmp_path, 65)
    (folder / "work-00000.png").write_bytes(b"bad")
    os.utime(folder / "work-00000.png", ns=(1, 1))
    with pytest.raises(KeyboardInterrupt):
        build_index(FolderSource(folder), tmp_path / "index", builder(Fingerprints(stop_after=64)), Recipe())
    (folder / "work-00000.png").write_bytes(b"goo")
    os.utime(folder / "work-00000.png", ns=(1, 1))
    report = build_index(FolderSource(folder), tmp_path / "index", builder(), Recipe())
    assert (report.works, report.unreadable, report.resumed) == (65, (), 63)


def test_cut_shard_is_made_again(tmp_path):
    source = FolderSource(folder_of(tmp_path, 150))
    with pytest.raises(KeyboardInterrupt):
        build_index(source, tmp_path / "index", builder(Fingerprints(stop_after=128)), Recipe())
    shard = tmp_path / ".index.partial" / "00000000.parquet"
    shard.write_bytes(shard.read_bytes()[:500])
    report = build_index(source, tmp_path / "index", builder(), Recipe())
    assert (report.works, report.resumed) == (150, 64)


@pytest.mark.parametrize("what", ["embedder", "sampling", "source"])
def test_partial_work_of_another_specification_is_not_taken_over(tmp_path, what):
    source = FolderSource(folder_of(tmp_path, 100))
    with pytest.raises(KeyboardInterrupt):
        build_index(source, tmp_path / "index", builder(Fingerprints(stop_after=64)), Recipe())
    other = builder()
    if what == "embedder":
        other = builder(embedders={"copy": SPEC.model_copy(update={"weights_sha256": "b" * 64})})
    elif what == "sampling":
        other = builder(sampling=Sampling(query_tiles=5))
    else:
        source = FolderSource(folder_of(tmp_path, 100, "others"))
    assert build_index(source, tmp_path / "index", other, Recipe()).resumed == 0


SCRIPT = """
import hashlib, sys, time
from pathlib import Path
import numpy as np, torch
from guardrail.carriers import Fingerprints, Picture
from guardrail.index import Builder, Recipe, build_index, chunks
from guardrail.intake.sources import FolderSource
from guardrail.records import EmbedderSpec, Limits

chunks._SHARD_S = 0
spec = EmbedderSpec(name="made-up", weights_sha256="a" * 64, preprocessing="none", dimensions=16)

def read(path):
    return Picture(str(path), torch.full((3, 8, 8), 9, dtype=torch.uint8), file_sha256=path.stem[-1] * 64)

def slowly(batch):
    time.sleep(0.05)
    count = len(batch)
    codes = np.zeros((count, 8, 32), np.uint8)
    copy = np.full((count, 16), 0.25, np.float32)
    digests = tuple(picture.file_sha256 for picture in batch.pictures)
    return Fingerprints((None,) * count, digests, digests, codes, np.full(count, 99), codes[..., :8], copy)

def say(done, total):
    print(done, flush=True)

builder = Builder(read, slowly, {"copy": spec}, {"pdq": "1", "phash": "1"}, Limits())
source = FolderSource(Path(sys.argv[1]))
report = build_index(source, Path(sys.argv[2]), builder, Recipe(), progress=say)
print("resumed", report.resumed, flush=True)
"""


@pytest.mark.slow
def test_build_that_is_killed_goes_on_and_every_work_is_there_once(tmp_path):
    folder = folder_of(tmp_path, 700)
    chance = np.random.default_rng(0)
    words = [sys.executable, "-c", SCRIPT, str(folder), str(tmp_path / "index")]
    for kill_after in (100, 400):
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as build:
            while int(build.stdout.readline()) < kill_after:
                pass
            time.sleep(float(chance.uniform(0, 0.1)))
            build.send_signal(signal.SIGKILL)
    assert not (tmp_path / "index").exists()
    last = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert 400 - 64 <= int(last[-1]) < 700, "what was done before the kills is not done again"
    index = FolderIndex(tmp_path / "index")
    kept = index.pinned().kept([("default", work_id) for work_id in ids_of(folder)])
    assert sorted(kept.files) == [f"work-{at:05d}.png" for at in range(700)]
    assert (index.header.works, index.header.unreadable) == (700, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "works"]


def ids_of(folder):
    from guardrail.index.works import unnamed_work

    return [unnamed_work(path.name) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("when", ["shard", "assembly"])
def test_full_disk_leaves_no_index_and_loses_no_older_one(tmp_path, monkeypatch, when):
    from guardrail.index.store import create

    target = tmp_path / "index"
    build_index(FolderSource(folder_of(tmp_path, 2)), target, builder(), Recipe())
    before = FolderIndex(target).header.snapshot

    def full(path, content):
        path.write_bytes(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chunks if when == "shard" else create, "write_synced", full)
    more = FolderSource(folder_of(tmp_path, 3, "more"))
    with pytest.raises(IndexUnwritable, match="No space left"):
        build_index(more, target, builder(), Recipe(), overwrite=True)
    monkeypatch.undo()
    assert FolderIndex(target).header.snapshot == before
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / ".index.new").exists()
    assert build_index(more, target, builder(), Recipe(), overwrite=True).works == 3


# --- counting ------------------------------------------------------------------------------------------------------


def test_every_file_is_a_work_unreadable_or_left_out(tmp_path):
    folder = folder_of(tmp_path, 70)
    for name, content in (("broken.png", b"bad"), ("notes.txt", b"x"), (".hidden.png", b"good")):
        (folder / name).write_bytes(content)
    table = [WorkRow("gone.png", Work(work_id="gone")), WorkRow(".hidden.png", Work(work_id="hidden"))]
    report = build_index(FolderSource(folder), tmp_path / "index", builder(), Recipe(), table)
    assert [file for file, _ in report.unreadable] == ["broken.png", "gone.png"]
    assert (report.works, report.left_out) == (71, 1)
    assert report.works + len(report.unreadable) + report.left_out == len(list(folder.iterdir())) + 1, "and the gone"


def test_second_picture_of_a_name_is_listed_and_the_first_counts(tmp_path):
    report = build_index(listed("a.png", "b.png", "a.png"), tmp_path / "index", builder(), Recipe())
    assert report.works == 2
    assert report.unreadable == (("a.png", "another picture of this name comes before it"),)


def test_name_that_is_no_text_is_listed(tmp_path):
    report = build_index(listed("a.png", "b\ud800.png"), tmp_path / "index", builder(), Recipe())
    assert report.works == 1
    assert report.unreadable == (("b\\ud800.png", "its name is not UTF-8"),)


def test_work_named_in_the_table_and_not_in_the_source_is_missed(tmp_path):
    rows = [WorkRow("z.png", Work(work_id="z"))]
    report = build_index(listed("a.png"), tmp_path / "index", builder(), Recipe(), rows)
    assert report.unreadable == (("z.png", "it is in the works table, and nowhere in the source"),)


def test_two_pictures_cannot_be_one_work(tmp_path):
    report = build_index(listed("a.png", "b.png", work_id="one"), tmp_path / "index", builder(), Recipe())
    assert (report.works, [file for file, _ in report.unreadable]) == (1, ["b.png"])


def test_what_the_source_says_of_a_work_is_kept_and_the_table_counts_more(tmp_path):
    facts = {"title": "Fox", "creator": "A. B.", "expires_at": "2030-01-01", "disposition": "credit"}
    source = listed("a.png", "b.png", **facts)
    build_index(source, tmp_path / "index", builder(), Recipe(bank="zoo"), [WorkRow("b.png", Work(work_id="b"))])
    (found,) = FolderIndex(tmp_path / "index").search(made_up_prints(1), 1)
    assert found[0].work.model_dump(exclude={"work_id"}) | {"expires_at": None} == Work(
        work_id="x", bank="zoo", title="Fox", creator="A. B.", disposition=Disposition.CREDIT
    ).model_dump(exclude={"work_id"})
    assert FolderIndex(tmp_path / "index").header.banks == {"zoo": 1, "default": 1}


def test_picture_with_facts_that_cannot_be_used_is_listed(tmp_path):
    source = Listed([SourcePicture("a.png", "1", None, {"expires_at": "soon"}), SourcePicture("b.png", "1")])
    report = build_index(source, tmp_path / "index", builder(), Recipe())
    ((file, error),) = report.unreadable
    assert (report.works, file) == (1, "a.png")
    assert "what its source says of the work cannot be used" in error


def test_answer_that_a_worker_owes_is_an_unreadable_picture(tmp_path):
    from guardrail.index import Taken

    def spread(work, places):
        return (Taken.lost("SIGKILL") if at == 1 else work(place) for at, place in enumerate(places))

    report = build_index(listed("a.png", "b.png", "c.png"), tmp_path / "index", builder(spread=spread), Recipe())
    assert (report.works, report.unreadable) == (2, (("b.png", "SIGKILL"),))


# --- the table of what is done -------------------------------------------------------------------------------------


def test_newer_place_of_a_picture_replaces_the_older(tmp_path):
    with Done(tmp_path / "done.db") as done:
        done.put(0, ["a", "b"], ["1", "1"], wanted=False)
        done.put(1, ["a"], ["2"], wanted=False)
        assert [done.meet("a", "2"), done.meet("b", "9"), done.meet("c", ""), done.meet("a", "2")] == [
            Met.DONE,
            Met.NEW,
            Met.NEW,
            Met.AGAIN,
        ]
        done.put(2, ["b"], ["9"], wanted=True)
        assert [done.places(shard).tolist() for shard in range(3)] == [[], [0], [0]]
        assert list(done.nowhere()) == ["c"]
        assert done.count() == 3
    assert not (tmp_path / "done.db").exists()


# --- shards from elsewhere -----------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path):
    """The shards of a build that was stopped after 128 of 150 pictures, as a list."""
    source = FolderSource(folder_of(tmp_path, 150))
    with pytest.raises(KeyboardInterrupt):
        build_index(source, tmp_path / "other", builder(Fingerprints(stop_after=128)), Recipe())
    folder = tmp_path / ".other.partial"
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.parquet")}
    return ShardList(str(folder), builder().specification, sizes, 128, (("x.png", "cut"),), left_out=3)


def test_index_of_shards_is_that_of_their_pictures(tmp_path, shards):
    report = build_from_shards(shards, tmp_path / "index", builder(fingerprint=None), Recipe())
    assert (report.works, report.unreadable, report.left_out) == (128, (("x.png", "cut"),), 3)
    whole = tmp_path / "whole"
    build_index(FolderSource(tmp_path / "works"), whole, builder(), Recipe())
    queries = made_up_prints(4, seed=64)
    ones, others = (FolderIndex(path).search(queries, 1) for path in (tmp_path / "index", whole))
    for one, other in zip(ones, others, strict=True):
        assert one[0].work == other[0].work
        assert one[0].signal == "bytes"


def test_shards_of_another_specification_are_refused(tmp_path, shards):
    other = builder(embedders={"copy": SPEC.model_copy(update={"weights_sha256": "b" * 64})})
    with pytest.raises(IndexMismatch):
        build_from_shards(shards, tmp_path / "index", other, Recipe())
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "fewer", "foreign"])
def test_damaged_shards_are_refused(tmp_path, shards, damage):
    path = Path(shards.urls[0])
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "flipped":
        at = content.index(made_up_prints(1).copy[0, :4].astype(np.float16).tobytes())
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    elif damage == "fewer":
        shards = replace(shards, sizes=dict([next(iter(shards.sizes.items()))]))
    else:
        parquet.write_table(pa.table({"file": ["a"]}), path)
        shards = replace(shards, sizes=shards.sizes | {path.name: path.stat().st_size})
    with pytest.raises(IndexDamaged):
        build_from_shards(shards, tmp_path / "index", builder(), Recipe())
    assert not (tmp_path / "index").exists()


def test_table_chooses_among_shards_and_misses_what_is_not_there(tmp_path, shards):
    rows = [WorkRow("work-00002.png", Work(work_id="two")), WorkRow("z.png", Work(work_id="z"))]
    report = build_from_shards(shards, tmp_path / "index", builder(), Recipe(unlisted="skip"), rows)
    assert (report.works, report.left_out) == (1, 3 + 127)
    assert [file for file, _ in report.unreadable] == ["x.png", "z.png"]


def test_shard_of_nothing_readable_is_no_index(tmp_path):
    with pytest.raises(NothingToIndex):
        build_from_shards(ShardList("nowhere", {}, {}, 0), tmp_path / "index", builder(), Recipe())


def test_shard_reads_back_what_was_written(tmp_path):
    from guardrail.index import shard_rows
    from guardrail.index.shards import shard_table
    from guardrail.index.taking import take

    pictures = [SourcePicture("a.png", "1", None, {"title": "Fuchs \u2028 \u00e4"}), SourcePicture("b.png", "2")]
    read = [grey_picture(tmp_path / "gone"), Listed([]).open(pictures[1])]
    prints = replace(made_up_prints(2), failures=(read[0].failure, None))
    specification = json.loads(json.dumps(builder().specification))
    rows = shard_rows(pictures, [take(lambda picture: picture, one) for one in read], lambda batch: prints)
    path = tmp_path / "a.parquet"
    path.write_bytes(shard_bytes(shard_table(rows, specification)))
    assert specification_of(str(path)) == specification
    names = ("file", "stamp", "error", "facts", "pdq", "phash", "pdq_quality", "copy", "pixels", "preview", "tiles")
    (columns,) = read_columns(str(path), names)
    assert (columns["file"], columns["stamp"], columns["error"]) == (["a.png", "b.png"], ["", "2"], ["cut", ""])
    assert json.loads(columns["facts"][0]) == pictures[0].facts
    assert np.array_equal(columns["pdq"], prints.pdq[:, 0])
    assert np.array_equal(columns["phash"], prints.phash[:, 0])
    assert np.array_equal(columns["copy"], prints.copy.astype(np.float16))
    assert columns["pixels"].shape == (2, 32, 32, 3)
    assert (columns["pixels"][1] == 9).all()
    assert (columns["preview"][0], columns["preview"][1][:2]) == (b"", b"\xff\xd8")
    assert columns["pdq_quality"].tolist() == [100, 100]
    assert "tiles" not in columns
