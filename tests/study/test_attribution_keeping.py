"""Gradients on the disk: what was acknowledged is there, what a kill cut off is made again, an edit is found."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from guardrail.attribution_errors import GradientsDamaged, GradientsLocked, GradientsMismatch, GradientsMissing
from guardrail.study.attribution import columns, keeping
from guardrail.study.attribution.keeping import GradientManifest, GradientRows, KeptRow

K = 16


def manifest(**more):
    said = {
        "weights_sha256": "ab" * 32,
        "parameters": 100,
        "counters": K,
        "draws": 10,
        "seed": 2**63,
        "function": "noise_norm",
        "noising": "epsilon",
        "shape": (3, 8, 8),
        "side_px": 8,
    }
    return GradientManifest(**{**said, **more})


def numbers(count, seed=0):
    """Rows whose sizes differ by many orders of magnitude."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, K)) * 10.0 ** rng.integers(-6, 6, (count, 1))).astype(np.float32)


def named(count, start=0, **more):
    return [KeptRow(work_id=f"w{at}", **more) for at in range(start, start + count)]


def filled(folder, count=5):
    rows = GradientRows(folder, manifest())
    with rows.writing():
        rows.add(named(count), numbers(count))
    return rows


def test_rows_come_back_to_the_precision_of_their_scale(tmp_path):
    filled(tmp_path / "g")
    read, wrote = GradientRows(tmp_path / "g").all(), numbers(5)
    largest = np.abs(wrote).max(axis=1, keepdims=True)
    assert (np.abs(read - wrote) <= largest * 2**-11).all()


def test_what_is_said_of_a_row_comes_back(tmp_path):
    rows = GradientRows(tmp_path, manifest())
    said = KeptRow("w", "bank\udcff", "cd" * 32, "a\nb.png", "ef" * 32, 3, decoy=True)
    picture = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), np.uint8)
    with rows.writing():
        rows.add([said], numbers(1), picture)
    again = GradientRows(tmp_path)
    (row,) = again.rows
    assert (row.work_id, row.bank, row.file, row.label, row.decoy) == ("w", "bank\udcff", "a\nb.png", 3, True)
    assert row.name == "decoy:bank\udcff/w"
    assert (again.pictures() == picture).all()
    assert again.manifest == manifest()


def test_zero_gradient_is_zero(tmp_path):
    rows = GradientRows(tmp_path, manifest())
    with rows.writing():
        rows.add(named(1), np.zeros((1, K), np.float32))
    assert not GradientRows(tmp_path).all().any()


def test_rows_over_several_shards_and_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "_ROWS_A_SHARD", 4)
    monkeypatch.setattr(keeping, "_ROWS_A_READ", 3)
    rows = GradientRows(tmp_path, manifest())
    with rows.writing():
        for start in range(0, 11, 3):
            count = min(3, 11 - start)
            rows.add(named(count, start), numbers(11)[start : start + count])
    again = GradientRows(tmp_path)
    assert [len(block) for block in again.blocks()] == [3, 3, 3, 2]
    assert np.allclose(again.all(), numbers(11), rtol=1e-2, atol=np.abs(numbers(11)).max(1).min() * 1e-3)
    assert np.array_equal(again.all(np.arange(11) % 2 == 0), again.all()[::2])


def test_removed_rows_are_read_no_more_and_may_come_again(tmp_path):
    rows = filled(tmp_path)
    with rows.writing():
        assert rows.remove(["default/w1", "default/w9"]) == 1
        assert rows.remove(["default/w1"]) == 0
    assert [row.work_id for row in GradientRows(tmp_path).rows] == ["w0", "w2", "w3", "w4"]
    before = rows.sha256()
    with rows.writing():
        rows.add(named(1, 1), numbers(1, seed=8))
    again = GradientRows(tmp_path)
    assert [row.work_id for row in again.rows] == ["w0", "w2", "w3", "w4", "w1"]
    assert np.allclose(again.all()[-1], numbers(1, seed=8)[0], rtol=1e-2, atol=1e-3 * np.abs(numbers(1, seed=8)).max())
    assert again.sha256() != before


def test_decoy_and_training_image_may_have_one_name(tmp_path):
    rows = GradientRows(tmp_path, manifest())
    with rows.writing():
        rows.add([KeptRow("w"), KeptRow("w", decoy=True)], numbers(2))
        assert rows.remove(["decoy:default/w"]) == 1
    assert [row.decoy for row in rows.rows] == [False]


def test_name_twice_is_refused_and_nothing_is_written(tmp_path):
    rows = filled(tmp_path)
    with rows.writing():
        with pytest.raises(ValueError, match="'default/w1' twice"):
            rows.add(named(2, 1), numbers(2))
        with pytest.raises(ValueError, match="'default/n' twice"):
            rows.add([KeptRow("n"), KeptRow("n")], numbers(2))
    assert len(GradientRows(tmp_path).rows) == 5


@pytest.mark.parametrize("wrong", [np.full((1, K), np.nan), np.zeros((1, K - 1)), np.zeros((2, K))])
def test_other_numbers_are_refused(tmp_path, wrong):
    rows = filled(tmp_path)
    with rows.writing(), pytest.raises(ValueError, match="expected finite"):
        rows.add(named(1, 9), wrong.astype(np.float32))


