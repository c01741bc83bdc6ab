"""`bench provenance` as a person runs it: what it measures, what it changes, and that it says what does not hold."""

import json
from itertools import islice

import pytest
from typer.testing import CliRunner

from guardrail.act import load_signing, make_development_keys, sdk
from guardrail.act.container import without_manifest
from guardrail.act.rubric import RubricCheck
from guardrail.desk import provenance_command, provenance_run
from guardrail.desk.cli import app
from guardrail.desk.provenance_run import MIMES, Signer, Spent
from guardrail.desk.provenance_tampering import Tampering, changed_bytes, place_of_manifest, with_manifest_of
from guardrail.plugins import build_plugins
from guardrail.records import VerifyOutcome
from guardrail.settings import Settings
from guardrail.shipped import shipped_folder

RUNNER = CliRunner()
SMALL = ("--images", 2, "--side", 64, "--rows", 50, "--every", 211)
WORKS = shipped_folder("demo") / "works"


def bench(*words):
    done = RUNNER.invoke(app, [str(word) for word in ("bench", "provenance", *SMALL, "--json", *words)])
    return done, json.loads(done.stdout) if done.stdout.startswith("{") else None


@pytest.fixture(scope="module")
def measured():
    done, document = bench()
    assert done.exit_code == 0, done.output
    return document


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def signer(scratch):
    make_development_keys(scratch / "keys")
    settings = Settings(home=scratch, keys=scratch / "keys")
    return Signer(build_plugins(), settings, load_signing(scratch / "keys"), scratch)


@pytest.fixture(scope="module")
def pictures():
    return list(islice(provenance_command._Pictures(WORKS, 64, 10**8).endless(), 2))


def failing(document):
    return [one["claim"] for one in document["holds"] if not one["holds"]]


def test_every_picture_of_every_type_is_ours_and_passes_the_rubric(measured):
    assert [one["mime"] for one in measured["types"]] == list(MIMES)
    for one in measured["types"]:
        assert one["images"] == one["ours"] == one["rubric"]["images_that_pass_all"] == 2
        assert one["rubric"]["checks"] == 31
        spent, both = one["sign_and_read_back_cpu_ms"], one["with_encoding_cpu_ms"]
        assert 0 < spent["median_ms"] <= spent["high_ms"] <= both["high_ms"]
        assert 1000 < one["added_bytes"]["median"] <= one["added_bytes"]["most"] < 8000


def test_every_way_of_changing_a_file_is_tried_and_none_is_taken_for_ours(measured):
    ways = {one["way"]: one for one in measured["changed"]}
    assert ways["a field of the verdict"]["tried"] >= 3 * 20
    assert ways["signed by somebody with our names"]["outcomes"] == {"other_signer": 6}
    assert ways["opened and saved again"]["outcomes"] == {"no_credential": 9}
    assert ways["another picture under our manifest"]["outcomes"] == {"tampered": 3}
    assert ways["bytes after the end"]["ours"] == ways["one bit outside the manifest"]["ours"] == 0
    assert ways["one bit outside the manifest"]["tried"] > 10


def test_ledger_of_the_asked_length_is_verified(measured):
    assert measured["ledger"]["rows"] == 50
    assert measured["ledger"]["verify_cpu_s"] > 0


def test_table_says_what_holds_and_what_not(monkeypatch):
    monkeypatch.setattr(provenance_command, "_ADDED_BYTES", 10)
    done = RUNNER.invoke(app, [str(word) for word in ("bench", "provenance", *SMALL)])
    assert done.exit_code == 1
    assert "FAILS" in done.stdout
    assert "holds" in done.stdout


def test_file_against_the_rubric_makes_it_exit_1(monkeypatch):
    wrong = RubricCheck("validation:valid_success", ("injected",))
    monkeypatch.setattr(provenance_run, "conformance_of", lambda *_: (wrong,))
    done, document = bench()
    assert done.exit_code == 1
    assert failing(document) == [f"{mime}: rubric" for mime in MIMES]
    assert document["types"][0]["rubric"]["wrong"] == {"validation:valid_success": 2}


def test_verifier_that_takes_everything_for_ours_is_found_out(monkeypatch):
    monkeypatch.setattr(Tampering, "outcome", lambda *_: VerifyOutcome.OURS.value)
    done, document = bench()
    assert done.exit_code == 1
    changed = {one["way"] for one in document["changed"]} - {"one bit in the manifest"}
    assert set(failing(document)) == changed
    assert document["changed"][0]["first"]


