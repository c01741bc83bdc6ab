"""Pages of accounts, one's own account, tokens and the audit."""

import csv
import io
import re

import pyotp
import pytest
from argon2 import PasswordHasher
from sqlalchemy import text

from guardrail.desk.web.pacing import Pace
from guardrail.memory import AuditFilter, accounts_secrets

PASSWORD = "four rabbits in a tuba"


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch):
    monkeypatch.setattr(accounts_secrets, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    accounts_secrets._hash_of_nobody.cache_clear()
    yield
    accounts_secrets._hash_of_nobody.cache_clear()


def said_by(client, answer):
    """What the page after a redirect says."""
    assert answer.status_code == 303
    return re.sub(r"\s+", " ", client.get(answer.headers["location"]).text)


# --- accounts ----------------------------------------------------------------------------------------------


def test_admin_invites_somebody_who_then_comes_in(client_as, anonymous):
    admin = client_as("admin")
    page = admin.post("/accounts", data={"email": "bo@example.org", "name": "Bo", "role": "reviewer"})
    link = re.search(r">(http://127\.0\.0\.1:8787/sign-in/link/[\w-]+)<", page.text)[1]
    assert "Bo" in admin.get("/accounts").text
    given = {"name": "Bo", "password": PASSWORD, "again": PASSWORD}
    assert anonymous.post(link, data=given).headers["location"] == "/"
    assert "bo@example.org" in anonymous.get("/account").text
    assert anonymous.get("/accounts").status_code == 403


@pytest.mark.parametrize("role", ["viewer", "reviewer", "lead"])
def test_only_admins_see_accounts(client_as, role):
    assert client_as(role).get("/accounts").status_code == 403


def test_accounts_of_another_organisation_are_not_listed(client_as):
    client_as("admin", "another", name="Eve Elsewhere")
    assert "Elsewhere" not in client_as("admin").get("/accounts").text


def test_wrong_invitation_is_told_with_what_was_typed(client_as):
    page = client_as("admin").post("/accounts", data={"email": "nobody", "name": "Bo", "role": "lead"})
    assert page.status_code == 422
    assert 'value="Bo"' in page.text
    assert '<option value="lead" selected>' in page.text


def test_role_and_state_are_changed_and_told(client_as, desk):
    admin, bo = client_as("admin"), client_as("reviewer", name="Bo")
    where = f"/accounts/{bo.actor.account_id}"
    assert "Bo is lead now." in said_by(admin, admin.post(f"{where}/role", data={"role": "lead"}))
    assert "Bo is disabled now." in said_by(admin, admin.post(f"{where}/state", data={"state": "disabled"}))
    assert desk.memory.accounts.person(bo.actor.account_id).state == "disabled"
    assert bo.get("/account").headers["location"].startswith("/sign-in")
    assert "Bo is disabled now." not in admin.get("/accounts").text, "said once"


@pytest.mark.parametrize(("what", "form"), [("role", {"role": "viewer"}), ("state", {"state": "disabled"})])
def test_last_admin_is_told_to_stay(client_as, desk, what, form):
    admin = client_as("admin")
    said = said_by(admin, admin.post(f"/accounts/{admin.actor.account_id}/{what}", data=form))
    assert "last admin" in said
    assert desk.memory.accounts.person(admin.actor.account_id).role == "admin"


@pytest.mark.parametrize(("what", "form"), [("role", {"role": "god"}), ("state", {"state": "invited"})])
def test_what_there_is_not_is_refused(client_as, what, form):
    admin, bo = client_as("admin"), client_as("reviewer", name="Bo")
    assert "expected" in said_by(admin, admin.post(f"/accounts/{bo.actor.account_id}/{what}", data=form))


def test_hostile_names_are_shown_and_not_run(client_as):
    admin = client_as("admin")
    admin.post("/accounts", data={"email": "x@example.org", "name": "<script>alert(1)</script>", "role": "viewer"})
    page = admin.get("/accounts").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_form_key_may_come_in_the_form(client_as):
    """As plain forms send it, without a script."""
    admin, bo = client_as("admin"), client_as("reviewer", name="Bo")
    key = admin.headers.pop("X-CSRF-Token")
    where = f"/accounts/{bo.actor.account_id}/role"
    assert admin.post(where, data={"role": "lead"}).status_code == 403
    assert admin.post(where, data={"role": "lead", "csrf": key[:-1]}).status_code == 403
    assert admin.post(where, data={"role": "lead", "csrf": key}).status_code == 303


# --- one's own ---------------------------------------------------------------------------------------------


def test_settings_are_kept_and_shown(client_as, desk):
    me = client_as("viewer")
    me.post("/account/settings", data={"blur": "grey"})
    kept = desk.memory.accounts.person(me.actor.account_id).preferences
    assert (kept.blur, kept.keyboard) == ("grey", False)
    assert re.search(r'value="grey" checked', me.get("/account").text)
    assert 'data-keyboard="off"' in me.get("/account").text
    assert me.post("/account/settings", data={"blur": "loud"}).status_code == 422


def test_password_is_changed_with_the_present_one(client_as, desk, anonymous):
    me = client_as("viewer", name="Ada")
    person = desk.memory.accounts.person(me.actor.account_id)
    admin = client_as("admin")
    secret = desk.memory.accounts.reset_link(admin.actor, person.account_id)
    desk.memory.accounts.links.use(secret, PASSWORD, "Ada")
    anonymous.post("/sign-in", data={"email": person.email, "password": PASSWORD})
    key = re.search(r'name="csrf" content="(\w+)"', anonymous.get("/account").text)[1]
    new = {"new": "another tuba of rabbits", "again": "another tuba of rabbits", "csrf": key}
    assert anonymous.post("/account/password", data={"old": "wrong", **new}).status_code == 422
    assert anonymous.post("/account/password", data={"old": PASSWORD, **new, "again": "x"}).status_code == 422
    assert anonymous.post("/account/password", data={"old": PASSWORD, **new}).status_code == 303
    assert anonymous.get("/account").status_code == 200
    assert desk.memory.accounts.signing.check_password(person.email, "another tuba of rabbits")


def test_authenticator_of_ones_own(client_as):
    me = client_as("reviewer")
    page = me.get("/account/authenticator")
    totp = pyotp.TOTP(re.search(r'id="secret">([A-Z2-7]+)<', page.text)[1])
    assert me.post("/account/authenticator", data={"code": "x"}).status_code == 422
    assert "Recovery codes" in me.post("/account/authenticator", data={"code": totp.now()}).text
    assert "10 recovery codes are left" in me.get("/account").text


def test_right_codes_never_count_as_wrong_where_the_role_needs_the_authenticator(client_as, desk, anonymous):
    me = client_as("reviewer", name="Ada")
    email = desk.memory.accounts.person(me.actor.account_id).email
    secret = desk.memory.accounts.reset_link(client_as("admin").actor, me.actor.account_id)
    desk.memory.accounts.links.use(secret, PASSWORD, "Ada")
    anonymous.post("/sign-in", data={"email": email, "password": PASSWORD})
    key = re.search(r'name="csrf" content="(\w+)"', anonymous.get("/account").text)[1]
    totp = pyotp.TOTP(re.search(r'id="secret">([A-Z2-7]+)<', anonymous.get("/account/authenticator").text)[1])
    made = anonymous.post("/account/authenticator", data={"code": totp.now(), "csrf": key})
    codes = re.findall(r"<li>([^<]+)</li>", made.text)
    with desk.memory._database.writing() as (session, _):
        session.execute(text("UPDATE accounts SET role = 'lead' WHERE email = :email"), {"email": email})
    for code in codes[:8]:
        answer = anonymous.post("/account/authenticator/remove", data={"password": PASSWORD, "code": code, "csrf": key})
        assert answer.status_code == 422
        assert "another role first" in answer.text
        assert "Too many tries" not in answer.text


def test_a_new_password_that_cannot_be_does_not_count_as_a_wrong_try(client_as):
    me = client_as("viewer")
    for _ in range(8):
        answer = me.post("/account/password", data={"old": PASSWORD, "new": "x", "again": "y"})
        assert answer.status_code == 422
        assert "Too many tries" not in answer.text


def test_other_browsers_are_signed_out(client_as):
    here, there, third = (client_as("viewer") for _ in range(3))
    shown = re.findall(r"/account/browsers/(\w+)/sign-out", here.get("/account").text)
    assert len(shown) == 3
    there_id = there.get("/account") and re.search(
        r"browsers/(\w+)/sign-out(?:(?!</form>).)*this browser", there.get("/account").text, re.DOTALL
    )
    here.post(f"/account/browsers/{there_id[1]}/sign-out")
    assert [one.get("/account").status_code for one in (here, there, third)] == [200, 303, 200]
    here.post("/account/sign-out-everywhere")
    assert [one.get("/account").status_code for one in (here, third)] == [200, 303]


# --- tokens ------------------------------------------------------------------------------------------------


def test_token_is_shown_once_and_revoked(client_as, desk):
    me = client_as("reviewer")
    page = me.post("/tokens", data={"name": "ci", "scopes": ["check", "cases:read"], "days": "7"})
    token = re.search(r">(gr_[\w-]{43})<", page.text)[1]
    assert desk.memory.accounts.tokens.find(token).scopes == ("check", "cases:read")
    listed = me.get("/tokens").text
    assert "ci" in listed
    assert token not in listed
    me.post(re.search(r'action="(/tokens/\w+/revoke)"', listed)[1])
    assert desk.memory.accounts.tokens.find(token) is None


@pytest.mark.parametrize(("role", "offered"), [("viewer", 2), ("reviewer", 4), ("lead", 5), ("admin", 6)])
def test_scopes_are_offered_by_role(client_as, role, offered):
    assert client_as(role).get("/tokens").text.count('name="scopes"') == offered


def test_scope_beyond_the_role_is_refused(client_as, desk):
    me = client_as("viewer")
    assert me.post("/tokens", data={"name": "ci", "scopes": ["works:write"], "days": "7"}).status_code == 403
    assert desk.memory.accounts.tokens.of(me.actor) == ()


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"name": "x"},
        {"name": "x", "scopes": "all"},
        {"scopes": "check"},
        {"name": "x", "scopes": "check", "days": "800"},
    ],
    ids=str,
)
def test_token_that_cannot_be_is_refused(client_as, form):
    assert client_as("admin").post("/tokens", data=form).status_code == 422


