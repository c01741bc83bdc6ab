import os
import pickle
import shutil
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from guardrail.act import load_anchors, load_signing, make_development_keys
from guardrail.errors import KeysExist, KeysMissing, KeysUnusable


@pytest.fixture
def folder(keys, tmp_path):
    shutil.copytree(keys, tmp_path / "copy")
    return tmp_path / "copy"


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_for_their_owner_only(keys):
    assert {path.name for path in keys.iterdir()} == {"root.pem", "root.key", "chain.pem", "leaf.key"}
    assert mode_of(keys / "leaf.key") == mode_of(keys / "root.key") == 0o600
    assert (keys / "leaf.key").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_leaf_follows_the_c2pa_profile(keys):
    leaf = x509.load_pem_x509_certificate((keys / "chain.pem").read_bytes())
    extension = {found.oid: found for found in leaf.extensions}
    usage = extension[x509.KeyUsage.oid]
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    purposes = set(extension[x509.ExtendedKeyUsage.oid].value)
    assert purposes == {ExtendedKeyUsageOID.EMAIL_PROTECTION, x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")}
    assert extension[x509.BasicConstraints.oid].value.ca is False
    assert x509.SubjectKeyIdentifier.oid in extension
    assert x509.AuthorityKeyIdentifier.oid in extension
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=366)


def test_root_may_issue_leaves_only(keys):
    root = x509.load_pem_x509_certificate((keys / "root.pem").read_bytes())
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)


def test_names_tell_nothing_of_this_machine(keys):
    leaf = x509.load_pem_x509_certificate((keys / "chain.pem").read_bytes())
    assert leaf.subject.rfc4514_string() == "O=guardrail development keys,CN=guardrail development"


def test_existing_keys_are_never_overwritten(folder):
    before = (folder / "leaf.key").read_bytes()
    with pytest.raises(KeysExist):
        make_development_keys(folder)
    assert (folder / "leaf.key").read_bytes() == before


def test_one_leftover_key_is_enough_to_refuse(tmp_path):
    (tmp_path / "root.key").write_bytes(b"")
    with pytest.raises(KeysExist):
        make_development_keys(tmp_path)


def test_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(KeysUnusable, match="1 other files"):
        make_development_keys(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_empty_folder_is_filled(tmp_path):
    make_development_keys(tmp_path / "keys", "Anna's studio")
    assert load_signing(tmp_path / "keys").name == "Anna's studio"


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
def test_failure_on_the_way_leaves_nothing(tmp_path, monkeypatch, fails_at):
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeysUnusable, match="No space left"):
        make_development_keys(tmp_path / "keys")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["root.pem", "chain.pem", "leaf.key"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(KeysMissing, match=name):
        load_signing(folder)


def test_missing_folder_says_how_to_make_keys(tmp_path):
    with pytest.raises(KeysMissing, match="guardrail keys init"):
        load_signing(tmp_path / "nowhere")


def test_root_key_is_not_needed_to_sign(folder):
    (folder / "root.key").unlink()
    assert load_signing(folder).chain


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o601, 0o602])
def test_key_that_others_may_touch_is_refused(folder, mode):
    (folder / "leaf.key").chmod(mode)
    with pytest.raises(KeysUnusable, match="chmod 600"):
        load_signing(folder)


@pytest.mark.parametrize("name", ["root.pem", "chain.pem", "leaf.key"])
def test_file_that_is_not_pem_is_refused(folder, name):
    (folder / name).write_bytes(b"\xff not PEM")
    with pytest.raises(KeysUnusable, match=name):
        load_signing(folder)


@pytest.mark.parametrize("foreign", ["leaf.key", "root.pem", "chain.pem"])
def test_files_that_do_not_belong_together_are_refused(folder, tmp_path, foreign):
    make_development_keys(tmp_path / "other")
    shutil.copy(tmp_path / "other" / foreign, folder / foreign)
    with pytest.raises(KeysUnusable):
        load_signing(folder)


def test_key_of_another_kind_is_refused(folder):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "leaf.key").write_bytes(pem)
    with pytest.raises(KeysUnusable, match="the key of the leaf"):
        load_signing(folder)


def test_expired_leaf_is_refused_but_its_anchor_still_verifies(tmp_path):
    make_development_keys(tmp_path / "keys", _not_after=datetime.now(UTC) - timedelta(days=1))
    with pytest.raises(KeysUnusable, match="valid from"):
        load_signing(tmp_path / "keys")
    assert load_anchors(tmp_path / "keys")


def test_key_is_not_shown(signing):
    assert "PRIVATE KEY" not in repr(signing)


def test_signing_survives_pickling(signing):
    assert pickle.loads(pickle.dumps(signing)) == signing
