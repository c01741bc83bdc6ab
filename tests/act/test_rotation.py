import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from act_samples import noise
from cryptography import x509
from key_samples import CREATED, der_of

from guardrail.act import anchor_of, describe_keys, encode_png, load_anchors, load_signing, make_development_keys, sdk
from guardrail.act import rotate_keys as rotate
from guardrail.act.certificates import LONGEST_LIFE, parse_pem, sha256_of
from guardrail.errors import KeysMissing, KeysUnusable


def now():
    return datetime.now(UTC)


PNG = encode_png(noise())


@pytest.fixture
def folder(keys, tmp_path):
    shutil.copytree(keys, tmp_path / "keys")
    return tmp_path / "keys"


def signed_by(folder):
    return sdk.embed(PNG, "image/png", CREATED, load_signing(folder))


def state_of(content, folder):
    found = sdk.read(content, "image/png", load_anchors(folder))
    return found.state, anchor_of(found.chain, load_anchors(folder), now()) is not None


def test_fresh_leaf_signs_under_the_same_root(folder):
    before, content = load_signing(folder), signed_by(folder)
    rotate(folder)
    after = load_signing(folder)
    assert after.anchors == before.anchors
    assert after.leaf.public_key() != before.leaf.public_key()
    assert after.name == before.name
    assert timedelta(days=365) <= after.leaf.not_valid_after_utc - after.leaf.not_valid_before_utc <= LONGEST_LIFE
    assert state_of(content, folder) == state_of(signed_by(folder), folder) == ("Trusted", True)


def test_older_files_stay_ours_under_a_new_root(folder):
    content = signed_by(folder)
    rotate(folder, "Anna", new_root=True)
    assert load_signing(folder).name == "Anna"
    assert len(load_anchors(folder)) == 2
    assert state_of(content, folder) == state_of(signed_by(folder), folder) == ("Trusted", True)


def test_files_of_a_root_that_was_taken_away_are_not_ours_any_more(folder):
    content = signed_by(folder)
    rotate(folder, new_root=True)
    (former,) = folder.glob("root-*.pem")
    former.unlink()
    assert state_of(content, folder) == ("Valid", False)
    assert state_of(signed_by(folder), folder) == ("Trusted", True)


@pytest.mark.parametrize("new_root", [False, True])
def test_old_keys_are_destroyed_and_their_certificates_kept(folder, new_root):
    old = {name: (folder / name).read_bytes() for name in ("leaf.key", "root.key", "chain.pem", "root.pem")}
    rotate(folder, new_root=new_root)
    now = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert old["leaf.key"] not in now.values()
    assert (old["root.key"] in now.values()) is not new_root
    assert {old["chain.pem"], old["root.pem"]} <= set(now.values())
    assert f"chain-{sha256_of(parse_pem(old['chain.pem'])[0])[:12]}.pem" in now


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_new_keys_are_for_their_owner_only(folder):
    rotate(folder, new_root=True)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")}
    assert modes == {"leaf.key": 0o600, "root.key": 0o600}


def test_former_roots_pile_up_as_anchors(folder):
    for _ in range(3):
        rotate(folder, new_root=True)
    assert len(set(load_anchors(folder))) == 4


def test_leaf_never_outlives_its_root(tmp_path):
    until = datetime.now(UTC) + timedelta(days=3)
    make_development_keys(tmp_path / "keys")
    root = load_anchors(tmp_path / "keys")[0]
    assert parse_pem(root)[0].not_valid_after_utc > until
    rotate(tmp_path / "keys")
    assert load_signing(tmp_path / "keys").leaf.not_valid_after_utc <= parse_pem(root)[0].not_valid_after_utc


def test_expired_leaf_can_be_replaced(tmp_path):
    make_development_keys(tmp_path / "keys", _not_after=datetime.now(UTC) - timedelta(days=1))
    with pytest.raises(KeysUnusable, match="valid from"):
        load_signing(tmp_path / "keys")
    rotate(tmp_path / "keys")
    assert load_signing(tmp_path / "keys").days_left(now()) > 364


def test_root_key_kept_elsewhere_is_asked_for(folder):
    (folder / "root.key").unlink()
    with pytest.raises(KeysUnusable, match=r"root\.key.*bring it back"):
        rotate(folder)
    rotate(folder, new_root=True)
    assert load_signing(folder)


def test_root_key_of_another_root_issues_nothing(folder, tmp_path):
    make_development_keys(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "root.key", folder / "root.key")
    before = load_signing(folder)
    with pytest.raises(KeysUnusable, match="another certificate"):
        rotate(folder)
    assert load_signing(folder) == before


def test_there_must_be_keys_to_rotate(tmp_path):
    with pytest.raises(KeysMissing, match="guardrail keys init"):
        rotate(tmp_path / "nowhere", new_root=True)


