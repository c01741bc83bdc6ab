"""No road around protection: where a page or a token lets less be protected, that is stated and recorded first."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from api_samples import SEEDS, client_again, client_of, drawing, png
from PIL import Image

from guardrail.errors import IndexUnwritable, MemoryUnwritable
from guardrail.memory.audit import AuditFilter

WHY = "The licence ended on Friday"
PAST, FUTURE = "2020-01-01", "2999-01-01"


@pytest.fixture
def desk(make_desk, desk_world, tmp_path):
    """A desk over an index of its own, which tests may change."""
    shutil.copytree(desk_world / "index", tmp_path / "index")
    return make_desk(index=tmp_path / "index")


class Page:
    """A lead at the pages."""

    def __init__(self, client):
        self.client, self.actor = client, client.actor

    def add(self, image, **said):
        sent = {"image": ("a.png", png(image), "image/png")}
        return self.client.post("/works", data={"bank": "animals", **said}, files=sent).status_code == 303

    def withdraw(self, work_id, **said):
        form = {"bank": "animals", "work_id": work_id, **said}
        return self.client.post("/works/withdraw", data=form).status_code == 303


class Program(Page):
    """A lead's token at the API."""

    def add(self, image, **said):
        sent = {"image": ("a.png", png(image), "image/png")}
        said |= {name: f"{value}T00:00:00Z" for name, value in said.items() if name.endswith("_at")}
        return self.client.post("/v1/works", data={"bank": "animals", **said}, files=sent).status_code == 201

    def withdraw(self, work_id, **said):
        return self.client.delete(f"/v1/works/animals/{work_id}", params=said).status_code == 200


@pytest.fixture(params=["page", "token"])
def lead(request, desk, client_as):
    return Page(client_as("lead")) if request.param == "page" else Program(client_of(desk, "works:write", role="lead"))


def snapshot(desk):
    return desk.guard_for("default").index.header.snapshot


def decision(desk, image):
    (verdict,) = desk.guard_for("default").check([image]).verdicts
    return str(verdict.decision)


def changes(desk, actor):
    return [one for one in desk.memory.changes.page(actor) if not one.undoes]


def stands(desk, lead, kind, ask):
    """Ask for a change: without a reason it is refused and nothing changes, with one it is done and in the ledger."""
    before, known = snapshot(desk), len(changes(desk, lead.actor))
    for reason in ({}, {"reason": "  "}, {"reason": "no"}, {"reason": "x" * 1001}, {"reason": "a\x00bcd"}):
        assert not ask(**reason), reason
    assert (snapshot(desk), len(changes(desk, lead.actor))) == (before, known)
    assert ask(reason=WHY)
    assert snapshot(desk) != before
    change = changes(desk, lead.actor)[0]
    assert (len(changes(desk, lead.actor)), change.kind, change.facts["stated_reason"]) == (known + 1, kind, WHY)
    rows = [row.content["change"] for row in desk.memory.rows() if row.kind == "change"]
    (row,) = [row for row in rows if row["change_id"] == change.change_id]
    assert (row["account_id"], row["facts"]["bank"]) == (lead.actor.account_id, "animals")
    assert ("token_id" in row) == isinstance(lead, Program)
    return change


def undo(client_as, change):
    return client_as("lead", name="Undo").post(f"/changes/{change.change_id}/undo").status_code


def test_protected_work_is_withdrawn_for_a_reason_and_comes_back(desk, lead, client_as):
    change = stands(desk, lead, "withdrawn", lambda **said: lead.withdraw("fox", **said))
    assert (change.facts["before"]["disposition"], change.facts["after"]) == ("protect", None)
    assert decision(desk, drawing(SEEDS["fox"])) == "accept"
    assert undo(client_as, change) == 303
    assert decision(desk, drawing(SEEDS["fox"])) == "block"
    assert undo(client_as, change) == 409
    desk.memory.verify(deep=True)


