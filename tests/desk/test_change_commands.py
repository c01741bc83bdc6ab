"""`guardrail index add|remove|update|compact|list`, as a person types them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from guardrail.desk.changing import update_works
from guardrail.desk.cli import app
from guardrail.errors import IndexLocked
from guardrail.index import FolderIndex

run = CliRunner()


def picture(path, seed):
    """Soft blots of colour, others for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    Image.fromarray(small).resize((128, 128), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def index(tmp_path):
    (tmp_path / "works").mkdir()
    for number in range(3):
        picture(tmp_path / "works" / f"w{number}.png", number)
    said = run.invoke(app, ["index", "build", str(tmp_path / "works"), str(tmp_path / "index"), "--workers", "0"])
    assert said.exit_code == 0, said.output
    return tmp_path / "index"


def call(*words):
    return run.invoke(app, ["index", *map(str, words)])


def new_works(tmp_path, *numbers):
    folder = tmp_path / "new"
    folder.mkdir(exist_ok=True)
    for number in numbers:
        picture(folder / f"n{number}.png", number)
    table = ["file,work_id,title,rights_holder"] + [f"n{at}.png,new-{at},New {at},Ada" for at in numbers]
    (folder / "works.csv").write_text("\n".join(table))
    return folder


def test_added_work_is_found_by_check_and_withdrawn_work_is_not(index, tmp_path):
    folder = new_works(tmp_path, 7)
    check = ["check", str(folder / "n7.png"), "--index", str(index), "--json"]
    home = {"GUARDRAIL_HOME": str(tmp_path / "home")}
    before = run.invoke(app, check, env=home)
    assert before.exit_code != 11, "alike, perhaps, but no copy"
    said = call("add", index, folder, "--works", folder / "works.csv", "--workers", 0)
    assert said.exit_code == 0, said.output
    found = run.invoke(app, check, env=home)
    assert found.exit_code == 11, found.output
    assert json.loads(found.stdout)["images"][0]["nearest"][0]["work_id"] == "new-7"
    assert call("remove", index, "new-7").exit_code == 0
    after = run.invoke(app, check, env=home)
    assert after.exit_code == before.exit_code
    assert "new-7" not in after.stdout


def test_adding_twice_changes_nothing_and_an_edited_file_replaces_its_work(index, tmp_path):
    folder = new_works(tmp_path, 7, 8)
    words = ("add", index, folder, "--works", folder / "works.csv", "--workers", 0, "--json")
    assert json.loads(call(*words).stdout)["added"] == 2
    again = json.loads(call(*words).stdout)
    assert (again["added"], again["replaced"], again["unchanged"], again["works"]) == (0, 0, 2, 5)
    picture(folder / "n8.png", 11)
    edited = json.loads(call(*words).stdout)
    assert (edited["added"], edited["replaced"], edited["unchanged"], edited["works"]) == (0, 1, 1, 5)


def test_unreadable_file_is_listed_and_the_rest_is_added(index, tmp_path):
    folder = new_works(tmp_path, 7)
    (folder / "broken.png").write_bytes(b"no picture")
    said = json.loads(call("add", index, folder, "--workers", 0, "--json").stdout)
    assert said["added"] == 1
    assert [one["file"] for one in said["unreadable"]] == ["broken.png"]


def test_nothing_that_can_be_read_is_exit_code_1(index, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "broken.png").write_bytes(b"no picture")
    before = FolderIndex(index).header
    assert call("add", index, tmp_path / "bad", "--workers", 0).exit_code == 1
    assert FolderIndex(index).header == before


def test_removing_what_is_not_there_is_told(index, tmp_path):
    assert call("remove", index, "nobody").exit_code == 1
    assert "default/nobody" in call("remove", index, "nobody").output
    assert call("remove", index, "nobody", "--missing-ok").exit_code == 0
    (tmp_path / "ids.csv").write_text("work_id,bank\nnobody,second\n")
    assert "second/nobody" in call("remove", index, "--from", tmp_path / "ids.csv").output
    assert call("remove", index).exit_code == 1


def test_update_says_other_things_of_a_work_and_keeps_its_fingerprints(index, tmp_path):
    folder = new_works(tmp_path, 7)
    call("add", index, folder, "--works", folder / "works.csv", "--workers", 0)
    said = call("update", index, "new-7", "--set", "rights_holder=Grace", "--set", "disposition=credit")
    assert said.exit_code == 0, said.output
    (work,) = [work for work in FolderIndex(index).works if work.work_id == "new-7"]
    assert (work.rights_holder, work.disposition, work.title) == ("Grace", "credit", "New 7")
    assert call("update", index, "new-7", "--set", "opted_out_at=now").exit_code == 0
    assert call("update", index, "new-7", "nobody", "--set", "expires_at=2030-01-01").exit_code == 1
    (work,) = [work for work in FolderIndex(index).works if work.work_id == "new-7"]
    assert work.opted_out_at is not None
    assert work.expires_at.year == 2030
    for wrong in ("colour=red", "expires_at=soon", "disposition=keep", "title"):
        assert call("update", index, "new-7", "--set", wrong).exit_code == 1
    assert call("update", index, "new-7").exit_code == 1


def test_update_from_a_table_describes_works_anew(index, tmp_path):
    folder = new_works(tmp_path, 7)
    call("add", index, folder, "--works", folder / "works.csv", "--workers", 0)
    (folder / "works.csv").write_text("file,work_id,title\nn7.png,new-7,Another title\n")
    assert call("update", index, "--works", folder / "works.csv").exit_code == 0
    (work,) = [work for work in FolderIndex(index).works if work.work_id == "new-7"]
    assert (work.title, work.rights_holder) == ("Another title", "")


def test_compact_purges_and_list_shows_what_is_left(index):
    listed = json.loads(call("list", index, "--json").stdout)["works"]
    assert len(listed) == 3
    call("remove", index, listed[0]["work_id"])
    said = json.loads(call("compact", index, "--json").stdout)
    assert (said["purged"], said["works"], said["withdrawn"]) == (1, 2, 0)
    assert said["compacted_at"]
    assert [one["work_id"] for one in json.loads(call("list", index, "--json").stdout)["works"]] == [
        one["work_id"] for one in listed[1:]
    ]
    assert listed[1]["work_id"] in call("list", index).output
    assert call("verify", index).exit_code == 0


def test_info_says_how_it_is_searched_and_stored(index):
    said = json.loads(call("info", index, "--json").stdout)
    assert said["storage"]["segments"] == 1
    assert "exact over 3" in said["search"]["pdq"]


def test_pictures_inside_the_index_are_not_added_to_it(index):
    shutil.copy(index.parent / "works" / "w0.png", index / "w0.png")
    assert call("add", index, index / "w0.png", "--workers", 0).exit_code in (0, 1)
    assert call("verify", index).exit_code == 0


def test_another_picture_of_the_same_path_replaces_no_work_unless_asked_to(index, tmp_path):
    (tmp_path / "camera").mkdir()
    picture(tmp_path / "camera" / "w0.png", 99)
    picture(tmp_path / "camera" / "w9.png", 98)
    before = FolderIndex(index).works
    said = json.loads(call("add", index, tmp_path / "camera", "--workers", 0, "--json").stdout)
    assert (said["added"], said["replaced"]) == (1, 0)
    assert [one["file"] for one in said["unreadable"]] == ["w0.png"]
    assert "work_id" in said["unreadable"][0]["error"]
    assert FolderIndex(index).works[:3] == before
    said = json.loads(call("add", index, tmp_path / "camera", "--workers", 0, "--json", "--replace").stdout)
    assert (said["added"], said["replaced"], said["unchanged"]) == (0, 1, 1)


def test_update_with_ids_and_nothing_to_say_is_refused(index, tmp_path):
    folder = new_works(tmp_path, 7)
    assert call("update", index, "--works", folder / "works.csv", "--set", "title=x").exit_code == 1
    assert call("update", index, "one").exit_code == 1


def test_unknown_bank_and_a_file_in_place_of_an_index_are_told(index, tmp_path):
    assert "no bank 'attic'" in call("list", index, "--bank", "attic").output
    (tmp_path / "file").write_text("")
    for command in ("info", "verify", "list", "compact"):
        said = call(command, tmp_path / "file")
        assert said.exit_code == 1
        assert "an index is a folder" in str(said.exception)


def test_nobody_changes_a_work_between_its_reading_and_its_update(index, monkeypatch):
    opened, other = FolderIndex(index), FolderIndex(index)
    work = opened.works[0]
    kept = FolderIndex.kept

    def watched(self, keys):
        with pytest.raises(IndexLocked), other.writing(wait_s=0.01):
            pass
        return kept(self, keys)

    monkeypatch.setattr(FolderIndex, "kept", watched)
    assert update_works(opened, [(work.bank, work.work_id)], ["title=x"]).replaced == 1
    with other.writing(wait_s=0.01):
        assert "x" in [work.title for work in other.works]
