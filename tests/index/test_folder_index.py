"""The folder index against the contract of all backends, and against damage."""

import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from guardrail.carriers import Picture
from guardrail.errors import IndexDamaged, IndexExists, IndexMissing, IndexUnwritable, NothingToIndex
from guardrail.index import Builder, FolderIndex, Recipe, WorkRow, build_index, verify_index
from guardrail.records import CheckFailed, EmbedderSpec, Limits, Work
from guardrail.testing import IndexContract, made_up_prints

SPEC = EmbedderSpec(name="made-up", weights_sha256="a" * 64, preprocessing="none", dimensions=16)


def grey_picture(path: Path) -> Picture:
    if not path.exists() or path.read_bytes() == b"bad":
        return Picture(str(path), failure=CheckFailed(check="read_file", image=str(path), error="cut"))
    return Picture(str(path), pixels=torch.full((3, 8, 8), 99, dtype=torch.uint8))


class CountingFingerprints:
    """Hands out made-up fingerprints in file order, and counts."""

    def __init__(self, prints=None, stop_after=None):
        self.prints, self.seen, self.stop_after = prints, 0, stop_after

    def __call__(self, batch):
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        fresh = made_up_prints(len(batch), seed=self.seen)
        rows = slice(self.seen, self.seen + len(batch))
        self.seen += len(batch)
        source = self.prints
        failures = tuple(picture.failure for picture in batch.pictures)
        if source is None:
            return type(fresh)(failures, *(getattr(fresh, name) for name in fresh.__slots__[1:]))
        fields = {name: getattr(source, name) for name in source.__slots__ if name != "failures"}
        return type(source)(
            failures, **{name: value[rows] if value is not None else None for name, value in fields.items()}
        )


def builder(fingerprint=None):
    return Builder(
        grey_picture, fingerprint or CountingFingerprints(), {"copy": SPEC}, {"pdq": "1", "phash": "1"}, Limits()
    )


def folder_of(tmp_path, count, name="works"):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    for at in range(count):
        (folder / f"work-{at:05d}.png").write_bytes(b"good")
    return folder


class TestFolderIndex(IndexContract):
    @pytest.fixture(autouse=True)
    def _somewhere(self, tmp_path):
        self.tmp_path = tmp_path

    def backend(self, prints, works):
        folder = folder_of(self.tmp_path, len(works), f"works-{len(works)}")
        rows = [WorkRow(f"work-{at:05d}.png", work) for at, work in enumerate(works)]
        target = self.tmp_path / f"index-{len(works)}"
        build_index(folder, target, builder(CountingFingerprints(prints)), Recipe(), rows)
        return FolderIndex(target)


def test_build_reports_and_lists_every_unreadable_file(tmp_path):
    folder = folder_of(tmp_path, 3)
    (folder / "broken.png").write_bytes(b"bad")
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_bytes(b"good")
    report = build_index(folder, tmp_path / "index", builder(), Recipe(), [WorkRow("gone.png", Work(work_id="gone"))])
    assert report.works == 3
    assert report.left_out == 2, "the notes and the hidden file"
    assert [file for file, _ in report.unreadable] == ["broken.png", "gone.png"]
    listed = [json.loads(line)["file"] for line in (tmp_path / "index" / "unreadable.jsonl").read_text().splitlines()]
    assert listed == ["broken.png", "gone.png"]


def test_unlisted_files_are_skipped_where_the_recipe_says_so(tmp_path):
    folder = folder_of(tmp_path, 3)
    report = build_index(
        folder, tmp_path / "index", builder(), Recipe(unlisted="skip"), [WorkRow("work-00001.png", Work(work_id="one"))]
    )
    assert (report.works, report.left_out) == (1, 2)
    assert FolderIndex(tmp_path / "index").works[0].work_id == "one"


