import base64
import hashlib
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from guardrail import act
from guardrail.act.detached import sign_digest, signer_of

CONTENT = b"what is signed"
DIGEST = hashlib.sha256(CONTENT).digest()


def now():
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours") / "keys"
    act.make_development_keys(folder)
    return act.load_signing(folder)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs") / "keys"
    act.make_development_keys(folder)
    return act.load_signing(folder)


def test_signature_leads_to_its_anchor(ours):
    anchor = x509.load_pem_x509_certificate(ours.anchors[0])
    found = signer_of(DIGEST, sign_digest(DIGEST, ours), ours.chain, ours.anchors, now())
    assert found == anchor.fingerprint(hashes.SHA256()).hex()


def test_openssl_agrees(ours, tmp_path):
    leaf = x509.load_pem_x509_certificate(ours.chain)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "key").write_bytes(leaf.public_key().public_bytes(serialization.Encoding.PEM, spki))
    (tmp_path / "content").write_bytes(CONTENT)
    (tmp_path / "signature").write_bytes(base64.b64decode(sign_digest(DIGEST, ours)))
    command = ["openssl", "dgst", "-sha256", "-verify", "key", "-signature", "signature", "content"]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert done.stdout == "Verified OK\n"


def test_other_content_is_refused(ours):
    with pytest.raises(ValueError, match="does not fit"):
        signer_of(hashlib.sha256(b"other").digest(), sign_digest(DIGEST, ours), ours.chain, ours.anchors, now())


def test_other_signer_is_refused_though_the_signature_holds(ours, theirs):
    with pytest.raises(ValueError, match="under none of the trusted roots"):
        signer_of(DIGEST, sign_digest(DIGEST, theirs), theirs.chain, ours.anchors, now())
    with pytest.raises(ValueError, match="does not fit"):
        signer_of(DIGEST, sign_digest(DIGEST, theirs), ours.chain, ours.anchors, now())
    with pytest.raises(ValueError, match="no root certificate"):
        signer_of(DIGEST, sign_digest(DIGEST, ours), ours.chain, (), now())


@pytest.mark.parametrize("days", [-1, 366])
def test_certificate_that_is_not_valid_then_is_refused(ours, days):
    with pytest.raises(ValueError, match="not valid"):
        signer_of(DIGEST, sign_digest(DIGEST, ours), ours.chain, ours.anchors, now() + timedelta(days=days))


def test_leaf_cannot_issue_another_signer(ours):
    leaf = x509.load_pem_x509_certificate(ours.chain)
    leaf_key = serialization.load_pem_private_key(ours.key, password=None)
    key = ec.generate_private_key(ec.SECP256R1())
    forged = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(leaf.subject)
    forged = forged.public_key(key.public_key()).serial_number(7)
    forged = forged.not_valid_before(now() - timedelta(days=1)).not_valid_after(now() + timedelta(days=1))
    for extension in leaf.extensions:
        forged = forged.add_extension(extension.value, extension.critical)
    chain = forged.sign(leaf_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + ours.chain
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    signature = sign_digest(DIGEST, act.Signing("forged", "", chain, pem, ours.anchors))
    with pytest.raises(ValueError, match="under none of the trusted roots"):
        signer_of(DIGEST, signature, chain, ours.anchors, now())


@pytest.mark.parametrize(("signature", "chain"), [("not base64!", None), ("AAAA", None), ("AAAA", b""), ("", b"-----")])
def test_garbage_is_refused(ours, signature, chain):
    with pytest.raises(ValueError, match=r"no certificate|does not fit"):
        signer_of(DIGEST, signature, ours.chain if chain is None else chain, ours.anchors, now())
