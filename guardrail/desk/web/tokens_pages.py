"""The page of API tokens: one's own, and for admins those of the organisation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from guardrail.desk.web.deps import actor, address_of, flash
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.memory import SCOPE_NEEDS, SCOPES, at_least
from guardrail.records import Actor
from guardrail.review_errors import AccountInvalid, AccountMissing

__all__ = [
    "make_token",
    "revoke_token",
    "router",
    "show_tokens",
]

router = APIRouter()

_Desk = Annotated[Desk, Depends(desk_of)]
_Actor = Annotated[Actor, Depends(actor)]
_MEANS = {
    "check": "have images checked",
    "verdicts:read": "read verdicts",
    "works:write": "add and withdraw works",
    "cases:read": "read cases",
    "cases:decide": "decide cases",
    "webhooks:write": "say where events are sent",
}


@router.get("/tokens")
def show_tokens(request: Request, desk: _Desk, actor: _Actor) -> Response:
    """The tokens; of others by name alone."""
    return _tokens_page(request, desk, actor)


@router.post("/tokens")
def make_token(
    request: Request,
    desk: _Desk,
    actor: _Actor,
    scopes: Annotated[list[str] | None, Form()] = None,
    name: Annotated[str, Form(max_length=512)] = "",
    days: Annotated[int, Form()] = 90,
) -> Response:
    """Make a token; it is shown, once."""
    asked = [one for one in SCOPES if one in (scopes or ())]
    try:
        token = desk.memory.accounts.tokens.make(actor, name, asked, days, address_of(request))
    except AccountInvalid as error:
        return _tokens_page(request, desk, actor, str(error))
    return desk.page(request, "token_made.html", token=token, name=name.strip(), here="tokens")


@router.post("/tokens/{token_id}/revoke")
def revoke_token(request: Request, desk: _Desk, actor: _Actor, token_id: str) -> Response:
    """Take a token back, for good."""
    if not desk.memory.accounts.tokens.revoke(actor, token_id, address_of(request)):
        raise AccountMissing(token_id[:32])
    return flash(RedirectResponse("/tokens", 303), request, "The token was revoked.")


def _tokens_page(request: Request, desk: Desk, actor: Actor, wrong: str = "") -> Response:
    everyone = at_least(actor.role, "admin")
    tokens = desk.memory.accounts.tokens.of(actor, everyone=everyone)
    offered = [(one, _MEANS[one]) for one in SCOPES if at_least(actor.role, SCOPE_NEEDS[one])]
    said = {"tokens": tokens, "offered": offered, "wrong": wrong, "everyone": everyone, "here": "tokens"}
    return desk.page(request, "tokens.html", 422 if wrong else 200, **said)
