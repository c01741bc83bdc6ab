"""`POST /v1/check` and `GET /v1/verdicts/{id}`."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from guardrail.desk.web.answers import PROBLEMS, CheckAnswer, JobAnswer
from guardrail.desk.web.asking import IdempotencyKey, digest_of, known_query, once
from guardrail.desk.web.checking import Sent, answer_of, context_of, enter_check, images_of, new_check_id
from guardrail.desk.web.deps import address_of, scoped
from guardrail.desk.web.desk import Desk, desk_of
from guardrail.desk.web.problems import Problem
from guardrail.desk.web.uploads import files_of, multipart, plain_name
from guardrail.records import Actor, GenerationContext, Verdict

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["checks"], dependencies=[Depends(known_query)], responses=PROBLEMS)

_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "format": "binary"},
                        "description": "one part for each image, named `image`, with a file name",
                    },
                    "context": {
                        "type": "string",
                        "description": "how the model was run: JSON with the fields of GenerationContext",
                        "example": '{"pipeline": "StableDiffusionPipeline", "seed": "42"}',
                    },
                },
            },
            "encoding": {"image": {"contentType": "image/*"}, "context": {"contentType": "application/json"}},
        }
    },
}


@router.post(
    "/check",
    response_model=CheckAnswer,
    responses={202: {"model": JobAnswer, "description": "It goes on as a job, see Location."}},
    openapi_extra={"requestBody": _FORM},
    operation_id="check",
)
async def check(
    request: Request,
    desk: Annotated[Desk, Depends(desk_of)],
    actor: Annotated[Actor, Depends(scoped("check"))],
    key: IdempotencyKey = None,
    as_job: Annotated[bool, Query(alias="async", description="answer 202 with a job, and check meanwhile")] = False,
    prefer: Annotated[str, Header(description="`respond-async` does the same")] = "",
) -> Response:
    """Judge images: a verdict on each, in the order they were sent. What could not be checked is blocked."""
    as_job = as_job or "respond-async" in prefer.replace(" ", "").split(",")
    async with multipart(request, desk.settings.desk) as form:
        sent, context = await _read(form)

        async def answer() -> Response:
            if as_job:
                return await _as_job(desk, actor, sent, context)
            return await _now(desk, actor, sent, context)

        address = address_of(request)
        said = {"images": len(sent), "as_job": as_job}
        await run_in_threadpool(desk.memory.audit.note, actor, "check.asked", "", said, address)
        return await once(desk, actor, key, lambda: _digest(actor, request, sent, form, as_job=as_job), answer)


async def _read(form: FormData) -> tuple[list[Sent], GenerationContext | None]:
    files = files_of(form, "image")
    others = sorted(set(form) - {"image", "context"})
    if others or len(files) != len(form.getlist("image")):
        found = f"the fields {', '.join(others)!r}" if others else "an image without a file name"
        raise Problem(422, f"found {found}, expected files named image, and context; correct the form", "bad-form")
    if not files:
        raise Problem(422, "found no image, expected one part or more named image; send some", "no-image")
    context = form.get("context")
    if isinstance(context, UploadFile):
        context = (await context.read()).decode("utf-8", "replace")
    return [Sent(plain_name(one.filename or ""), _content(one)) for one in files], context_of(context)


def _content(file: UploadFile) -> Any:
    """What gives the bytes of an upload; each has a file of its own, which one thread at a time reads."""

    def read() -> bytes:
        file.file.seek(0)
        content: bytes = file.file.read()
        return content

    return read


def _digest(actor: Actor, request: Request, sent: list[Sent], form: FormData, *, as_job: bool) -> str:
    context = form.get("context")
    said = [b"job" if as_job else b"now", context.encode() if isinstance(context, str) else b""]
    for one in sent:
        said += [one.name.encode(), hashlib.sha256(one.content()).digest()]
    return digest_of(actor, request, said)


async def _now(desk: Desk, actor: Actor, sent: list[Sent], context: GenerationContext | None) -> Response:
    check_id = new_check_id()
    waiting = desk.checks.put(actor.organisation, images_of(check_id, sent), context)
    found = await asyncio.wrap_future(waiting)
    answer = answer_of(check_id, [one.name for one in sent], found)
    return Response(answer.model_dump_json(), media_type="application/json")


async def _as_job(desk: Desk, actor: Actor, sent: list[Sent], context: GenerationContext | None) -> Response:
    job_id = await run_in_threadpool(enter_check, desk, actor.organisation, actor.account_id, sent, context)
    job = await run_in_threadpool(desk.memory.jobs.get, actor, job_id)
    if job is None:
        raise Problem(503, "the job was entered and is not there; send it again", "job-lost")
    headers = {"Location": f"/v1/jobs/{job_id}", "Preference-Applied": "respond-async"}
    return JSONResponse(JobAnswer.of(job).model_dump(mode="json"), 202, headers)


@router.get("/verdicts/{verdict_id}", response_model=Verdict, operation_id="verdict")
def verdict(
    request: Request,
    desk: Annotated[Desk, Depends(desk_of)],
    actor: Annotated[Actor, Depends(scoped("verdicts:read", "check"))],
    verdict_id: Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="of the verdict")],
) -> Verdict:
    """A verdict of your organisation, as it is in the ledger."""
    found = desk.memory.reviews.verdict(actor, verdict_id)
    desk.memory.audit.note(actor, "verdict.seen", verdict_id, {}, address_of(request))
    return found
