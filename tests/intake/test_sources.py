"""Every kind of source: what it lists, what it reads again, and that nothing is passed over in silence."""

import io
import json
import os
import pickle
import tarfile

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from guardrail.errors import ExtraMissing, NothingToIndex, SettingsInvalid
from guardrail.intake.sources import (
    Columns,
    FilesSource,
    FolderSource,
    SourceOptions,
    WebLimits,
    find_images,
    open_source,
    read_place,
)
from guardrail.protocols import Source


def png(value, side=4):
    whole = io.BytesIO()
    Image.new("RGB", (side, side), (value, 0, 0)).save(whole, "PNG")
    return whole.getvalue()


def red(picture):
    """The red of a picture of one colour."""
    return int(picture.pixels[0, 0, 0])


def read_all(source):
    """By name, the red of each picture, or why it has none; read by a copy of the source, as a worker has it."""
    worker = pickle.loads(pickle.dumps(source))
    found = {}
    for picture in source:
        assert picture.name not in found
        read = read_place(worker.open(picture))
        found[picture.name] = read.failure.error if read.failure else red(read)
    return found


def tar_of(path, members, files=None):
    """A tar file of (name, bytes)."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (files or fsspec.filesystem("file")).pipe_file(str(path), whole.getvalue())
    return path


# --- folders and files -------------------------------------------------------------------------------------------


def test_folder_lists_its_pictures_in_order_and_counts_the_others(tmp_path):
    for name in ("b/2.png", "a.png", "b/1.PNG", ".hidden.png", ".hid/3.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    source = FolderSource(tmp_path)
    assert isinstance(source, Source)
    assert [picture.name for picture in source] == ["a.png", "b/1.PNG", "b/2.png"]
    assert source.left_out == 4
    assert source.estimate() == 3
    assert find_images(tmp_path) == (["a.png", "b/1.PNG", "b/2.png"], 4)


def test_stamp_of_a_file_changes_with_it(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(1))
    (before,) = FolderSource(tmp_path)
    os.utime(path, ns=(1, 1))
    (after,) = FolderSource(tmp_path)
    assert before.stamp != after.stamp
    assert FolderSource(tmp_path).find("gone.png").stamp == ""


def test_folder_that_cannot_be_read_is_listed_as_one_unreadable_picture(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").write_bytes(png(7))
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", closed)
    found = read_all(FolderSource(tmp_path))
    assert found["a.png"] == 7
    assert "Permission denied" in found["closed/"]


def test_files_keep_the_names_they_were_given_and_a_missing_one_is_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(png(3))
    found = read_all(open_source(["a.png"]))
    assert found == {"a.png": 3}
    source = FilesSource([tmp_path / "a.png", tmp_path / "gone.png", tmp_path / "a.png"])
    assert source.estimate() == 2
    assert "No such file" in read_all(source)[(tmp_path / "gone.png").as_posix()]


# --- tar shards ----------------------------------------------------------------------------------------------------


def test_tar_shards_give_pictures_with_what_lies_beside_them(tmp_path):
    members = [("000.png", png(10)), ("000.json", b'{"title": "Fox", "author": "A. B."}')]
    tar_of(tmp_path / "00.tar", [*members, ("001.txt", b" an owl \n"), ("001.jpg", png(20)), ("readme.md", b"x")])
    tar_of(tmp_path / "01.tar", [("000.png", png(30)), ("alone.json", b"{}")])
    source = open_source([str(tmp_path / "{00..01}.tar")])
    assert read_all(source) == {"00.tar/000.png": 10, "00.tar/001.jpg": 20, "01.tar/000.png": 30}
    assert source.left_out == 2
    facts = [dict(picture.facts) for picture in source]
    assert facts == [
        {"title": "Fox", "creator": "A. B."},
        {"title": "an owl"},
        {},
    ]
    assert source.estimate() == 4, "two in the first, and the second is as large"


def test_tar_that_is_cut_glued_or_missing_is_listed_as_unreadable(tmp_path):
    whole = tar_of(tmp_path / "0.tar", [("a.png", png(1)), ("b.png", png(2))]).read_bytes()
    (tmp_path / "1.tar").write_bytes(whole[:700])
    (tmp_path / "2.tar").write_bytes(whole[:1024])
    (tmp_path / "3.tar").write_bytes(whole + whole)
    (tmp_path / "4.tar").write_bytes(whole[:1024] + b"\1" * 512 + whole[1024:])
    found = read_all(open_source([str(tmp_path / "{0..5}.tar")]))
    assert {name for name, read in found.items() if isinstance(read, int)} >= {"0.tar/a.png", "3.tar/b.png"}
    assert {name for name, read in found.items() if isinstance(read, str)} == {
        *(f"{at}.tar (rest)" for at in (1, 2, 3, 4, 5))
    }


def test_links_in_a_tar_are_unreadable_and_never_followed(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    assert read_all(open_source([str(tmp_path / "0.tar")])) == {"0.tar/a.png": "a link or a device, not a file"}


def test_tar_shards_on_an_object_store():
    files = fsspec.filesystem("memory")
    for at in range(2):
        tar_of(f"/bank/{at:02d}.tar", [("a.png", png(at))], files)
    assert read_all(open_source(["memory://bank/*.tar"])) == {"00.tar/a.png": 0, "01.tar/a.png": 1}
    files.rm("/bank", recursive=True)


def test_members_are_read_again_in_any_order(tmp_path):
    tar_of(tmp_path / "0.tar", [(f"{at}.png", png(at)) for at in range(5)])
    source = open_source([str(tmp_path / "0.tar")])
    assert [red(read_place(source.open(picture))) for picture in reversed(list(source))] == [4, 3, 2, 1, 0]


# --- tables --------------------------------------------------------------------------------------------------------


def table_of(path, columns, **how):
    parquet.write_table(pa.table(columns), path, **how)
    return path


def test_parquet_with_bytes_is_read_in_any_order_across_row_groups(tmp_path):
    columns = {"image": [png(at) for at in range(50)], "caption": [f"work {at}" for at in range(50)]}
    source = open_source([str(table_of(tmp_path / "a.parquet", columns, row_group_size=7))])
    assert read_all(source) == {f"a.parquet#{at}": at for at in range(50)}
    assert source.estimate() == 50
    listed = list(source)
    assert listed[3].facts == {"title": "work 3"}
    assert [red(read_place(source.open(listed[at]))) for at in (40, 3, 4, 39, 8)] == [40, 3, 4, 39, 8]


def test_parquet_with_hugging_face_images_never_follows_their_paths(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(9))
    rows = [
        {"bytes": png(5), "path": None},
        {"bytes": None, "path": str(tmp_path / "secret.png")},
        {"bytes": None, "path": None},
        None,
    ]
    found = read_all(open_source([str(table_of(tmp_path / "a.parquet", {"image": rows}))]))
    assert found["a.parquet#0"] == 5
    assert "only the path" in found["a.parquet#1"]
    assert found["a.parquet#2"] == found["a.parquet#3"] == "a row without a picture"


def test_columns_are_named_by_a_person(tmp_path):
    path = table_of(tmp_path / "a.parquet", {"blob": [png(1)], "id": ["one"], "who": ["A. B."]})
    with pytest.raises(SettingsInvalid, match="image=COLUMN"):
        list(open_source([str(path)]))
    options = SourceOptions.of(["image=blob", "name=id", "creator=who"])
    source = open_source([str(path)], options)
    (picture,) = source
    assert (picture.name, picture.facts) == ("one", {"creator": "A. B."})
    assert read_all(source) == {"one": 1}
    with pytest.raises(SettingsInvalid, match="no columns"):
        list(open_source([str(path)], SourceOptions(Columns(image="gone"))))
    with pytest.raises(SettingsInvalid, match="not one of"):
        SourceOptions.of(["colour=blob"])


def test_disposition_is_never_guessed_from_a_column(tmp_path):
    path = table_of(tmp_path / "a.parquet", {"image": [png(1)], "disposition": ["ignore"], "bank": ["other"]})
    (picture,) = open_source([str(path)])
    assert picture.facts == {}
    (picture,) = open_source([str(path)], SourceOptions.of(["disposition=disposition"]))
    assert picture.facts == {"disposition": "ignore"}


def test_parquet_that_is_cut_is_listed_as_unreadable(tmp_path):
    path = table_of(tmp_path / "a.parquet", {"image": [png(1)]})
    path.write_bytes(path.read_bytes()[:-20])
    (name, error), *rest = read_all(open_source([str(path)])).items()
    assert (name, rest) == ("a.parquet (rest)", [])
    assert "cannot be read" in error


def test_dataset_saved_by_hugging_face_is_read_split_by_split(tmp_path):
    datasets = pytest.importorskip("datasets", reason="only its own package writes such folders")
    datasets.disable_progress_bars()
    (tmp_path / "beside.png").write_bytes(png(99))
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = [{"bytes": png(at), "path": None} for at in range(5)] + [
        {"bytes": None, "path": str(tmp_path / "beside.png")}
    ]
    made = datasets.Dataset.from_dict({"image": rows, "text": list("abcdef")}, features=features)
    made.save_to_disk(str(tmp_path / "one"), num_shards=2)
    found = read_all(open_source([str(tmp_path / "one")]))
    assert list(found.values()) == [0, 1, 2, 3, 4, 99]
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(str(tmp_path / "both"))
    source = open_source([str(tmp_path / "both")])
    assert len(read_all(source)) == source.estimate() == 12
    assert next(iter(source)).facts == {"title": "a"}


def test_dataset_with_a_missing_file_is_not_taken_for_a_smaller_one(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "gone.arrow"}]}))
    (error,) = read_all(open_source([str(folder)])).values()
    assert "cannot be read" in error
    (folder / "state.json").write_text(json.dumps({"_data_files": [], "_indices_data_files": [{"filename": "x"}]}))
    with pytest.raises(SettingsInvalid, match="flatten_indices"):
        open_source([str(folder)])


# --- which source --------------------------------------------------------------------------------------------------


def test_sources_are_told_apart_by_name_and_content(tmp_path):
    tar_of(tmp_path / "0.tar", [("a.png", png(1))])
    table_of(tmp_path / "0.parquet", {"image": [png(1)]})
    with pytest.raises(SettingsInvalid, match="different kinds"):
        open_source([str(tmp_path)])
    (tmp_path / "0.parquet").unlink()
    assert read_all(open_source([str(tmp_path)])) == {"0.tar/a.png": 1}
    (tmp_path / "b.png").write_bytes(png(2))
    assert read_all(open_source([str(tmp_path)])) == {"b.png": 2}


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(NothingToIndex, match="no such folder"):
        open_source([str(tmp_path / "gone")])
    with pytest.raises(SettingsInvalid, match="no file fits"):
        open_source([str(tmp_path / "*.tar")])
    with pytest.raises(SettingsInvalid, match="name the shards"):
        open_source(["memory://bank"])
    with pytest.raises(SettingsInvalid, match="more than one folder"):
        open_source([str(tmp_path), str(tmp_path)])
    with pytest.raises((SettingsInvalid, ExtraMissing)):
        open_source(["nosuchscheme://bank/0.tar"])


def test_picture_of_a_huge_area_is_refused_from_any_place(tmp_path):
    tar_of(tmp_path / "0.tar", [("a.png", png(1, side=40))])
    source = open_source([str(tmp_path / "0.tar")])
    (picture,) = source
    assert "more than 100" in read_place(source.open(picture), largest_px=100).failure.error


def test_address_column_is_fetched_with_the_limits_given(tmp_path):
    path = table_of(tmp_path / "a.parquet", {"url": ["http://127.0.0.1:9/x.png", "file:///etc/hostname", ""]})
    source = open_source([str(path)], SourceOptions(limits=WebLimits()))
    found = list(read_all(source).values())
    assert "private" in found[0]
    assert "not an http" in found[1]
    assert found[2] == "a row without a picture"


def test_pixels_are_those_of_the_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    tar_of(tmp_path / "0.tar", [("a.png", (tmp_path / "a.png").read_bytes())])
    (direct,), (packed,) = (
        [read_place(source.open(picture)) for picture in source]
        for source in (FilesSource([tmp_path / "a.png"]), open_source([str(tmp_path / "0.tar")]))
    )
    assert np.array_equal(direct.pixels.numpy(), packed.pixels.numpy())
    assert np.array_equal(direct.pixels.numpy().transpose(1, 2, 0), noise)
    assert direct.file_sha256 == packed.file_sha256
