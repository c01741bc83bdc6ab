"""Fingerprinting on Ray, on this machine alone: what one machine makes is what a cluster makes, once each."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guardrail.desk.bulk_shards import find_shard_list
from guardrail.desk.making import build_source_index
from guardrail.errors import IndexDamaged
from guardrail.index import FolderIndex, Recipe, read_shard_list
from guardrail.index.works import unnamed_work
from guardrail.intake import FolderSource
from guardrail.settings import Settings

ray = pytest.importorskip("ray", reason="the extra ray is not installed")

from guardrail.desk import bulk_ray  # noqa: E402
from guardrail.desk.bulk_ray import Cluster, fingerprint_on_ray  # noqa: E402

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SETTINGS = Settings(device="cpu")
RECIPE = Recipe(embedder="mini")


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    """One small cluster for all tests: two CPUs, so that an actor pool could take them all."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture
def works(tmp_path):
    """Twelve pictures that differ, and one that is none."""
    folder = tmp_path / "works"
    folder.mkdir()
    for at in range(12):
        noise = np.random.default_rng(at).integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(noise).resize((60, 60), Image.Resampling.BICUBIC).save(folder / f"{at:02d}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def on_ray(works, url):
    return fingerprint_on_ray(FolderSource(works), str(url), SETTINGS, RECIPE, Cluster("local"))


def test_cluster_and_machine_make_the_same_index_and_going_on_does_nothing_twice(tmp_path, works, monkeypatch):
    monkeypatch.setattr(bulk_ray, "_READ_TOGETHER", 4)
    monkeypatch.setattr(bulk_ray, "_EMBED_TOGETHER", 4)
    monkeypatch.setattr(bulk_ray, "_SHARD_ROWS", 8)
    url = tmp_path / "shards"
    shards = on_ray(works, url)
    assert (shards.pictures, shards.left_out, shards.gone) == (13, 0, ())
    assert len(shards.sizes) > 1
    report = build_source_index(find_shard_list([str(url)]), tmp_path / "there", SETTINGS, RECIPE)
    assert (report.works, [file for file, _ in report.unreadable]) == (12, ["broken.png"])
    build_source_index(FolderSource(works), tmp_path / "here", SETTINGS, RECIPE)
    keys = [("default", unnamed_work(f"{at:02d}.png")) for at in range(12)]
    there, here = (FolderIndex(tmp_path / name).pinned().kept(keys) for name in ("there", "here"))
    assert (there.works, there.file_sha256, there.pixels_sha256) == (here.works, here.file_sha256, here.pixels_sha256)
    assert np.array_equal(there.arrays["pdq"], here.arrays["pdq"])
    assert np.allclose(there.arrays["copy"], here.arrays["copy"], atol=1e-3)

    (url / "SHARDS.json").rename(tmp_path / "SHARDS.json")
    with pytest.raises(IndexDamaged, match="run the same --ray command again"):
        find_shard_list([str(url)])
    before = sorted(path.name for path in url.iterdir())
    (works / "00.png").unlink()
    (works / "01.png").write_bytes((works / "02.png").read_bytes())
    again = on_ray(works, url)
    added = sorted({path.name for path in url.iterdir()} - {*before, "SHARDS.json"})
    assert [path.rpartition("-")[0] for path in added] == ["000002"], "the changed and the broken one, and no other"
    assert (again.pictures, again.gone) == (12, ("00.png",))
    assert read_shard_list(str(url)) == again
    build_source_index(again, tmp_path / "later", SETTINGS, RECIPE)
    later = FolderIndex(tmp_path / "later").pinned().kept(keys)
    assert [work.title for work in later.works] == [f"{at:02d}" for at in range(1, 12)]
    assert later.file_sha256[0] == later.file_sha256[1]
    with pytest.raises(IndexDamaged, match="another specification"):
        fingerprint_on_ray(FolderSource(works), str(url), SETTINGS, Recipe(tiles=5), Cluster("local"))
    (url / "notes.txt").write_text("mine")
    with pytest.raises(IndexDamaged, match="other things"):
        on_ray(works, url)


def test_damaged_list_is_refused(tmp_path):
    for said in ("", "{}", json.dumps({"format": 9})):
        (Path(tmp_path) / "SHARDS.json").write_text(said)
        with pytest.raises(IndexDamaged):
            find_shard_list([str(tmp_path)])


def test_actors_never_take_the_cpus_that_read_for_them():
    assert bulk_ray._actors({"CPU": 2}, 0) == (1, {"num_cpus": 0})
    assert bulk_ray._actors({"CPU": 1}, 8) == (8, {"num_cpus": 0})
    assert bulk_ray._actors({"CPU": 16, "GPU": 4}, 0) == (4, {"num_gpus": 1, "num_cpus": 0})
