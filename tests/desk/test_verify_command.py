"""`guardrail verify` layer by layer: ours, stripped, withdrawn, elsewhere, and pages that a person reads."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from guardrail.act import decode_image, describe_release, encode_image, load_signing, make_development_keys, sign
from guardrail.carriers import OutputPicture, Picture
from guardrail.desk.cli import app
from guardrail.desk.verify_page import _told
from guardrail.fingerprint import MiniEmbedder
from guardrail.memory import Memory
from guardrail.recognising import Recognising
from guardrail.records import Decision, Verdict, VerifyLayer, VerifyOutcome, VerifyReport

WORK = Path(__file__).parents[2] / "indexes" / "demo" / "works" / "red-eye-frog.webp"
OTHER = WORK.with_name("caterpillar.webp")


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Keys, a ledger that knows one release and its prints, and the released file."""
    home = tmp_path_factory.mktemp("home")
    make_development_keys(home / "keys")
    (home / "guardrail.toml").write_text('home = "."\ndevice = "cpu"\n')
    release_one(home, WORK, home / "frog.png", "v" * 32)
    return home


def release_one(home, work, path, verdict_id):
    with Image.open(work) as image:
        rows = np.asarray(image.convert("RGB"))
    content = encode_image(rows, "image/png")
    output = OutputPicture(content, "image/png", decode_image(content, "image/png"))
    signed = sign(output, accepted(verdict_id), {}, load_signing(home / "keys"))
    path.write_bytes(signed.content)
    memory = Memory(f"sqlite:///{home / 'memory.db'}")
    picture = Picture("frog", pixels=torch.from_numpy(rows.copy()).permute(2, 0, 1).contiguous())
    prints = Recognising(memory, MiniEmbedder("cpu")).prints_of(picture)
    memory.record_release(describe_release(signed, path), prints)
    memory.close()
    return signed


def accepted(verdict_id):
    return Verdict(
        verdict_id=verdict_id,
        image="frog",
        pixels_sha256="1" * 64,
        at=datetime.now(UTC),
        decision=Decision.ACCEPT,
        rule="default",
        explanation="nothing protected is near",
        evidence=(),
        nearest=(),
        credits=(),
        index_snapshot="2" * 64,
        policy_sha256="3" * 64,
        calibration="uncalibrated",
    )


def verified(home, *words):
    done = run("verify", *words, "--settings", home / "guardrail.toml", "--json")
    document = json.loads(done.stdout)["files"][0]
    return done.exit_code, document, {layer["layer"]: layer for layer in document.get("layers", ())}


def test_ours_holds_by_credential_and_ledger(home):
    code, document, layers = verified(home, home / "frog.png")
    assert (code, document["outcome"]) == (0, "ours")
    assert list(layers) == ["credential", "time_stamp", "watermark", "ledger", "fingerprint"]
    findings = {name: layer["finding"] for name, layer in layers.items()}
    assert findings == {
        "credential": "holds",
        "time_stamp": "absent",
        "watermark": "not_asked",
        "ledger": "holds",
        "fingerprint": "not_asked",
    }
    assert layers["ledger"]["facts"]["manifest"] == document["manifest_id"]


def test_copy_without_credentials_is_said_to_look_like_our_output(home, tmp_path):
    with Image.open(home / "frog.png") as image:
        image.convert("RGB").resize((128, 128)).save(tmp_path / "stripped.jpg", quality=50)
    code, document, layers = verified(home, tmp_path / "stripped.jpg")
    assert (code, document["outcome"], document["manifest_id"]) == (22, "no_credential", None)
    assert layers["fingerprint"]["finding"] == "holds"
    assert "credentials removed" in document["explanation"]
    own = verified(home, home / "frog.png")[1]["manifest_id"]
    assert layers["fingerprint"]["facts"]["manifest"] == own
    assert own in document["explanation"]


def test_other_picture_without_credentials_looks_like_nothing_of_ours(home):
    code, document, layers = verified(home, OTHER)
    assert (code, layers["fingerprint"]["finding"]) == (22, "absent")
    assert "our output" not in document["explanation"]


