"""Signing in by an identity provider: a small one, on loopback, that signs ID tokens, well and badly."""

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from starlette.testclient import TestClient

from guardrail.desk.web.app import build_app
from guardrail.desk.web.provider import Provider
from guardrail.desk_settings import OidcSettings
from guardrail.errors import SettingsInvalid
from guardrail.memory import AuditFilter

BASE = "http://127.0.0.1:8787"
BACK = f"{BASE}/sign-in/provider/back"


class IdentityProvider:
    """Whoever comes is Ada; `claims` and `change` say what is wrong with her ID token."""

    def __init__(self):
        self.key, self.claims, self.sign, self.email = ECKey.generate_key("P-256"), {}, None, "ada@example.org"
        self.codes, self.called_itself = {}, None
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def _handler(self):
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                answers = {"/.well-known/openid-configuration": provider.said, "/jwks": provider.jwks}
                self._send(answers[self.path]())

            def do_POST(self):
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                self._send(*provider.token({name: value[0] for name, value in form.items()}, self.headers))

            def _send(self, document, status=200):
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        return Handler

    def said(self):
        there = {name: f"{self.issuer}/{name}" for name in ("authorize", "token", "jwks")}
        return {
            "issuer": self.called_itself or self.issuer,
            "authorization_endpoint": there["authorize"],
            "token_endpoint": there["token"],
            "jwks_uri": there["jwks"],
        }

    def jwks(self):
        return {"keys": [self.key.as_dict(private=False, kid="now", alg="ES256", use="sig")]}

    def authorize(self, address):
        """What a person's browser does there: they agree, and are sent back."""
        asked = {name: value[0] for name, value in parse_qs(urlsplit(address).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["redirect_uri"] == BACK
        assert "openid" in asked["scope"].split()
        code = secrets.token_hex()
        self.codes[code] = asked
        return f"/sign-in/provider/back?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, form, headers):
        asked = self.codes.pop(form["code"], None)
        client = base64.b64encode(b"desk:a secret").decode()
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if asked is None or proof != asked["code_challenge"] or headers["authorization"] != f"Basic {client}":
            return {"error": "invalid_grant"}, 400
        claims = {
            "iss": self.issuer,
            "sub": "ada-1",
            "aud": "desk",
            "exp": int(time.time()) + 300,
            "iat": int(time.time()),
            "nonce": asked["nonce"],
            "name": "Ada",
            "email": self.email,
            "email_verified": True,
        } | self.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        sign = self.sign or (lambda told: jwt.encode({"alg": "ES256", "kid": "now"}, told, self.key))
        return {"access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": sign(claims)}, 200


@pytest.fixture
def provider():
    provider = IdentityProvider()
    yield provider
    provider.close()


@pytest.fixture
def desk(make_desk, provider):
    return make_desk(oidc=OidcSettings(issuer=provider.issuer, client_id="desk", client_secret="a secret"))


@pytest.fixture
def root(desk):
    return desk.memory.accounts.open_account("default", "root@example.org", "Root", "admin").actor


@pytest.fixture
def browser(desk):
    return TestClient(build_app(desk, workers=False), base_url=BASE, follow_redirects=False)


def come_in(browser, provider):
    return browser.get(provider.authorize(browser.get("/sign-in/provider").headers["location"]))


def let_in(desk, root):
    (person,) = [one for one in desk.memory.accounts.people(root) if one.by_provider]
    return desk.memory.accounts.change_state(root, person.account_id, "active")


def test_who_is_new_waits_and_comes_in_once_an_admin_agrees(browser, provider, desk, root):
    assert "Sign in by your organisation" in browser.get("/sign-in").text
    answer = come_in(browser, provider)
    assert answer.status_code == 403
    assert "must let you in" in answer.text
    assert "guardrail" not in browser.cookies
    person = let_in(desk, root)
    answer = come_in(browser, provider)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "ada@example.org" in browser.get("/account").text
    assert person.role == "viewer"


@pytest.mark.parametrize("organisation", ["default", "another"])
def test_an_email_that_is_known_here_leads_into_nobodys_account(browser, provider, desk, root, organisation):
    owner = desk.memory.accounts.open_account(organisation, "ada@example.org", "The true Ada", "admin")
    answer = come_in(browser, provider)
    assert answer.status_code == 403
    assert "does not know you" in answer.text
    assert desk.memory.accounts.sessions.of(owner.account_id) == ()
    assert not any(one.by_provider for one in desk.memory.accounts.people(root))
    (event,) = desk.memory.audit.page(root, AuditFilter(action="sign_in.provider_refused"))
    assert event.target == "ada@example.org"


def test_the_subject_counts_and_not_the_email(browser, provider, desk, root):
    come_in(browser, provider)
    person = let_in(desk, root)
    provider.email = "married@example.org"
    assert come_in(browser, provider).status_code == 303
    provider.claims = {"sub": "eve-2"}
    provider.email = "ada@example.org"
    assert come_in(browser, provider).status_code == 403
    assert len(desk.memory.accounts.sessions.of(person.account_id)) == 1


def test_an_email_that_the_provider_does_not_vouch_for_is_not_taken(browser, provider, desk, root):
    provider.claims = {"email_verified": False}
    come_in(browser, provider)
    assert let_in(desk, root).email.endswith("@provider.invalid")


ANOTHER = ECKey.generate_key("P-256")
WRONG = {
    "another nonce": {"claims": {"nonce": "n"}},
    "no nonce": {"claims": {"nonce": None}},
    "another audience": {"claims": {"aud": "other"}},
    "an audience more, and no azp": {"claims": {"aud": ["desk", "other"]}},
    "another issuer": {"claims": {"iss": "https://evil.example"}},
    "expired": {"claims": {"exp": int(time.time()) - 120}},
    "no expiry": {"claims": {"exp": None}},
    "no subject": {"claims": {"sub": None}},
    "an empty subject": {"claims": {"sub": ""}},
    "another key": {"sign": lambda told: jwt.encode({"alg": "ES256", "kid": "now"}, told, ANOTHER)},
    "an algorithm with a shared secret": {
        "sign": lambda told: jwt.encode({"alg": "HS256"}, told, OctKey.import_key("a secret" * 8))
    },
    "no signature": {
        "sign": lambda told: (
            ".".join(
                base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
                for part in ({"alg": "none"}, told)
            )
            + "."
        )
    },
    "no ID token at all": {"sign": lambda _: None},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_id_token_signs_nobody_in(browser, provider, desk, root, wrong):
    come_in(browser, provider)
    let_in(desk, root)
    provider.claims, provider.sign = wrong.get("claims", {}), wrong.get("sign")
    answer = come_in(browser, provider)
    assert answer.status_code == 403
    assert "did not say who you are" in answer.text
    assert "guardrail" not in browser.cookies


def test_an_answer_that_this_browser_did_not_ask_for_is_refused(browser, provider, desk, root):
    """Somebody makes another person's browser finish a sign-in that they began, to be watched there."""
    come_in(browser, provider)
    let_in(desk, root)
    address = provider.authorize(browser.get("/sign-in/provider").headers["location"])
    other = TestClient(browser.app, base_url=BASE, follow_redirects=False)
    assert other.get(address).status_code == 403
    other.get("/sign-in/provider")
    assert other.get(address).status_code == 403
    assert browser.get(address.replace("state=", "state=x")).status_code == 403


def test_a_code_serves_once(browser, provider, desk, root):
    come_in(browser, provider)
    let_in(desk, root)
    address = provider.authorize(browser.get("/sign-in/provider").headers["location"])
    kept = browser.cookies["guardrail_provider"]
    assert browser.get(address).status_code == 303
    assert "guardrail_provider" not in browser.cookies
    browser.cookies.set("guardrail_provider", kept)
    assert browser.get(address).status_code == 403


def test_keys_that_changed_are_asked_for_again(browser, provider, desk, root, monkeypatch):
    come_in(browser, provider)
    let_in(desk, root)
    provider.key = ECKey.generate_key("P-256")
    monkeypatch.setattr("guardrail.desk.web.provider._ANEW_AFTER_S", -1)  # at once, not after ten seconds
    assert come_in(browser, provider).status_code == 303


def test_a_provider_that_calls_itself_otherwise_is_not_followed(browser, provider):
    provider.called_itself = "https://evil.example"
    answer = browser.get("/sign-in/provider")
    assert answer.status_code == 503
    assert "did not answer" in answer.text


def test_a_provider_that_is_down_is_told(browser, provider):
    provider.close()
    assert browser.get("/sign-in/provider").status_code == 503


def test_without_a_provider_there_is_no_way_by_it(make_desk):
    browser = TestClient(build_app(make_desk(), workers=False), base_url=BASE, follow_redirects=False)
    assert "identity provider" not in browser.get("/sign-in").text
    assert browser.get("/sign-in/provider").status_code == 503
    assert browser.get("/sign-in/provider/back?code=a&state=b").status_code == 403


@pytest.mark.parametrize("issuer", ["http://id.example", "ftp://id.example", "id.example"])
def test_issuer_must_be_https(issuer):
    with pytest.raises(SettingsInvalid, match="https"):
        Provider(OidcSettings(issuer=issuer, client_id="desk"), BACK)