@pytest.mark.parametrize("less", [{"disposition": "ignore"}, {"disposition": "credit"}, {"expires_at": FUTURE}])
def test_withdrawn_work_that_comes_again_with_less_is_lowered(desk, lead, client_as, less):
    assert lead.withdraw("fox", reason=WHY)
    again = drawing(SEEDS["fox"])
    change = stands(desk, lead, "lowered", lambda **said: lead.add(again, work_id="fox", **less, **said))
    assert change.facts["former"]["disposition"] == "protect"
    assert undo(client_as, change) == 303
    assert len(desk.guard_for("default").index.kept([("animals", "fox")])) == 0  # it was not there before


def test_opt_out_is_not_lost_by_withdrawing_and_adding_again(desk, lead):
    assert lead.add(drawing(80), work_id="opted", opted_out_at=PAST)
    assert lead.withdraw("opted", reason=WHY)
    stands(desk, lead, "lowered", lambda **said: lead.add(drawing(80), work_id="opted", **said))
    assert lead.withdraw("opted", reason=WHY)
    assert lead.add(drawing(80), work_id="opted", opted_out_at=PAST)  # more than before needs no reason


def test_another_picture_under_a_protected_id_is_a_change(desk, lead, client_as):
    change = stands(desk, lead, "replaced", lambda **said: lead.add(drawing(81), work_id="fox", **said))
    assert change.facts["pixels_before"] != change.facts["pixels_after"]
    assert (decision(desk, drawing(SEEDS["fox"])), decision(desk, drawing(81))) == ("accept", "block")
    assert undo(client_as, change) == 303
    assert (decision(desk, drawing(SEEDS["fox"])), decision(desk, drawing(81))) == ("block", "accept")


@pytest.mark.parametrize(
    "less", [{"expires_at": PAST}, {"expires_at": FUTURE}, {"disposition": "ignore"}, {"disposition": "credit"}]
)
def test_protected_work_is_lowered_for_a_reason_and_raised_again(desk, lead, client_as, less):
    fox = drawing(SEEDS["fox"])
    change = stands(desk, lead, "lowered", lambda **said: lead.add(fox, work_id="fox", **less, **said))
    assert undo(client_as, change) == 303
    (work,) = desk.guard_for("default").index.kept([("animals", "fox")]).works
    assert (str(work.disposition), work.expires_at) == ("protect", None)
    assert decision(desk, fox) == "block"


def test_expiry_is_put_off_freely_and_shortened_for_a_reason(desk, lead):
    picture = drawing(82)
    assert lead.add(picture, work_id="dated", expires_at="2998-01-01")
    assert lead.add(picture, work_id="dated", expires_at=FUTURE)
    stands(desk, lead, "lowered", lambda **said: lead.add(picture, work_id="dated", expires_at="2998-01-01", **said))
    assert lead.add(picture, work_id="dated")
    assert len(changes(desk, lead.actor)) == 1


@pytest.mark.parametrize("disposition", ["ignore", "credit"])
def test_work_that_explains_others_away_comes_for_a_reason(desk, lead, client_as, disposition):
    change = stands(
        desk, lead, "lowered", lambda **said: lead.add(drawing(83), work_id="new", disposition=disposition, **said)
    )
    assert (change.facts["before"], change.facts["same_picture"]) == (None, [])
    assert undo(client_as, change) == 303
    assert len(desk.guard_for("default").index.kept([("animals", "new")])) == 0


def test_picture_of_a_protected_work_as_generic_names_that_work(desk, lead):
    fox = drawing(SEEDS["fox"])
    change = stands(desk, lead, "lowered", lambda **said: lead.add(fox, work_id="two", disposition="ignore", **said))
    assert change.facts["same_picture"] == ["animals/fox"]
    assert lead.withdraw("fox", reason=WHY)
    change = stands(desk, lead, "lowered", lambda **said: lead.add(fox, work_id="three", disposition="credit", **said))
    assert change.facts["same_picture"] == ["animals/fox"]  # withdrawn, as the ledger says