def test_tampered_copy_is_tampered_and_recognised(home, tmp_path):
    content = (home / "frog.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(content + b"more")
    code, document, layers = verified(home, tmp_path / "torn.png")
    assert (code, document["decision"], document["claims"]) == (20, None, {})
    assert layers["fingerprint"]["finding"] == "holds"
    assert "not as we gave them" in layers["fingerprint"]["explanation"]


def test_tampered_file_that_shows_nothing_is_still_tampered(home, tmp_path):
    content = bytearray((home / "frog.png").read_bytes())
    content[content.rindex(b"IDAT") + 12] ^= 1
    (tmp_path / "broken.png").write_bytes(content)
    code, _, layers = verified(home, tmp_path / "broken.png")
    assert (code, layers["fingerprint"]["finding"]) == (20, "unavailable")


def test_ours_by_signature_but_not_in_this_ledger(home, tmp_path):
    output = OutputPicture(
        encode_image(np.zeros((8, 8, 3), np.uint8), "image/png"), "image/png", np.zeros((8, 8, 3), np.uint8)
    )
    signed = sign(output, accepted("w" * 32), {}, load_signing(home / "keys"))
    (tmp_path / "unknown.png").write_bytes(signed.content)
    code, _, layers = verified(home, tmp_path / "unknown.png")
    assert (code, layers["ledger"]["finding"]) == (0, "absent")
    assert "ours by signature" in layers["ledger"]["explanation"]


def test_withdrawn_release_fails_in_the_ledger(home, tmp_path):
    release_one(home, OTHER, tmp_path / "back.png", "x" * 32)
    memory = Memory(f"sqlite:///{home / 'memory.db'}")
    memory.record_withdrawal("x" * 32, "it should not have left")
    memory.close()
    code, _, layers = verified(home, tmp_path / "back.png")
    assert (code, layers["ledger"]["finding"]) == (0, "fails")
    assert "withdrawn" in layers["ledger"]["explanation"]


@pytest.mark.parametrize("differs", ["pixels_sha256", "binding_sha256"])
def test_file_that_differs_from_what_the_ledger_recorded_is_never_ours(home, tmp_path, differs, monkeypatch):
    """Signed and intact, but not what was released: no accept, no claims, and no exit code 0."""
    usual = Memory.releases_by_manifest

    def edited(memory, manifest_id):
        return tuple(release.model_copy(update={differs: "0" * 64}) for release in usual(memory, manifest_id))

    monkeypatch.setattr(Memory, "releases_by_manifest", edited)
    code, document, layers = verified(home, home / "frog.png")
    assert (code, document["outcome"]) == (20, "tampered")
    assert (document["decision"], document["claims"]) == (None, {})
    assert "under our anchor, but its manifest was released by us" in document["explanation"]
    assert (layers["credential"]["finding"], layers["ledger"]["finding"]) == ("holds", "fails")


def test_ledger_can_be_left_out_and_need_not_be_there(home, tmp_path):
    assert verified(home, home / "frog.png", "--no-ledger")[2]["ledger"]["finding"] == "not_asked"
    (tmp_path / "guardrail.toml").write_text('home = "nowhere"\ndevice = "cpu"\n')
    done = run(
        "verify", home / "frog.png", "--anchor", home / "keys", "--settings", tmp_path / "guardrail.toml", "--json"
    )
    layers = {one["layer"]: one for one in json.loads(done.stdout)["files"][0]["layers"]}
    assert (done.exit_code, layers["ledger"]["finding"]) == (0, "unavailable")
    assert not (tmp_path / "nowhere").exists(), "looking makes no ledger"


def test_mark_that_cannot_be_looked_for_is_unavailable(home):
    (home / "marked.toml").write_text('home = "."\ndevice = "cpu"\n[watermark]\nname = "nobody\'s"\n')
    done = run("verify", home / "frog.png", "--settings", home / "marked.toml", "--json")
    layers = {one["layer"]: one for one in json.loads(done.stdout)["files"][0]["layers"]}
    assert (done.exit_code, layers["watermark"]["finding"]) == (0, "unavailable")


def test_unreadable_file_does_not_stop_the_others(home, tmp_path):
    (tmp_path / "text.png").write_text("text")
    done = run("verify", tmp_path / "text.png", home / "frog.png", "--settings", home / "guardrail.toml", "--json")
    assert [one["outcome"] for one in json.loads(done.stdout)["files"]] == ["unreadable", "ours"]
    assert done.exit_code == 1


def test_page_tells_what_was_signed_and_fetches_nothing(home, tmp_path):
    evil = tmp_path / "<script>alert(1)<.png"
    evil.write_bytes((home / "frog.png").read_bytes())
    (tmp_path / "text.png").write_text("text")
    page = tmp_path / "page.html"
    done = run("verify", evil, OTHER, tmp_path / "text.png", "--settings", home / "guardrail.toml", "--html", page)
    assert done.exit_code == 22
    text = page.read_text()
    assert "<script>" not in text
    assert "default-src 'none'" in text
    assert text.count("data:image/jpeg;base64,") == 2
    assert "who claims" in text
    assert "It could not be read" in text
    assert not {"authentic", "genuine"} & set(text.lower().split())


def test_page_says_of_a_stripped_copy_that_it_is_ours_without_our_signature():
    layer = VerifyLayer(layer="fingerprint", finding="holds", explanation="looks like our output")
    stripped = VerifyReport(path="x", outcome=VerifyOutcome.NO_CREDENTIAL, explanation="", layers=(layer,))
    assert _told(stripped)[0] == "A copy of a picture of ours, without our signature"
    taken = stripped.model_copy(update={"outcome": VerifyOutcome.OTHER_SIGNER})
    assert _told(taken)[0] == "A copy of a picture of ours, signed by somebody else"
    changed = stripped.model_copy(update={"outcome": VerifyOutcome.TAMPERED})
    assert _told(changed)[0] == "Changed after it was signed"
    unknown = stripped.model_copy(update={"layers": (layer.model_copy(update={"finding": "absent"}),)})
    assert _told(unknown)[0] == "Nothing in it says who made it"
    assert _told(None)[0] == "It could not be read"


def test_page_uses_no_word_of_the_trade(home, tmp_path):
    """Who gets such a page never heard of manifests and ledgers: such words are in the details alone."""
    page = tmp_path / "page.html"
    run("verify", home / "frog.png", OTHER, "--settings", home / "guardrail.toml", "--html", page)
    text = re.sub(r"<style>.*?</style>|<details>.*?</details>", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"<h[1-3]>(.*?)</h[1-3]>|<b>(.*?)</b>|<li>(.*?)</li>", text)
    said = " ".join(word for words in headings for word in words).lower()
    assert "our records" in said
    assert [word for word in ("ledger", "manifest", "credential", "fingerprint", "c2pa", "_") if word in said] == []


def test_page_names_files_and_no_folder(home, tmp_path):
    """Neither of the files that were looked at, nor of where they were released, nor of the ledger."""
    folder = tmp_path / "secret folder"
    folder.mkdir()
    (folder / "te xt.png").write_text("text")
    release_one(home, OTHER, folder / "back again.png", "y" * 32)
    page = tmp_path / "page.html"
    files = (home / "frog.png", folder / "te xt.png", folder / "back again.png", folder / "nowhere.png")
    run("verify", *files, "--settings", home / "guardrail.toml", "--html", page)
    text = page.read_text()
    assert "released as" in text
    assert all(path.name in text for path in files)
    assert [part for part in ("secret", "folder/", str(tmp_path.parent), f"{home.name}/") if part in text] == []
    (folder / "guardrail.toml").write_text('home = "no where"\ndevice = "cpu"\n')
    run("verify", home / "frog.png", "--anchor", home / "keys", "--settings", folder / "guardrail.toml", "--html", page)
    assert "memory.db" in page.read_text()
    assert "secret" not in page.read_text()


def test_page_shows_no_letter_that_steers(tmp_path):
    """Whoever makes a certificate writes its name; a terminal or a browser must not obey it."""
    make_development_keys(tmp_path / "keys", common_name="\x1b[31m<b>Ann\u202e\nours: yes")
    (tmp_path / "guardrail.toml").write_text('home = "."\ndevice = "cpu"\n')
    rows = np.zeros((8, 8, 3), np.uint8)
    output = OutputPicture(encode_image(rows, "image/png"), "image/png", rows)
    signed = sign(output, accepted("z" * 32), {}, load_signing(tmp_path / "keys"))
    (tmp_path / "fox\x1b[0m.png").write_bytes(signed.content)
    page = tmp_path / "page.html"
    done = run("verify", tmp_path / "fox\x1b[0m.png", "--settings", tmp_path / "guardrail.toml", "--html", page)
    text = page.read_text()
    assert done.exit_code == 0
    assert "&lt;b&gt;Ann" in text
    assert [part for part in ("\x1b", "\u202e", "<b>Ann") if part in text] == []


def test_page_that_cannot_be_written_is_an_error(home, tmp_path):
    done = run("verify", home / "frog.png", "--settings", home / "guardrail.toml", "--html", tmp_path / "no" / "page")
    assert done.exit_code == 1


def test_single_file_is_told_layer_by_layer(home):
    done = run("verify", home / "frog.png", "--settings", home / "guardrail.toml")
    for word in ("credential", "time stamp", "watermark", "ledger", "fingerprint"):
        assert word in done.stdout
    assert done.stdout.split()[0] == "outcome"
