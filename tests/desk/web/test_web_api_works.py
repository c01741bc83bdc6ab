"""`/v1/works`: live in the next check, gone from it, and of one organisation alone."""

import shutil

import pytest
from api_samples import client_again, client_of, drawing, files, png

from guardrail.memory import AuditFilter

WHY = {"reason": "asked for by its maker"}


@pytest.fixture
def own_desk(make_desk, desk_world, tmp_path):
    """A desk on an index of its own, which may be written."""
    shutil.copytree(desk_world / "index", tmp_path / "index")
    return make_desk(index=tmp_path / "index")


def add(client, image, key=None, query="", **said):
    headers = {"Idempotency-Key": key} if key else {}
    sent = [("image", ("a.png", png(image) if not isinstance(image, bytes) else image))]
    return client.post(
        f"/v1/works{query}", files=sent, data={"work_id": "new", "bank": "shop", **said}, headers=headers
    )


def decision(client, image):
    return client.post("/v1/check", files=files(a=image)).json()["decision"]


def test_a_work_is_live_in_the_next_check_and_gone_after_it_was_removed(own_desk):
    client = client_of(own_desk, "works:write", "check")
    assert decision(client, drawing(77)) == "accept"
    answer = add(client, drawing(77), title="New", creator="Åsa", opted_out_at="2026-01-31T00:00:00Z")
    assert answer.status_code == 201, answer.text
    assert answer.json()["change"]["added"] == 1
    assert decision(client, drawing(77)) == "block"
    assert client.delete("/v1/works/shop/new", params=WHY).json()["change"]["withdrawn"] == 1
    assert decision(client, drawing(77)) == "accept"
    assert client.delete("/v1/works/shop/new", params=WHY).status_code == 404


def test_a_work_of_one_organisation_is_unknown_to_the_other(own_desk):
    client = client_of(own_desk, "works:write", "check")
    add(client, drawing(77))
    assert decision(client_of(own_desk, "check", organisation="another"), drawing(77)) == "accept"


def test_a_work_whose_picture_cannot_be_read_changes_nothing(own_desk):
    client = client_of(own_desk, "works:write")
    before = own_desk.guard_for("default").index.header.snapshot
    answer = add(client, b"no picture")
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"].endswith("image-unreadable")
    assert own_desk.guard_for("default").index.header.snapshot == before


@pytest.mark.parametrize(
    "said",
    [
        {"work_id": ""},
        {"disposition": "steal"},
        {"expires_at": "someday"},
        {"titel": "x"},
        {"work_id": "a" * 300},
        {"bank": "a\nb"},
    ],
)
def test_what_cannot_be_followed_is_refused(own_desk, said):
    answer = add(client_of(own_desk, "works:write"), drawing(77), **said)
    assert answer.status_code == 422, answer.text


def test_the_same_work_under_a_key_is_added_once(own_desk):
    client = client_of(own_desk, "works:write")
    first = add(client, drawing(77), key="one")
    assert client.delete("/v1/works/shop/new", params=WHY).json()["change"]["works"] == 4
    assert add(client_again(client), drawing(77), key="one").json() == first.json()
    assert own_desk.guard_for("default").index.header.works == 4


def test_a_rescan_is_entered_where_it_is_asked_for(own_desk):
    client = client_of(own_desk, "works:write")
    job = add(client, drawing(77), query="?rescan=true").json()["rescan"]
    assert client.get(f"/v1/jobs/{job}").json()["kind"] == "rescan"


def test_a_job_that_is_polled_is_in_the_audit_once(own_desk):
    client = client_of(own_desk, "works:write")
    job = add(client, drawing(77), query="?rescan=true").json()["rescan"]
    for _ in range(3):
        assert client.get(f"/v1/jobs/{job}").status_code == 200
    (seen,) = own_desk.memory.audit.page(client.actor, AuditFilter(action="job.seen"))
    assert (seen.target, seen.account_id) == (job, client.actor.account_id)


def test_reviewers_and_other_scopes_add_no_works(own_desk):
    assert add(client_of(own_desk, "check"), drawing(77)).status_code == 403
