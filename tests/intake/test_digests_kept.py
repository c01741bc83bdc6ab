"""Digests that are kept on the disk: made once while a file is unchanged, by as many processes as there are."""

import hashlib
import json
import logging
import multiprocessing
import os

import pytest

from guardrail.intake.digests_kept import KeptDigests, file_sha256


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def counted(path, kept):
    made = []
    digest = kept.of_files((path,), "sha256", lambda: made.append(1) or file_sha256(path))
    return digest, len(made)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "SECRET-NAME.safetensors"
    path.write_bytes(b"weights")
    return path


def test_digest_is_made_once_for_all_processes(weights, tmp_path):
    first = counted(weights, KeptDigests(tmp_path / "kept.json"))
    assert first == (sha256(weights), 1)
    assert counted(weights, KeptDigests(tmp_path / "kept.json")) == (sha256(weights), 0)


def test_kept_digests_hold_no_path(weights, tmp_path):
    counted(weights, KeptDigests(tmp_path / "kept.json"))
    assert "SECRET" not in (tmp_path / "kept.json").read_text()
    assert "SECRET" not in json.dumps(list(KeptDigests(tmp_path / "kept.json")._kept))


@pytest.mark.parametrize("change", ["size", "time"])
def test_changed_file_is_digested_again(weights, tmp_path, change):
    kept = KeptDigests(tmp_path / "kept.json")
    counted(weights, kept)
    weights.write_bytes(b"weights and more" if change == "size" else b"WEIGHTS")
    os.utime(weights, ns=(1, 1))
    assert counted(weights, kept) == (sha256(weights), 1)


def test_same_size_and_time_count_as_unchanged(weights, tmp_path):
    kept = KeptDigests(tmp_path / "kept.json")
    os.utime(weights, ns=(5, 5))
    before, _ = counted(weights, kept)
    weights.write_bytes(b"WEIGHTS")
    os.utime(weights, ns=(5, 5))
    assert counted(weights, kept) == (before, 0)  # what docs/limits.md says


def test_another_purpose_is_another_digest(weights):
    kept = KeptDigests()
    assert kept.of_files((weights,), "one", lambda: "1" * 64) != kept.of_files((weights,), "two", lambda: "2" * 64)


def test_file_that_changes_while_it_is_read_has_no_digest(weights):
    def make():
        weights.write_bytes(b"being written")
        return "1" * 64

    kept = KeptDigests()
    with pytest.raises(ValueError, match="written to"):
        kept.of_files((weights,), "sha256", make)
    assert not kept._kept


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": "b"}', b"\xff"])
def test_broken_store_is_made_anew(weights, tmp_path, content):
    (tmp_path / "kept.json").write_bytes(content)
    assert counted(weights, KeptDigests(tmp_path / "kept.json")) == (sha256(weights), 1)
    assert counted(weights, KeptDigests(tmp_path / "kept.json")) == (sha256(weights), 0)


def test_store_that_cannot_be_written_costs_only_time(weights, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "guardrail.intake"):
        assert counted(weights, KeptDigests(tmp_path / "file" / "kept.json"))[0] == sha256(weights)
    assert "cannot be kept" in caplog.text


def _keep_many(given):
    folder, number = given
    kept = KeptDigests(folder / "kept.json")
    path = folder / f"{number}.bin"
    path.write_bytes(bytes([number]))
    return kept.of_files((path,), "sha256", lambda: file_sha256(path))


def test_processes_that_write_at_once_leave_a_whole_store(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.map(_keep_many, [(tmp_path, number) for number in range(24)], chunksize=1)
    stored = json.loads((tmp_path / "kept.json").read_text())
    assert set(stored.values()) <= set(made)
    assert stored
    assert not list(tmp_path.glob(".kept*"))