def test_admins_see_and_revoke_tokens_of_others(client_as, token_for, desk):
    me, admin = client_as("reviewer", name="Bo"), client_as("admin")
    token = token_for(me.actor, "check")
    assert "Bo" in admin.get("/tokens").text
    assert "for tests" not in client_as("lead").get("/tokens").text
    admin.post(re.search(r'action="(/tokens/\w+/revoke)"', admin.get("/tokens").text)[1])
    assert desk.memory.accounts.tokens.find(token) is None


def test_a_token_asks_no_more_often_than_it_may(anonymous, client_as, token_for, app):
    app.state.pace = Pace(4, clock=lambda: 0.0)  # one at once
    given = {"Authorization": f"Bearer {token_for(client_as('viewer').actor, 'cases:read')}"}
    first, second = (anonymous.get("/v1/cases", headers=given) for _ in range(2))
    assert first.status_code == 200
    assert second.status_code == 429
    assert second.headers["retry-after"] == "16"
    assert second.headers["content-type"] == "application/problem+json"


def test_a_token_does_what_its_scope_and_role_of_today_allow(anonymous, client_as, token_for, desk):
    me, admin = client_as("reviewer", name="Bo"), client_as("admin")

    def ask(*scopes):
        return anonymous.get(
            "/v1/cases", headers={"Authorization": f"Bearer {token_for(me.actor, *scopes)}"}
        ).status_code

    assert ask("cases:read") == 200
    assert ask("check") == 403
    token = token_for(me.actor, "cases:read")
    desk.memory.accounts.change_state(admin.actor, me.actor.account_id, "disabled")
    assert anonymous.get("/v1/cases", headers={"Authorization": f"Bearer {token}"}).status_code == 401


