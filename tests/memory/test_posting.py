"""A checkpoint is entered into a transparency log of Rekor's kind, here one of our own that looks at what it gets."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from guardrail.errors import KeysUnusable, LogUnreachable
from guardrail.memory import post_checkpoint

NOTE = "a ledger\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n\N{EM DASH} a x\n"


class Log(BaseHTTPRequestHandler):
    """A log that takes what Rekor takes: a digest, signed by the key that is given with it."""

    answer, posted = staticmethod(lambda document: document), []

    def do_POST(self):
        said = self.rfile.read(int(self.headers["Content-Length"]))
        entry = json.loads(said)
        status, document = 201, self.entered(entry) if self.path == "/api/v1/log/entries" else None
        if document is None:
            status, document = 400, {"code": 400}
        else:
            type(self).posted.append(entry)
        sent = json.dumps(type(self).answer(document)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def entered(self, entry):
        if (entry["apiVersion"], entry["kind"]) != ("0.0.1", "hashedrekord"):
            return None
        spec = entry["spec"]
        digest, signature = bytes.fromhex(spec["data"]["hash"]["value"]), spec["signature"]
        key = load_pem_public_key(base64.b64decode(signature["publicKey"]["content"]))
        from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

        key.verify(base64.b64decode(signature["content"]), digest, ec.ECDSA(Prehashed(SHA256())))
        body = json.dumps(entry, sort_keys=True).encode()
        leaf, sibling = hashlib.sha256(b"\0" + body).digest(), bytes(32)
        root = hashlib.sha256(b"\1" + sibling + leaf).hexdigest()
        proof = {"hashes": [sibling.hex()], "logIndex": 1, "treeSize": 2, "rootHash": root}
        entered = {"body": base64.b64encode(body).decode(), "logIndex": 41, "verification": {"inclusionProof": proof}}
        return {"24296fb24b8ad77a": entered}

    def log_message(self, *words):
        pass


@pytest.fixture
def log():
    kind = type("OneLog", (Log,), {"posted": []})
    server = HTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    kind.url = f"http://127.0.0.1:{server.server_port}"
    yield kind
    server.shutdown()
    thread.join()
    server.server_close()


def test_digest_of_the_checkpoint_is_entered_and_nothing_else(log, tmp_path):
    entry = post_checkpoint(NOTE, log.url + "/", tmp_path / "keys")
    assert (entry.uuid, entry.log_index) == ("24296fb24b8ad77a", 41)
    (posted,) = log.posted
    assert posted["spec"]["data"]["hash"]["value"] == hashlib.sha256(NOTE.encode()).hexdigest()
    assert "ledger" not in json.dumps(posted)


def test_all_checkpoints_of_a_ledger_are_found_by_one_key(log, tmp_path):
    post_checkpoint(NOTE, log.url, tmp_path / "keys")
    post_checkpoint(NOTE + "x", log.url, tmp_path / "keys")
    keys = {entry["spec"]["signature"]["publicKey"]["content"] for entry in log.posted}
    assert len(log.posted) == 2
    assert len(keys) == 1
    assert (tmp_path / "keys" / "ledger-log.key").stat().st_mode & 0o077 == 0


def other_root(document):
    (entry,) = document.values()
    entry["verification"]["inclusionProof"]["rootHash"] = "0" * 64
    return document


def other_body(document):
    (entry,) = document.values()
    entry["body"] = base64.b64encode(json.dumps({"spec": {}}).encode()).decode()
    return document


@pytest.mark.parametrize(
    "answer",
    [
        other_root,
        other_body,
        lambda document: {},
        lambda document: [],
        lambda document: {"a": 1},
        lambda document: None,
    ],
)
def test_answer_that_is_not_that_entry_is_refused(log, tmp_path, answer):
    log.answer = staticmethod(answer)
    with pytest.raises(LogUnreachable, match="no such entry"):
        post_checkpoint(NOTE, log.url, tmp_path / "keys")


def test_log_that_refuses_is_told_of(log, tmp_path):
    with pytest.raises(LogUnreachable, match="400"):
        post_checkpoint(NOTE, f"{log.url}/elsewhere", tmp_path / "keys")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "file:///etc/passwd", "rekor.example.com", ""])
def test_log_that_is_not_there_is_told_of(tmp_path, url):
    with pytest.raises(LogUnreachable, match="written all the same"):
        post_checkpoint(NOTE, url, tmp_path / "keys")


def test_key_of_another_kind_posts_nothing(log, tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from guardrail.memory.keyfiles import private_key

    private_key(tmp_path / "ledger-log.key", Ed25519PrivateKey, Ed25519PrivateKey.generate)
    with pytest.raises(KeysUnusable, match="another kind"):
        post_checkpoint(NOTE, log.url, tmp_path)
    assert log.posted == []
