"""The folder index against the contract of all backends, and against damage."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from guardrail.carriers import Picture
from guardrail.errors import IndexExists, IndexMissing, IndexUnwritable, NothingToIndex
from guardrail.index import Builder, FolderIndex, Recipe, WorkRow, build_index, verify_index
from guardrail.intake import FolderSource
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
        build_index(FolderSource(folder), target, builder(CountingFingerprints(prints)), Recipe(), rows)
        return FolderIndex(target)


def test_build_reports_and_lists_every_unreadable_file(tmp_path):
    folder = folder_of(tmp_path, 3)
    (folder / "broken.png").write_bytes(b"bad")
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_bytes(b"good")
    report = build_index(
        FolderSource(folder), tmp_path / "index", builder(), Recipe(), [WorkRow("gone.png", Work(work_id="gone"))]
    )
    assert report.works == 3
    assert report.left_out == 2, "the notes and the hidden file"
    assert [file for file, _ in report.unreadable] == ["broken.png", "gone.png"]
    listed = [json.loads(line)["file"] for line in (tmp_path / "index" / "unreadable.jsonl").read_text().splitlines()]
    assert listed == ["broken.png", "gone.png"]


def test_unlisted_files_are_skipped_where_the_recipe_says_so(tmp_path):
    folder = folder_of(tmp_path, 3)
    report = build_index(
        FolderSource(folder),
        tmp_path / "index",
        builder(),
        Recipe(unlisted="skip"),
        [WorkRow("work-00001.png", Work(work_id="one"))],
    )
    assert (report.works, report.left_out) == (1, 2)
    assert FolderIndex(tmp_path / "index").works[0].work_id == "one"


def test_existing_index_is_replaced_only_when_asked(tmp_path):
    target = tmp_path / "index"
    build_index(FolderSource(folder_of(tmp_path, 2)), target, builder(), Recipe())
    with pytest.raises(IndexExists):
        build_index(FolderSource(tmp_path / "works"), target, builder(), Recipe())
    build_index(FolderSource(folder_of(tmp_path, 3, "more")), target, builder(), Recipe(), overwrite=True)
    assert FolderIndex(target).header.works == 3


def test_nothing_but_an_index_is_ever_replaced(tmp_path):
    folder = folder_of(tmp_path, 2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    for target in (folder, tmp_path, tmp_path / "other"):
        with pytest.raises((IndexUnwritable, IndexExists)):
            build_index(FolderSource(folder), target, builder(), Recipe(), overwrite=True)
    assert len(list(folder.iterdir())) == 2
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"


def test_titles_may_hold_any_line_separator(tmp_path):
    folder = folder_of(tmp_path, 1)
    title = "a\u2028b\u0085c\x0bd"
    build_index(
        FolderSource(folder),
        tmp_path / "index",
        builder(),
        Recipe(),
        [WorkRow("work-00000.png", Work(work_id="w", title=title))],
    )
    assert FolderIndex(tmp_path / "index").works[0].title == title


def test_folder_without_images_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(NothingToIndex):
            build_index(FolderSource(source), tmp_path / "index", builder(), Recipe())
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


# --- damage ----------------------------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path):
    build_index(FolderSource(folder_of(tmp_path, 5)), tmp_path / "index", builder(), Recipe())
    return tmp_path / "index"


def test_verify_of_a_sound_index_finds_nothing(index):
    header, damages = verify_index(index)
    assert header.works == 5
    assert damages == ()


def test_expired_works_are_not_found_and_new_dates_count_at_once(tmp_path):
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    prints = made_up_prints(1)
    folder = folder_of(tmp_path, 1)
    row = WorkRow("work-00000.png", Work(work_id="w", expires_at=soon))
    build_index(FolderSource(folder), tmp_path / "index", builder(CountingFingerprints(prints)), Recipe(), [row])
    index = FolderIndex(tmp_path / "index")
    signals = {near.signal for near in index.search(prints, 3)[0]}
    assert "copy" in signals
    time.sleep(0.6)
    assert {near.signal for near in index.search(prints, 3)[0]} == {"bytes", "pixels"}


def test_missing_index_says_how_to_build_one(tmp_path):
    with pytest.raises(IndexMissing, match="guardrail index build"):
        FolderIndex(tmp_path / "nowhere")


def test_previews_and_proof_pixels_are_those_of_the_row(index):
    opened = FolderIndex(index)
    assert opened.preview(4).startswith(b"\xff\xd8")
    assert np.array_equal(opened.proof_pixels(0), np.full((32, 32, 3), 99, np.uint8))
