"""`/v1/works`: works come and go, and the next check knows."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from guardrail.desk.web.answers import PROBLEMS, WorkAnswer
from guardrail.desk.web.asking import IdempotencyKey, digest_of, known_query, once
from guardrail.desk.web.changing_works import Asker, put_work, withdraw_work
from guardrail.desk.web.deps import address_of, scoped
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.desk.web.problems import Problem
from guardrail.desk.web.uploads import files_of, multipart
from guardrail.desk.web.work_texts import require_texts
from guardrail.records import Actor, Work

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["works"], dependencies=[Depends(known_query)], responses=PROBLEMS)

_TEXTS = ("bank", "title", "creator", "rights_holder", "licence", "source", "opted_out_at", "expires_at")
_FIELDS = ("work_id", "disposition", *_TEXTS)
_STATED = "reason"  # a field that says nothing of the work
_REASON = (
    "why less is protected, 3 to 1,000 characters; needed, and kept in the ledger, where a work that protects is "
    "withdrawn, gets another picture or is lowered, and where a work explains others away (credit, ignore)"
)
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image", "work_id"],
                "properties": {
                    "image": {"type": "string", "format": "binary"},
                    "work_id": {"type": "string", "minLength": 1, "maxLength": 256},
                    "disposition": {"type": "string", "enum": ["protect", "credit", "ignore"]},
                    **{name: {"type": "string"} for name in _TEXTS},
                    _STATED: {"type": "string", "description": _REASON},
                },
            },
            "encoding": {"image": {"contentType": "image/*"}},
        }
    },
}
_Desk = Annotated[Desk, Depends(desk_of)]
_Caller = Annotated[Actor, Depends(scoped("works:write"))]
_LONGEST_NAME = 256  # letters of a bank and of a work's id
_LONGEST_REASON = 4000  # letters that are looked at; how many may be kept is said where it is checked


@router.post(
    "/works", status_code=201, response_model=WorkAnswer, openapi_extra={"requestBody": _FORM}, operation_id="add_work"
)
async def add(
    request: Request,
    desk: _Desk,
    actor: _Caller,
    rescan: Annotated[bool, Query(description="look for it among released outputs, as a job")] = False,
    key: IdempotencyKey = None,
) -> Response:
    """Put a work into your organisation's index, in the place of one of the same bank and id; live when answered."""
    async with multipart(request, desk.settings.desk) as form:
        work, file, reason = _work(form), _file(form), str(form.get(_STATED, ""))
        content = await file.read()

        def added() -> Response:
            change = put_work(desk, Asker(actor, reason, address_of(request)), work, content)
            named = f"{work.bank}/{work.work_id}"
            desk.memory.audit.note(actor, "work.added", named, {"snapshot": change.snapshot}, address_of(request))
            job_id = _ask_rescan(desk, actor, work) if rescan else None
            answer = WorkAnswer(bank=work.bank, work_id=work.work_id, change=change, rescan=job_id)
            return Response(answer.model_dump_json(), 201, media_type="application/json")

        async def answer() -> Response:
            return await run_in_threadpool(added)

        parts = [work.model_dump_json().encode(), hashlib.sha256(content).digest(), reason.encode()]
        return await once(desk, actor, key, lambda: digest_of(actor, request, parts), answer)


def _work(form: FormData) -> Work:
    """Whose the work is, as a form says it."""
    unknown = sorted(set(form) - {"image", _STATED, *_FIELDS})
    said = {name: form[name] for name in _FIELDS if name in form and form[name] != ""}
    if unknown or any(not isinstance(value, str) for value in (form.get(_STATED, ""), *said.values())):
        raise Problem(
            422, f"found the fields {', '.join(unknown)!r}, expected image and texts; correct the form", "bad-form"
        )
    require_texts(said)
    try:
        work = Work.model_validate(said)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        raise Problem(422, f"found a work in which {wrong}; correct the form", "bad-work") from None
    odd = [name for name in (work.bank, work.work_id) if len(name) > _LONGEST_NAME or not name.isprintable()]
    if odd:
        expected = f"expected at most {_LONGEST_NAME} letters that can be printed"
        raise Problem(422, f"found {odd[0][:40]!r} as bank or work_id, {expected}; choose another", "bad-work")
    return work


def _file(form: FormData) -> UploadFile:
    files = files_of(form, "image")
    if len(files) != 1:
        raise Problem(422, f"found {len(files)} files named image, expected one; send one work at a time", "no-image")
    return files[0]


def _ask_rescan(desk: Desk, actor: Actor, work: Work) -> str:
    """Enter a job that looks for a work among released outputs."""
    from guardrail.desk.rescanning import ask_rescan

    key = (work.bank, work.work_id)
    job_id: str = ask_rescan(desk.memory, actor.organisation, [key], actor.account_id)
    desk.workers.nudge()
    return job_id


@router.delete("/works/{bank}/{work_id:path}", response_model=WorkAnswer, operation_id="remove_work")
def remove(
    request: Request,
    desk: _Desk,
    actor: _Caller,
    bank: Annotated[str, Path(min_length=1, max_length=_LONGEST_NAME)],
    work_id: Annotated[str, Path(min_length=1, max_length=_LONGEST_NAME)],
    reason: Annotated[str, Query(max_length=_LONGEST_REASON, description=_REASON)] = "",
) -> WorkAnswer:
    """Take a work out of your organisation's index: the next check does not see it."""
    change = withdraw_work(desk, Asker(actor, reason, address_of(request)), bank, work_id)
    if change.unknown:
        raise Problem(
            404, f"found no work {work_id[:80]!r} in bank {bank[:80]!r}, expected one; look its id up", "no-such-work"
        )
    desk.memory.audit.note(
        actor, "work.removed", f"{bank}/{work_id}"[:256], {"snapshot": change.snapshot}, address_of(request)
    )
    return WorkAnswer(bank=bank, work_id=work_id, change=change)
