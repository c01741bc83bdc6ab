"""Where the pictures of an audit come from: folders, tables, lists and indexes, and what is done with bad ones."""

import numpy as np
import pytest
from PIL import Image

from guardrail.desk.audit_pictures import kept_pictures, list_pictures
from guardrail.desk.making import build_folder_index
from guardrail.errors import AuditImpossible
from guardrail.index import Recipe
from guardrail.settings import Settings


@pytest.fixture
def folder(tmp_path):
    below = tmp_path / "pictures"
    below.mkdir()
    for at, name in enumerate("abc"):
        Image.new("RGB", (20, 10), (at * 50, 0, 0)).save(below / f"{name}.png")
    return below


def kept(listed, work, side_px=8):
    return kept_pictures(listed, work, side_px, 10_000_000, lambda done, total: None)


def test_folder_with_captions_beside_the_pictures(folder):
    (folder / "b.txt").write_text("a red rectangle\n")
    listed = list_pictures(folder)
    assert listed.names == ("a.png", "b.png", "c.png")
    assert listed.captions == (None, "a red rectangle", None)


def test_table_with_captions_and_labels(folder):
    (folder / "works.csv").write_text("file,caption,label\na.png,one,4\nc.png,,\n")
    listed = list_pictures(folder / "works.csv")
    assert (listed.names, listed.captions, listed.labels) == (("a.png", "c.png"), ("one", None), (4, None))


def test_captions_of_a_table_go_to_their_files(folder):
    (folder / "captions.csv").write_text("file_name,text\nc.png,third\n")
    assert list_pictures(folder, folder / "captions.csv").captions == (None, None, "third")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("name,caption\na.png,one\n", "a table with name, caption, expected a column 'file'"),
        ("file,caption\na.png,one\na.png,two\n", "'a.png' twice"),
        ("file,label\na.png,cat\n", "a label that is no number"),
        ("file\n", "a table with no row"),
    ],
)
def test_table_that_cannot_be_followed_is_refused(folder, table, said):
    (folder / "works.csv").write_text(table)
    with pytest.raises(AuditImpossible, match=said):
        list_pictures(folder / "works.csv")


def test_caption_for_a_picture_that_is_not_there_is_refused(folder):
    (folder / "captions.csv").write_text("file,caption\nd.png,fourth\n")
    with pytest.raises(AuditImpossible, match=r"a caption or label for 'd\.png'"):
        list_pictures(folder, folder / "captions.csv")


def test_list_of_files_and_nothing_at_all(folder):
    (folder / "some.txt").write_text("c.png\n\na.png\n")
    assert list_pictures(folder / "some.txt").names == ("c.png", "a.png")
    (folder / "none.txt").write_text("\n")
    for nothing in ("none.txt", "missing"):
        with pytest.raises(AuditImpossible):
            list_pictures(folder / nothing)


def test_pictures_are_read_once_and_again_when_one_changes(folder, tmp_path, monkeypatch):
    pictures, unread = kept(list_pictures(folder), tmp_path / "work")
    assert unread == ()
    assert [int(pictures.read(row, 8)[0, 0, 0]) for row in range(3)] == [0, 50, 100]
    reads = []
    real = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, *said, **more: reads.append(self) or real(self, *said, **more)
    )
    kept(list_pictures(folder), tmp_path / "work")[0].pixels(8)
    assert reads == []
    assert pictures.read(1, 4).shape == (4, 4, 3)
    Image.new("RGB", (30, 10), "blue").save(folder / "b.png")
    again, _ = kept(list_pictures(folder), tmp_path / "work")
    assert again.read(1, 8)[0, 0].tolist() == [0, 0, 255]


def test_picture_that_cannot_be_read_is_named_and_the_others_keep_their_names(folder, tmp_path):
    (folder / "b.png").write_bytes(b"broken")
    for _ in range(2):
        pictures, unread = kept(list_pictures(folder), tmp_path / "work")
        assert unread == ("b.png",)
        assert pictures.names == ("a.png", "c.png")
        assert int(pictures.read(1, 8)[0, 0, 0]) == 100


def test_works_of_an_index_are_its_previews_without_generic_ones(folder, tmp_path):
    table = folder / "works.csv"
    table.write_text(
        "file,work_id,bank,disposition\na.png,first,ours,protect\nb.png,second,plain,ignore\nc.png,third,ours,credit\n"
    )
    settings = Settings(device="cpu")
    build_folder_index(folder, tmp_path / "index", settings, Recipe(), table)
    listed = list_pictures(tmp_path / "index")
    assert sorted(listed.names) == ["ours/first", "ours/third"]
    pictures, unread = kept(listed, tmp_path / "work")
    assert unread == ()
    third = pictures.read(pictures.names.index("ours/third"), 8)
    assert np.abs(third.astype(int) - [100, 0, 0]).max() <= 4


@pytest.mark.parametrize(
    ("square", "corners"),
    [("crop", [(0, 255, 0), (0, 255, 0)]), ("squeeze", [(255, 0, 0), (0, 0, 255)]), ("pad", [(255, 255, 255)] * 2)],
)
def test_picture_is_made_square_as_it_was_for_training(folder, tmp_path, square, corners):
    wide = Image.new("RGB", (120, 40), (0, 255, 0))
    wide.paste((255, 0, 0), (0, 0, 40, 40))
    wide.paste((0, 0, 255), (80, 0, 120, 40))
    wide.save(folder / "b.png")
    pictures, _ = kept(list_pictures(folder, square=square), tmp_path / "work")
    shown = pictures.read(1, 8)
    assert np.abs(shown[0, [0, -1]].astype(int) - corners).max() <= 30  # colours run a little where they meet


def test_labels_of_a_table_go_with_the_pictures_of_a_folder(folder):
    names = list_pictures(folder).names
    (folder / "labels.csv").write_text(f"file,label\n{names[0]},3\n{names[1]},\n")
    listed = list_pictures(folder, folder / "labels.csv")
    assert listed.labels == (3, *(None,) * (len(names) - 1))
    assert listed.captions == list_pictures(folder).captions
