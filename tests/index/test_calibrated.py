"""The calibration beside an index: taken where it fits, refused where it does not, and said when it is stale."""

import json
import logging
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from stored import made_index, made_up

from guardrail.carriers import Picture
from guardrail.errors import CalibrationUnfit, IndexUnwritable
from guardrail.index import Builder, FolderIndex, Recipe, build_index, verify_index
from guardrail.index.calibrated import CALIBRATION, calibrated_limits, read_calibration, write_calibration
from guardrail.intake import FolderSource
from guardrail.records import Background, BitsLimit, Calibration, EmbedderSpec, Limits, Sampling
from guardrail.records.calibration import calibration_digest, specification_sha256
from guardrail.testing import made_up_prints

SPEC = EmbedderSpec(name="made-up", weights_sha256="a" * 64, preprocessing="none", dimensions=16)
WORKS = 3


@pytest.fixture
def folder(tmp_path):
    """An index of three works."""
    works = tmp_path / "works"
    works.mkdir()
    for at in range(WORKS):
        (works / f"{at}.png").write_bytes(b"good")
    builder = Builder(
        read=lambda path: Picture(str(path), pixels=torch.full((3, 8, 8), 9, dtype=torch.uint8)),
        fingerprint=lambda batch: made_up_prints(len(batch)),
        embedders={"copy": SPEC},
        hashes={"pdq": "1", "phash": "1"},
        limits=Limits(pdq=BitsLimit(flag_within_bits=60, block_within_bits=31)),
    )
    build_index(FolderSource(works), tmp_path / "index", builder, Recipe())
    return tmp_path / "index"


def made(header, **other):
    """A calibration of an index as it is, some of it changed; its id fits."""
    facts = {
        "id": "0" * 64,
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "index_snapshot": header.snapshot,
        "index_built_at": header.built_at,
        "specification_sha256": specification_sha256(header),
        "embedders": header.embedders,
        "sampling": header.sampling,
        "works": header.works,
        "protected": header.works,
        "background": Background(pictures=1000, near_blank=0, suspects=0, sha256="b" * 64),
        "signals": (),
        "false_alarms": (),
        "limits": Limits(pdq=BitsLimit(flag_within_bits=44, block_within_bits=30)),
    }
    drawn = Calibration(**(facts | other))
    return drawn.model_copy(update={"id": drawn.digest})


def test_limits_are_taken_and_named(folder):
    calibration = made(FolderIndex(folder).header)
    write_calibration(folder, calibration)
    limits = FolderIndex(folder).header.limits
    assert limits.pdq == BitsLimit(flag_within_bits=44, block_within_bits=30)
    assert limits.calibration == calibration.id
    assert read_calibration(folder, FolderIndex(folder).header) == calibration


def test_without_a_calibration_the_shipped_limits_hold(folder):
    assert FolderIndex(folder).header.limits.calibration == "uncalibrated"


def test_snapshot_and_manifest_stay_as_they_were(folder):
    before = FolderIndex(folder).header
    write_calibration(folder, made(before))
    assert FolderIndex(folder).header.snapshot == before.snapshot
    assert verify_index(folder) == (before, ())


