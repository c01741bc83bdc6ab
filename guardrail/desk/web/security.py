"""What holds for every request: which hosts it may name, where it may come from, what browsers are told to refuse."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from guardrail.desk.web.deps import SAFE_METHODS, cookie_name, csrf, flashes, is_secure, person
from guardrail.desk.web.pacing import Pace, Tries
from guardrail.desk.web.problems import ProblemAnswer, problem_response
from guardrail.errors import SettingsInvalid
from guardrail.memory import at_least

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from guardrail.desk.web.desk import Desk
    from guardrail.settings import Settings

__all__ = ["Gate", "base_url", "install", "is_loopback", "require_binding"]

_CSP = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would not say where our own forms come from
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HSTS = "max-age=31536000"  # a year
_ANY_HOST = ("/livez", "/readyz")  # probes ask by address; these answer nothing that is worth asking
_WITH_FILES = ("/works", "/v1/works", "/v1/check")  # all other forms hold no file: nobody fills the disk by them
_SHOWN = "guardrail.flashes_shown"


def install(app: FastAPI, desk: Desk) -> None:
    """Put the gate before an application, and what pages need into the templates.

    Args:
        app: with its routers.
        desk: that it serves.
    """
    app.state.pace = Pace(desk.settings.desk.token_requests_per_minute)
    app.state.tries_by_address = Tries(free=20)  # several people may share one
    app.state.tries_by_email = Tries()
    desk.templates.globals.update(csrf=csrf, person=person, flashes=flashes, at_least=at_least)
    inside = app.build_middleware_stack
    app.build_middleware_stack = lambda: Gate(inside(), desk)  # type: ignore[method-assign]  # outermost


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def base_url(settings: Settings, port: int | None = None) -> str:
    """Where browsers reach the desk, without a slash at the end.

    Args:
        settings: of the desk.
        port: the one that it listens at, where the settings leave that open.
    """
    if settings.desk.public_url:
        return settings.desk.public_url.rstrip("/")
    host = f"[{settings.desk.host}]" if ":" in settings.desk.host else settings.desk.host
    return f"http://{host}:{port or settings.desk.port}"


def require_binding(settings: Settings) -> None:
    """Refuse to be reached from elsewhere without TLS and a known name.

    Raises:
        SettingsInvalid: `host` is not loopback and there is no `public_url`, or that is not https.
    """
    public = urlsplit(settings.desk.public_url)
    if not settings.desk.public_url:
        if not is_loopback(settings.desk.host):
            found = f"found {settings.desk.host!r} and no public_url, expected 127.0.0.1, or the https:// address"
            raise SettingsInvalid("desk.host", f"{found} of a proxy with TLS as desk.public_url")
        return
    has_path = public.path.strip("/") or public.query or public.fragment or public.username
    is_safe = public.scheme == "https" or (public.scheme == "http" and is_loopback(public.hostname or ""))
    if not is_safe or not public.hostname or has_path:
        raise SettingsInvalid("desk.public_url", f"found {settings.desk.public_url!r}, expected https://name[:port]")


class Gate:
    """Middleware: refuses hosts that are not ours and changes that other sites ask for; says what browsers refuse.

    Args:
        app: what is behind it.
        desk: whose settings say how it is reached.
    """

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._desk = desk
        public = urlsplit(desk.settings.desk.public_url)
        self._public_host = _netloc(public.scheme, public.netloc) if public.netloc else ""
        self._public_origin = f"{public.scheme}://{self._public_host}".lower() if public.netloc else ""
        self._secure = is_secure(desk)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no web sockets here

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._tell(scope, MutableHeaders(scope=message))
            await send(message)

        refused = self._refused(scope)
        await (refused or self._app)(scope, receive, send_safely)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        known = len(hosts) == 1 and self._is_ours(hosts[0])
        if not known and scope["path"] not in _ANY_HOST:
            detail = "found a host that is not this desk's, expected loopback or that of desk.public_url; correct one"
            return problem_response(ProblemAnswer(title="another host's", status=421, detail=detail))
        if scope["method"] not in SAFE_METHODS and not self._comes_from_here(headers):
            detail = "found a request from another site, expected one from the desk's own pages; go there"
            return problem_response(ProblemAnswer(title="not allowed", status=403, detail=detail))
        if "multipart" in headers.get("content-type", "").lower():
            return self._refused_files(scope, headers)
        return None

    def _refused_files(self, scope: Scope, headers: Headers) -> Response | None:
        """Files are read before anybody is asked who they are: only where files go, and from whom might send them."""
        if scope["path"] not in _WITH_FILES:
            detail = "found a form with files, expected one without; send it as application/x-www-form-urlencoded"
            return problem_response(ProblemAnswer(title="of another type than expected", status=415, detail=detail))
        cookie = f"{cookie_name(self._desk, 'guardrail')}="
        if "authorization" not in headers and cookie not in headers.get("cookie", ""):
            detail = "found files from nobody who is known, expected an API token or a session; sign in first"
            return problem_response(ProblemAnswer(title="not signed in", status=401, detail=detail))
        return None

    def _is_ours(self, host: str) -> bool:
        if self._public_host and _netloc("https" if self._secure else "http", host) == self._public_host:
            return True
        try:
            parts = urlsplit(f"//{host}")
            return parts.netloc == host and "@" not in host and is_loopback(parts.hostname or "")
        except ValueError:  # brackets that hold no address
            return False

    def _comes_from_here(self, headers: Headers) -> bool:
        """By what browsers say; programs say neither, and have no cookie that could be misused."""
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("origin")
        if origin is None or (self._public_origin and origin.lower() == self._public_origin):
            return True
        try:
            parts = urlsplit(origin)
            return is_loopback(parts.hostname or "") and parts.netloc.lower() == headers.get("host", "").lower()
        except ValueError:
            return False

    def _tell(self, scope: Scope, headers: MutableHeaders) -> None:
        for name, value in _HEADERS.items():
            headers[name] = value
        if self._secure:
            headers["Strict-Transport-Security"] = _HSTS
        if not scope["path"].startswith("/static/"):
            headers.setdefault("Cache-Control", "no-store")
        if scope.get(_SHOWN):
            name = cookie_name(self._desk, "guardrail_flash")
            secure = "; Secure" if self._secure else ""
            headers.append("Set-Cookie", f"{name}=; Max-Age=0; Path=/; HttpOnly; SameSite=lax{secure}")


def _netloc(scheme: str, netloc: str) -> str:
    """Host and port in lower case, without the port that goes without saying."""
    default: Any = {"https": ":443", "http": ":80"}.get(scheme, ":443")
    return netloc.lower().removesuffix(default)