def test_picture_whose_maker_opted_out_comes_as_nothing_less_at_all(desk, lead):
    assert lead.add(drawing(84), work_id="opted", opted_out_at=PAST)
    before = snapshot(desk)
    for less in ("ignore", "credit"):
        assert not lead.add(drawing(84), work_id="new", disposition=less, reason=WHY)
    assert snapshot(desk) == before


def test_what_protects_as_much_needs_no_reason(desk, lead):
    fox = drawing(SEEDS["fox"])
    assert lead.add(fox, work_id="fox", title="Renamed", opted_out_at=PAST)
    assert lead.add(drawing(85), work_id="more")
    assert lead.withdraw("owl")  # licensed: what comes near to others counts the more without it
    assert changes(desk, lead.actor) == []


def test_how_often_a_work_was_in_training_data_is_not_forgotten(desk, lead):
    index, fox = desk.guard_for("default").index, drawing(SEEDS["fox"])
    kept = index.kept([("animals", "fox")])
    index.put(replace(kept, works=(kept.works[0].model_copy(update={"multiplicity": 30}),)))
    assert lead.add(fox, work_id="fox", title="Renamed")
    assert index.kept([("animals", "fox")]).works[0].multiplicity == 30
    assert lead.withdraw("fox", reason=WHY)
    assert lead.add(fox, work_id="fox")
    assert index.kept([("animals", "fox")]).works[0].multiplicity == 30


def test_ledger_that_cannot_be_written_leaves_the_index_as_it_was(desk, lead, monkeypatch):
    def full(*args, **said):
        raise MemoryUnwritable("the ledger", "the disk is full")

    monkeypatch.setattr(desk.memory.changes, "record", full)
    before, fox = snapshot(desk), drawing(SEEDS["fox"])
    assert not lead.withdraw("fox", reason=WHY)
    assert not lead.add(drawing(86), work_id="fox", reason=WHY)
    assert not lead.add(fox, work_id="fox", expires_at=FUTURE, reason=WHY)
    assert not lead.add(drawing(86), work_id="new", disposition="ignore", reason=WHY)
    assert snapshot(desk) == before
    assert decision(desk, fox) == "block"


def test_index_that_cannot_be_written_is_told_in_the_ledger(desk, lead, monkeypatch):
    index = desk.guard_for("default").index

    def full(keys):
        raise IndexUnwritable("the index", "the disk is full")

    monkeypatch.setattr(index, "withdraw", full)
    assert not lead.withdraw("fox", reason=WHY)
    (change,) = changes(desk, lead.actor)
    assert (change.kind, change.undone) == ("withdrawn", True)
    assert decision(desk, drawing(SEEDS["fox"])) == "block"
    monkeypatch.undo()
    assert lead.withdraw("fox", reason=WHY)


def test_undo_of_another_picture_that_fails_leaves_the_change_standing(desk, lead, client_as, monkeypatch):
    change = stands(desk, lead, "replaced", lambda **said: lead.add(drawing(87), work_id="fox", **said))
    index = desk.guard_for("default").index

    def full(rows):
        raise IndexUnwritable("the index", "the disk is full")

    monkeypatch.setattr(index, "put", full)
    assert undo(client_as, change) == 503
    monkeypatch.undo()
    assert not next(one for one in changes(desk, lead.actor) if one.change_id == change.change_id).undone
    assert undo(client_as, change) == 303
    assert decision(desk, drawing(SEEDS["fox"])) == "block"


def test_what_was_purged_is_told_and_not_given_back(desk, lead, client_as):
    change = stands(desk, lead, "withdrawn", lambda **said: lead.withdraw("fox", **said))
    desk.guard_for("default").index.compact()
    assert undo(client_as, change) == 409
    page = client_as("lead").get("/works?tab=changes").text
    assert "Cannot be taken back" in page
    assert f"/changes/{change.change_id}/undo" not in page