def test_interrupted_build_goes_on_where_it_stopped(tmp_path):
    folder = folder_of(tmp_path, 150)
    stopping = CountingFingerprints(stop_after=64)
    with pytest.raises(KeyboardInterrupt):
        build_index(folder, tmp_path / "index", builder(stopping), Recipe())
    assert not (tmp_path / "index").exists()
    (folder / "work-00003.png").write_bytes(b"good and changed since")
    rest = CountingFingerprints()
    report = build_index(folder, tmp_path / "index", builder(rest), Recipe())
    assert (report.works, report.resumed, rest.seen) == (150, 63, 87)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "works"]


def test_cut_chunk_is_made_again(tmp_path):
    folder = folder_of(tmp_path, 150)
    with pytest.raises(KeyboardInterrupt):
        build_index(folder, tmp_path / "index", builder(CountingFingerprints(stop_after=128)), Recipe())
    chunk = tmp_path / ".index.partial" / "00000000.npz"
    chunk.write_bytes(chunk.read_bytes()[:500])
    report = build_index(folder, tmp_path / "index", builder(), Recipe())
    assert (report.works, report.resumed) == (150, 64)


def test_partial_work_of_another_embedder_is_not_resumed(tmp_path):
    folder = folder_of(tmp_path, 100)
    with pytest.raises(KeyboardInterrupt):
        build_index(folder, tmp_path / "index", builder(CountingFingerprints(stop_after=64)), Recipe())
    other = builder()
    other = Builder(
        other.read, other.fingerprint, {"copy": SPEC.model_copy(update={"name": "other"})}, other.hashes, Limits()
    )
    assert build_index(folder, tmp_path / "index", other, Recipe()).resumed == 0


def test_existing_index_is_replaced_only_when_asked(tmp_path):
    target = tmp_path / "index"
    build_index(folder_of(tmp_path, 2), target, builder(), Recipe())
    with pytest.raises(IndexExists):
        build_index(tmp_path / "works", target, builder(), Recipe())
    build_index(folder_of(tmp_path, 3, "more"), target, builder(), Recipe(), overwrite=True)
    assert FolderIndex(target).header.works == 3