def test_file_that_is_not_ours_makes_it_exit_1(monkeypatch):
    real = provenance_run.verify_file

    def verify(path, anchors, *rest):
        return real(path, anchors, *rest).model_copy(update={"outcome": VerifyOutcome.OTHER_SIGNER})

    monkeypatch.setattr(provenance_run, "verify_file", verify)
    done, document = bench()
    assert done.exit_code == 1
    assert failing(document) == [f"{mime}: ours" for mime in MIMES]


def test_slow_ledger_makes_it_exit_1(monkeypatch):
    monkeypatch.setattr(provenance_command, "_LEDGER_S", 0.0)
    done, document = bench()
    assert (done.exit_code, failing(document)) == (1, ["ledger: verified"])


def test_copies_need_a_folder():
    done, _ = bench("--copies", 2)
    assert done.exit_code == 1
    assert "--copies" in str(done.exception or done.output)


def test_folder_without_pictures_is_refused(tmp_path):
    done, _ = bench(tmp_path)
    assert done.exit_code == 1
    assert "no image" in str(done.exception or done.output)


def test_more_pictures_than_files_are_other_parts_of_them(tmp_path):
    (tmp_path / "one.webp").write_bytes(min(WORKS.glob("*.webp")).read_bytes())
    endless = provenance_command._Pictures(tmp_path, 64, 10**8).endless()
    first, second, third = next(endless), next(endless), next(endless)
    assert first.shape == second.shape == (64, 64, 3)
    assert (first != second).any()
    assert (second != third).any()


# --- what changes a file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mime", MIMES)
def test_manifest_is_found_where_it_lies(signer, pictures, mime):
    signed = signer.signed(pictures[0], mime)
    begins, ends = place_of_manifest(signed.content, mime)
    bare = without_manifest(signed.content, mime)
    assert ends - begins == len(signed.content) - len(bare)
    assert b"c2pa" in signed.content[begins:ends]
    assert b"c2pa" not in signed.content[:begins] + signed.content[ends:]


@pytest.mark.parametrize("mime", MIMES)
def test_manifest_under_another_picture_is_read_there_and_does_not_fit(signer, pictures, mime):
    """A transplant that could not even be read would prove nothing."""
    signed = signer.signed(pictures[0], mime)
    other = signer.signed(pictures[1], mime)
    content = with_manifest_of(signed.content, without_manifest(other.content, mime), mime)
    reading = sdk.read(content, mime, signer.signing.anchors)
    assert reading.manifest_id == signed.manifest_id
    assert set(reading.failures) == {"assertion.dataHash.mismatch"}
    back = with_manifest_of(signed.content, without_manifest(signed.content, mime), mime)
    assert back == signed.content


@pytest.mark.parametrize("mime", MIMES)
def test_every_field_of_the_verdict_is_changed_at_its_value(signer, pictures, mime):
    signed = signer.signed(pictures[0], mime)
    places = dict(changed_bytes(signed.content, mime))
    assert {"decision", "rule", "policy_sha256", "index_snapshot", "calibration", "nearest[4].similarity"} <= set(
        places
    )
    assert signed.content[: places["decision"] + 1].endswith(b"accept")
    at = places["policy_sha256"]
    content = signed.content[:at] + b"1" + signed.content[at + 1 :]
    reading = sdk.read(content, mime, signer.signing.anchors)
    assert reading.assertions["org.guardrail.verdict"]["policy_sha256"] == "0" * 63 + "1"
    assert "assertion.hashedURI.mismatch" in reading.failures


def test_forged_file_says_what_ours_says_and_is_valid(signer, pictures, scratch):
    """A forgery that c2pa itself refuses would prove nothing either."""
    make_development_keys(scratch / "forger")
    forger = load_signing(scratch / "forger")
    content = signer.forged(pictures[0], "image/png", forger)
    reading = sdk.read(content, "image/png", signer.signing.anchors)
    assert (reading.state, reading.signer) == ("Valid", signer.signing.name)
    ours = sdk.read(signer.signed(pictures[0], "image/png").content, "image/png", signer.signing.anchors)
    assert set(reading.assertions) == set(ours.assertions)
    assert Tampering(signer.signing, scratch).outcome(content) == VerifyOutcome.OTHER_SIGNER


def test_unreadable_file_is_counted_as_such(signer, scratch):
    assert Tampering(signer.signing, scratch).outcome(b"no picture") == "unreadable"


def test_median_and_percentile_are_values_that_were_measured():
    assert Spent.of([5.0]) == (5.0, 5.0)
    assert Spent.of([float(one) for one in range(100, 0, -1)]) == (50.0, 95.0)
