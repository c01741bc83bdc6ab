"""What requests to the API have in common: only known query parameters, and the same request twice is done once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any

from fastapi import Header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from guardrail.desk.web.desk import Desk
from guardrail.desk.web.problems import Problem
from guardrail.memory import KnownAnswer
from guardrail.records import Actor

__all__ = ["IdempotencyKey", "digest_of", "known_query", "once"]

_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_KEPT_HEADERS = ("content-type", "location", "preference-applied")
_TOLD_ONCE = ("secret", "token", "link")  # fields of an answer that let somebody in, or sign: none is ever kept

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Any text of your choice, such as a UUID: the same request under the same key is done once, and "
        "answered alike for 24 hours.",
    ),
]


def known_query(request: Request) -> None:
    """Refuse query parameters that a route does not know: a filter that is spelled wrong would filter nothing.

    Raises:
        Problem: there is such a one (422).
    """
    said = request.app.openapi()["paths"][request.scope["route"].path.replace(":path", "")][request.method.lower()]
    known = {one["name"] for one in said.get("parameters", ()) if one["in"] == "query"}
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        expected = f"expected {', '.join(sorted(known)) or 'none'}"
        raise Problem(422, f"found the query parameters {', '.join(unknown)!r}, {expected}; correct them", "bad-query")


def digest_of(actor: Actor, request: Request, parts: Iterable[bytes]) -> str:
    """The digest of all that a request says: who asks, what of, and with what."""
    head = (actor.account_id, request.method, request.url.path, str(request.url.query))
    whole = hashlib.sha256()
    for part in (*(one.encode() for one in head), *parts):
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()


async def once(
    desk: Desk, actor: Actor, key: str | None, digest: Callable[[], str], answer: Callable[[], Awaitable[Response]]
) -> Response:
    """Answer a request, or answer it as before where it came under a key that is known; secrets are told once.

    Args:
        desk: keeps the answers.
        actor: who asks; keys are their organisation's.
        key: of the header; None: it is simply answered.
        digest: gives the digest of the request.
        answer: does what is asked. What it raises is not kept, so that the request may be made again.

    Raises:
        Problem: the key is none, is used for another request (422), or its request is still running (409).
    """
    if key is None:
        return await answer()
    if not _KEY.fullmatch(key):
        raise Problem(
            422,
            "found a key with blanks or over 200 letters, expected 1 to 200 visible ASCII letters; "
            "choose another Idempotency-Key",
            "bad-idempotency-key",
        )
    organisation, kept = actor.organisation, desk.memory.idempotency
    found = await run_in_threadpool(lambda: kept.begin(organisation, key, digest()))
    if isinstance(found, KnownAnswer):
        return _again(found)
    if found == "other":
        raise Problem(
            422,
            "found another request under this Idempotency-Key, expected the same one; choose another key",
            "idempotency-key-used",
        )
    if found == "running":
        raise Problem(
            409,
            "found the first request with this Idempotency-Key still running, expected its end; ask again in a moment",
            "idempotency-key-running",
            {"Retry-After": "1"},
        )
    try:
        made = await answer()
    except BaseException:
        await run_in_threadpool(kept.forget, organisation, key)
        raise
    await run_in_threadpool(kept.keep, organisation, key, _known(made))
    return made


def _known(made: Response) -> KnownAnswer:
    headers = {name: made.headers[name] for name in _KEPT_HEADERS if name in made.headers}
    return KnownAnswer(made.status_code, json.dumps(headers).encode() + b"\n" + _without_secrets(bytes(made.body)))


def _without_secrets(body: bytes) -> bytes:
    """An answer as it may be kept: a secret is shown to whoever made it, and to nobody who finds the key or the row."""
    if not any(f'"{name}"'.encode() in body for name in _TOLD_ONCE):
        return body
    said = json.loads(body)
    if not isinstance(said, dict) or not said.keys() & {*_TOLD_ONCE}:
        return body
    kept = {name: value for name, value in said.items() if name not in _TOLD_ONCE}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode()


def _again(known: KnownAnswer) -> Response:
    head, _, body = known.answer.partition(b"\n")
    headers: dict[str, Any] = {**json.loads(head or b"{}"), "Idempotent-Replayed": "true"}
    return Response(body, known.status, headers)
