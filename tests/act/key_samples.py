"""Certificates of every shape, and a time stamp server on this machine, for the tests of keys."""

import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from guardrail.act import Signing
from guardrail.act.certificates import CLAIM_SIGNING

PURPOSES = (CLAIM_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION)
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
CREATED = {
    "claim_generator_info": [{"name": "test", "version": "1"}],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {
                "actions": [
                    {
                        "action": "c2pa.created",
                        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
                    }
                ]
            },
            "created": True,
        }
    ],
}


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def usage(*granted):
    return x509.KeyUsage(**{name: name in granted for name in USAGES})


def name_of(text):
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test keys")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text), organisation])


@dataclass
class Shape:
    """How a certificate is to look; what is None is left out."""

    days: float = 300
    until: datetime | None = None
    granted: tuple | None = ("digital_signature",)
    usage_critical: bool = True
    purposes: tuple | None = PURPOSES
    purposes_critical: bool = False
    ca: bool | None = False
    path_length: int | None = None
    subject_id: bool = True
    authority_id: bool = True


LEAF = Shape()
AUTHORITY = Shape(days=3650, granted=("key_cert_sign", "crl_sign"), purposes=None, ca=True)


def certificate(text, key, issuer=None, issuer_key=None, shape=LEAF):
    """A certificate for a key, by an issuer or by itself."""
    signing_key, issuer_name = issuer_key or key, issuer.subject if issuer else name_of(text)
    since = datetime.now(UTC) - timedelta(hours=1)
    builder = x509.CertificateBuilder().subject_name(name_of(text)).issuer_name(issuer_name)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(since).not_valid_after(shape.until or since + timedelta(days=shape.days))
    extensions = [
        (shape.granted is not None and usage(*shape.granted), shape.usage_critical),
        (shape.purposes is not None and x509.ExtendedKeyUsage(shape.purposes), shape.purposes_critical),
        (shape.ca is not None and x509.BasicConstraints(shape.ca, shape.path_length), True),
        (shape.subject_id and x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (
            shape.authority_id and x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            False,
        ),
    ]
    for extension, critical in extensions:
        if extension:
            builder = builder.add_extension(extension, critical)
    return builder.sign(signing_key, None if isinstance(signing_key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def pem_of(*certificates):
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def der_of(*certificates):
    return tuple(one.public_bytes(Encoding.DER) for one in certificates)


def key_pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def credential(key=None, shape=LEAF, **said):
    """A credential under a root of its own, with the key in memory unless told otherwise."""
    key, root_key = key or new_key(), new_key()
    root = certificate("test root", root_key, shape=AUTHORITY)
    leaf = certificate("test leaf", key, root, root_key, shape)
    pem = None if "sign_with" in said else key_pem(key)
    return Signing("test leaf", "test", pem_of(leaf), pem, (pem_of(root),), **said)


# --- a time stamp server ------------------------------------------------------------------------------------

_CONFIGURATION = """
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/leaf.pem
certs = {folder}/leaf.pem
signer_key = {folder}/leaf.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256, sha384, sha512
tsa_name = yes
ess_cert_id_alg = sha256
"""


REJECTED = bytes.fromhex("30053003020102")  # RFC 3161: a status of 2, and no token


@dataclass
class TimeStampServer:
    """`openssl ts -reply` behind HTTP, in a thread; `manner` says how it behaves."""

    folder: Path
    root: bytes
    url: str = ""
    manner: str = "good"
    asked: list = field(default_factory=list)
    former: bytes = b""
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, query):
        """What openssl answers to a query."""
        path = self.folder / f"query-{uuid4().hex}"
        path.write_bytes(query)
        command = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", path]
        with self.one_at_a_time:  # openssl counts in a file
            return subprocess.run(command, cwd=self.folder, capture_output=True, check=True).stdout


def time_stamp_keys(folder, until=None):
    """Root, leaf and configuration of a time stamp server in a folder; gives the root, PEM."""
    root_key, key = new_key(), new_key()
    root = certificate("stamp root", root_key, shape=AUTHORITY)
    shape = Shape(days=1000, until=until, purposes=(ExtendedKeyUsageOID.TIME_STAMPING,), purposes_critical=True)
    (folder / "leaf.pem").write_bytes(pem_of(certificate("stamp server", key, root, root_key, shape)))
    (folder / "leaf.key").write_bytes(key_pem(key))
    (folder / "tsa.cnf").write_text(_CONFIGURATION.format(folder=folder.as_posix()))
    return pem_of(root)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        told = self.server.told
        query = self.rfile.read(int(self.headers["Content-Length"]))
        told.asked.append(query)
        if told.manner == "refusing":
            self.send_error(503)
            return
        if told.manner == "replaying":
            answer = told.former
        else:
            made = {"junk": b"junk" * 100, "rejecting": REJECTED, "endless": bytes(100_000)}
            answer = made[told.manner] if told.manner in made else told.reply(query)
            told.former = answer
        self.send_response(200)
        self.send_header("Content-Type", "application/timestamp-reply")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if told.manner == "slow":
            self.wfile.write(answer[:10])
            self.wfile.flush()
            time.sleep(2)
        self.wfile.write(answer)

    def log_message(self, *_):
        """Say nothing."""

    def handle(self):
        try:
            super().handle()
        except OSError:  # the client has gone
            self.close_connection = True


def serve_time_stamps(folder, until=None):
    """Start a time stamp server; gives it and what stops it."""
    told = TimeStampServer(folder, time_stamp_keys(folder, until))
    server = _Server(("127.0.0.1", 0), _Handler)
    server.told = told
    told.url = f"http://127.0.0.1:{server.server_port}/stamp"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return told, server


OPENSSL = shutil.which("openssl")
