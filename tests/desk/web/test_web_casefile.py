"""The file of a case: what is in it and what is not, that it can be checked, that it stays when things are gone."""

import base64
import hashlib
import importlib.util
import io
import json
import re
import sys
import zlib
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace

import pytest
import typer
from PIL import Image, ImageFile
from typer.testing import CliRunner

from guardrail import guard as guard_module
from guardrail.desk.casefile_command import case_file
from guardrail.desk.web import casefile_proofs
from guardrail.desk.web.casefile import FileChoices, FileSource, gather_file
from guardrail.desk.web.casefile_history import People
from guardrail.desk.web.casefile_kinds import kinds_of, summary_of
from guardrail.desk.web.casefile_render import render_file
from guardrail.errors import KeysUnusable, LedgerBroken, LedgerProofInvalid, MemoryUnwritable
from guardrail.memory import AuditFilter, NoteVerifier, check_proof
from guardrail.records import (
    Adapter,
    DecisionAsked,
    GenerationContext,
    InclusionProof,
    ReviewAnswers,
    ReviewDecision,
)
from guardrail.review_errors import CaseMissing
from guardrail.testing import FakePlugin

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
PROMPT = "a fox in the manner of Åsa, for my daughter Ida"
NOTE = "Compare the left ear; Mrs Ida Beck wrote to us about it."
CONTEXT = GenerationContext(
    pipeline="StableDiffusionPipeline",
    model_id="some/model",
    prompts={"prompt": PROMPT},
    adapters=(Adapter(name="foxes", weight=0.7, sha256="5" * 64),),
    steps=30,
    seed=7,
)


def _with_keys(desk, tmp_path):
    """A desk whose ledger has a folder of keys to itself."""
    desk.settings = desk.settings.model_copy(update={"keys": tmp_path / "keys"})
    return desk


@pytest.fixture
def desk(make_desk, tmp_path):
    return _with_keys(make_desk(), tmp_path)


@pytest.fixture
def lead(client_as):
    return client_as("lead", name="Leonie Lead")


def _decided(desk, actor, case_id, outcome="withhold", note=NOTE, **answers):
    reasons = ("expression_copied",)
    asked = DecisionAsked(outcome=outcome, reasons=reasons, note=note, answers=ReviewAnswers(**answers))
    return desk.memory.reviews.decide(actor, case_id, asked)


def _source(desk, actor):
    return FileSource(desk.memory, desk.guard_for(actor.organisation), desk.settings.keys_dir, actor)


def _inside(page, name):
    """A file that a page carries."""
    found = re.search(rf'<a download="{re.escape(name)}" href="data:[^;]+;base64,([^"]+)"', page)
    assert found, f"{name} is not in the page"
    return base64.b64decode(found[1])


# --- what is in it -----------------------------------------------------------------------------------------------


def test_file_says_who_decided_what_and_shows_both_pictures(desk, lead, client_as, open_case):
    case_id = open_case(context=CONTEXT)
    reviewer = client_as("reviewer", name="Rita Reviewer").actor
    _decided(desk, reviewer, case_id, copied="expression", how_much="whole", transformed="no")
    page = lead.post(f"/cases/{case_id}/file", data={"kind": "html", "names": "true", "notes": "true"}).text
    for said in (
        "Fox",
        "Rita Reviewer",
        "decided: withheld",
        NOTE.replace("'", "&#39;"),
        "All of it",
        "some/model",
        "foxes",
    ):
        assert said in page, said
    assert "the whole of its expression was copied" in page
    assert page.count("<figure>") >= 3
    assert Image.open(io.BytesIO(_inside(page, "image.png"))).format == "PNG"
    assert Image.open(io.BytesIO(_inside(page, "work-1.jpg"))).format == "JPEG"


def test_page_needs_nothing_from_elsewhere(lead, open_case):
    page = lead.post(f"/cases/{open_case()}/file", data={"kind": "html"}).text
    fetched = re.findall(r"""(?:src|href|url\()=?["']?([^"')\s>]+)""", page)
    assert fetched
    assert all(one.startswith("data:") for one in fetched)
    assert "<script" not in page


