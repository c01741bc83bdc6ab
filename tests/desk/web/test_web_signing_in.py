"""Signing in and out, as a browser does it."""

import re

import pyotp
import pytest
from argon2 import PasswordHasher
from starlette.testclient import TestClient

from guardrail.desk.web.app import build_app
from guardrail.desk.web.pacing import Pace, Tries
from guardrail.desk.web.security import base_url, is_loopback, require_binding
from guardrail.desk.web.signing_in import safe_next
from guardrail.desk_settings import DeskSettings
from guardrail.errors import SettingsInvalid
from guardrail.memory import AuditFilter, accounts_secrets
from guardrail.settings import Settings

PASSWORD = "four rabbits in a tuba"


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch):
    monkeypatch.setattr(accounts_secrets, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    accounts_secrets._hash_of_nobody.cache_clear()
    yield
    accounts_secrets._hash_of_nobody.cache_clear()


@pytest.fixture
def ada(desk):
    return desk.memory.accounts.open_account("default", "ada@example.org", "Ada", "reviewer", PASSWORD)


def sign_in(client, email="ada@example.org", password=PASSWORD, **also):
    return client.post("/sign-in", data={"email": email, "password": password, **also})


def key_of(page):
    return re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)[1]


def secret_of(page):
    return re.search(r'id="secret">([A-Z2-7]{32})<', page.text)[1]


# --- by password -------------------------------------------------------------------------------------------


def test_right_password_leads_on(anonymous, ada):
    answer = sign_in(anonymous, next="/audit?action=case")
    assert (answer.status_code, answer.headers["location"]) == (303, "/audit?action=case")
    assert anonymous.get("/account").status_code == 200


def test_cookie_is_hidden_from_scripts_and_other_sites(anonymous, ada):
    said = sign_in(anonymous).headers["set-cookie"]
    assert said.startswith("guardrail=")
    assert "HttpOnly" in said
    assert "SameSite=lax" in said
    assert "Domain" not in said


def test_wrong_password_and_unknown_email_are_told_alike(anonymous, ada, desk):
    disabled = desk.memory.accounts.open_account("default", "out@example.org", "Out", "viewer", PASSWORD)
    root = desk.memory.accounts.open_account("default", "root@example.org", "Root", "admin")
    desk.memory.accounts.change_state(root.actor, disabled.account_id, "disabled")
    asked = [("ada@example.org", "wrong"), ("who@example.org", "wrong"), ("out@example.org", PASSWORD), ("", "")]
    answers = [sign_in(anonymous, *pair) for pair in asked]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert not anonymous.cookies


def test_sixth_wrong_password_must_wait_for_known_and_unknown_emails_alike(anonymous, ada):
    for email in ("ada@example.org", "who@example.org"):
        assert [sign_in(anonymous, email, "wrong").status_code for _ in range(6)] == [401] * 5 + [401]
        answer = sign_in(anonymous, email, "wrong")
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) in (1, 2)
    assert sign_in(anonymous).status_code == 429, "the right one must wait, too"


def test_secret_of_the_browser_changes_at_sign_in(anonymous, ada, desk):
    sign_in(anonymous)
    before = anonymous.cookies["guardrail"]
    sign_in(anonymous)
    assert anonymous.cookies["guardrail"] != before
    assert desk.memory.accounts.sessions.find(before, 60) is None


def test_signing_out_ends_the_session(anonymous, ada, desk):
    sign_in(anonymous)
    secret, key = anonymous.cookies["guardrail"], key_of(anonymous.get("/account"))
    assert anonymous.post("/sign-out", data={"csrf": key}).headers["location"] == "/sign-in"
    assert "guardrail" not in anonymous.cookies
    assert desk.memory.accounts.sessions.find(secret, 60) is None


def test_page_that_was_asked_for_comes_after_signing_in(anonymous, ada):
    answer = anonymous.get("/tokens?x=1", headers={"Accept": "text/html"})
    assert answer.headers["location"] == "/sign-in?next=%2Ftokens%3Fx%3D1"
    page = anonymous.get(answer.headers["location"])
    assert 'name="next" value="/tokens?x=1"' in page.text


@pytest.mark.parametrize(
    "given", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "", "x", "/sign-in", "/\nx"]
)
def test_nobody_is_led_elsewhere(given):
    assert safe_next(given) == "/"


def test_signing_in_is_noted_with_the_address(anonymous, ada, desk):
    sign_in(anonymous, password="wrong")
    sign_in(anonymous)
    events = desk.memory.audit.page(ada.actor, AuditFilter(action="sign_in"))
    assert [one.action for one in events] == ["sign_in.done", "sign_in.password", "sign_in.refused"]
    assert {one.address for one in events} == {"testclient"}


