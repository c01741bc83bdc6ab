"""Pages of an organisation's accounts, for its admins; takes up those of one's own account, tokens and audit."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from guardrail.desk.web import audit_pages, own_account_pages, tokens_pages
from guardrail.desk.web.deps import address_of, allowed, flash
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.desk.web.security import base_url
from guardrail.memory import LINK_HOURS, ROLES
from guardrail.records import Actor
from guardrail.records.review import Role
from guardrail.review_errors import AccountInvalid

__all__ = [
    "change_role",
    "change_state",
    "invite",
    "make_link",
    "router",
    "show_accounts",
    "take_authenticator",
]

router = APIRouter()
router.include_router(own_account_pages.router)
router.include_router(tokens_pages.router)
router.include_router(audit_pages.router)

_Desk = Annotated[Desk, Depends(desk_of)]
_Admin = Annotated[Actor, Depends(allowed("admin"))]
_Text = Annotated[str, Form(max_length=512)]


@router.get("/accounts")
def show_accounts(request: Request, desk: _Desk, admin: _Admin) -> Response:
    """The people of the organisation."""
    desk.memory.audit.note(admin, "accounts.seen", "", {}, address_of(request))
    return _accounts_page(request, desk, admin)


@router.post("/accounts")
def invite(
    request: Request, desk: _Desk, admin: _Admin, email: _Text = "", name: _Text = "", role: _Text = "viewer"
) -> Response:
    """Invite somebody; the link is shown, once."""
    try:
        person, secret = desk.memory.accounts.invite(admin, email, name, _role(role), address_of(request))
    except AccountInvalid as error:
        return _accounts_page(request, desk, admin, str(error), {"email": email, "name": name, "role": role})
    return _link_page(request, desk, person.name, secret, LINK_HOURS["invite"])


@router.post("/accounts/{account_id}/role")
def change_role(request: Request, desk: _Desk, admin: _Admin, account_id: str, role: _Text = "") -> Response:
    """Give somebody another role."""
    try:
        person = desk.memory.accounts.change_role(admin, account_id, _role(role), address_of(request))
    except AccountInvalid as error:
        return _back(request, str(error), wrong=True)
    return _back(request, f"{person.name} is {person.role} now.")


@router.post("/accounts/{account_id}/state")
def change_state(request: Request, desk: _Desk, admin: _Admin, account_id: str, state: _Text = "") -> Response:
    """Disable an account, or let it in."""
    try:
        person = desk.memory.accounts.change_state(admin, account_id, _state(state), address_of(request))
    except AccountInvalid as error:
        return _back(request, str(error), wrong=True)
    return _back(request, f"{person.name} is {person.state} now.")


@router.post("/accounts/{account_id}/link")
def make_link(request: Request, desk: _Desk, admin: _Admin, account_id: str) -> Response:
    """A link by which somebody chooses a password; it is shown, once."""
    try:
        secret = desk.memory.accounts.reset_link(admin, account_id, address_of(request))
    except AccountInvalid as error:
        return _back(request, str(error), wrong=True)
    person = desk.memory.accounts.person(account_id)
    hours = LINK_HOURS["reset" if person and person.has_password else "invite"]
    return _link_page(request, desk, person.name if person else "", secret, hours)


@router.post("/accounts/{account_id}/authenticator")
def take_authenticator(request: Request, desk: _Desk, admin: _Admin, account_id: str) -> Response:
    """Take the authenticator away from somebody who lost it."""
    desk.memory.accounts.forget_totp(admin, account_id, address_of(request))
    return _back(request, "The authenticator is gone; leads and admins set up a new one when they sign in.")


def _role(role: str) -> Role:
    for one in ROLES:
        if one == role:
            return one
    raise AccountInvalid("role", repr(role[:32]), f"one of {', '.join(ROLES)}")


def _state(state: str) -> Literal["active", "disabled"]:
    if state == "active":
        return "active"
    if state == "disabled":
        return "disabled"
    raise AccountInvalid("state", repr(state[:32]), "active or disabled")


def _accounts_page(
    request: Request, desk: Desk, admin: Actor, wrong: str = "", typed: dict[str, str] | None = None
) -> Response:
    people = desk.memory.accounts.people(admin)
    typed = typed or {"email": "", "name": "", "role": "reviewer"}
    said = {
        "people": people,
        "roles": ROLES,
        "wrong": wrong,
        "typed": typed,
        "here": "accounts",
        "me": admin.account_id,
    }
    return desk.page(request, "accounts.html", 422 if wrong else 200, **said)


def _link_page(request: Request, desk: Desk, name: str, secret: str, hours: int) -> Response:
    link = f"{base_url(desk.settings, request.url.port)}/sign-in/link/{secret}"
    return desk.page(request, "link_made.html", name=name, link=link, hours=hours, here="accounts")


def _back(request: Request, text: str, *, wrong: bool = False) -> Response:
    return flash(RedirectResponse("/accounts", 303), request, text, "wrong" if wrong else "done")
