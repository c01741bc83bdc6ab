"""`/metrics`: for Prometheus on this machine, or with the operator's token; not for accounts of an organisation."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from guardrail.desk.web.desk import Desk, desk_of
from guardrail.desk.web.problems import Problem
from guardrail.desk.web.security import is_loopback

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_MEDIA = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus' text format
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


@router.get("/metrics")
def metrics(request: Request, desk: Annotated[Desk, Depends(desk_of)]) -> Response:
    """All metrics, of all organisations."""
    if not (_has_token(request, desk) or _is_here(request, desk)):
        expected = "expected one from this machine, or with the token that is set as desk.metrics_token"
        raise Problem(403, f"found a request from elsewhere, {expected}; ask the operator", "metrics")
    return Response(desk.metrics.text(), media_type=_MEDIA)


def _has_token(request: Request, desk: Desk) -> bool:
    token = desk.settings.desk.metrics_token.get_secret_value()
    said = request.headers.get("authorization", "")
    return bool(token) and hmac.compare_digest(said.encode(), f"Bearer {token}".encode())


def _is_here(request: Request, desk: Desk) -> bool:
    """Whether it comes from this machine itself, and not by a proxy on it."""
    if any(name in request.headers for name in _FORWARDED):
        return False
    client = request.client.host if request.client else ""
    return is_loopback(client) and is_loopback(request.url.hostname or "") and not _behind_proxy_name(request, desk)


def _behind_proxy_name(request: Request, desk: Desk) -> bool:
    """Whether the host that was asked for is the public one, which a proxy without such headers would pass on."""
    public = desk.settings.desk.public_url
    return bool(public) and (request.url.netloc or "") in public