# --- authenticator -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "needs"), [("viewer", False), ("reviewer", False), ("lead", True), ("admin", True)])
def test_leads_and_admins_need_an_authenticator(anonymous, desk, role, needs):
    desk.memory.accounts.open_account("default", "ada@example.org", "Ada", role, PASSWORD)
    assert sign_in(anonymous).headers["location"] == ("/sign-in/authenticator?next=%2F" if needs else "/")


def test_after_the_password_alone_no_page_opens(anonymous, desk, app):
    desk.memory.accounts.open_account("default", "ada@example.org", "Ada", "admin", PASSWORD)
    sign_in(anonymous)
    for path in ("/account", "/accounts", "/audit", "/tokens"):
        assert anonymous.get(path, headers={"Accept": "text/html"}).headers["location"].startswith("/sign-in?")
        assert anonymous.get(path).status_code == 401


def test_admin_sets_the_authenticator_up_and_signs_in_with_it(anonymous, desk):
    desk.memory.accounts.open_account("default", "ada@example.org", "Ada", "admin", PASSWORD)
    page = anonymous.get(sign_in(anonymous).headers["location"])
    assert 'src="data:image/svg+xml' in page.text
    totp, key = pyotp.TOTP(secret_of(page)), key_of(page)
    wrong = anonymous.post("/sign-in/authenticator", data={"csrf": key, "code": "abcdef"})
    assert wrong.status_code == 401
    codes = anonymous.post("/sign-in/authenticator", data={"csrf": key, "code": totp.now()})
    shown = re.findall(r"<li>([0-9a-f-]{23})</li>", codes.text)
    assert len(shown) == 10
    assert anonymous.get("/accounts").status_code == 200
    assert anonymous.get("/sign-in/authenticator").status_code == 303, "the secret is shown once"
    again = sign_in(anonymous, next="/accounts")
    assert again.headers["location"] == "/sign-in/code?next=%2Faccounts"
    page = anonymous.get(again.headers["location"])
    answer = anonymous.post("/sign-in/code", data={"csrf": key_of(page), "code": shown[0], "next": "/accounts"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/accounts")
    assert anonymous.get("/accounts").status_code == 200


def test_code_that_is_wrong_leaves_one_outside(anonymous, desk, ada):
    signing = desk.memory.accounts.signing
    secret, _ = signing.begin_totp(ada.account_id, "guardrail")
    signing.confirm_totp(ada.account_id, pyotp.TOTP(secret).now())
    page = anonymous.get(sign_in(anonymous).headers["location"])
    assert anonymous.post("/sign-in/code", data={"csrf": key_of(page), "code": "000000"}).status_code == 401
    assert anonymous.get("/account").status_code == 401


# --- by link -----------------------------------------------------------------------------------------------


def test_first_admin_comes_in_by_the_link_of_the_first_start(anonymous, desk):
    secret = desk.memory.accounts.first_links({"default": "Default"}, again=True)["default"]
    page = anonymous.get(f"/sign-in/link/{secret}")
    assert 'name="email"' in page.text
    given = {"email": "ada@example.org", "name": "Ada", "password": PASSWORD, "again": PASSWORD}
    short = anonymous.post(f"/sign-in/link/{secret}", data=given | {"password": "short", "again": "short"})
    assert short.status_code == 422
    assert 'value="ada@example.org"' in short.text
    answer = anonymous.post(f"/sign-in/link/{secret}", data=given)
    assert answer.headers["location"] == "/sign-in/authenticator?next=%2F"
    assert anonymous.get(f"/sign-in/link/{secret}").status_code == 410


def test_two_passwords_that_differ_are_refused(anonymous, desk):
    secret = desk.memory.accounts.first_links({"default": "Default"}, again=True)["default"]
    given = {"email": "ada@example.org", "name": "Ada", "password": PASSWORD, "again": PASSWORD + "s"}
    assert anonymous.post(f"/sign-in/link/{secret}", data=given).status_code == 422
    assert desk.memory.accounts.links.look(secret)


# --- how it is reached -------------------------------------------------------------------------------------


def test_every_answer_says_what_browsers_refuse(anonymous, app):
    @app.get("/broken")
    def broken():
        raise RuntimeError("a fault")

    for path, status in (("/sign-in", 200), ("/account", 401), ("/nothing", 404), ("/broken", 500)):
        answer = anonymous.get(path)
        assert answer.status_code == status
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize("path", ["/sign-in", "/sign-in/link/x", "/accounts", "/account/name", "/tokens"])
def test_forms_without_files_take_none(anonymous, path):
    """A body with files is written to the disk before it is known who sends it."""
    assert anonymous.post(path, files={"name": ("a.png", b"a" * 10_000)}).status_code == 415


@pytest.fixture
def by_https(make_desk):
    desk = make_desk(public_url="https://desk.example.org")
    app = build_app(desk, workers=False)
    client = TestClient(app, base_url="https://desk.example.org", follow_redirects=False)
    client.desk = desk
    return client


def test_by_https_the_cookie_is_of_this_host_alone(by_https):
    by_https.desk.memory.accounts.open_account("default", "ada@example.org", "Ada", "viewer", PASSWORD)
    answer = sign_in(by_https)
    assert answer.headers["set-cookie"].startswith("__Host-guardrail=")
    assert "Secure" in answer.headers["set-cookie"]
    assert "Path=/;" in answer.headers["set-cookie"]
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert by_https.get("/account").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("desk.example.org", 200), ("DESK.example.org:443", 200), ("127.0.0.1:8787", 200), ("[::1]:8787", 200),
     ("localhost", 200), ("desk.example.org:8443", 421), ("other.example.org", 421)],
)  # fmt: skip
def test_only_known_hosts_are_answered(by_https, host, status):
    assert by_https.get("/sign-in", headers={"Host": host}).status_code == status


