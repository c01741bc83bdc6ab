"""Exporting and importing as two parties do it, on real pictures and by the commands."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from guardrail.desk.cli import app

RUNNER = CliRunner()
WORKS = Path(__file__).parents[2] / "indexes" / "demo" / "works"
NAMES = ("bulldog-puppy", "orange-slice", "red-eye-frog")


def run(*words):
    return RUNNER.invoke(app, [str(word) for word in words], catch_exceptions=True)


def answer(done):
    assert done.exit_code in (0, 1), (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def parties(tmp_path_factory):
    """A rights holder with three works, an index and keys; and somebody else with keys of their own."""
    home = tmp_path_factory.mktemp("parties")
    (home / "works").mkdir()
    for name in NAMES:
        shutil.copy(WORKS / f"{name}.webp", home / "works")
    assert run("index", "build", home / "works", home / "index").exit_code == 0
    for name in ("keys", "others"):
        assert run("keys", "init", "--dir", home / name, "--name", name).exit_code == 0
    assert run("index", "export", home / "index", home / "a.jsonl", "--keys", home / "keys").exit_code == 0
    return home


def test_list_is_signed_and_carries_no_name_of_a_file(parties):
    content = (parties / "a.jsonl").read_text()
    assert all(name not in content for name in (*NAMES, "works/", ".webp"))
    assert (
        answer(run("index", "export", parties / "index", parties / "b.jsonl", "--keys", parties / "keys", "--json"))[
            "signer"
        ]
        == "keys"
    )


def test_made_index_finds_what_a_list_of_theirs_holds(parties, tmp_path):
    imported = answer(
        run(
            "index",
            "import",
            tmp_path / "index",
            parties / "a.jsonl",
            "--trust",
            parties / "keys",
            "--create",
            "--json",
        )
    )
    assert (imported["added"], imported["works"], imported["signer"]) == (3, 3, "keys")
    with Image.open(parties / "works" / "red-eye-frog.webp") as image:
        image.convert("RGB").resize((300, 300)).save(tmp_path / "copy.jpg")
    checked = run("check", tmp_path / "copy.jpg", "--index", tmp_path / "index", "--json")
    (found,) = json.loads(checked.stdout)["images"]
    assert (found["decision"], found["nearest"][0]["bank"]) == ("block", "default")
    verified = answer(run("index", "verify", tmp_path / "index", "--json"))
    assert verified["damaged"] == []
    (tmp_path / "index" / "ORIGINS.json").write_text("{}")
    assert answer(run("index", "verify", tmp_path / "index", "--json"))["damaged"][0]["file"].endswith("ORIGINS.json")


def test_index_of_one_imported_hash_finds_its_picture(parties, tmp_path):
    """Where others go wrong: https://github.com/facebook/ThreatExchange/issues/1318."""
    pdq = json.loads((parties / "a.jsonl").read_text().splitlines()[1])["pdq"]
    (tmp_path / "one.txt").write_text(f"pdq {pdq}\n")
    imported = answer(
        run("index", "import", tmp_path / "index", tmp_path / "one.txt", "--unsigned", "--create", "--json")
    )
    assert (imported["added"], imported["works"], imported["anchor"]) == (1, 1, "unsigned")
    checked = run(
        "check", *(parties / "works" / f"{name}.webp" for name in NAMES), "--index", tmp_path / "index", "--json"
    )
    images = {Path(one["path"]).stem: one for one in json.loads(checked.stdout)["images"]}
    blocked = [name for name, one in images.items() if one["decision"] == "block"]
    assert len(blocked) == 1
    nearest = images[blocked[0]]["nearest"][0]
    assert (nearest["work_id"], nearest["signal"], nearest["distance_bits"]) == (f"pdq-{pdq}", "pdq", 0)


def refused(done):
    assert done.exit_code == 1
    return f"{done.exception}"


def test_list_that_nobody_trusted_signed_is_refused(parties, tmp_path):
    command = ("index", "import", parties / "index", parties / "a.jsonl")
    before = (parties / "index" / "MANIFEST.json").read_bytes()
    assert "no root certificate to trust" in refused(run(*command))
    assert "under none of the trusted roots" in refused(run(*command, "--trust", parties / "others" / "root.pem"))
    assert "nowhere.pem" in refused(run(*command, "--trust", tmp_path / "nowhere.pem"))
    lines = (parties / "a.jsonl").read_text().splitlines()
    head, foot = json.loads(lines[0]), json.loads(lines[-1])
    (tmp_path / "unsigned.jsonl").write_text(
        "\n".join([*lines[:-1], json.dumps(foot | {"signature": None}, separators=(",", ":"))])
    )
    assert "found no signature" in refused(
        run("index", "import", parties / "index", tmp_path / "unsigned.jsonl", "--trust", parties / "keys")
    )
    (tmp_path / "edited.jsonl").write_text("\n".join([lines[0].replace('"works":3', '"works":4'), *lines[1:]]))
    assert "expected" in refused(
        run("index", "import", parties / "index", tmp_path / "edited.jsonl", "--trust", parties / "keys", "--unsigned")
    )
    (tmp_path / "hashes.txt").write_text("pdq " + "a5" * 32)
    assert "carries no signature" in refused(run("index", "import", parties / "index", tmp_path / "hashes.txt"))
    assert head["signer"]["name"] == "keys"
    assert (parties / "index" / "MANIFEST.json").read_bytes() == before