def test_undo_is_refused_once_the_work_is_another_one(desk, lead, client_as):
    change = stands(desk, lead, "withdrawn", lambda **said: lead.withdraw("fox", **said))
    assert lead.add(drawing(88), work_id="fox")
    before = snapshot(desk)
    assert undo(client_as, change) == 409
    assert snapshot(desk) == before


def test_changes_are_shown_with_who_and_why_as_text(desk, lead, client_as):
    assert lead.withdraw("fox", reason="<script>alert(1)</script>")
    page = client_as("viewer").get("/works?tab=changes").text
    assert "<script>alert" not in page
    assert all(said in page for said in ("animals/fox", "&lt;script&gt;alert(1)", "was withdrawn", "was protected"))
    assert "/undo" not in page  # a viewer sees
    events = desk.memory.audit.page(lead.actor, AuditFilter(action="withdrawn"))
    assert [event.action for event in events] == ["withdrawn.changed"]
    assert "alert" not in str(events[0].details)  # the audit holds no notes


def test_generic_work_and_picture_need_a_reason_too(desk, client_as, open_case):
    lead, case = client_as("lead"), open_case()
    fox = {"bank": "animals", "work_id": "fox"}
    before = snapshot(desk)
    assert lead.post("/works/generic", data=fox).status_code == 409
    for what in ("picture", "work"):
        assert lead.post(f"/cases/{case}/generic", data={"what": what, **fox}).status_code == 409
    assert snapshot(desk) == before
    assert lead.post(f"/cases/{case}/generic", data={"what": "picture", "reason": WHY}).status_code == 303
    assert lead.post("/works/generic", data={**fox, "reason": WHY}).status_code == 303
    assert [one.facts["stated_reason"] for one in changes(desk, lead.actor)] == [WHY, WHY]


@pytest.mark.parametrize("what", ["picture", "work"])
def test_undo_of_what_was_generic_takes_no_later_protection(desk, client_as, open_case, what):
    lead, case = client_as("lead"), open_case()
    owl = {"bank": "animals", "work_id": "owl"}
    asked = {"what": what, "reason": WHY, **owl}
    assert lead.post(f"/cases/{case}/generic", data=asked).status_code == 303
    (change,) = changes(desk, lead.actor)
    key = {"bank": change.facts["bank"], "work_id": change.facts["work_id"]}
    assert Page(lead).add(drawing(89), **key, opted_out_at=PAST)  # it protects more: no reason is needed
    before = snapshot(desk)
    assert undo(client_as, change) == (409 if what == "picture" else 303)
    assert decision(desk, drawing(89)) == "block"
    assert (snapshot(desk) == before) == (what == "picture")


def test_reason_is_part_of_the_same_request(desk):
    client = client_of(desk, "works:write", role="lead")
    sent = {"files": {"image": ("a.png", png(drawing(SEEDS["fox"])), "image/png")}}
    form, key = {"bank": "animals", "work_id": "fox", "expires_at": FUTURE + "T00:00:00Z"}, {"Idempotency-Key": "one"}
    assert client.post("/v1/works", data=form, headers=key, **sent).status_code == 409
    assert client.post("/v1/works", data={**form, "reason": WHY}, headers=key, **sent).status_code == 201
    again = client_again(client).post("/v1/works", data={**form, "reason": WHY + "."}, headers=key, **sent)
    assert again.status_code == 422  # another request under that key


def test_changes_of_another_organisation_are_not_there(desk, client_as):
    lead, other = Page(client_as("lead")), client_as("lead", "another")
    assert lead.withdraw("fox", reason=WHY)
    (change,) = changes(desk, lead.actor)
    assert other.post(f"/changes/{change.change_id}/undo").status_code == 404
    assert "animals/fox" not in other.get("/works?tab=changes").text
    assert desk.memory.changes.of_work("another", "animals", "fox") == ()


def test_picture_with_one_pixel_changed_is_another_one(desk, lead):
    fox = np.asarray(drawing(SEEDS["fox"])).copy()
    fox[0, 0] ^= 1
    stands(desk, lead, "replaced", lambda **said: lead.add(Image.fromarray(fox), work_id="fox", **said))
