"""Pages on which people prove who they are: password, authenticator, one-time link, identity provider; signing out."""

from __future__ import annotations

import math
from typing import Annotated
from urllib.parse import urlencode, urlsplit

import segno
from fastapi import APIRouter, Depends, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from guardrail.desk.web.deps import address_of, browser, cookie_name, set_cookie
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.desk.web.provider import Begun, Provider
from guardrail.desk.web.security import base_url
from guardrail.memory import Browser, Person, must_have_totp
from guardrail.review_errors import AccountInvalid, SignInFailed

__all__ = [
    "come_back",
    "give_code",
    "go_to_provider",
    "qr_of",
    "require_same",
    "router",
    "safe_next",
    "set_up_authenticator",
    "show_authenticator",
    "show_code",
    "show_link",
    "show_sign_in",
    "sign_in",
    "sign_out",
    "use_link",
]

router = APIRouter()

_BEGUN_S = 600  # to come back from the identity provider
_GONE = 410
_TOO_MANY = 429
_NO = "Email or password are not those of an account that can sign in."
_WAIT = "Too many tries. Wait {} s, then try again."
_USED_UP = "This link was used, has expired, or is not one of this desk. Ask an admin for a new one."

_Desk = Annotated[Desk, Depends(desk_of)]
_Browser = Annotated[Browser, Depends(browser)]
_Text = Annotated[str, Form(max_length=512)]


def safe_next(given: str) -> str:
    """Where somebody goes on to: a path of this desk, else its first page."""
    try:
        parts = urlsplit(given)
    except ValueError:  # brackets that hold no address
        return "/"
    is_path = given.startswith("/") and given[1:2] not in ("/", "\\") and not parts.netloc and not parts.scheme
    return given if is_path and given.isprintable() and not given.startswith("/sign-") else "/"


def qr_of(uri: str) -> str:
    """A QR code as the address of an SVG picture that it holds itself."""
    return segno.make(uri, error="m").svg_data_uri(scale=5, border=3, dark="#000", light="#fff")


def require_same(password: str, again: str) -> None:
    """Refuse a new password that was not typed the same twice.

    Raises:
        AccountInvalid: it was not.
    """
    if password != again:
        raise AccountInvalid("password", "two that differ", "the same twice")


@router.get("/sign-in")
def show_sign_in(request: Request, desk: _Desk, next: str = "/") -> Response:  # noqa: A002  # the name of the field
    """The page that asks for email and password."""
    return _sign_in_page(request, desk, safe_next(next))


@router.post("/sign-in")
def sign_in(
    request: Request,
    desk: _Desk,
    email: _Text = "",
    password: _Text = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002
) -> Response:
    """Take email and password; what is wrong is not told apart."""
    state, address, goes_on = request.app.state, address_of(request), safe_next(next)
    key = email.strip().casefold()
    wait_s = max(state.tries_by_address.wait_s(address), state.tries_by_email.wait_s(key))
    if wait_s > 0:
        seconds = math.ceil(wait_s)
        page = _sign_in_page(request, desk, goes_on, _WAIT.format(seconds), _TOO_MANY)
        page.headers["Retry-After"] = str(seconds)
        return page
    state.tries_by_address.wrong(address)  # counted before it is looked at: many at once are no way around
    state.tries_by_email.wrong(key)
    person = desk.memory.accounts.signing.check_password(email, password, address)
    if person is None:
        return _sign_in_page(request, desk, goes_on, _NO, 401)
    state.tries_by_email.right(key)
    state.tries_by_address.back(address)
    return _go_on(request, desk, person, goes_on)


@router.get("/sign-in/code")
def show_code(request: Request, desk: _Desk, browser: _Browser, next: str = "/") -> Response:  # noqa: A002
    """The page that asks for the code of the authenticator."""
    if browser.stage == "full":
        return RedirectResponse(safe_next(next), 303)
    return desk.page(request, "sign_in_code.html", next=safe_next(next), wrong="")


