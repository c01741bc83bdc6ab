"""Who asks: the person of a browser, or of an API token; and what their role and the token's scopes allow."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from guardrail.desk.web.problems import Problem
from guardrail.memory import SCOPE_NEEDS, Browser, Person, at_least
from guardrail.records import Actor
from guardrail.records.review import Role, Scope
from guardrail.review_errors import NotAllowed, SignInFailed

if TYPE_CHECKING:
    from guardrail.desk.web.desk import Desk

__all__ = [
    "SAFE_METHODS",
    "actor",
    "address_of",
    "allowed",
    "browser",
    "caller",
    "cookie_name",
    "csrf",
    "flash",
    "flashes",
    "is_secure",
    "person",
    "scoped",
    "set_cookie",
]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FLASH_SECONDS = 60
_FLASH_LETTERS = 500
_SHOWN = "guardrail.flashes_shown"  # in a request's scope: the cookie is to be deleted

_bearer = HTTPBearer(auto_error=False, description="an API token, made on the desk's page of tokens: gr_...")


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def is_secure(desk: Desk) -> bool:
    """Whether browsers reach the desk by https; only on loopback they need not."""
    return desk.settings.desk.public_url.startswith("https://")


def cookie_name(desk: Desk, name: str) -> str:
    """A cookie's name; by https one that no other host or path can set."""
    return f"__Host-{name}" if is_secure(desk) else name


def set_cookie(response: Response, desk: Desk, name: str, value: str, max_age_s: int | None = None) -> None:
    """Set a cookie that scripts do not see and that other sites' requests do not carry; 0 seconds delete it."""
    response.set_cookie(
        cookie_name(desk, name),
        value,
        max_age=max_age_s,
        path="/",
        httponly=True,
        samesite="lax",
        secure=is_secure(desk),
    )


def address_of(request: Request) -> str:
    """The address that a request came from; behind a proxy, the one that the proxy names, where it is trusted."""
    return request.client.host if request.client else ""


async def browser(request: Request) -> Browser:
    """The browser that asks, in which somebody gave at least their password; checks the form's key.

    Raises:
        SignInFailed: nobody signed in in it.
        Problem: 403, a request that changes something does not carry the key of this browser's pages.
    """
    desk = _desk(request)
    secret = request.cookies.get(cookie_name(desk, "guardrail"), "")
    sessions, idle = desk.memory.accounts.sessions, desk.settings.desk.session_idle_minutes
    found = await run_in_threadpool(sessions.find, secret, idle) if secret else None
    if found is None:
        raise SignInFailed("nobody is signed in in this browser")
    request.state.browser = found
    if request.method not in SAFE_METHODS and not await _carries(request, found.csrf):
        detail = "found a request without the key of this page, expected one from it; load the page again"
        raise Problem(403, detail, "csrf")
    return found


async def _carries(request: Request, key: str) -> bool:
    given: Any = request.headers.get("x-csrf-token")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given is None and kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        given = (await request.form()).get("csrf")
    return isinstance(given, str) and hmac.compare_digest(given.encode(), key.encode())


async def actor(browser: Annotated[Browser, Depends(browser)]) -> Actor:
    """The person who signed in; API tokens are nobody here.

    Raises:
        SignInFailed: nobody did, or the authenticator's code is still to come.
        Problem: 403, the request does not carry the key of this browser's pages.
    """
    if browser.stage != "full":
        raise SignInFailed("the code of the authenticator is still to be given")
    return browser.person.actor


async def caller(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Actor:
    """Who calls the API: by a token, or the person who signed in in this browser.

    Raises:
        SignInFailed: a token that is not taken, or nobody signed in.
        Problem: 403 as `actor`; 429 where a token asks too often.
    """
    if "authorization" not in request.headers:
        return await actor(await browser(request))
    found = None
    if given is not None:
        found = await run_in_threadpool(_desk(request).memory.accounts.tokens.find, given.credentials)
    if found is None or found.token_id is None:
        raise SignInFailed("the API token is unknown, has expired or was revoked")
    wait_s = request.app.state.pace.wait_s(found.token_id)
    if wait_s > 0:
        detail = f"found more requests than a token may make; ask again in {wait_s:.1f} s"
        raise Problem(429, detail, "too-many-requests", {"Retry-After": str(int(wait_s) + 1)})
    return found


def allowed(role: Role) -> Callable[..., Awaitable[Actor]]:
    """A dependency: the person who signed in, if their role may what this one may.

    Args:
        role: the least that is needed.
    """

    async def person_with_role(who: Annotated[Actor, Depends(actor)]) -> Actor:
        if not at_least(who.role, role):
            raise NotAllowed("this", f"the role {role}")
        return who

    return person_with_role


def scoped(*scopes: Scope) -> Callable[..., Awaitable[Actor]]:
    """A dependency for the API: who may do at least one of these, by token and role, or by role alone.

    Args:
        scopes: any of them will do.
    """

    async def caller_with_scope(who: Annotated[Actor, Depends(caller)]) -> Actor:
        owned = [one for one in scopes if who.scopes is None or one in who.scopes]
        if not owned:
            raise NotAllowed("this", f"a token with the scope {' or '.join(scopes)}")
        if not any(at_least(who.role, SCOPE_NEEDS[one]) for one in owned):
            raise NotAllowed("this", f"the role {SCOPE_NEEDS[owned[0]]}")
        return who

    return caller_with_scope


# --- what templates ask ------------------------------------------------------------------------------------


def person(request: Request) -> Person | None:
    """Whom a page is for; None until they signed in whole."""
    found: Browser | None = getattr(request.state, "browser", None)
    return found.person if found is not None and found.stage == "full" else None


def csrf(request: Request) -> str:
    """The key that forms of this browser's pages carry; empty where nobody signed in."""
    found: Browser | None = getattr(request.state, "browser", None)
    return found.csrf if found is not None else ""


def flash(response: Response, request: Request, text: str, kind: Literal["done", "note", "wrong"] = "done") -> Response:
    """Have the next page say something, once.

    Args:
        response: most often a redirect; returned again.
        request: that is answered.
        text: what it says.
        kind: how it looks.
    """
    packed = base64.urlsafe_b64encode(json.dumps([[kind, text[:_FLASH_LETTERS]]]).encode()).decode()
    set_cookie(response, _desk(request), "guardrail_flash", packed, _FLASH_SECONDS)
    return response


def _shown(text: object) -> str:
    """What a cookie says, as a page can hold it."""
    return str(text)[:_FLASH_LETTERS].encode("utf-8", "replace").decode()


def flashes(request: Request) -> list[tuple[str, str]]:
    """What the page before wanted to be said: kind and text; said once."""
    packed = request.cookies.get(cookie_name(_desk(request), "guardrail_flash"), "")
    if not packed:
        return []
    request.scope[_SHOWN] = True
    try:
        said = json.loads(base64.urlsafe_b64decode(packed.encode()))
        return [(kind if kind in ("done", "note") else "wrong", _shown(text)) for kind, text in said]
    except (ValueError, TypeError, RecursionError):
        return []
