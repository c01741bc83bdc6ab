"""The page of one's own account: name, settings, password, authenticator, browsers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from guardrail.desk.web.deps import actor, address_of, cookie_name, flash
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.desk.web.signing_in import qr_of, require_same
from guardrail.memory import Person, Preferences, must_have_totp
from guardrail.records import Actor
from guardrail.review_errors import AccountInvalid, AccountMissing, SignInFailed

__all__ = [
    "change_password",
    "change_settings",
    "close_all",
    "close_browser",
    "remove_authenticator",
    "rename",
    "renew_recovery",
    "router",
    "set_up_authenticator",
    "show_account",
    "show_authenticator",
]

router = APIRouter()

_Desk = Annotated[Desk, Depends(desk_of)]
_Actor = Annotated[Actor, Depends(actor)]
_Text = Annotated[str, Form(max_length=512)]
_TOO_MANY = "Too many tries. Wait, then try again."
_WRONG_CODE = "The code is wrong, was used already, or there were too many tries."


@router.get("/account")
def show_account(request: Request, desk: _Desk, actor: _Actor) -> Response:
    """One's own account."""
    return _account_page(request, desk, actor)


@router.post("/account/name")
def rename(request: Request, desk: _Desk, actor: _Actor, name: _Text = "") -> Response:
    """Change one's name."""
    try:
        desk.memory.accounts.rename(actor, name, address_of(request))
    except AccountInvalid as error:
        return _account_page(request, desk, actor, str(error))
    return _back(request, "Your name was changed.")


@router.post("/account/settings")
def change_settings(
    request: Request, desk: _Desk, actor: _Actor, blur: _Text = "blur", keyboard: _Text = "off"
) -> Response:
    """Change how sensitive images are shown, and whether keys decide."""
    for one in ("none", "blur", "grey"):
        if one == blur:
            wanted = Preferences(blur=one, keyboard=keyboard == "on")
            desk.memory.accounts.set_preferences(actor, wanted, address_of(request))
            return _back(request, "Your settings were changed.")
    return _account_page(request, desk, actor, str(AccountInvalid("blur", repr(blur[:32]), "none, blur or grey")))


@router.post("/account/password")
def change_password(
    request: Request, desk: _Desk, actor: _Actor, old: _Text = "", new: _Text = "", again: _Text = ""
) -> Response:
    """Change one's password; one is signed out in all other browsers."""
    keep, tries = request.cookies.get(cookie_name(desk, "guardrail"), ""), request.app.state.tries_by_email
    if tries.wait_s(actor.account_id) > 0:
        return _account_page(request, desk, actor, _TOO_MANY)
    tries.wrong(actor.account_id)
    try:
        require_same(new, again)
        signing = desk.memory.accounts.signing
        signing.change_password(actor, old, new, keep=keep, address=address_of(request))
    except AccountInvalid as error:  # of the new one: the present one is not asked for, or was right
        tries.back(actor.account_id)
        return _account_page(request, desk, actor, str(error))
    except SignInFailed as error:
        return _account_page(request, desk, actor, str(error))
    tries.right(actor.account_id)
    return _back(request, "Your password was changed. You are signed out everywhere else.")


@router.get("/account/authenticator")
def show_authenticator(request: Request, desk: _Desk, actor: _Actor) -> Response:
    """The page on which one sets up an authenticator."""
    return _authenticator_page(request, desk, actor)


@router.post("/account/authenticator")
def set_up_authenticator(request: Request, desk: _Desk, actor: _Actor, code: _Text = "") -> Response:
    """Take an authenticator into use; shows the recovery codes, once."""
    try:
        codes = desk.memory.accounts.signing.confirm_totp(actor.account_id, code, address_of(request))
    except SignInFailed:
        return _authenticator_page(request, desk, actor, "The code is not one of this authenticator.")
    return desk.page(request, "recovery_codes.html", codes=codes, next="/account", here="account")


@router.post("/account/authenticator/remove")
def remove_authenticator(
    request: Request, desk: _Desk, actor: _Actor, password: _Text = "", code: _Text = ""
) -> Response:
    """Give one's authenticator up, where one's role does not ask for it."""
    tries = request.app.state.tries_by_email
    if tries.wait_s(actor.account_id) > 0:
        return _account_page(request, desk, actor, _TOO_MANY)
    tries.wrong(actor.account_id)
    try:
        desk.memory.accounts.signing.drop_totp(actor, password, code, address_of(request))
    except AccountInvalid as error:  # of the role: password and code were right
        tries.right(actor.account_id)
        return _account_page(request, desk, actor, str(error))
    except SignInFailed:  # which of the two was wrong, is not told
        return _account_page(request, desk, actor, "Password or code are wrong. Try again.")
    tries.right(actor.account_id)
    return _back(request, "The authenticator was removed.")


@router.post("/account/recovery")
def renew_recovery(request: Request, desk: _Desk, actor: _Actor, code: _Text = "") -> Response:
    """Ten new recovery codes, shown once."""
    try:
        codes = desk.memory.accounts.signing.renew_recovery(actor, code, address_of(request))
    except SignInFailed:
        return _account_page(request, desk, actor, _WRONG_CODE)
    return desk.page(request, "recovery_codes.html", codes=codes, next="/account", here="account")


@router.post("/account/browsers/{shown_id}/sign-out")
def close_browser(request: Request, desk: _Desk, actor: _Actor, shown_id: str) -> Response:
    """Sign out in another browser."""
    desk.memory.accounts.close_browser(actor, shown_id, address_of(request))
    return _back(request, "You are signed out there.")


@router.post("/account/sign-out-everywhere")
def close_all(request: Request, desk: _Desk, actor: _Actor) -> Response:
    """Sign out in all browsers but this one."""
    keep = request.cookies.get(cookie_name(desk, "guardrail"), "")
    desk.memory.accounts.sessions.close_all(actor.account_id, but=keep)
    desk.memory.audit.note(actor, "account.signed_out", "everywhere else", {}, address_of(request))
    return _back(request, "You are signed out everywhere else.")


def _me(desk: Desk, actor: Actor) -> Person:
    person = desk.memory.accounts.person(actor.account_id)
    if person is None:
        raise AccountMissing(actor.account_id)
    return person


def _account_page(request: Request, desk: Desk, actor: Actor, wrong: str = "") -> Response:
    me = _me(desk, actor)
    said = {"me": me, "browsers": desk.memory.accounts.sessions.of(actor.account_id), "wrong": wrong, "here": "account"}
    this = request.state.browser.shown_id
    return desk.page(request, "account.html", 422 if wrong else 200, this=this, must=must_have_totp(me), **said)


def _authenticator_page(request: Request, desk: Desk, actor: Actor, wrong: str = "") -> Response:
    secret, uri = desk.memory.accounts.signing.begin_totp(actor.account_id, "guardrail")
    said = {"secret": secret, "picture": qr_of(uri), "wrong": wrong, "next": "/account", "here": "account"}
    return desk.page(request, "authenticator.html", 422 if wrong else 200, post="/account/authenticator", **said)


def _back(request: Request, text: str) -> Response:
    return flash(RedirectResponse("/account", 303), request, text)
