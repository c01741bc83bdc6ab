"""An index of format 1 is read as it always was: damage is named, and nothing that was edited is searched."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from guardrail.errors import IndexDamaged, IndexMissing
from guardrail.index import FolderIndex, verify_index
from guardrail.testing import made_up_prints


@pytest.fixture
def index(tmp_path):
    shutil.copytree(Path(__file__).parent / "format-1", tmp_path / "index")
    return tmp_path / "index"


def test_stored_sample_of_format_1_loads_for_ever():
    sample = FolderIndex(Path(__file__).parent / "format-1")
    assert sample.header.works == 3
    assert sample.header.built_at < datetime.now(UTC)
    assert [len(found) for found in sample.search(made_up_prints(1, dimensions=16), 3)] == [
        11
    ]  # two exact, three for each other signal


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
    manifest["format"] = 3
    (index / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(IndexDamaged, match="format 3"):
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
