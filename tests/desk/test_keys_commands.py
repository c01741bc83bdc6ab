import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from guardrail.act import load_anchors, load_signing, make_development_keys
from guardrail.desk.cli import app
from guardrail.errors import KeysMissing, KeysUnusable


def run(*arguments):
    return CliRunner().invoke(app, ["keys", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path):
    assert run("init", "--dir", tmp_path / "keys", "--name", "Anna").exit_code == 0
    return tmp_path / "keys"


def test_keys_are_shown_with_names_dates_and_anchors(folder):
    shown = run("show", "--dir", folder)
    assert shown.exit_code == 0
    assert "signs: 'Anna' until" in shown.stdout
    assert "anchor: 'Anna root'" in shown.stdout
    assert "profile: as C2PA asks for" in shown.stdout
    assert "PRIVATE" not in shown.stdout


def test_keys_are_shown_as_one_document(folder):
    run("rotate", "--root", "--dir", folder)
    found = json.loads(run("show", "--json", "--dir", folder).stdout)
    assert found["leaf"]["name"] == "Anna"
    assert [len(one["sha256"]) for one in found["anchors"]] == [64, 64]
    assert found["days_left"] > 364


@pytest.mark.parametrize(("days", "code"), [(31, 0), (29, 10), (-1, 11)])
def test_exit_code_tells_how_long_the_keys_last(tmp_path, days, code):
    make_development_keys(tmp_path / "keys", _not_after=datetime.now(UTC) + timedelta(days=days))
    shown = run("show", "--dir", tmp_path / "keys")
    assert shown.exit_code == code
    assert ("valid from" in shown.stdout) is (code == 11)


def test_key_that_others_may_read_is_told(folder):
    (folder / "leaf.key").chmod(0o644)
    shown = run("show", "--dir", folder)
    assert shown.exit_code == 11
    assert "chmod 600" in shown.stdout


def test_no_keys_to_show_is_an_error(tmp_path):
    shown = run("show", "--dir", tmp_path)
    assert shown.exit_code == 1
    assert isinstance(shown.exception, KeysMissing)


def test_rotation_says_who_signs_and_until_when(folder):
    before = load_signing(folder)
    told = run("rotate", "--dir", folder)
    assert told.exit_code == 0
    assert "'Anna' signs from now on, until" in told.stdout
    assert "root.pem" not in told.stdout
    assert load_signing(folder).leaf != before.leaf
    assert load_anchors(folder) == before.anchors


def test_new_root_has_to_be_given_out(folder):
    told = run("rotate", "--root", "--name", "Bo", "--dir", folder)
    assert "'Bo' signs" in told.stdout
    assert "give the new root.pem" in told.stdout
    assert len(load_anchors(folder)) == 2


def test_rotation_without_the_root_key_says_what_to_do(folder):
    (folder / "root.key").unlink()
    told = run("rotate", "--dir", folder)
    assert told.exit_code == 1
    assert isinstance(told.exception, KeysUnusable)
    assert "bring it back" in str(told.exception)
    assert "root key: elsewhere" in run("show", "--dir", folder).stdout


@pytest.fixture
def public(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    (tmp_path / "public.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return tmp_path / "public.pem"


def test_key_that_is_kept_elsewhere_is_certified(folder, public, tmp_path):
    told = run("certify", public, "--name", "Bo", "--out", tmp_path / "chain.pem", "--dir", folder)
    assert told.exit_code == 0
    (folder / "chain.pem").write_bytes((tmp_path / "chain.pem").read_bytes())
    found = json.loads(run("show", "--json", "--dir", folder).stdout)
    assert (found["leaf"]["name"], found["faults"]) == ("Bo", [])
    assert "another certificate" in found["unusable"]


def test_certificates_are_not_overwritten(folder, public, tmp_path):
    (tmp_path / "chain.pem").write_text("mine")
    told = run("certify", public, "--name", "Bo", "--out", tmp_path / "chain.pem", "--dir", folder)
    assert told.exit_code == 1
    assert isinstance(told.exception, KeysUnusable)
    assert (tmp_path / "chain.pem").read_text() == "mine"


@pytest.mark.parametrize("content", [b"nothing", None])
def test_key_that_is_none_is_not_certified(folder, public, tmp_path, content):
    if content is None:
        key = ec.generate_private_key(ec.SECP521R1()).public_key()
        content = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(content)
    told = run("certify", public, "--name", "Bo", "--out", tmp_path / "chain.pem", "--dir", folder)
    assert isinstance(told.exception, KeysUnusable)
    assert not (tmp_path / "chain.pem").exists()


def test_settings_say_where_the_keys_are(tmp_path):
    (tmp_path / "guardrail.toml").write_text('keys = "ours"\n')
    assert run("init", "--settings", tmp_path / "guardrail.toml").exit_code == 0
    assert load_signing(tmp_path / "ours")
    assert run("show", "--settings", tmp_path / "guardrail.toml").exit_code == 0


@pytest.mark.parametrize("command", ["init", "rotate", "certify", "show"])
def test_help_has_an_example_and_exit_codes(command):
    said = run(command, "--help").stdout
    assert f"guardrail keys {command}" in said
    assert "Exit codes" in said
