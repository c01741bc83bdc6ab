"""A checkpoint in, an entry in a transparency log out: posted by hand or by a timer, never for each image."""

import base64
import hashlib
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from guardrail.errors import LogUnreachable
from guardrail.memory.keyfiles import private_key
from guardrail.memory.tree import leaf_hash, root_from_path

__all__ = ["LogEntry", "post_checkpoint"]

_POST_KEY = "ledger-log.key"  # in the folder of the signing keys: logs take no Ed25519 over a digest
_ENTRIES = "/api/v1/log/entries"  # of a log of Rekor's kind
_WITHIN_S = 20
_LONGEST_ANSWER = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What a log answered.

    Attributes:
        uuid: the entry's id there.
        log_index: its number there; -1 where it was not said.
        answer: all that was answered, to be kept beside the checkpoint.
    """

    uuid: str
    log_index: int
    answer: dict[str, Any]


def post_checkpoint(note: str, url: str, folder: Path) -> LogEntry:
    """Enter the digest of a signed checkpoint into a transparency log with Rekor's interface, version 1.

    The digest is signed with a key of its own (P-256), made at the first use, so that all entries of a ledger are found
    there by that key. What is answered is checked: it must hold the entry that was posted, and where it proves that
    the entry is in the log, that proof must hold. The log's own signature is not checked: its key is not known here.

    Args:
        note: the checkpoint, signed.
        url: of the log, without a path: `https://rekor.sigstore.dev`.
        folder: of the signing keys.

    Raises:
        LogUnreachable: it could not be posted, or what was answered is not that entry.
        KeysUnusable: the key there is no key for this.
    """
    kind = ec.EllipticCurvePrivateKey
    key = private_key(folder / _POST_KEY, kind, _make_key)  # type: ignore[type-abstract]  # only looked at
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    spec = {
        "data": {"hash": {"algorithm": "sha256", "value": hashlib.sha256(note.encode()).hexdigest()}},
        "signature": {
            "content": base64.b64encode(key.sign(note.encode(), ec.ECDSA(SHA256()))).decode(),
            "publicKey": {"content": base64.b64encode(public).decode()},
        },
    }
    posted = {"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec}
    answer = _answer(url, json.dumps(posted).encode())
    try:
        ((uuid, entry),) = answer.items()
        body = base64.b64decode(entry["body"], validate=True)
        _check_entry(entry, body, spec)
        return LogEntry(str(uuid), int(entry.get("logIndex", -1)), answer)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LogUnreachable(url, f"its answer is no such entry ({error!r})") from error


def _make_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _check_entry(entry: dict[str, Any], body: bytes, spec: dict[str, Any]) -> None:
    """Compare an entry with what was posted, and follow the log's own proof, where it gives one.

    Raises:
        ValueError: it is of something else, or the proof does not lead to the root that it names.
    """
    if json.loads(body)["spec"] != spec:
        raise ValueError("its entry is of something else")
    proof = (entry.get("verification") or {}).get("inclusionProof")
    if not proof:
        return
    path = [bytes.fromhex(one) for one in proof["hashes"]]
    if root_from_path(leaf_hash(body), proof["logIndex"], proof["treeSize"], path).hex() != proof["rootHash"]:
        raise ValueError("its proof does not lead to its root")


def _answer(url: str, posted: bytes) -> dict[str, Any]:
    if not url.startswith(("https://", "http://")):
        raise LogUnreachable(url, "its address begins with neither https:// nor http://")
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(f"{url.rstrip('/')}{_ENTRIES}", posted, headers)  # noqa: S310  # looked at above
    try:
        with urllib.request.urlopen(request, timeout=_WITHIN_S) as answer:  # noqa: S310
            said = answer.read(_LONGEST_ANSWER + 1)
        if len(said) > _LONGEST_ANSWER:
            raise LogUnreachable(url, f"its answer is longer than {_LONGEST_ANSWER} bytes")
        document: dict[str, Any] = json.loads(said)
    except urllib.error.HTTPError as error:
        with error:
            raise LogUnreachable(url, f"it answered {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, LogUnreachable):
            raise
        raise LogUnreachable(url, str(error)) from error
    return document
