"""What strangers and tokens tried at the desk, and must not get: files on our disk, faults, less protection."""

import io
import json

import pytest

from guardrail.desk.web.delivering import _is_private
from guardrail.records import Decision
from tests.desk.web.conftest import drawing, near


def png(image):
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    "path", ["/limits/apply", "/works/generic", "/cases/1/generic", "/sign-in", "/account/password"]
)
def test_forms_without_files_take_none_from_anybody(anonymous, path):
    answer = anonymous.post(path, files={"x": ("x.bin", bytes(3_000_000))})
    assert answer.status_code == 415


@pytest.mark.parametrize("path", ["/works", "/v1/works", "/v1/check"])
def test_files_of_nobody_are_refused_before_they_are_read(anonymous, path):
    answer = anonymous.post(path, files={"x": ("x.bin", bytes(3_000_000))})
    assert answer.status_code == 401


@pytest.mark.parametrize("given", ["//[", "http://[", "//a]b", "https://elsewhere.example", "/\\elsewhere"])
def test_nobody_is_sent_elsewhere_and_nothing_breaks(anonymous, given):
    answer = anonymous.get("/sign-in", params={"next": given})
    assert answer.status_code == 200
    assert 'name="next" value="/"' in answer.text


@pytest.mark.parametrize("host", ["[", "[::1", "a]b"])
def test_host_that_is_none_is_refused(anonymous, host):
    assert anonymous.get("/sign-in", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("origin", ["http://[", "http://a]b"])
def test_origin_that_is_none_is_refused(anonymous, origin):
    assert anonymous.post("/sign-in", headers={"Origin": origin}).status_code == 403


def test_cookie_of_nested_brackets_is_nothing(client_as):
    import base64

    client = client_as("viewer")
    for cookie in ("guardrail_flash", "guardrail_done"):
        client.cookies.set(cookie, base64.urlsafe_b64encode(b"[" * 2000).decode())
    assert client.get("/queue").status_code == 200


def test_number_of_thousands_of_digits_is_no_case(client_as):
    answer = client_as("reviewer").post("/queue/preview", data={"case": "1" * 5000})
    assert answer.status_code < 500


@pytest.mark.parametrize(
    "address",
    [
        "::127.0.0.1",
        "64:ff9b:1::7f00:1",
        "::ffff:0:127.0.0.1",
        "fec0::1",
        "192.88.99.1",
        "192.0.0.192",
        "::ffff:192.0.0.9",
        "64:ff9b::c000:9",
        "2002:c000:9::1",
        "2002:c058:6301::1",
        "127.0.0.1",
        "169.254.169.254",
    ],
)
def test_webhooks_do_not_go_to_our_own_network(address):
    assert _is_private(address)


def test_webhooks_go_to_public_addresses():
    assert not _is_private("93.184.216.34")
    assert not _is_private("2606:2800:220:1::1")


@pytest.mark.parametrize("said", [{"disposition": "ignore"}, {"disposition": "credit"}])
def test_protected_work_cannot_be_replaced_by_less(desk, client_as, anonymous, token_for, said):
    token = token_for(client_as("lead").actor, "works:write")
    headers = {"Authorization": f"Bearer {token}"}
    form = {"bank": "animals", "work_id": "fox", "title": "Fox", **said}
    answer = anonymous.post("/v1/works", headers=headers, data=form, files={"image": ("fox.png", png(drawing(1)))})
    assert answer.status_code in (409, 422), answer.text
    (verdict,) = desk.guard_for("default").check([drawing(1)]).verdicts
    assert verdict.decision is Decision.BLOCK


def test_job_of_a_check_is_not_for_tokens_that_may_not_see_verdicts(desk, client_as, anonymous, token_for):
    actor = client_as("lead").actor
    job_id = desk.memory.jobs.add("default", "check", {"images": []})
    for scope, status in (("works:write", 404), ("cases:read", 404), ("verdicts:read", 200), ("check", 200)):
        token = token_for(actor, scope)
        answer = anonymous.get(f"/v1/jobs/{job_id}", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status, (scope, answer.text)


def test_pixels_that_were_released_are_asked_again_near_a_new_work(desk, client_as, open_case):
    reviewer, picture = client_as("reviewer"), near("fox", 9)
    case = open_case(picture=picture)
    body = {"outcome": "not_a_match", "reasons": ["wrong_work"]}
    answer = reviewer.post(
        f"/v1/cases/{case}/decisions", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 201, answer.text
    lead = client_as("lead")
    form = {"bank": "new", "work_id": "victim", "title": "Victim", "disposition": "protect", "csrf": lead.csrf}
    added = lead.post("/works", data=form, files={"image": ("v.png", png(near("fox", 9, 0.35)))})
    assert added.status_code == 303, added.text
    again = open_case(picture=picture)
    assert again != case
