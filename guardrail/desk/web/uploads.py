"""Uploads, capped while they come in: how much a request may hold, and how large a file of it may be."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guardrail.desk.web.problems import Problem, problem_of, problem_response
from guardrail.desk_settings import DeskSettings

__all__ = ["BodyLimit", "files_of", "multipart", "plain_name"]

_MIB = 2**20
_PLAIN_BODY_BYTES = _MIB  # of a request without files; a decision with its note has some 5 kB
_FIELDS = 32  # most fields beside the files of a request
_FIELD_BYTES = _MIB
_HEADERS_BYTES = 64 * 1024  # of all parts of a request, besides what they hold
_NAME_LETTERS = 160  # of a file, as it is shown
_UNSHOWABLE = re.compile(r"[^\w .,()\[\]+@#=-]", re.ASCII)


class BodyLimit:
    """Middleware that refuses a body larger than any that is expected, before it is read whole.

    Args:
        app: what is asked behind it.
        settings: how large files may be, and how many.
    """

    def __init__(self, app: ASGIApp, settings: DeskSettings) -> None:
        self._app = app
        self._form_bytes = int(settings.request_files * settings.upload_mb * _MIB) + _HEADERS_BYTES + _FIELD_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count what comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value for name, value in scope["headers"] if name in (b"content-type", b"content-length")}
        is_form = headers.get(b"content-type", b"").startswith(b"multipart/form-data")
        allowed = self._form_bytes if is_form else _PLAIN_BODY_BYTES
        said = headers.get(b"content-length", b"0")
        if not said.isdigit() or int(said) > allowed:
            await problem_response(problem_of(_too_large(allowed)))(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > allowed:
                raise _too_large(allowed)
            return message

        await self._app(scope, counted, send)


def _too_large(allowed: int) -> Problem:
    return Problem(
        413, f"found a body of more than {allowed} bytes, expected at most that; send less at once", "body-too-large"
    )


class _CappedParser(MultiPartParser):
    """Reads a form, and stops at a file that is too large."""

    largest_bytes: float = 0

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._sizes: dict[int, int] = {}

    def on_part_data(self, chunk: bytes, start: int, end: int) -> None:
        """Count what a file holds so far."""
        if self._current_part.file is not None:
            part = id(self._current_part)
            self._sizes[part] = self._sizes.get(part, 0) + end - start
            if self._sizes[part] > self.largest_bytes:
                name = plain_name(self._current_part.file.filename or "")
                found = f"found {name!r} of more than {self.largest_bytes / _MIB:g} MiB, expected at most that"
                raise Problem(413, f"{found}; send a smaller file", "file-too-large")
        super().on_part_data(chunk, start, end)

    def on_part_begin(self) -> None:
        """Count anew."""
        super().on_part_begin()
        self._sizes.clear()


@asynccontextmanager
async def multipart(request: Request, settings: DeskSettings) -> AsyncIterator[FormData]:
    """The fields and files of a form; files over a MiB lie on the disk, and are gone afterwards.

    Args:
        request: not read yet.
        settings: how large files may be, and how many.

    Raises:
        Problem: it is no form (415), cannot be read (400), or holds too much (413).
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Problem(415, "found no form, expected multipart/form-data; send files as parts", "form-expected")
    parser = _CappedParser(
        request.headers,
        request.stream(),
        max_files=settings.request_files,
        max_fields=_FIELDS,
        max_part_size=_FIELD_BYTES,
    )
    parser.largest_bytes = settings.upload_mb * _MIB
    try:
        form = await parser.parse()
    except MultiPartException as error:
        too_many = "Too many files" in error.message
        found = f"found more than {settings.request_files} files" if too_many else f"found a form with: {error.message}"
        expected = (
            "expected at most that; send them in several requests" if too_many else "expected one as RFC 7578 has it"
        )
        raise Problem(413 if too_many else 400, f"{found}, {expected}", "bad-form") from error
    except RuntimeError as error:  # the body was read to find the page's key in it
        said = "found a form that carries its key itself, expected it in the header X-CSRF-Token; send it there"
        raise Problem(400, said, "bad-form") from error
    try:
        yield form
    finally:
        await form.close()


def plain_name(name: str) -> str:
    """The name of a file as it may be shown and kept: without folders, and with plain letters alone."""
    last = re.split(r"[/\\]", name)[-1]
    return _UNSHOWABLE.sub("_", last)[-_NAME_LETTERS:].strip() or "image"


def files_of(form: FormData, field: str) -> list[UploadFile]:
    """The files of one field of a form, in their order."""
    return [one for one in form.getlist(field) if isinstance(one, UploadFile)]