def test_nothing_but_an_index_is_ever_replaced(tmp_path):
    folder = folder_of(tmp_path, 2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    for target in (folder, tmp_path, tmp_path / "other"):
        with pytest.raises((IndexUnwritable, IndexExists)):
            build_index(folder, target, builder(), Recipe(), overwrite=True)
    assert len(list(folder.iterdir())) == 2
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"


def test_titles_may_hold_any_line_separator(tmp_path):
    folder = folder_of(tmp_path, 1)
    title = "a\u2028b\u0085c\x0bd"
    build_index(
        folder, tmp_path / "index", builder(), Recipe(), [WorkRow("work-00000.png", Work(work_id="w", title=title))]
    )
    assert FolderIndex(tmp_path / "index").works[0].title == title


def test_folder_without_images_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(NothingToIndex):
            build_index(source, tmp_path / "index", builder(), Recipe())
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("when", ["chunk", "assembly"])
def test_full_disk_leaves_no_index_and_loses_no_older_one(tmp_path, monkeypatch, when):
    target = tmp_path / "index"
    build_index(folder_of(tmp_path, 2), target, builder(), Recipe())
    before = FolderIndex(target).header.snapshot
    from guardrail.index import build

    real = build.write_synced

    def full(path, content):
        if (path.suffix == ".tmp") == (when == "chunk"):
            path.write_bytes(content[: len(content) // 2])
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(build, "write_synced", full)
    with pytest.raises(IndexUnwritable, match="No space left"):
        build_index(folder_of(tmp_path, 3, "more"), target, builder(), Recipe(), overwrite=True)
    monkeypatch.undo()
    assert FolderIndex(target).header.snapshot == before
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / ".index.new").exists()
    assert build_index(tmp_path / "more", target, builder(), Recipe(), overwrite=True).works == 3


# --- damage ----------------------------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path):
    build_index(folder_of(tmp_path, 5), tmp_path / "index", builder(), Recipe())
    return tmp_path / "index"


def test_verify_of_a_sound_index_finds_nothing(index):
    header, damages = verify_index(index)
    assert header.works == 5
    assert damages == ()


def test_every_file_flipped_by_one_byte_is_named_and_refused(index, tmp_path):
    for file in sorted(index.iterdir()):
        if file.stat().st_size == 0:
            continue
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(index, copy)
        content = bytearray((copy / file.name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / file.name).write_bytes(content)
        with pytest.raises(IndexDamaged, match=file.name):
            FolderIndex(copy)
        if file.name != "MANIFEST.json":
            assert [Path(damage.args[0]).name for damage in verify_index(copy)[1]] == [file.name]


def test_every_file_cut_or_gone_is_named_and_refused(index, tmp_path):
    for file in sorted(index.iterdir()):
        for cut in (True, False):
            if cut and file.stat().st_size == 0:
                continue
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(index, copy)
            if cut:
                (copy / file.name).write_bytes(file.read_bytes()[:-1])
            else:
                (copy / file.name).unlink()
            with pytest.raises((IndexDamaged, IndexMissing), match=file.name):
                FolderIndex(copy)


def test_unknown_format_is_refused(index):
    manifest = json.loads((index / "MANIFEST.json").read_text())
    manifest["format"] = 2
    (index / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(IndexDamaged, match="format 2"):
        FolderIndex(index)


def remake_manifest(index):
    """Let the manifest vouch for what is there now, as somebody would who wants to deceive."""
    from guardrail.index.layout import write_manifest

    manifest = json.loads((index / "MANIFEST.json").read_text())
    (index / "MANIFEST.json").unlink()
    write_manifest(index, {key: value for key, value in manifest.items() if key not in ("files", "snapshot")})


def test_manifest_that_leaves_out_a_file_is_refused(index):
    from guardrail.index.layout import snapshot_of

    manifest = json.loads((index / "MANIFEST.json").read_text())
    for change in (
        lambda files: files.pop("rows.jsonl"),
        lambda files: files.update({"../x": {"bytes": 0, "sha256": ""}}),
    ):
        edited = json.loads(json.dumps(manifest))
        change(edited["files"])
        edited["snapshot"] = snapshot_of(edited)
        (index / "MANIFEST.json").write_text(json.dumps(edited))
        with pytest.raises(IndexDamaged, match="the files"):
            FolderIndex(index)


@pytest.mark.parametrize("value", [0.0, 2.0, np.nan])
def test_vectors_that_are_not_of_unit_length_are_refused(index, value):
    vectors = np.load(index / "copy.npy")
    vectors[1] *= value
    np.save(index / "copy.npy", vectors)
    remake_manifest(index)
    with pytest.raises(IndexDamaged, match="unit vectors"):
        FolderIndex(index)


def test_expired_works_are_not_found_and_new_dates_count_at_once(tmp_path):
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    prints = made_up_prints(1)
    folder = folder_of(tmp_path, 1)
    row = WorkRow("work-00000.png", Work(work_id="w", expires_at=soon))
    build_index(folder, tmp_path / "index", builder(CountingFingerprints(prints)), Recipe(), [row])
    index = FolderIndex(tmp_path / "index")
    signals = {near.signal for near in index.search(prints, 3)[0]}
    assert "copy" in signals
    time.sleep(0.6)
    assert {near.signal for near in index.search(prints, 3)[0]} == {"bytes", "pixels"}


def test_missing_index_says_how_to_build_one(tmp_path):
    with pytest.raises(IndexMissing, match="guardrail index build"):
        FolderIndex(tmp_path / "nowhere")


def test_stored_sample_of_format_1_loads_for_ever():
    sample = FolderIndex(Path(__file__).parent / "format-1")
    assert sample.header.works == 3
    assert sample.header.built_at < datetime.now(UTC)
    assert [len(found) for found in sample.search(made_up_prints(1, dimensions=16), 3)] == [
        11
    ]  # two exact, three for each other signal


def test_previews_and_proof_pixels_are_those_of_the_row(index):
    opened = FolderIndex(index)
    assert opened.preview(4).startswith(b"\xff\xd8")
    assert np.array_equal(opened.proof_pixels(0), np.full((32, 32, 3), 99, np.uint8))