def test_edited_calibration_is_refused(folder):
    path = write_calibration(folder, made(FolderIndex(folder).header))
    told = json.loads(path.read_text())
    told["limits"]["pdq"]["block_within_bits"] = 0
    path.write_text(json.dumps(told))
    with pytest.raises(CalibrationUnfit, match="found one that was edited"):
        FolderIndex(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema_version": 2}'])
def test_what_is_no_calibration_is_refused(folder, content):
    (folder / CALIBRATION).write_bytes(content)
    with pytest.raises(CalibrationUnfit, match="expected a calibration as guardrail writes it"):
        FolderIndex(folder)


def test_unreadable_calibration_is_refused(folder):
    (folder / CALIBRATION).mkdir()
    with pytest.raises(CalibrationUnfit, match="expected a file that can be read"):
        FolderIndex(folder)


def test_calibration_of_another_index_is_refused(folder):
    header = FolderIndex(folder).header
    other = header.model_copy(update={"snapshot": "c" * 64, "built_at": header.built_at + timedelta(hours=1)})
    write_calibration(folder, made(other))
    with pytest.raises(CalibrationUnfit, match="made on another index"):
        FolderIndex(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"embedders": {"copy": SPEC.model_copy(update={"weights_sha256": "d" * 64})}},
        {"sampling": Sampling(tiles=5)},
        {"hashes": {"pdq": "2", "phash": "1"}},
    ],
    ids=["embedder", "sampling", "hashes"],
)
def test_calibration_for_other_fingerprints_is_refused(folder, change):
    write_calibration(folder, made(FolderIndex(folder).header.model_copy(update=change)))
    with pytest.raises(CalibrationUnfit, match="one for other fingerprints"):
        FolderIndex(folder)


@pytest.mark.parametrize(("works", "stale"), [(WORKS, False), (2 * WORKS - 1, False), (2 * WORKS, True)])
def test_grown_index_keeps_its_limits_and_is_stale_from_exactly_double(folder, works, stale, caplog):
    """The same index grown in place: built at the same time, another snapshot, more works."""
    header = FolderIndex(folder).header
    calibration = made(header)
    write_calibration(folder, calibration)
    grown = header.model_copy(update={"snapshot": "e" * 64, "works": works})
    with caplog.at_level(logging.WARNING):
        limits = calibrated_limits(folder, grown)
    assert limits.pdq == calibration.limits.pdq
    assert limits.calibration == (f"{calibration.id}, stale" if stale else calibration.id)
    assert ("is stale: it was fitted at 3 works" in caplog.text) == stale


def test_growth_leaves_the_specification_as_it_was(folder):
    header = FolderIndex(folder).header
    grown = header.model_copy(
        update={"works": 9, "banks": {"more": 9}, "snapshot": "f" * 64, "unreadable": 2, "limits": Limits()}
    )
    assert specification_sha256(grown) == specification_sha256(header)


def test_writing_that_fails_leaves_the_one_before(folder, monkeypatch):
    header = FolderIndex(folder).header
    before = made(header)
    write_calibration(folder, before)

    def full(path, content):
        path.write_bytes(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("guardrail.index.layout.write_synced", full)
    with pytest.raises(IndexUnwritable, match="No space left"):
        write_calibration(folder, made(header, works=99))
    assert read_calibration(folder, header) == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_stored_calibration_loads_though_records_gained_fields(folder):
    """As written by an earlier version, whose limits had fewer fields: its id holds, and the rest is at its default."""
    path = write_calibration(folder, made(FolderIndex(folder).header))
    told = json.loads(path.read_text())
    del told["limits"]["tile"], told["warnings"]
    told["id"] = calibration_digest(told)
    path.write_text(json.dumps(told))
    assert FolderIndex(folder).header.limits.calibration == told["id"]


def test_calibration_holds_while_works_come_and_go(tmp_path):
    index = made_index(tmp_path / "index", range(3))
    write_calibration(tmp_path / "index", made(index.header))
    named = FolderIndex(tmp_path / "index").header.limits.calibration
    index.put(made_up([5]))
    index.withdraw([("default", "work-0")])
    index.seal()
    index.put(made_up([6]))
    index.compact()
    for opened in (index, FolderIndex(tmp_path / "index")):
        assert opened.header.limits.calibration == named != "uncalibrated"


def test_calibration_of_format_1_holds_when_the_first_write_makes_it_format_2(tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(Path(__file__).parent / "format-1", folder)
    index = FolderIndex(folder)
    write_calibration(folder, made(index.header))
    index = FolderIndex(folder)
    work = index.works[0]
    index.withdraw([(work.bank, work.work_id)])
    assert FolderIndex(folder).header.limits.calibration != "uncalibrated"