def test_list_of_a_forger_who_shows_our_certificate_is_refused(parties, tmp_path):
    """The digest is theirs, and the certificate is ours: the signature cannot be."""
    import hashlib

    from guardrail.act import load_signing
    from guardrail.act.detached import sign_digest

    lines = (parties / "a.jsonl").read_bytes().splitlines(keepends=True)
    content = b"".join([lines[0], lines[1].replace(b'"protect"', b'"ignore"'), *lines[2:-1]])
    digest = hashlib.sha256(content)
    signature = sign_digest(digest.digest(), load_signing(parties / "others"))
    foot = {"kind": "foot", "lines": len(lines) - 1, "sha256": digest.hexdigest(), "signature": signature}
    (tmp_path / "forged.jsonl").write_bytes(content + json.dumps(foot, separators=(",", ":")).encode())
    trust = ("--trust", parties / "keys", "--trust", parties / "others")
    done = run("index", "import", parties / "index", tmp_path / "forged.jsonl", *trust)
    assert "does not fit its content" in refused(done)


def test_withdrawal_travels_in_a_delta(parties, tmp_path):
    shutil.copytree(parties / "index", tmp_path / "mine")
    trust = ("--trust", parties / "keys" / "root.pem", "--json")
    made = answer(
        run("index", "import", tmp_path / "theirs", parties / "a.jsonl", "--create", "--bank", "partner", *trust)
    )
    assert made["works"] == 3
    gone = json.loads((parties / "a.jsonl").read_text().splitlines()[1])["work_id"]
    assert run("index", "remove", tmp_path / "mine", gone).exit_code == 0
    change = tmp_path / "b.parquet"
    exported = run(
        "index",
        "export",
        tmp_path / "mine",
        change,
        "--since",
        parties / "a.jsonl",
        "--keys",
        parties / "keys",
        "--json",
    )
    said = answer(exported)
    assert (said["works"], said["withdrawn"], said["since"]["sha256"]) == (
        0,
        1,
        json.loads((parties / "a.jsonl").read_text().splitlines()[-1])["sha256"],
    )
    done = answer(run("index", "import", tmp_path / "theirs", change, "--bank", "partner", *trust))
    assert (done["withdrawn"], done["works"]) == (1, 2)
    assert "would undo changes" in refused(
        run("index", "import", tmp_path / "theirs", parties / "a.jsonl", "--bank", "partner", *trust)
    )


def test_bad_lines_are_shown_with_their_number_and_exit_code_1(parties, tmp_path):
    shutil.copytree(parties / "index", tmp_path / "index")
    (tmp_path / "a.txt").write_text("pdq " + "a5" * 32 + "\npdq \x1b[2J\nmd5 abc\n")
    done = run("index", "import", tmp_path / "index", tmp_path / "a.txt", "--unsigned", "--bank", "exchange")
    assert done.exit_code == 1
    assert "line 2:" in done.stderr
    assert "left out: 1 x a signal of the type 'md5'" in done.stderr
    assert "\x1b" not in done.output
    assert "1 added" in done.stdout
    again = answer(
        run("index", "import", tmp_path / "index", tmp_path / "a.txt", "--unsigned", "--bank", "exchange", "--json")
    )
    assert (again["added"], again["unchanged"], again["bad"][0]["line"]) == (0, 1, 2)


def test_options_that_cannot_be_followed_are_said(parties, tmp_path):
    assert "--format" in refused(run("index", "import", parties / "index", "x", "--format", "xml"))
    assert "both" in refused(
        run("index", "export", parties / "index", tmp_path / "x.jsonl", "--keys", "k", "--unsigned")
    )
    assert "no signing key" in refused(run("index", "export", parties / "index", tmp_path / "x.jsonl"))
    assert "--create" in refused(
        run("index", "import", tmp_path / "nowhere", parties / "a.jsonl", "--trust", parties / "keys")
    )


def test_our_pdq_is_that_of_python_threatexchange(parties):
    """Bit for bit, see docs/rooms/fingerprint.md."""
    pytest.importorskip("threatexchange")
    import numpy as np
    from threatexchange.signal_type.pdq.pdq_hasher import pdq_from_file
    from threatexchange.signal_type.pdq.signal import PdqSignal

    from guardrail.index import FolderIndex

    for batch in FolderIndex(parties / "index").export_batches():
        for file, ours in zip(batch.files, batch.arrays["pdq"], strict=True):
            theirs, quality = pdq_from_file(parties / "works" / file)
            assert quality >= PdqSignal.QUALITY_THRESHOLD
            bits = np.unpackbits(ours ^ np.frombuffer(bytes.fromhex(theirs), np.uint8)).sum()
            assert bits == 0
            assert PdqSignal.compare_hash(ours.tobytes().hex(), theirs).match