class TestManifest:
    def test_folder_without_one_is_missing(self, tmp_path):
        with pytest.raises(GradientsMissing, match="nothing there"):
            GradientRows(tmp_path / "none")
        with pytest.raises(GradientsMissing, match=r"no manifest\.json"):
            GradientRows(tmp_path)

    @pytest.mark.parametrize("more", [{"weights_sha256": "cd" * 32}, {"draws": 9}, {"adapters": (("a", 1.0),)}])
    def test_gradients_made_otherwise_are_refused(self, tmp_path, more):
        filled(tmp_path)
        with pytest.raises(GradientsMismatch, match=next(iter(more))):
            GradientRows(tmp_path, manifest(**more))

    def test_what_a_model_is_called_may_change(self, tmp_path):
        filled(tmp_path)
        assert len(GradientRows(tmp_path, manifest(model="moved")).rows) == 5

    def test_edited_one_is_damaged(self, tmp_path):
        filled(tmp_path)
        (tmp_path / "manifest.json").write_text("{}")
        with pytest.raises(GradientsDamaged, match=r"manifest\.json"):
            GradientRows(tmp_path)


class TestKilled:
    @pytest.mark.parametrize("cut", range(0, 400, 23))
    def test_journal_cut_anywhere_loses_only_its_last_rows(self, tmp_path, cut):
        """Whatever the kill left of the second batch, the folder opens, and the batch can be made again."""
        filled(tmp_path)
        whole = (tmp_path / "rows.jsonl").read_bytes()
        rows = GradientRows(tmp_path)
        with rows.writing():
            rows.add(named(5, 5), numbers(5, seed=1))
        journal = (tmp_path / "rows.jsonl").read_bytes()
        (tmp_path / "rows.jsonl").write_bytes(journal[: len(whole) + cut])
        again = GradientRows(tmp_path)
        assert 5 <= len(again.rows) <= 10
        with again.writing():
            missing = [row for row in named(10) if again.row(row.name) is None]
            again.add(missing, np.concatenate([numbers(5), numbers(5, seed=1)])[10 - len(missing) :])
        last = GradientRows(tmp_path)
        assert [row.work_id for row in last.rows] == [f"w{at}" for at in range(10)]
        expected = np.concatenate([numbers(5), numbers(5, seed=1)])
        assert (np.abs(last.all() - expected) <= np.abs(expected).max(1, keepdims=True) * 2**-11).all()

    @pytest.mark.parametrize("left", [1, 31, 32, 33, 100])
    def test_numbers_without_a_line_are_written_over(self, tmp_path, left):
        filled(tmp_path)
        with (tmp_path / "gradients-00000.bin").open("ab") as shard:
            shard.write(b"\xff" * left)
        rows = GradientRows(tmp_path)
        with rows.writing():
            rows.add(named(1, 5), numbers(1, seed=2))
        assert (tmp_path / "gradients-00000.bin").stat().st_size == 6 * K * 2
        assert len(GradientRows(tmp_path).all()) == 6

    def test_process_that_was_killed_while_it_wrote_goes_on(self, tmp_path):
        """kill -9 while rows are written one after the other: every row that was acknowledged is there, and right."""
        code = """
            import sys
            import numpy as np
            from pathlib import Path
            from guardrail.study.attribution.keeping import GradientManifest, GradientRows, KeptRow
            manifest = GradientManifest.model_validate_json(sys.argv[2])
            rows = GradientRows(Path(sys.argv[1]), manifest)
            with rows.writing():
                for at in range(100_000):
                    rows.add([KeptRow(f"w{at}")], np.full((1, manifest.counters), at + 1, np.float32))
                    print(at, flush=True)
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), manifest().model_dump_json()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            acknowledged = [int(process.stdout.readline()) for _ in range(20)][-1]
            os.kill(process.pid, signal.SIGKILL)
            process.stdout.read()
        rows = GradientRows(tmp_path)
        assert len(rows.rows) > acknowledged
        expected = np.arange(1, len(rows.rows) + 1, dtype=np.float32)[:, None]
        assert np.allclose(rows.all(), expected, rtol=1e-6)
        with rows.writing():  # the lock died with it
            rows.add([KeptRow("next")], numbers(1))


class TestDamaged:
    def test_edited_numbers_are_found_when_they_are_read(self, tmp_path):
        filled(tmp_path)
        shard = tmp_path / "gradients-00000.bin"
        content = bytearray(shard.read_bytes())
        content[3 * K * 2] ^= 1
        shard.write_bytes(content)
        with pytest.raises(GradientsDamaged, match="row 3"):
            GradientRows(tmp_path).all()

    @pytest.mark.parametrize("name", ["gradients-00000.bin", "pictures-00000.bin"])
    def test_cut_shard_is_found_when_the_folder_is_opened(self, tmp_path, name):
        filled(tmp_path)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:-1])
        with pytest.raises(GradientsDamaged, match=name):
            GradientRows(tmp_path)

    @pytest.mark.parametrize("line", ["{", json.dumps({"removed": 99}), json.dumps({"other": 1}), "[]"])
    def test_edited_journal_is_found(self, tmp_path, line):
        filled(tmp_path)
        with (tmp_path / "rows.jsonl").open("a") as journal:
            journal.write(line + "\n")
        with pytest.raises(GradientsDamaged, match="line 6"):
            GradientRows(tmp_path)


def test_second_writer_is_told_who_the_first_is(tmp_path):
    first, second = filled(tmp_path), GradientRows(tmp_path)
    with first.writing():
        with pytest.raises(GradientsLocked, match=str(os.getpid())), second.writing():
            pass
        first.add(named(1, 5), numbers(1))
    with second.writing():
        second.add(named(1, 6), numbers(1))  # behind what the first wrote
    assert len(GradientRows(tmp_path).rows) == 7