def test_prompts_notes_and_names_are_out_unless_asked_for(desk, lead, client_as, open_case):
    case_id = open_case(context=CONTEXT)
    _decided(desk, client_as("reviewer", name="Rita Reviewer").actor, case_id)
    for kind in ("html", "json"):
        bare = lead.post(f"/cases/{case_id}/file", data={"kind": kind}).text
        inner = _inside(bare, "case.json").decode() if kind == "html" else ""
        for text in (bare, inner):
            assert PROMPT not in text
            assert "Ida Beck" not in text
            assert "Rita Reviewer" not in text
        assert "Person A" in bare
    whole = lead.post(f"/cases/{case_id}/file", data={"kind": "html", "prompts": "true"}).text
    assert PROMPT in whole
    assert "Rita Reviewer" not in whole


def test_texts_from_elsewhere_stay_text(desk, lead, client_as, open_case):
    bad = "<script>alert(1)</script>\"'><img src=https://evil.example/x>"
    case_id = open_case(context=CONTEXT.model_copy(update={"model_id": bad, "prompts": {bad: bad}}))
    _decided(desk, client_as("reviewer").actor, case_id, note=bad)
    asked = {"kind": "html", "notes": "true", "prompts": "true", "claimant": bad, "reference": bad}
    page = lead.post(f"/cases/{case_id}/file", data=asked).text
    assert "<script" not in page
    assert "<img src=https" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_undecided_case_is_called_so(lead, open_case):
    page = lead.post(f"/cases/{open_case()}/file", data={"kind": "html"}).text
    assert "not finally decided" in page
    assert "Nobody has finally decided this case" in page


class TestBlindSecondLook:
    """Every decision is looked at again by somebody who does not see it."""

    @pytest.fixture
    def desk(self, make_desk, tmp_path):
        return _with_keys(make_desk(second_review_share=1), tmp_path)

    def test_first_decision_is_not_in_the_file_of_who_may_look_second(self, desk, lead, client_as, open_case):
        case_id = open_case()
        reviewer = client_as("reviewer").actor
        decided = _decided(desk, reviewer, case_id)
        assert decided.needs_second
        page = lead.post(f"/cases/{case_id}/file", data={"kind": "html", "notes": "true", "names": "true"}).text
        inner = _inside(page, "case.json").decode()
        for text in (page, inner):
            assert "withheld" not in text
            assert NOTE not in text
            assert decided.decision.decision_id not in text

    def test_both_looks_are_in_the_file_once_they_agree(self, desk, lead, client_as, open_case):
        case_id = open_case()
        _decided(desk, client_as("reviewer", name="Rita").actor, case_id)
        _decided(desk, client_as("reviewer", name="Rolf").actor, case_id)
        page = lead.post(f"/cases/{case_id}/file", data={"kind": "html", "names": "true"}).text
        assert page.count("decided: withheld") == 2
        assert "second look, without seeing the first" in page
        assert len(json.loads(_inside(page, "case.json"))["ledger"]["proofs"]) == 3


def test_file_folder_of_an_image_is_not_in_the_file(desk, lead, tmp_path, open_case):
    case_id = open_case()
    details = desk.memory.reviews.case(lead.actor, case_id)
    hidden = details.verdict.model_copy(
        update={"image": "/srv/ida/private/pic.png", "explanation": "check on /srv/ida/private/pic.png"}
    )
    desk.memory.reviews.case = lambda actor, number: type(details)(
        **{name: getattr(details, name) for name in details.__dataclass_fields__} | {"verdict": hidden}
    )
    file = gather_file(_source(desk, lead.actor), case_id, FileChoices(), AT)
    assert file.view.image == "pic.png"
    assert "ida" not in file.view.explanation


# --- what can be checked ---------------------------------------------------------------------------------------------


def test_proofs_in_the_file_hold_and_name_the_decision(desk, lead, client_as, open_case):
    case_id = open_case()
    decided = _decided(desk, client_as("reviewer").actor, case_id)
    page = lead.post(f"/cases/{case_id}/file", data={"kind": "html"}).text
    document = json.loads(_inside(page, "case.json"))
    verifier = NoteVerifier(_inside(page, "ledger.pub").decode(), "ledger.pub")
    kinds = []
    for proof in document["ledger"]["proofs"]:
        held = InclusionProof.model_validate_json(_inside(page, proof["name"]))
        check_proof(held, [verifier], proof["name"])
        kinds.append(json.loads(held.leaf)["kind"])
        edited = held.model_copy(update={"leaf": held.leaf.replace("withhold", "release ").replace("flag", "pass")})
        with pytest.raises(LedgerProofInvalid, match="edited"):
            check_proof(edited, [verifier], "edited")
    assert kinds == ["verdict", "review"]
    assert decided.decision.decision_id in _inside(page, document["ledger"]["proofs"][1]["name"]).decode()


