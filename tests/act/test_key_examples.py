"""The plugins that docs/keys.md shows, run."""

import multiprocessing
import re
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from http.server import HTTPServer
from pathlib import Path

import pytest
from act_samples import noise
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from key_samples import CREATED, OPENSSL, new_key

from guardrail.act import certify_key, encode_png, make_development_keys, sdk, time_stamping
from guardrail.act.own import fault_of
from guardrail.release_settings import ProvenanceSettings
from guardrail.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "keys.md"
MODULES = tuple(
    Path(folder) / "libsofthsm2.so" for folder in ("/usr/lib/softhsm", "/usr/lib64/pkcs11", "/usr/local/lib/softhsm")
)
PNG = encode_png(noise())


def example(title):
    """A plugin of the page, as a module."""
    (code,) = re.findall(rf'```python title="{title}\.py"\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module = types.ModuleType(title)
    exec(compile(code, title, "exec"), module.__dict__)
    return module


@pytest.fixture
def folder(tmp_path):
    """Roots, and nothing that signs."""
    make_development_keys(tmp_path / "keys")
    for name in ("leaf.key", "chain.pem"):
        (tmp_path / "keys" / name).unlink()
    return tmp_path / "keys"


def fault_of_a_file(signing):
    content = sdk.embed(PNG, "image/png", CREATED, signing)
    return fault_of(sdk.read(content, "image/png", signing.anchors), signing, datetime.now(UTC))


class KeyService:
    """What boto3's client for KMS does, in memory."""

    def __init__(self):
        self.key = new_key()

    def client(self, name):
        assert name == "kms"
        return self

    def sign(self, **asked):
        digest = asked.pop("Message")
        assert asked == {"KeyId": "alias/us", "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}
        return {"Signature": self.key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))}


def test_key_service_of_the_page_signs(folder, monkeypatch):
    service = KeyService()
    monkeypatch.setitem(sys.modules, "boto3", service)
    monkeypatch.setenv("SIGNING_KEY_ID", "alias/us")
    public = service.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (folder / "chain.pem").write_bytes(certify_key(folder, public, "Anna's studio"))
    (folder / "root.key").unlink()
    signing = example("kms_signer").provide_signer(Settings(keys=folder))
    signing.require_usable(datetime.now(UTC))
    assert fault_of_a_file(signing) == ""


@pytest.fixture
def token(tmp_path, monkeypatch):
    """A token in software with a key on P-256; gives its public half, DER."""
    module = next((place for place in MODULES if place.exists()), None)
    if module is None:
        pytest.skip("SoftHSM is not installed")
    pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    for name, text in {"MODULE": str(module), "TOKEN": "ours", "PIN": "1234", "KEY": "signing"}.items():
        monkeypatch.setenv(f"PKCS11_{name}", text)
    command = ["softhsm2-util", "--init-token", "--free", "--label", "ours", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(command, check=True, capture_output=True)
    library = pkcs11.lib(str(module))
    library.reinitialize()
    curve = encode_named_curve_parameters("secp256r1")
    with library.get_token(token_label="ours").open(user_pin="1234", rw=True) as session:
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: curve}, local=True
        )
        public, _ = parameters.generate_keypair(store=True, label="signing")
        return encode_ec_public_key(public)


def _in_worker(_):
    return fault_of_a_file(_signing_of_the_token())


def _signing_of_the_token():
    import os

    return example("token_signer").provide_signer(Settings(keys=Path(os.environ["TEST_KEYS"])))


def test_token_of_the_page_signs_in_threads_and_in_workers(folder, token, monkeypatch):
    monkeypatch.setenv("TEST_KEYS", str(folder))
    (folder / "chain.pem").write_bytes(certify_key(folder, token, "Anna's studio"))
    signing = _signing_of_the_token()
    assert fault_of_a_file(signing) == ""
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: fault_of_a_file(signing), range(16))) == [""] * 16
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_in_worker, (None,)) == ""


def test_token_that_refuses_withholds_the_file(folder, token, monkeypatch):
    import c2pa

    monkeypatch.setenv("TEST_KEYS", str(folder))
    monkeypatch.setenv("PKCS11_PIN", "wrong")
    (folder / "chain.pem").write_bytes(certify_key(folder, token, "Anna's studio"))
    with pytest.raises(c2pa.C2paError, match=r"PKCS#11 token.*PinIncorrect"):
        fault_of_a_file(_signing_of_the_token())


def block(title):
    """What stands in a block of the page."""
    (said,) = re.findall(rf'```\w+ title="{title}"\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return said


@pytest.mark.skipif(OPENSSL is None, reason="openssl answers as the time stamp server")
def test_time_stamp_server_of_the_page_is_believed(tmp_path, monkeypatch, signing):
    subprocess.run(["bash", "-ec", block("stamp keys")], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path / "stamps")
    server = HTTPServer(("127.0.0.1", 0), example("stamp_server").Stamps)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    said = ProvenanceSettings(
        time_stamp_url=f"http://127.0.0.1:{server.server_port}/", time_stamp_anchors=Path("stamp-roots.pem")
    )
    try:
        stamped = replace(signing, time_stamp=time_stamping(said))
        content = sdk.embed(PNG, "image/png", CREATED, stamped)
    finally:
        server.shutdown()
        server.server_close()
    found = sdk.read(content, "image/png", stamped.anchors, (), stamped.time_stamp.anchors)
    assert (found.time_stamp.authority, found.time_stamp.trusted) == ("our stamp server", True)
    assert fault_of(found, stamped, datetime.now(UTC)) == ""
