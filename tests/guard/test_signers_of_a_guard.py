"""What becomes of accepted images when the key, or whoever keeps it, cannot sign."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from guardrail import hookimpl
from guardrail.act import load_anchors, load_signing, make_development_keys, raw_signature, rotate_keys, verify_file
from guardrail.errors import KeysUnusable, ReleaseFailed
from guardrail.records import VerifyOutcome


class KeptElsewhere:
    """A plugin that signs through a function, with the keys of a folder."""

    def __init__(self, folder, sign_with=None, within_s=10.0):
        here = load_signing(folder)
        key = serialization.load_pem_private_key(here.key, None)

        def sign(content):
            return raw_signature(key.sign(content, ec.ECDSA(hashes.SHA256())), here.leaf)

        self.signing = replace(here, key=None, sign_with=sign_with or sign, within_s=within_s)

    @hookimpl
    def provide_signer(self, settings):
        return self.signing


def save(guard, pictures, folder):
    return guard.check([pictures["new"]]).save(folder)


def test_image_leaves_with_the_signature_of_a_key_kept_elsewhere(make_guard, world, pictures, tmp_path):
    (path,) = save(make_guard(KeptElsewhere(world.keys)), pictures, tmp_path / "out")
    assert verify_file(path, load_anchors(world.keys)).outcome is VerifyOutcome.OURS


def _refuse(_):
    raise ConnectionError("the key service does not answer")


@pytest.mark.parametrize(
    ("sign_with", "said"),
    [(_refuse, "key service does not answer"), (lambda _: time.sleep(1), "no answer within"), (bytes, "no ES256")],
    ids=["raises", "hangs", "rubbish"],
)
def test_signer_that_fails_withholds_the_image(make_guard, world, pictures, tmp_path, sign_with, said):
    guard = make_guard(KeptElsewhere(world.keys, sign_with, within_s=0.1))
    with pytest.raises(ReleaseFailed, match=said):
        save(guard, pictures, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    guard.memory.verify()


def test_expired_certificate_releases_nothing(make_guard, pictures, tmp_path):
    make_development_keys(tmp_path / "keys", _not_after=datetime.now(UTC) - timedelta(days=1))
    with pytest.raises(KeysUnusable, match="valid from"):
        save(make_guard(keys=tmp_path / "keys"), pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_certificate_that_soon_expires_is_announced(make_guard, pictures, tmp_path, caplog):
    make_development_keys(tmp_path / "keys", _not_after=datetime.now(UTC) + timedelta(days=10))
    save(make_guard(keys=tmp_path / "keys"), pictures, tmp_path / "out")
    assert "guardrail keys rotate" in caplog.text


def test_guard_that_goes_on_signs_with_rotated_keys(make_guard, pictures, tmp_path):
    make_development_keys(tmp_path / "keys")
    guard = make_guard(keys=tmp_path / "keys")
    (before,) = save(guard, pictures, tmp_path / "before")
    rotate_keys(tmp_path / "keys", new_root=True)
    (after,) = save(guard, pictures, tmp_path / "after")
    for path in (before, after):
        assert verify_file(path, load_anchors(tmp_path / "keys")).outcome is VerifyOutcome.OURS


def test_server_that_is_named_without_its_roots_releases_nothing(make_guard, pictures, tmp_path):
    guard = make_guard(provenance={"time_stamp_url": "http://stamps.example"})
    with pytest.raises(KeysUnusable, match="time_stamp_anchors"):
        save(guard, pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_expired_certificate_of_another_plugin_releases_nothing(make_guard, world, pictures, tmp_path, monkeypatch):
    plugin = KeptElsewhere(world.keys)
    expired = tmp_path / "expired"
    make_development_keys(expired, _not_after=datetime.now(UTC) - timedelta(days=1))
    plugin.signing = replace(plugin.signing, chain=(expired / "chain.pem").read_bytes())
    with pytest.raises(KeysUnusable, match="valid from"):
        save(make_guard(plugin), pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_plugin_that_knows_of_no_time_stamps_gets_those_of_the_settings(make_guard, world, pictures, tmp_path):
    anchors = tmp_path / "roots.pem"
    anchors.write_bytes((world.keys / "root.pem").read_bytes())
    said = {"time_stamp_url": "http://127.0.0.1:9", "time_stamp_anchors": anchors}
    with pytest.raises(ReleaseFailed, match="time stamp"):
        save(make_guard(KeptElsewhere(world.keys), provenance=said), pictures, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