def test_picture_in_the_file_has_the_digest_of_the_verdict(desk, lead, open_case):
    case_id = open_case()
    page = lead.post(f"/cases/{case_id}/file", data={"kind": "html"}).text
    said = desk.memory.reviews.case(lead.actor, case_id).verdict.pixels_sha256
    assert f"{said} (image.png has it)" in page
    assert hashlib.sha256(_inside(page, "image.png")).hexdigest() in page


def test_another_picture_in_the_store_is_told(desk, lead, open_case):
    case_id = open_case()
    other = io.BytesIO()
    Image.new("RGB", (96, 96), "navy").save(other, "PNG")
    desk.memory.reviews.picture = lambda actor, number: other.getvalue()
    file = gather_file(_source(desk, lead.actor), case_id, FileChoices(), AT)
    assert any(fact.alarming and "not the picture that was judged" in fact.text for fact in file.hashes)


def test_ledger_that_was_edited_makes_no_file(desk, lead, open_case, monkeypatch):
    case_id = open_case()

    def broken(*args):
        raise LedgerBroken(1, "content that was edited", "another")

    monkeypatch.setattr(casefile_proofs.Checkpoints, "sign", broken)
    assert lead.post(f"/cases/{case_id}/file", data={"kind": "html"}).status_code == 503
    assert not _made(desk, lead)


def test_without_a_key_the_file_says_that_nothing_is_proved(desk, lead, open_case, monkeypatch):
    case_id = open_case()

    def unusable(*args):
        raise KeysUnusable("ledger.key", "nothing", "a key")

    monkeypatch.setattr(casefile_proofs.Checkpoints, "sign", unusable)
    page = lead.post(f"/cases/{case_id}/file", data={"kind": "html"}).text
    assert "No row is proved here" in page
    assert "KeysUnusable" in page


def test_row_that_was_erased_is_proved_by_its_hash(desk, lead, open_case):
    case_id = open_case()
    details = desk.memory.reviews.case(lead.actor, case_id)
    desk.memory.erase(details.verdict.verdict_id, "request 17")
    shown = casefile_proofs.prove_case(desk.memory, desk.settings.keys_dir, details)
    assert [proof.erased for proof in shown.proofs] == [True]
    assert InclusionProof.model_validate_json(shown.proofs[0].document).leaf is None
    with pytest.raises(CaseMissing):
        gather_file(_source(desk, lead.actor), case_id, FileChoices(), AT)


# --- who may, and what is noted --------------------------------------------------------------------------------------


def _made(desk, client):
    return desk.memory.audit.page(client.actor, AuditFilter(action="case_file.made"))


@pytest.mark.parametrize("role", ["viewer", "reviewer"])
def test_only_leads_make_files(client_as, open_case, role):
    case_id = open_case()
    assert client_as(role).get(f"/cases/{case_id}/file").status_code == 403
    assert client_as(role).post(f"/cases/{case_id}/file", data={"kind": "html"}).status_code == 403


def test_case_of_another_organisation_is_not_there(client_as, open_case):
    case_id = open_case("another")
    lead = client_as("lead")
    assert lead.get(f"/cases/{case_id}/file").status_code == 404
    assert lead.post(f"/cases/{case_id}/file", data={"kind": "html"}).status_code == 404


def test_form_leaves_names_and_prompts_out_by_itself(lead, open_case):
    page = lead.get(f"/cases/{open_case()}/file").text
    assert re.search(r'name="notes" value="true" checked', page)
    assert not re.search(r'name="(names|prompts)" value="true" checked', page)


def test_making_is_noted_with_the_digest_of_what_was_handed_out(desk, lead, open_case):
    answer = lead.post(f"/cases/{open_case()}/file", data={"kind": "json", "prompts": "true"})
    assert answer.headers["content-disposition"] == 'attachment; filename="case-1.json"'
    assert answer.headers["cache-control"] == "no-store"
    (event,) = _made(desk, lead)
    assert event.details["sha256"] == hashlib.sha256(answer.content).hexdigest()
    assert (event.details["kind"], event.details["prompts"], event.target) == ("json", True, "case 1")


def test_file_that_could_not_be_noted_is_not_handed_out(desk, lead, open_case, monkeypatch):
    case_id = open_case()
    noted = desk.memory.audit.note

    def refuse(actor, action, *rest):
        if action == "case_file.made":
            raise MemoryUnwritable("memory.db", "disk full")
        noted(actor, action, *rest)

    monkeypatch.setattr(desk.memory.audit, "note", refuse)
    answer = lead.post(f"/cases/{case_id}/file", data={"kind": "html"})
    assert answer.status_code == 503
    assert "data:image" not in answer.text