# --- audit -------------------------------------------------------------------------------------------------


def test_looking_at_the_accounts_and_the_audit_is_noted(client_as, desk):
    admin = client_as("admin")
    admin.get("/accounts")
    admin.get("/audit?action=case")
    admin.get("/audit.csv")
    events = desk.memory.audit.page(admin.actor, AuditFilter(account_id=admin.actor.account_id))
    assert [(one.action, one.details) for one in events] == [
        ("audit.exported", {}),
        ("audit.seen", {"action": "case"}),
        ("accounts.seen", {}),
    ]


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("reviewer", 403), ("lead", 200), ("admin", 200)])
def test_leads_and_admins_see_the_audit(client_as, role, status):
    client = client_as(role)
    assert [client.get(path).status_code for path in ("/audit", "/audit.csv")] == [status, status]


def test_audit_pages_go_back_in_time(client_as, desk):
    admin = client_as("admin")
    for number in range(120):
        desk.memory.audit.note(admin.actor, "case.seen", f"case {number}")
    page = admin.get("/audit?action=case.seen").text
    assert "case 119<" in page
    assert "case 19<" not in page
    earlier = re.search(r'href="(/audit\?[^"]*before=\d+)"', page)[1].replace("&amp;", "&")
    page = admin.get(earlier).text
    assert "case 19<" in page
    assert "case 20<" not in page
    assert "before=" not in page


def test_exported_audit_is_that_of_the_filter_and_the_organisation(client_as, desk):
    admin, other = client_as("admin", name="Ada"), client_as("admin", "another")
    desk.memory.audit.note(admin.actor, "case.seen", "case 1")
    desk.memory.audit.note(other.actor, "case.seen", "case 2")
    answer = admin.get("/audit.csv?action=case")
    assert answer.headers["content-disposition"].startswith('attachment; filename="audit-')
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert [(row["account"], row["target"]) for row in rows] == [("Ada", "case 1")]


@pytest.mark.parametrize("query", ["since=yesterday", "until=2026-13", "before=0", "before=x", f"target={'x' * 257}"])
def test_wrong_filter_is_told(client_as, query):
    assert client_as("lead").get(f"/audit?{query}").status_code == 422
