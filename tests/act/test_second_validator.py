"""What others' validators say of our files: encypher-c2pa, written apart from the SDK that signs, and c2patool."""

import json
import shutil
import subprocess

import encypher_c2pa
import pytest
from act_samples import accepted, noise, output_of, why

from guardrail.act import ATTRIBUTION_LABEL, attribution_assertion, sign
from guardrail.carriers import ParentFile
from guardrail.records import Watermark

MIMES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
MARK = Watermark(algorithm="com.adobe.trustmark.P", payload="5a" * 8, bits=64, bits_found=64, registered=True)


@pytest.fixture(autouse=True)
def at_home_nowhere(monkeypatch, tmp_path):
    """It sends nothing, asks nothing and keeps nothing."""
    monkeypatch.setenv("ENCYPHER_C2PA_TELEMETRY", "off")
    monkeypatch.setenv("ENCYPHER_C2PA_ONLINE", "off")
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    assert list(tmp_path.rglob("*encypher*")) == []


@pytest.fixture(scope="module", params=list(MIMES))
def mime(request):
    return request.param


@pytest.fixture(scope="module")
def said():
    verdict = accepted()
    return why(verdict) | {ATTRIBUTION_LABEL: attribution_assertion(verdict)}


def looked_at(content, mime, signing, *, strict=False):
    """(state, codes of failed checks)."""
    anchors = b"".join(signing.anchors).decode()
    report = encypher_c2pa.verify(content, mime, trust_pem=anchors, no_default_trust=True, strict_conformance=strict)
    return report["validation_state"], {one["code"] for one in report["validation_results"]["failure"]}


def test_our_file_is_trusted(mime, signing, said):
    content = sign(output_of(mime=mime), accepted(), said, signing).content
    assert looked_at(content, mime, signing) == ("Trusted", set())


def test_file_with_a_mark_and_a_parent_is_trusted(mime, signing, said):
    parent = ParentFile(sign(output_of(noise(seed=1), mime), accepted(), said, signing).content, mime, 0.5)
    content = sign(output_of(mime=mime, parent=parent, watermark=MARK), accepted(), said, signing).content
    assert looked_at(content, mime, signing) == ("Trusted", set())


def test_what_it_misses_in_strict_mode_is_revocation_and_a_time_stamp_alone(mime, signing, said):
    """Development keys have neither; docs/provenance.md says so."""
    content = sign(output_of(mime=mime), accepted(), said, signing).content
    _, failures = looked_at(content, mime, signing, strict=True)
    assert failures == {
        "com.encypher.conformance.revocationInformationMissing",
        "com.encypher.conformance.trustedTimeStampMissing",
    }


def test_forger_with_our_names_is_not_trusted(mime, signing, forger, said):
    content = sign(output_of(mime=mime), accepted(), said, forger).content
    state, failures = looked_at(content, mime, signing)
    assert state != "Trusted"
    assert failures == {"signingCredential.untrusted"}


@pytest.mark.parametrize(
    ("what", "code"), [("picture", "assertion.dataHash"), ("verdict", "assertion.hashedURI.mismatch")]
)
def test_changed_file_is_invalid(mime, signing, said, what, code):
    content = sign(output_of(mime=mime), accepted(), said, signing).content
    # the picture lies behind the manifest, but in WebP before it
    at = {"verdict": content.find(b"default"), "picture": 60 if mime == "image/webp" else len(content) - 30}[what]
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    state, failures = looked_at(changed, mime, signing)
    assert state == "Invalid"
    assert any(one.startswith(code) for one in failures)


def test_manifest_that_was_moved_to_another_picture_is_invalid(signing, said):
    """Transplant: the chunk with the manifest, put into another file of the same length of header."""
    content = sign(output_of(), accepted(), said, signing).content
    length = int.from_bytes(content[33:37], "big")
    other = output_of(noise(seed=1)).content
    moved = other[:33] + content[33 : 33 + 12 + length] + other[33:]
    state, failures = looked_at(moved, "image/png", signing)
    assert state == "Invalid"
    assert "assertion.dataHash.mismatch" in failures


@pytest.mark.skipif(shutil.which("c2patool") is None, reason="c2patool is not on PATH")
def test_c2patool_trusts_our_file(mime, signing, said, tmp_path):
    path, anchors = tmp_path / f"a{MIMES[mime]}", tmp_path / "anchors.pem"
    path.write_bytes(sign(output_of(mime=mime), accepted(), said, signing).content)
    anchors.write_bytes(b"".join(signing.anchors))
    command = ["c2patool", str(path), "trust", "--trust_anchors", str(anchors)]
    report = json.loads(subprocess.check_output(command, text=True, timeout=60))
    assert report["validation_state"] == "Trusted"