# --- PDF -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # WeasyPrint, of its colour profile
def test_pdf_carries_its_files(desk, lead, open_case):
    if importlib.util.find_spec("weasyprint") is None:
        pytest.skip("needs the extra pdf")
    file = gather_file(_source(desk, lead.actor), open_case(), FileChoices(), AT)
    written = render_file(file, "pdf")
    assert written.startswith(b"%PDF-")
    said = written + b"".join(map(_unpacked, re.findall(rb"stream\r?\n(.*?)\r?\nendstream", written, re.DOTALL)))
    for name in ("image.png", "work-1.jpg", "case.json", "ledger.pub", "proof-1.json"):
        assert name.encode() in said or name.encode("utf-16-be") in said, name
    assert file.image.whole in map(_unpacked, re.findall(rb"stream\r?\n(.*?)\r?\nendstream", written, re.DOTALL))


def _unpacked(stream):
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""


def test_without_weasyprint_the_page_says_what_to_install(lead, open_case, monkeypatch):
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    case_id = open_case()
    answer = lead.post(f"/cases/{case_id}/file", data={"kind": "pdf", "reference": "17 O 3"})
    assert answer.status_code == 501
    assert "diffusion-guardrail[pdf]" in answer.text
    assert 'value="17 O 3"' in answer.text
    assert lead.post(f"/cases/{case_id}/file", data={"kind": "html"}).status_code == 200


# --- what is gone ----------------------------------------------------------------------------------------------------


def test_picture_that_was_purged_is_told_and_all_else_stays(desk, lead, open_case):
    case_id = open_case()
    details = desk.memory.reviews.case(lead.actor, case_id)
    gone = {name: getattr(details, name) for name in details.__dataclass_fields__} | {
        "has_picture": False,
        "context": None,
    }
    desk.memory.reviews.case = lambda actor, number: type(details)(**gone)
    page = render_file(gather_file(_source(desk, lead.actor), case_id, FileChoices(), AT), "html").decode()
    assert "the picture is not kept any more" in page
    assert "proof-1.json" in page
    assert 'download="image.png"' not in page
    assert 'download="work-1.jpg"' in page


def test_work_that_was_withdrawn_is_shown_as_it_was(desk, lead, open_case):
    case_id = open_case()
    guard = desk.guard_for("default")
    empty = SimpleNamespace(works=(), previews=())
    source = FileSource(desk.memory, _WithoutWorks(guard, empty), desk.settings.keys_dir, lead.actor)
    file = gather_file(source, case_id, FileChoices(), AT)
    assert file.compared[0].work.changed.startswith("withdrawn")
    assert "withdrawn" in file.compared[0].missing


class _WithoutWorks:
    """A guard whose index keeps nothing any more."""

    def __init__(self, guard, kept):
        self.limits, self.settings = guard.limits, guard.settings
        self.index = type("Index", (), {})()
        for name in ("header", "pinned", "search", "proof_pixels", "preview", "put", "withdraw"):
            setattr(self.index, name, getattr(guard.index, name))
        self.index.kept = lambda keys: kept


# --- what kind of copying --------------------------------------------------------------------------------------------


def _kinds(works=(), *decisions):
    return {kind.word: kind for kind in kinds_of(works, decisions)}


def _work(placement_source="none", share_of_work=None, share_of_image=None, **signals):
    placement = SimpleNamespace(source=placement_source, share_of_work=share_of_work, share_of_image=share_of_image)
    views = [
        SimpleNamespace(
            signal=name, title=name, reaches=reaches, view=view, note="mirrored" if view != "identity" else ""
        )
        for name, (reaches, view) in signals.items()
    ]
    return SimpleNamespace(title="Fox", signals=views, placement=placement)


def _answered(reasons=(), **answers):
    return ReviewDecision(
        decision_id="d",
        case_id=1,
        verdict_id="v",
        organisation="default",
        account_id="a",
        round="first",
        outcome="withhold",
        reasons=reasons,
        answers=ReviewAnswers(**answers),
        at=AT,
    )


BLOCK, FLAG = ("block", "identity"), ("flag", "identity")


