import errno
import hashlib
import os

import pytest

from guardrail.act import describe_release, verify_file, write_release
from guardrail.errors import ReleaseFailed
from guardrail.records import VerifyOutcome


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_file_holds_the_signed_bytes(signed, signing, tmp_path):
    release = write_release(signed, tmp_path / "fox.png")
    assert (tmp_path / "fox.png").read_bytes() == signed.content
    assert verify_file(tmp_path / "fox.png", signing.anchors).outcome is VerifyOutcome.OURS
    assert release.file == str(tmp_path / "fox.png")
    assert release.file_sha256 == hashlib.sha256(signed.content).hexdigest()
    assert (release.verdict_id, release.manifest_id) == (signed.verdict.verdict_id, signed.manifest_id)
    assert [path.name for path in tmp_path.iterdir()] == ["fox.png"]


def test_record_can_be_had_before_anything_is_written(signed, tmp_path):
    described = describe_release(signed, tmp_path / "fox.png")
    assert list(tmp_path.iterdir()) == []
    written = write_release(signed, tmp_path / "fox.png")
    assert described.model_copy(update={"at": written.at}) == written


def test_name_may_be_as_long_as_the_disk_allows(signed, tmp_path):
    write_release(signed, tmp_path / ("ü" * 125 + ".png"))


def test_existing_file_is_not_overwritten_unasked(signed, tmp_path):
    path = tmp_path / "fox.png"
    path.write_bytes(b"mine")
    with pytest.raises(ReleaseFailed, match="already"):
        write_release(signed, path)
    assert path.read_bytes() == b"mine"
    write_release(signed, path, overwrite=True)
    assert path.read_bytes() == signed.content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("call", ["open", "fsync", "fdopen"])
def test_full_disk_leaves_nothing(signed, tmp_path, monkeypatch, call, overwrite):
    if call == "fdopen":  # the write itself fails, after the file was made
        monkeypatch.setattr(os, "fdopen", lambda descriptor, mode: FullFile(descriptor))
    else:
        monkeypatch.setattr(os, call, full)
    with pytest.raises(ReleaseFailed, match="No space left"):
        write_release(signed, tmp_path / "fox.png", overwrite=overwrite)
    assert list(tmp_path.iterdir()) == []


class FullFile:
    """A file on a full disk."""

    def __init__(self, descriptor):
        self.descriptor = descriptor

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.descriptor)

    write = full


def test_folder_that_cannot_be_flushed_leaves_nothing(signed, tmp_path, monkeypatch):
    calls = []

    def second_fails(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            full()

    monkeypatch.setattr(os, "fsync", second_fails)
    with pytest.raises(ReleaseFailed, match="No space left"):
        write_release(signed, tmp_path / "fox.png")
    assert len(calls) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_file_that_was_to_be_overwritten_is_back_when_that_fails(signed, tmp_path, monkeypatch, call, links):
    path, calls, works = tmp_path / "fox.png", [], getattr(os, call)
    path.write_bytes(b"mine")

    def second_fails(*names):
        calls.append(names)
        if len(calls) == 2:
            full()
        return works(*names)

    monkeypatch.setattr(os, call, second_fails)
    if not links:
        monkeypatch.setattr(os, "link", full_of_links)
    with pytest.raises(ReleaseFailed, match="No space left"):
        write_release(signed, path, overwrite=True)
    assert len(calls) >= 2
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def full_of_links(*_, **__):
    raise OSError(errno.EPERM, "Operation not permitted")


def test_link_is_overwritten_and_not_what_it_leads_to(signed, tmp_path):
    (tmp_path / "theirs").write_bytes(b"theirs")
    path = tmp_path / "fox.png"
    path.symlink_to(tmp_path / "theirs")
    write_release(signed, path, overwrite=True)
    assert (path.is_symlink(), path.read_bytes()) == (False, signed.content)
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fox.png", "theirs"]


def test_disk_without_hard_links_works_as_well(signed, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "fox.png"
    write_release(signed, path)
    assert path.read_bytes() == signed.content
    with pytest.raises(ReleaseFailed, match="already"):
        write_release(signed, path)
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_is_not_there_is_an_error(signed, tmp_path):
    with pytest.raises(ReleaseFailed, match="cannot be written"):
        write_release(signed, tmp_path / "nowhere" / "fox.png")


def test_file_in_place_of_a_folder_is_an_error(signed, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ReleaseFailed, match="cannot be written"):
        write_release(signed, tmp_path / "file" / "fox.png")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_others_may_read_what_the_umask_lets_them(signed, tmp_path):
    before = os.umask(0o022)
    try:
        write_release(signed, tmp_path / "fox.png")
    finally:
        os.umask(before)
    assert (tmp_path / "fox.png").stat().st_mode & 0o777 == 0o644