@router.post("/sign-in/code")
def give_code(
    request: Request,
    desk: _Desk,
    browser: _Browser,
    code: Annotated[str, Form(max_length=64)] = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002
) -> Response:
    """Take the code of the authenticator, or a recovery code."""
    try:
        person = desk.memory.accounts.signing.check_code(browser.person.account_id, code, address_of(request))
    except SignInFailed:
        wrong = "The code is wrong, was used already, or there were too many tries: wait for the next code."
        return desk.page(request, "sign_in_code.html", 401, next=safe_next(next), wrong=wrong)
    return _signed_in(request, desk, person, RedirectResponse(safe_next(next), 303))


@router.get("/sign-in/authenticator")
def show_authenticator(request: Request, desk: _Desk, browser: _Browser, next: str = "/") -> Response:  # noqa: A002
    """The page on which a lead or an admin sets up the authenticator that their role needs."""
    if browser.stage == "full" or browser.person.has_totp:
        return RedirectResponse(f"/sign-in/code?{urlencode({'next': safe_next(next)})}", 303)
    return _authenticator_page(request, desk, browser, safe_next(next))


@router.post("/sign-in/authenticator")
def set_up_authenticator(
    request: Request,
    desk: _Desk,
    browser: _Browser,
    code: Annotated[str, Form(max_length=64)] = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002
) -> Response:
    """Take the authenticator into use whose code was given; shows the recovery codes, once."""
    account_id = browser.person.account_id
    if browser.stage == "full" or browser.person.has_totp:
        raise AccountInvalid("authenticator", "one that is in use", "none")
    try:
        codes = desk.memory.accounts.signing.confirm_totp(account_id, code, address_of(request))
    except SignInFailed:
        wrong = "The code is not one of this authenticator. Its clock may be wrong."
        return _authenticator_page(request, desk, browser, safe_next(next), wrong)
    page = desk.page(request, "recovery_codes.html", codes=codes, next=safe_next(next))
    return _signed_in(request, desk, browser.person, page)


@router.get("/sign-in/link/{secret}")
def show_link(request: Request, desk: _Desk, secret: str) -> Response:
    """The page of a one-time link; looking at it does not use it up."""
    link = desk.memory.accounts.links.look(secret)
    if link is None:
        return _sign_in_page(request, desk, "/", _USED_UP, _GONE)
    return desk.page(request, "sign_in_link.html", link=link, name="", email="", wrong="")


@router.post("/sign-in/link/{secret}")
def use_link(
    request: Request,
    desk: _Desk,
    secret: str,
    password: _Text = "",
    again: _Text = "",
    name: _Text = "",
    email: _Text = "",
) -> Response:
    """Choose a password by a one-time link."""
    links = desk.memory.accounts.links
    link = links.look(secret)
    if link is None:
        return _sign_in_page(request, desk, "/", _USED_UP, _GONE)
    try:
        require_same(password, again)
        person = links.use(secret, password, name or link.person.name, email, address_of(request))
    except SignInFailed:
        return _sign_in_page(request, desk, "/", _USED_UP, _GONE)
    except AccountInvalid as error:
        return desk.page(request, "sign_in_link.html", 422, link=link, name=name, email=email, wrong=str(error))
    return _go_on(request, desk, person, "/")


@router.get("/sign-in/provider")
def go_to_provider(request: Request, desk: _Desk) -> Response:
    """Send the browser to the identity provider."""
    try:
        address, begun = _provider(request, desk).begin()
    except SignInFailed as error:
        return _sign_in_page(request, desk, "/", str(error), 503)
    response = RedirectResponse(address, 303)
    set_cookie(response, desk, "guardrail_provider", ".".join(begun), _BEGUN_S)
    return response