def test_forms_of_the_public_address_are_taken(by_https):
    by_https.desk.memory.accounts.open_account("default", "ada@example.org", "Ada", "viewer", PASSWORD)
    own, other = {"Origin": "https://desk.example.org"}, {"Origin": "http://desk.example.org"}
    given = {"email": "ada@example.org", "password": PASSWORD}
    assert by_https.post("/sign-in", data=given, headers=own).status_code == 303
    assert by_https.post("/sign-in", data=given, headers=other).status_code == 403


def settings_of(**said):
    return Settings(desk=DeskSettings(**said))


@pytest.mark.parametrize(
    "said",
    [
        {"host": "0.0.0.0"},
        {"host": "::"},
        {"host": "192.168.1.2"},
        {"host": "desk.example.org"},
        {"host": "0.0.0.0", "public_url": "http://desk.example.org"},
        {"public_url": "desk.example.org"},
        {"public_url": "https://desk.example.org/path"},
        {"public_url": "https://user@desk.example.org"},
    ],
    ids=str,
)
def test_the_desk_is_not_reached_from_elsewhere_without_tls_and_a_name(said):
    with pytest.raises(SettingsInvalid, match=r"desk\.(host|public_url)"):
        require_binding(settings_of(**said))


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ({}, "http://127.0.0.1:8787"),
        ({"host": "::1"}, "http://[::1]:8787"),
        ({"host": "localhost", "port": 80}, "http://localhost:80"),
        ({"host": "0.0.0.0", "public_url": "https://desk.example.org/"}, "https://desk.example.org"),
    ],
    ids=str,
)
def test_the_desk_is_reached_by_its_address(said, url):
    require_binding(settings_of(**said))
    assert base_url(settings_of(**said)) == url


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.9.9.9", "[::1]", "a.localhost"])
def test_loopback_is_known(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["128.0.0.1", "localhost.evil.example", "evil-localhost", "", "::2"])
def test_what_is_not_loopback_is_known(host):
    assert not is_loopback(host)


# --- pace --------------------------------------------------------------------------------------------------


class Clock:
    at = 1000.0

    def __call__(self):
        return self.at


def test_wait_doubles_up_to_a_quarter_of_an_hour_and_is_forgotten():
    clock = Clock()
    tries, waits = Tries(clock=clock), []
    for _ in range(20):
        tries.wrong("a")
        waits.append(tries.wait_s("a"))
        clock.at += waits[-1]
    assert waits[:8] == [0, 0, 0, 0, 0, 2, 4, 8]
    assert max(waits) == waits[-1] == 900
    assert tries.wait_s("b") == 0
    clock.at += 3601
    tries.wrong("a")
    assert tries.wait_s("a") == 0


def test_who_was_right_need_not_wait():
    tries = Tries(clock=Clock())
    for _ in range(6):
        tries.wrong("a", "b")
    tries.right("a")
    assert (tries.wait_s("a"), tries.wait_s("b") > 0) == (0, True)


def test_a_token_has_so_many_requests_a_minute():
    clock = Clock()
    pace = Pace(60, clock)
    assert [pace.wait_s("t") == 0 for _ in range(16)] == [True] * 15 + [False]
    assert pace.wait_s("other") == 0
    clock.at += 1
    assert [pace.wait_s("t") == 0 for _ in range(2)] == [True, False]