@pytest.mark.parametrize(
    ("work", "measured"),
    [
        (_work(pixels=BLOCK, pdq=BLOCK), {"exact"}),
        (_work(pdq=BLOCK), {"near_exact"}),
        (_work(pdq=("block", "flip_left_right")), {"near_exact", "altered"}),
        (_work("geometry", 1.0, 1.0, geometry=BLOCK), {"near_exact"}),
        (_work("geometry", 0.89, 1.0, geometry=BLOCK), {"part"}),
        (_work("geometry", 0.9, 1.0, geometry=BLOCK), {"near_exact"}),
        (_work("geometry", 1.0, 0.89, geometry=BLOCK), {"near_exact", "part"}),
        (_work("tile", 0.36, 1.0, tile=FLAG), {"part", "altered"}),
        (_work(copy=FLAG), {"altered"}),
        (_work(copy=FLAG, pdq=FLAG), set()),
        (_work(clip=FLAG), {"resemblance"}),
        (_work(clip=FLAG, phash=FLAG), {"resemblance"}),
        (_work(clip=FLAG, copy=FLAG), {"altered"}),
        (_work(), set()),
    ],
)
def test_kinds_follow_from_measurements(work, measured):
    assert {word for word, kind in _kinds((work,)).items() if kind.measured} == measured


@pytest.mark.parametrize(
    ("decision", "answered"),
    [
        (_answered(copied="expression", how_much="whole"), {"near_exact"}),
        (_answered(("expression_copied", "substantial_part"), how_much="whole"), {"near_exact"}),
        (_answered(copied="expression", how_much="substantial"), {"part"}),
        (_answered(("small_part",)), {"part"}),
        (_answered(copied="style"), {"resemblance"}),
        (_answered(transformed="yes"), {"altered"}),
        (_answered(transformed="no"), set()),
    ],
)
def test_kinds_follow_from_answers(decision, answered):
    assert {word for word, kind in _kinds((), decision).items() if kind.answered} == answered


def test_summary_never_alleges_what_nobody_decided():
    assert "nothing is alleged" in summary_of("decided", "not_a_match")
    for state in ("open", "second", "disputed", "appealed"):
        assert "finally decided this case" in summary_of(state, "withhold")


def test_people_keep_their_letter():
    people = People(named=False)
    assert [people.called(one, "Name") for one in ("x", "y", "x")] == ["Person A", "Person B", "Person A"]
    assert [people.called(str(number), "") for number in range(26)][-1] == "Person B1"
    assert People(named=True).called("x", "Rita") == "Rita"


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(desk, tmp_path, monkeypatch):
    """Run `guardrail case-file` on the desk's own memory, with its embedder."""
    said = desk.settings
    (tmp_path / "guardrail.toml").write_text(
        f'index = "{said.index}"\nhome = "{said.home}"\nkeys = "{said.keys}"\ndevice = "cpu"\n', encoding="utf-8"
    )
    monkeypatch.setattr(guard_module, "Guard", partial(guard_module.Guard, plugins=[FakePlugin()]))
    commands = typer.Typer()
    commands.command()(case_file)
    return lambda *words: CliRunner().invoke(commands, [*words, "--settings", str(tmp_path / "guardrail.toml")])


def test_command_writes_the_file_and_notes_it(desk, lead, open_case, command, tmp_path):
    out = tmp_path / "case.html"
    answer = command(str(open_case()), "--out", str(out), "--title", "reference=17 O 3/26", "--json")
    assert answer.exit_code == 0, answer.output
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert json.loads(answer.stdout) == {"case_id": 1, "out": str(out), "format": "html", "sha256": digest}
    assert "17 O 3/26" in out.read_text(encoding="utf-8")
    (event,) = _made(desk, lead)
    assert (event.details["sha256"], event.details["by"]) == (digest, "command line")


def test_command_writes_nothing_on_a_case_that_is_not_there(command, tmp_path):
    answer = command("99", "--out", str(tmp_path / "case.html"))
    assert isinstance(answer.exception, CaseMissing)
    assert not (tmp_path / "case.html").exists()


@pytest.mark.parametrize("words", [("--with", "passwords"), ("--title", "judge=X")])
def test_command_refuses_what_it_does_not_know(command, tmp_path, words):
    answer = command("1", "--out", str(tmp_path / "case.html"), *words)
    assert answer.exit_code == 2
    assert "expected" in answer.output


def test_command_refuses_an_unknown_ending(command, tmp_path):
    assert "case.doc" in str(command("1", "--out", str(tmp_path / "case.doc")).exception)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # WeasyPrint, of its colour profile
def test_pdf_leaves_pillow_strict_with_pictures_that_are_cut_short(lead, open_case):
    lead.post(f"/cases/{open_case()}/file", data={"kind": "pdf"})
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