@router.get("/sign-in/provider/back")
def come_back(request: Request, desk: _Desk) -> Response:
    """Take the identity provider's answer."""
    try:
        named = _provider(request, desk).finish(_begun(request, desk), request.url.query)
        signing, organisation = desk.memory.accounts.signing, desk.settings.desk.oidc.organisation
        person = signing.by_provider(organisation, named, address_of(request))
        response = _signed_in(request, desk, person, RedirectResponse("/", 303))
    except SignInFailed as error:
        response = _sign_in_page(request, desk, "/", str(error), 403)
    set_cookie(response, desk, "guardrail_provider", "", 0)
    return response


@router.post("/sign-out")
def sign_out(request: Request, desk: _Desk, browser: _Browser) -> Response:
    """Sign out in this browser."""
    desk.memory.accounts.sessions.close(_secret(request, desk))
    desk.memory.audit.note(browser.person.actor, "sign_in.ended", browser.shown_id, {}, address_of(request))
    response = RedirectResponse("/sign-in", 303)
    set_cookie(response, desk, "guardrail", "", 0)
    return response


def _secret(request: Request, desk: Desk) -> str:
    return request.cookies.get(cookie_name(desk, "guardrail"), "")


def _sign_in_page(request: Request, desk: Desk, goes_on: str, wrong: str = "", status: int = 200) -> Response:
    by_provider = bool(desk.settings.desk.oidc.issuer)
    return desk.page(request, "sign_in.html", status, next=goes_on, wrong=wrong, by_provider=by_provider)


def _authenticator_page(request: Request, desk: Desk, browser: Browser, goes_on: str, wrong: str = "") -> Response:
    secret, uri = desk.memory.accounts.signing.begin_totp(browser.person.account_id, "guardrail")
    status = 401 if wrong else 200
    said = {"secret": secret, "picture": qr_of(uri), "wrong": wrong, "next": goes_on, "post": "/sign-in/authenticator"}
    return desk.page(request, "authenticator.html", status, **said)


def _go_on(request: Request, desk: Desk, person: Person, goes_on: str) -> Response:
    """After the password: to the authenticator where there is one or must be, else in."""
    if not person.has_totp and not must_have_totp(person):
        return _signed_in(request, desk, person, RedirectResponse(goes_on, 303))
    page = "code" if person.has_totp else "authenticator"
    response = RedirectResponse(f"/sign-in/{page}?{urlencode({'next': goes_on})}", 303)
    return _with_session(request, desk, person, response, is_full=False)


def _signed_in(request: Request, desk: Desk, person: Person, response: Response) -> Response:
    desk.memory.audit.note(person.actor, "sign_in.done", person.account_id, {}, address_of(request))
    return _with_session(request, desk, person, response, is_full=True)


def _with_session(request: Request, desk: Desk, person: Person, response: Response, *, is_full: bool) -> Response:
    """A new secret for the browser at every step; the one that it had is worth nothing."""
    sessions = desk.memory.accounts.sessions
    if before := _secret(request, desk):
        sessions.close(before)
    hours = desk.settings.desk.session_hours
    secret = sessions.open(person.account_id, "full" if is_full else "password", hours)
    set_cookie(response, desk, "guardrail", secret)
    return response


def _begun(request: Request, desk: Desk) -> Begun:
    kept = request.cookies.get(cookie_name(desk, "guardrail_provider"), "").split(".")
    if len(kept) != len(Begun._fields) or not all(kept):
        raise SignInFailed("this browser did not ask, or too long ago")
    return Begun(*kept)


def _provider(request: Request, desk: Desk) -> Provider:
    """The identity provider of the settings, made when it is first asked for.

    Raises:
        SignInFailed: there is none.
    """
    if not desk.settings.desk.oidc.issuer:
        raise SignInFailed("this desk has no identity provider")
    if getattr(request.app.state, "provider", None) is None:
        back = f"{base_url(desk.settings)}/sign-in/provider/back"
        request.app.state.provider = Provider(desk.settings.desk.oidc, back)
    provider: Provider = request.app.state.provider
    return provider
