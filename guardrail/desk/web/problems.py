"""What went wrong, as problem details (RFC 9457) or as a page; never with a path, a query or a traceback in it."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from guardrail.errors import (
    GuardrailError,
    ImageUnreadable,
    IndexDamaged,
    IndexLocked,
    IndexMismatch,
    IndexMissing,
    IndexUnreachable,
    IndexUnwritable,
    KeysMissing,
    KeysUnusable,
    LedgerBroken,
    LedgerRowMissing,
    MemoryUnwritable,
    PictureNotKept,
    ReleaseFailed,
    SettingsInvalid,
)
from guardrail.review_errors import (
    AccountInvalid,
    AccountMissing,
    CaseMissing,
    CaseTaken,
    ChangeRefused,
    DecisionRefused,
    NotAllowed,
    PictureMissing,
    QueryInvalid,
    SignInFailed,
)

__all__ = ["FieldProblem", "Problem", "ProblemAnswer", "install", "problem_of", "problem_response"]

log = logging.getLogger("guardrail.desk")

_MEDIA = "application/problem+json"
_RETRY_AFTER_S = 5  # when what is busy or out of reach may be there again
_OUR_FAULT = "the desk cannot answer this now; the operator finds the reason in its log"
_BUSY = "a store of the desk cannot be reached or written now; nothing was changed, ask again in a moment"

_SAID_AS_IS: dict[type[GuardrailError], int] = {  # their messages name nothing but what the caller sent or may see
    AccountMissing: 404,
    CaseMissing: 404,
    PictureMissing: 404,
    PictureNotKept: 404,
    NotAllowed: 403,
    SignInFailed: 401,
    CaseTaken: 409,
    ChangeRefused: 409,
    DecisionRefused: 409,
    AccountInvalid: 422,
    QueryInvalid: 422,
    ImageUnreadable: 422,
}
_KEPT_QUIET: dict[type[GuardrailError], tuple[int, str]] = {
    LedgerRowMissing: (404, "found no such verdict here, expected one of your organisation; look its id up"),
    IndexLocked: (503, _BUSY),
    IndexUnreachable: (503, _BUSY),
    IndexUnwritable: (503, _BUSY),
    MemoryUnwritable: (503, _BUSY),
    IndexMissing: (503, _OUR_FAULT),
    IndexDamaged: (503, _OUR_FAULT),
    IndexMismatch: (503, _OUR_FAULT),
    LedgerBroken: (503, _OUR_FAULT),
    SettingsInvalid: (503, _OUR_FAULT),
    KeysMissing: (503, _OUR_FAULT),
    KeysUnusable: (503, _OUR_FAULT),
    ReleaseFailed: (503, _OUR_FAULT),
}
_TITLES = {
    400: "the request cannot be read",
    401: "not signed in",
    403: "not allowed",
    404: "not found",
    405: "no such method here",
    409: "in conflict with what is there",
    413: "too large",
    415: "of another type than expected",
    422: "cannot be followed",
    429: "too many requests",
    421: "another host's",
    500: "a fault of the desk",
    503: "not available now",
}


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    at: str
    expected: str


class ProblemAnswer(BaseModel):
    """Problem details as RFC 9457 has them; `errors` lists the fields where several are wrong."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    errors: list[FieldProblem] | None = None


class Problem(HTTPException):
    """An answer that says what is wrong.

    Args:
        status: HTTP status.
        detail: what was found, what was expected, what to do.
        name: of this kind of problem, for programs; default: by the status.
        headers: to be sent with it.
    """

    def __init__(self, status: int, detail: str, name: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.name = name


def problem_of(error: Exception) -> ProblemAnswer:
    """The problem that an error is told as; what may name a path or a query is logged and told in other words."""
    if isinstance(error, Problem):
        return _problem(error.status_code, str(error.detail), error.name)
    if isinstance(error, HTTPException):
        return _problem(error.status_code, str(error.detail), "")
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    name = _kebab(type(error).__name__)
    for kind in type(error).__mro__:
        if kind in _SAID_AS_IS:
            return _problem(_SAID_AS_IS[kind], str(error), name)
        if kind in _KEPT_QUIET:
            status, detail = _KEPT_QUIET[kind]
            log.error("%s: %s", type(error).__name__, error)
            return _problem(status, detail, name)
    log.error("unexpected error", exc_info=error)
    return _problem(503 if isinstance(error, GuardrailError) else 500, _OUR_FAULT, "")


def problem_response(problem: ProblemAnswer, headers: dict[str, str] | None = None) -> JSONResponse:
    """A problem as it is sent."""
    said = dict(headers or {})
    if problem.status == 503:
        said.setdefault("Retry-After", str(_RETRY_AFTER_S))
    if problem.status == 401:
        said.setdefault("WWW-Authenticate", 'Bearer realm="guardrail"')
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, status_code=problem.status, headers=said, media_type=_MEDIA)


def install(app: FastAPI) -> None:
    """Answer every error of an application as a problem or a page."""
    for kind in (HTTPException, RequestValidationError, GuardrailError, Exception):
        app.add_exception_handler(kind, _answer)


def _answer(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    headers = dict(getattr(error, "headers", None) or {})
    if not _wants_page(request):
        return problem_response(problem, headers)
    if problem.status == 401 and request.method == "GET":
        after = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?{urlencode({'next': after})}", status_code=303)
    said: dict[str, Any] = {"title": problem.title, "detail": problem.detail, "errors": problem.errors or []}
    try:
        page: Response = request.app.state.desk.page(request, "problem.html", problem.status, problem=said)
    except Exception:
        log.exception("the page of a problem could not be made")
        return problem_response(problem, headers)
    page.headers.update(headers)
    return page


def _wants_page(request: Request) -> bool:
    return not request.url.path.startswith("/v1/") and "text/html" in request.headers.get("accept", "")


def _problem(status: int, detail: str, name: str) -> ProblemAnswer:
    title = _TITLES.get(status, "cannot be answered")
    kind = f"urn:guardrail:problem:{name}" if name else "about:blank"
    return ProblemAnswer(type=kind, title=title, status=status, detail=detail)


def _invalid(error: RequestValidationError) -> ProblemAnswer:
    """What is wrong with which field; what was sent is not told again."""
    fields = [
        FieldProblem(at=".".join(str(part) for part in one["loc"]), expected=str(one["msg"])) for one in error.errors()
    ]
    status = 400 if any(one["type"] == "json_invalid" for one in error.errors()) else 422
    found = "a field that cannot be followed" if len(fields) == 1 else f"{len(fields)} fields that cannot be followed"
    detail = f"found {found}, expected what `errors` says; correct the request"
    said = _problem(status, detail, "invalid-request")
    return said.model_copy(update={"errors": fields})


def _kebab(name: str) -> str:
    return "".join(f"-{sign.lower()}" if sign.isupper() else sign for sign in name).lstrip("-")