@pytest.mark.parametrize("fails_at", range(1, 4))
def test_full_disk_leaves_the_old_keys(folder, monkeypatch, fails_at):
    before, calls, real = load_signing(folder), [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeysUnusable, match="No space left"):
        rotate(folder)
    assert load_signing(folder) == before
    assert {path.name for path in folder.iterdir()} == {"root.pem", "root.key", "chain.pem", "leaf.key"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("asked", [(), ("--root",)])
def test_rotation_killed_at_any_point_leaves_keys_to_sign_with(keys, tmp_path, asked):
    before, content = load_signing(keys), signed_by(keys)
    command = [sys.executable, Path(__file__).with_name("rotation_killed.py"), keys, tmp_path, *asked]
    points = int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert points > 12
    chosen = set()
    for point in range(1, points + 1):
        folder = tmp_path / str(point)
        now = load_signing(folder)
        chosen.add(now.leaf == before.leaf)
        assert state_of(content, folder) == state_of(signed_by(folder), folder) == ("Trusted", True)
        rotate(folder)
        assert load_signing(folder).leaf != now.leaf
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".") or path.is_dir()]
    assert chosen == {True, False}


def test_second_rotation_at_the_same_time_is_refused(folder, monkeypatch):
    real = Path.rename

    def overtaken(path, target):
        monkeypatch.setattr(Path, "rename", real)
        shutil.copytree(path, target)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    with pytest.raises(KeysUnusable, match="one rotation at a time"):
        rotate(folder)
    assert load_signing(folder)


def test_signing_while_keys_are_rotated_never_meets_a_mixture(folder):
    command = [sys.executable, "-c", _ROTATE, folder]
    with subprocess.Popen(command) as rotating:
        leaves = {load_signing(folder).leaf}
        while rotating.poll() is None:
            leaves.add(load_signing(folder).leaf)
    assert rotating.returncode == 0
    assert len(leaves) > 1


_ROTATE = """
import sys
from pathlib import Path
from guardrail.act import rotate_keys
for _ in range(8):
    rotate_keys(Path(sys.argv[1]), new_root=True)
"""


# --- passwords ----------------------------------------------------------------------------------------------


def test_keys_with_a_password_open_with_it_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GUARDRAIL_KEY_PASSWORD", "open sesame")
    make_development_keys(tmp_path / "keys")
    rotate(tmp_path / "keys")
    for name in ("leaf.key", "root.key"):
        assert (tmp_path / "keys" / name).read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert signed_by(tmp_path / "keys")
    for password in ("another", ""):
        monkeypatch.setenv("GUARDRAIL_KEY_PASSWORD", password)
        with pytest.raises(KeysUnusable, match="GUARDRAIL_KEY_PASSWORD") as caught:
            load_signing(tmp_path / "keys")
        assert "another'" not in str(caught.value)
        with pytest.raises(KeysUnusable, match="GUARDRAIL_KEY_PASSWORD"):
            rotate(tmp_path / "keys")


# --- what is said of a folder -------------------------------------------------------------------------------


def test_folder_is_described(folder):
    rotate(folder, new_root=True)
    found = describe_keys(folder, now())
    leaf = load_signing(folder).leaf
    assert found.leaf.sha256 == sha256_of(leaf)
    assert found.leaf.not_after == leaf.not_valid_after_utc
    assert 364.9 < found.days_left < 365.1
    assert (found.faults, found.unusable, found.root_key) == ((), "", True)
    assert next(one.file for one in found.anchors) == "root.pem"
    assert [one.sha256 for one in found.anchors] == [sha256_of(parse_pem(pem)[0]) for pem in load_anchors(folder)]


def test_folder_that_cannot_be_signed_with_is_described_too(folder):
    (folder / "leaf.key").unlink()
    (folder / "root.key").unlink()
    found = describe_keys(folder, now())
    assert "leaf.key" in found.unusable
    assert not found.root_key


def test_description_holds_no_key(folder):
    said = describe_keys(folder, now()).model_dump_json()
    for name in ("leaf.key", "root.key"):
        body = (folder / name).read_text().splitlines()[1]
        assert body not in said


def test_leaf_that_is_no_certificate_cannot_be_described(folder):
    (folder / "chain.pem").write_bytes(b"nothing")
    with pytest.raises(KeysUnusable, match=r"chain\.pem"):
        describe_keys(folder, now())
    (folder / "chain.pem").unlink()
    with pytest.raises(KeysMissing, match=r"chain\.pem"):
        describe_keys(folder, now())


def test_one_certificate_serves_only_one_root(folder):
    rotate(folder, new_root=True)
    leaf = load_signing(folder).leaf
    assert isinstance(leaf, x509.Certificate)
    present, former = load_anchors(folder)
    assert anchor_of(der_of(leaf), [present], now())
    assert anchor_of(der_of(leaf), [former], now()) is None
